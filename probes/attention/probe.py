"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Final

import torch
from pydantic import Field
from torch.torch_version import TorchVersion

from probes.attention import dropping, finite, kernels, module, shapes
from probes.contract import Finding, skipped
from probes.kit import families
from probes.kit.capabilities import back_end
from probes.kit.families import Families, family_finding
from probes.kit.gradients import recording
from probes.kit.precision import read
from probes.kit.trial import Trial

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: The back-ends on which enable_gqa works: torch documents it as experimental, and in torch 2.7 it
#: ended the process on Metal (https://github.com/pytorch/pytorch/issues/149132).
_WITH_GROUPS: Final = ("cpu", "cuda", "hip")

#: Families that use all host threads, as models do: kernels divide their work among them.
_THREADED: Final = ("plain",)

_NO_NAMES: Final = "torch 2.3 and later can be asked for a kernel by name"

_HINT: Final = (
    "compare with a second device and the same image: wrong there too, change the image; wrong on "
    "one device only, drain it and reset the GPU; torch.nn.attention.sdpa_kernel leaves a wrong "
    "kernel out meanwhile"
)


def _gradients(device: str) -> Iterator[Trial]:
    grouped = () if _no_groups(device) else shapes.grouped_gradients(device)
    return chain(shapes.gradients(device), grouped)


#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "plain": shapes.plain,
    "causal": shapes.causal,
    "masks": shapes.masks,
    "scale": shapes.scales,
    "grouped_heads": shapes.grouped_heads,
    "not_finite": finite.not_finite,
    "gradients": _gradients,
    "dropout": dropping.dropout,
    "kernels": kernels.kernels,
    "module": module.module,
}


class Observation(families.Observation):
    """Comparisons by check, what was left out, and the kernels that torch picks."""

    #: Type -> kernel, for a causal problem of 64 tokens; empty where torch does not say.
    picked: dict[str, str] = Field(default_factory=dict)
    #: Check -> why it does not apply.
    skips: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Try every family that applies, in full float32 precision: the bounds need it.

    Torch's formula is allowed, whatever was set: where it is not, torch refuses what no fused
    kernel takes, as documented.
    """
    setting = read(device)
    skips = {"grouped_heads": _no_groups(device), "kernels": "" if kernels.by_name() else _NO_NAMES}
    skips = {name: why for name, why in skips.items() if why}
    table = {name: family for name, family in FAMILIES.items() if name not in skips}
    with recording(), _formula_allowed():
        found = families.observe(table, device, precision=setting, threaded=_THREADED)
        picked = kernels.picked(device)
    return Observation(**found.model_dump(), picked=picked, skips=skips)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    for name in FAMILIES:
        check = f"attention.{name}"
        if name in observation.skips:
            yield skipped(check, observation.skips[name])
        else:
            yield family_finding(check, observation, hint=_HINT)


@contextmanager
def _formula_allowed() -> Iterator[None]:
    """Allow torch's formula where no fused kernel takes the operands; restore the setting."""
    allowed = torch.backends.cuda.math_sdp_enabled()  # of every back-end, despite its name
    try:
        torch.backends.cuda.enable_math_sdp(True)
        yield
    finally:
        torch.backends.cuda.enable_math_sdp(allowed)


def _no_groups(device: str) -> str:
    """Why grouped heads are left out; empty where they are not."""
    kind = back_end(device)
    if kind not in _WITH_GROUPS:
        return f"enable_gqa is experimental, and not for the {kind} back-end"
    if TorchVersion(torch.__version__) < "2.5":
        return "torch 2.5 and later have enable_gqa"
    return ""
