"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding
from probes.dtypes import (
    arithmetic,
    comparisons,
    creation,
    draws,
    functions,
    gradients,
    moving,
    products,
    reductions,
)
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.kit.generators import random_state_kept
from probes.kit.gradients import recording
from probes.kit.precision import read

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "comparisons": comparisons.comparisons,
    "arithmetic": arithmetic.arithmetic,
    "in_place": arithmetic.in_place,
    "logic": comparisons.logic,
    "moving": moving.moving,
    "creation": creation.creation,
    "reductions": reductions.reductions,
    "products": products.products,
    "functions": functions.functions,
    "gradients": gradients.gradients,
    "draws": draws.draws,
}

#: Metal rounds functions otherwise, by design.
_LOOSE_ON_MPS: Final = ("functions",)


def observe(device: str) -> Observation:
    """Try every operation of every family on the device."""
    setting = read(device)
    with recording(), random_state_kept(device):
        return families.observe(FAMILIES, device, precision=setting)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    on_metal = observation.back_end_type == "mps"
    for name in FAMILIES:
        loose = on_metal and name in _LOOSE_ON_MPS
        yield family_finding(f"dtypes.{name}", observation, inconclusive=loose)
