"""Runs the families on a device, and judges them."""

import contextlib
import math
from collections.abc import Iterator
from typing import Final

from probes.contract import Comparison, Finding
from probes.kit import families
from probes.kit.families import (
    Families,
    Observation,
    family_finding,
    raised_with,
    wrong_operations,
)
from probes.kit.precision import full_precision, read
from probes.linalg import decomposing, functions, gradients, solving
from probes.linalg.spec import Limits

__all__ = ["FAMILIES", "Limits", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "solve": solving.solving,
    "decompose": decomposing.decomposing,
    "functions": functions.functions,
    "gradients": gradients.gradients,
}

_HINT: Final = (
    "the image's own library comes first (cuSOLVER, MAGMA, rocSOLVER, LAPACK): compare with a "
    "second device and the same image; wrong there too, change the image; wrong on one "
    "device only, drain it and reset the GPU"
)

#: Unit roundoff of TF32 divided by that of float32: the factor for a bound.
_TF32_UNITS: Final = 2.0**13

#: From this compute capability on cuBLAS lacks some batched solvers (PyTorch pull request 197184).
_CONSUMER_BLACKWELL: Final = (12, 0)


def observe(device: str) -> Observation:
    """Try every operation of every family, in full float32 precision: the bounds need it."""
    setting = read(device)
    full = full_precision() if setting.matmul_may_shorten else contextlib.nullcontext()
    with full:
        return families.observe(FAMILIES, device, precision=setting)


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield a finding for every family."""
    for name in FAMILIES:
        wrong = wrong_operations(name, observation)
        yield family_finding(
            f"linalg.{name}",
            observation,
            hint=_hint(observation),
            why=_shortened(observation, wrong) if limits.float32_products == "as_set" else "",
            inconclusive=_is_inconclusive(name, observation, wrong),
        )


def _hint(observation: Observation) -> str:
    pairs = ", ".join(f"{key}={value}" for key, value in observation.precision.variables.items())
    return f"{_HINT}; set here: {pairs}" if pairs else _HINT


def _shortened(observation: Observation, wrong: list[Comparison]) -> str:
    """Why errors are allowed that TF32 explains: a variable forces it; empty if they are not."""
    forced_by = observation.precision.forced_by
    if not wrong or not forced_by or not all(map(_within_tf32, wrong)):
        return ""
    return f"shortened, as {forced_by} forces it"


def _is_inconclusive(name: str, observation: Observation, wrong: list[Comparison]) -> bool:
    """Whether a difference does not prove a fault, so that it is only a warning."""
    kind = observation.back_end_type
    if kind == "mps":  # before torch 2.10 a singular matrix raised no error there
        return name == "solve"
    recent = observation.capability is not None and observation.capability >= _CONSUMER_BLACKWELL
    if kind != "cuda" or not recent:
        return False
    return all(raised_with(each, "not_supported", "not supported") for each in wrong)


def _within_tf32(comparison: Comparison) -> bool:
    """Whether the worst error is within its bound with TF32's unit in place of float32's."""
    error, allowed = comparison.worst_error, comparison.allowed_error
    if error is None or allowed is None:
        return False
    return math.isfinite(error) and error <= allowed * _TF32_UNITS
