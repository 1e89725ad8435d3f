"""What was verified, and each wrong product: which one, where, how, when, and how often."""

import math
from itertools import pairwise
from typing import Literal

from pydantic import Field

from probes.contract import Frozen
from probes.kit import families


class WrongElement(Frozen):
    """One element of a product that differs."""

    row: int
    column: int
    expected: float
    observed: float
    xor_mask: str
    #: stored: it differs when it is read again. misread: it does not.
    second_reading: Literal["stored", "misread"]


class WrongProduct(Frozen):
    """One product that was wrong."""

    number: int  # from 0, of its type
    elapsed_s: float  # since the probe began to multiply: cold at first, then hot
    temperature_c: int | None = None  # of the GPU then
    repeated: int = 0  # wrong again, when the same product was computed again
    repeats: int = 0  # how often that was tried
    stride_bytes: int | None = None  # greatest step that leads to all wrong words of 64 bits
    elements: tuple[WrongElement, ...] = ()

    def describe(self) -> str:
        """One sentence for a person."""
        if self.elements:
            one = self.elements[0]
            where = (
                f" at row {one.row}, column {one.column}: expected {one.expected:g}, observed "
                f"{one.observed:g} (bits {one.xor_mask}, {one.second_reading})"
            )
        else:
            where = ""
        heat = "" if self.temperature_c is None else f", at {self.temperature_c} C"
        stride = f", a multiple of {self.stride_bytes} bytes apart" if self.stride_bytes else ""
        again = f", wrong again in {self.repeated} of {self.repeats}" if self.repeats else ""
        return f"product {self.number}, after {self.elapsed_s:.1f} s{heat}{where}{stride}{again}"


class Verified(Frozen):
    """The products of one type."""

    size: int  # rows, terms and columns
    products: int
    verified_s: float  # in which products were computed and compared
    plain_s: float = 0.0  # of one product that was not compared
    words: int = 0  # of 64 bits, that were compared
    wrong_words: int = 0
    wrong: tuple[WrongProduct, ...] = ()
    hottest_c: int | None = None

    @property
    def mostly_wrong(self) -> bool:
        """Whether most words were wrong: units do so to a few."""
        return 0 < self.words < 2 * self.wrong_words

    @property
    def flops(self) -> float:
        """Operations a second, comparisons counted for nothing."""
        return 2.0 * self.size**3 * self.products / self.verified_s if self.verified_s else 0.0

    def describe(self) -> str:
        """What a finding says of it."""
        heat = "" if self.hottest_c is None else f", up to {self.hottest_c} C"
        return (
            f"{self.products} products of {self.size}x{self.size} in {self.verified_s:.2f} s{heat}"
        )


class Observation(families.Observation):
    """Comparisons by check, and what was verified."""

    way: str = ""  # kernels or torch
    why: str = ""  # not by kernels
    verified: dict[str, Verified] = Field(default_factory=dict)  # by check
    busy: str = ""  # who came to the device meanwhile


def stride_bytes(places: list[int]) -> int | None:
    """The greatest common divisor of the steps between words, in bytes; None for fewer than two."""
    ordered = sorted(set(places))
    steps = [after - before for before, after in pairwise(ordered)]
    return 8 * math.gcd(*steps) if steps else None
