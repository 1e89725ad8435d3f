"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.special_functions import complex_numbers, functions

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "divisors": functions.divisors,
    "functions": functions.functions,
    "limits": functions.limits,
    "complex_numbers": complex_numbers.complex_numbers,
}

#: Metal rounds functions otherwise, by design.
_LOOSE_ON_MPS: Final = ("functions", "limits")

_HINT: Final = (
    "clear the cache of compiled kernels (PYTORCH_KERNEL_CACHE_PATH, else ~/.cache/torch/kernels) "
    "and run it again; then " + families.HINT
)


def observe(device: str) -> Observation:
    """Try every operation of every family on the device."""
    return families.observe(FAMILIES, device)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    on_metal = observation.back_end_type == "mps"
    for name in FAMILIES:
        yield family_finding(
            f"special_functions.{name}",
            observation,
            hint=_HINT,
            inconclusive=on_metal and name in _LOOSE_ON_MPS,
        )
