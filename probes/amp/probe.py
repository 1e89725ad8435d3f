"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from pydantic import Field

from probes.amp import (
    cache,
    custom,
    full,
    fused,
    gradients,
    growing,
    ineligible,
    kernels,
    lower,
    nesting,
    no_grad_cache,
    recomputing,
    resuming,
    scaling,
    skipping,
    training,
    widest,
)
from probes.amp.regions import DOCUMENTED, kind, outside
from probes.amp.scalers import no_scaler
from probes.contract import Finding, skipped
from probes.kit import families
from probes.kit.families import Families, family_finding
from probes.kit.gradients import recording
from probes.kit.precision import read

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "lower_type": lower.lower_type,
    "float32": full.float32,
    "widest_type": widest.widest_type,
    "not_cast": ineligible.not_cast,
    "gradients": gradients.gradients,
    "weight_cache": cache.weight_cache,
    "no_grad_cache": no_grad_cache.no_grad_cache,
    "nesting": nesting.nesting,
    "custom_functions": custom.custom_functions,
    "recomputation": recomputing.recomputation,
    "scaling": scaling.scaling,
    "skipping": skipping.skipping,
    "growth": growing.growth,
    "scaler_state": resuming.scaler_state,
    "fused_steps": fused.fused_steps,
    "scaler_kernels": kernels.scaler_kernels,
    "training": training.training,
}

#: Checks of gradient scalers.
_SCALERS: Final = ("scaling", "skipping", "growth", "scaler_state", "fused_steps", "scaler_kernels")

_HINT: Final = (
    "the operations named say what is wrong: if the CPU of the same image and another device are "
    "right, drain this one; wrong everywhere, change torch or look for what patches torch.amp"
)

#: Check -> its own hint.
_HINTS: Final = {
    "no_grad_cache": "a known defect of torch 2.10 and earlier: change torch, or until then give "
    "torch.autocast cache_enabled=False, or end the region between a forward without gradients "
    "(no_grad, a reentrant checkpoint) and one with them",
}


class Observation(families.Observation):
    """Comparisons by check, and what was left out."""

    #: Check -> why it does not apply.
    skips: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Try every family that applies, in full float32 precision and with gradients."""
    setting = read(device)
    skips = _skips(device)
    table = {name: family for name, family in FAMILIES.items() if name not in skips}
    with recording(), _outside(device):
        found = families.observe(table, device, precision=setting)
    return Observation(**found.model_dump(), skips=skips)


def _outside(device: str) -> AbstractContextManager[None]:
    return outside(device) if kind(device) in DOCUMENTED else nullcontext()


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    for name in FAMILIES:
        check = f"amp.{name}"
        if name in observation.skips:
            yield skipped(check, observation.skips[name])
        else:
            yield family_finding(check, observation, hint=_HINTS.get(name, _HINT))


def _skips(device: str) -> dict[str, str]:
    """Check -> why it does not apply on the device."""
    scaler = no_scaler(device)
    skips = dict.fromkeys(_SCALERS, scaler)
    skips["fused_steps"] = scaler or fused.no_fused(device)
    skips["custom_functions"] = custom.no_decorators(device)
    if kind(device) not in DOCUMENTED:
        why = f"torch documents what autocast casts for {', '.join(DOCUMENTED)} alone"
        skips |= {name: why for name in FAMILIES if name not in _SCALERS}
    return {name: why for name, why in skips.items() if why}
