"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.kit.gradients import recording
from probes.kit.precision import read
from probes.losses import classes, ctc, elements, likelihoods, margins, pairs

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "distances": elements.distances,
    "binary": elements.binary,
    "likelihoods": likelihoods.likelihoods,
    "nll": classes.likelihood,
    "cross_entropy": classes.cross_entropy,
    "class_margins": margins.margins,
    "pairs": pairs.pairs,
    "ctc": ctc.ctc,
}

_HINT: Final = (
    "compare with a second device and the same image: wrong there too, change the image; wrong on "
    "one device only, drain it and reset the GPU"
)


def observe(device: str) -> Observation:
    """Try every loss of every family, with gradients switched on."""
    setting = read(device)
    with recording():
        return families.observe(FAMILIES, device, precision=setting)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    for name in FAMILIES:
        yield family_finding(f"losses.{name}", observation, hint=_HINT)
