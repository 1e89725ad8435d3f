"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.kit.gradients import recording
from probes.kit.precision import read
from probes.strided_operands import (
    alignment,
    copying,
    derivatives,
    elementwise,
    losses,
    products,
    reducing,
    rows,
    scattering,
    windows,
    writing,
)

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "elementwise": elementwise.elementwise,
    "broadcasting": elementwise.broadcasting,
    "alignment": alignment.alignment,
    "reductions": reducing.reductions,
    "ordering": reducing.ordering,
    "products": products.products,
    "copies": copying.copies,
    "indexing": scattering.indexing,
    "rows": rows.rows,
    "windows": windows.windows,
    "losses": losses.losses,
    "gradients": derivatives.gradients,
    "out": writing.out,
    "in_place": writing.in_place,
}

_HINT: Final = (
    "the finding names the layouts that are misread: call .contiguous() on those operands "
    "meanwhile; compare with a second device and with the CPU of the same image: wrong on one "
    "device only, drain it and reset the GPU; wrong everywhere, change torch"
)


def observe(device: str) -> Observation:
    """Try every operation of every family, with gradients switched on, in full precision."""
    setting = read(device)
    with recording():
        return families.observe(FAMILIES, device, precision=setting)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    for name in FAMILIES:
        yield family_finding(f"strided_operands.{name}", observation, hint=_HINT)
