"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

import torch

from probes.contract import Finding
from probes.convolutions import algorithms, padding, running, tables
from probes.convolutions.spec import Limits
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.kit.gradients import recording
from probes.kit.precision import read
from probes.kit.trial import Trial

__all__ = ["FAMILIES", "Limits", "Observation", "judge", "observe"]

_HINT: Final = (
    "wrong in one algorithm or layout only: train with torch.backends.cudnn.deterministic = True "
    "or contiguous images meanwhile; compare with a second device and the same image: wrong there "
    "too, change cuDNN, MIOpen or torch; wrong on one device only, drain it and reset the GPU"
)

#: On the CPU half types are slow for thousands of channels, so that one has to do.
_LARGE_TYPES: Final = (torch.float32, torch.bfloat16)
_SINGLE: Final = (torch.float32,)


def _forward(device: str) -> Iterator[Trial]:
    return running.outputs(tables.FORWARD, device)


def _grouped(device: str) -> Iterator[Trial]:
    return running.outputs(tables.GROUPED, device)


def _transposed(device: str) -> Iterator[Trial]:
    return running.outputs(tables.TRANSPOSED, device)


def _large(device: str) -> Iterator[Trial]:
    yield from running.outputs(tables.LARGE, device, dtypes=_LARGE_TYPES)
    yield from running.outputs(tables.BATCHES, device, dtypes=_SINGLE)


def _channels_last(device: str) -> Iterator[Trial]:
    formats = (running.LAST, (True, False), (False, True))
    yield from running.outputs(tables.CHANNELS_LAST, device, formats=formats)
    problems = tables.CHANNELS_LAST_GRADIENTS
    yield from running.gradients(problems, device, formats=formats[:2])


def _gradients(device: str) -> Iterator[Trial]:
    return running.gradients(tables.GRADIENTS, device)


def _frozen(device: str) -> Iterator[Trial]:
    for wanted in ("x", "w", "b", "wb"):
        yield from running.gradients(tables.FROZEN, device, dtypes=_LARGE_TYPES, wanted=wanted)


#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "forward": _forward,
    "grouped": _grouped,
    "transposed": _transposed,
    "padding": padding.padding,
    "large": _large,
    "channels_last": _channels_last,
    "gradients": _gradients,
    "frozen": _frozen,
    "algorithms": algorithms.algorithms,
    "precision": algorithms.precision,
}


def observe(device: str) -> Observation:
    """Try every family, with gradients switched on."""
    setting = read(device)
    with recording():
        return families.observe(FAMILIES, device, precision=setting)


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield a finding for every family. A variable that forces TF32 acts below torch's switch."""
    forced_by = observation.precision.forced_by
    for name in FAMILIES:
        forced = name == "precision" and forced_by and limits.float32_products == "as_set"
        why = f"shortened, as {forced_by} forces it" if forced else ""
        yield family_finding(f"convolutions.{name}", observation, hint=_HINT, why=why)
