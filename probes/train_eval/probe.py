"""The observation of a device, and the findings about it."""

from collections.abc import Callable, Iterator
from typing import Final

import torch
from pydantic import Field

from probes import contract
from probes.contract import Action, Comparison, Finding, agree, skipped
from probes.kit import breadcrumb
from probes.kit.generators import random_state_kept
from probes.kit.precision import full_precision
from probes.train_eval import (
    attention,
    dropout,
    dropout_off,
    layers,
    learning,
    modes,
    norm,
    norm_eval,
    saving,
)
from probes.train_eval.spec import SPEC

#: Check -> family, in the catalogue's order.
_FAMILIES: Final[dict[str, Callable[[str], list[Comparison]]]] = {
    "dropout_train": dropout.train,
    "dropout_channels": dropout.channels,
    "dropout_alpha": dropout.alpha,
    "dropout_edges": dropout_off.edges,
    "dropout_eval": dropout_off.evaluate,
    "dropout_backward": dropout_off.backward,
    "batch_norm_train": norm.train,
    "batch_norm_statistics": norm.statistics,
    "batch_norm_eval": norm_eval.evaluate,
    "batch_norm_frozen": norm_eval.frozen,
    "batch_norm_backward": norm_eval.backward,
    "modes_recurse": modes.reached_modules,
    "modes_behave": modes.nested_dropout,
    "no_mode": layers.no_mode,
    "random_slope": layers.random_slope,
    "batch_independence": layers.independence,
    "gradients_apart": modes.gradients,
    "attention_modes": attention.attention,
    "first_steps": learning.first_steps,
    "learning": learning.loss_curve,
    "repeats": learning.repeats,
    "saved": saving.saved,
    "loads": saving.loads,
    "module_moves": saving.moves,
}

_NOT_PROMISED: Final = "equal bits from run to run are promised on the CPU only"


class Observation(contract.Observation):
    """Comparisons of layers and training by check, and the reasons of skipped checks."""

    device: str
    comparisons: dict[str, tuple[Comparison, ...]]
    skips: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Run every family on the device and restore the random state."""
    skips = {} if torch.device(device).type == "cpu" else {"repeats": _NOT_PROMISED}
    with random_state_kept(device), torch.enable_grad(), full_precision():
        comparisons = {
            name: tuple(family(device))
            for name, family in breadcrumb.families(_FAMILIES)
            if name not in skips
        }
    return Observation(device=device, comparisons=comparisons, skips=skips)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each check: pass, or the first wrong comparison with its values."""
    on_cpu = observation.device == "cpu"
    hint = (
        "replace this build of torch; look for a package that patches torch at import "
        "(`python -X importtime -c 'import torch'` beside your own start-up)"
        if on_cpu
        else "compare with `gpu-validator check --probe train_eval --device cpu` and another GPU; "
        "wrong on this one alone: drain the node"
    )
    for name in SPEC.checks:
        check = f"train_eval.{name}"
        if name in observation.skips:
            yield skipped(check, observation.skips[name])
            continue
        action: Action = "fix_image" if on_cpu else "investigate"
        yield agree(check, observation.comparisons.get(name, ()), hint=hint, action=action)
