"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from itertools import chain
from typing import Final

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import HINT, Families, Observation, family_finding
from probes.large_tensors import (
    activations,
    addressing,
    drawing,
    gradients,
    images,
    many_rows,
    moving,
    ordering,
    products,
    rows,
    stepping,
    summing,
)

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "sums": summing.sums,
    "extremes": summing.extremes,
    "elementwise": moving.elementwise,
    "copies": moving.copies,
    "joins": moving.joins,
    "gathers": addressing.gathers,
    "scatters": addressing.scatters,
    "ordering": ordering.ordering,
    "products": products.products,
    "rows": lambda device: chain(rows.rows(device), many_rows.many_rows(device)),
    "activations": activations.activations,
    "losses": many_rows.losses,
    "images": images.images,
    "gradients": gradients.gradients,
    "draws": drawing.draws,
    "optimizers": stepping.steps,
}

#: With all threads of the host, which divide a large tensor among them.
_THREADED: Final = frozenset({"sums", "elementwise", "copies"})

_HINT: Final = (
    "search torch's issues for the operation and '64-bit indexing': newer releases may be right; "
    "until then split such tensors. If other devices with this image are right, " + HINT
)


def observe(device: str) -> Observation:
    """Try every operation of every family on the device."""
    return families.observe(FAMILIES, device, threaded=_THREADED)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    for name in FAMILIES:
        yield family_finding(f"large_tensors.{name}", observation, hint=_HINT)
