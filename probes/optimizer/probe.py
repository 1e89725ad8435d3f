"""Runs the families on a device, and judges them."""

import warnings
from collections.abc import Iterator
from typing import Final

import torch
from pydantic import Field
from torch.torch_version import TorchVersion

from probes.contract import Finding, skipped
from probes.kit import families
from probes.kit.capabilities import has_dtype
from probes.kit.families import Families, family_finding
from probes.optimizer import (
    adaptive,
    averaging,
    clipping,
    descent,
    foreach_kernels,
    groups,
    matrices,
    other_steps,
    quasi_newton,
    schedulers,
    sparse,
    state,
)

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "sgd": descent.sgd,
    "momentum": descent.momentum,
    "adam": adaptive.adam,
    "adamw": adaptive.adamw,
    "rmsprop": adaptive.rmsprop,
    "adagrad": adaptive.adagrad,
    "adamax": adaptive.adamax,
    "nadam": adaptive.nadam,
    "radam": other_steps.radam,
    "adadelta": other_steps.adadelta,
    "asgd": other_steps.asgd,
    "rprop": other_steps.rprop,
    "adafactor": matrices.adafactor,
    "muon": matrices.muon,
    "lbfgs": quasi_newton.lbfgs,
    "sparse": sparse.sparse,
    "groups": groups.groups,
    "missing_gradients": groups.missing_gradients,
    "state": state.state,
    "schedulers": schedulers.schedulers,
    "averaging": averaging.averaging,
    "clipping": clipping.clipping,
    "foreach_kernels": foreach_kernels.foreach_kernels,
}

#: Check -> its optimizer, and the first torch that has it.
_SINCE: Final = {"adafactor": ("Adafactor", "2.5"), "muon": ("Muon", "2.9")}

_HINT: Final = (
    "the operations named say which implementation is wrong: if it is foreach or fused alone, "
    "train with foreach=False, fused=False and change torch; if the CPU of the same image and "
    "another device are right, drain this one; wrong everywhere, look for what patches torch.optim"
)


class Observation(families.Observation):
    """Comparisons by check, and what was left out."""

    #: Check -> why it does not apply.
    skips: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Step every optimizer of every family on the device, with gradients switched on."""
    skips = _left_out(device)
    table = {name: family for name, family in FAMILIES.items() if name not in skips}
    with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.enable_grad():
        warnings.simplefilter("ignore")  # where they are errors a notice would end a trial
        found = families.observe(table, device)
    return Observation(**found.model_dump(), skips=skips)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family. On MPS quotients and roots are not correctly rounded."""
    on_metal = observation.back_end_type == "mps"
    for name in FAMILIES:
        check = f"optimizer.{name}"
        if name in observation.skips:
            yield skipped(check, observation.skips[name])
        else:
            yield family_finding(check, observation, hint=_HINT, inconclusive=on_metal)


def _left_out(device: str) -> dict[str, str]:
    """Check -> why this torch or device does not have its optimizer."""
    skips = {
        check: f"torch {version} and later have {optimizer}"
        for check, (optimizer, version) in _SINCE.items()
        if TorchVersion(torch.__version__) < version
    }
    if not has_dtype(device, torch.bfloat16):
        skips.setdefault("muon", "Muon computes in bfloat16, which the device does not have")
    return skips
