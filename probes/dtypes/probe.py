"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from probes.contract import Finding
from probes.dtypes import draws, functions, gradients, products
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.kit.generators import random_state_kept
from probes.kit.gradients import recording
from probes.kit.precision import read
from probes.kit.trial import Trial
from probes.kit.typed.arithmetic import ARITHMETIC, IN_PLACE
from probes.kit.typed.comparisons import COMPARISONS, LOGIC
from probes.kit.typed.creation import CREATION
from probes.kit.typed.moving import MOVING, assigned
from probes.kit.typed.reductions import REDUCTIONS
from probes.kit.typed.values import tried

__all__ = ["FAMILIES", "Observation", "judge", "observe"]


def _moving(device: str) -> Iterator[Trial]:
    yield from tried(MOVING, device)
    yield from assigned(device)


#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "comparisons": partial(tried, COMPARISONS),
    "arithmetic": partial(tried, ARITHMETIC),
    "in_place": partial(tried, IN_PLACE),
    "logic": partial(tried, LOGIC),
    "moving": _moving,
    "creation": partial(tried, CREATION),
    "reductions": partial(tried, REDUCTIONS),
    "products": products.products,
    "functions": functions.functions,
    "gradients": gradients.gradients,
    "draws": draws.draws,
}

#: Metal rounds functions, quotients, roots and powers otherwise, by design, and remainders with
#: them.
_LOOSE_ON_MPS: Final = ("arithmetic", "in_place", "functions", "gradients")


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
