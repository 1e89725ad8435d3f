"""Numbers carried with a bound of their rounding error, and how finely a device multiplies.

This is a running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section
3.3): to first order, each bound comes from the roundings of its own operation and from the errors
of its operands.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from probes.autograd.trial import Array
from probes.references import UNIT_ROUNDOFF

#: Roundings of one exp, tanh or log: 4 ulp, the worst that device libraries document, are 8 units.
_FUNCTION: Final = 8.0


@dataclass(frozen=True)
class Rounding:
    """Unit roundoffs: of a single operation, and of the factors of a matrix product."""

    unit: float
    product: float


@dataclass(frozen=True)
class Bounded:
    """A value with a bound of its error, in a computation of that rounding."""

    value: Array
    error: Array
    rounding: Rounding

    def _made(self, value: Array, carried: Array, roundings: float = 1.0) -> "Bounded":
        own = roundings * self.rounding.unit * (np.abs(value) + carried)
        return Bounded(value, carried + own, self.rounding)

    def __add__(self, other: "Bounded") -> "Bounded":
        return self._made(self.value + other.value, self.error + other.error)

    def __sub__(self, other: "Bounded") -> "Bounded":
        return self._made(self.value - other.value, self.error + other.error)

    def __mul__(self, other: "Bounded") -> "Bounded":
        mine, theirs = np.abs(self.value), np.abs(other.value)
        carried = mine * other.error + theirs * self.error + self.error * other.error
        return self._made(self.value * other.value, carried)

    def __matmul__(self, other: "Bounded") -> "Bounded":
        mine, theirs = np.abs(self.value) + self.error, np.abs(other.value) + other.error
        carried = mine @ other.error + self.error @ theirs
        # Both factors may first be rounded to a shorter type, then K terms are summed.
        units = 2 * self.rounding.product + self.value.shape[-1] * self.rounding.unit
        return Bounded(self.value @ other.value, carried + units * (mine @ theirs), self.rounding)

    def scaled(self, factor: float) -> "Bounded":
        """Times a constant."""
        return self._made(self.value * factor, self.error * abs(factor), 2)

    def total(self, axis: int) -> "Bounded":
        """The sum over an axis, which stays with length 1."""
        length = self.value.shape[axis]
        magnitude = (np.abs(self.value) + self.error).sum(axis, keepdims=True)
        carried = self.error.sum(axis, keepdims=True)
        own = length * self.rounding.unit * magnitude
        return Bounded(self.value.sum(axis, keepdims=True), carried + own, self.rounding)

    def mapped(self, value: Array, slope: Array, roundings: float = _FUNCTION) -> "Bounded":
        """A function's value, with its derivative at this one."""
        return self._made(value, np.abs(slope) * self.error, roundings)

    @property
    def T(self) -> "Bounded":  # noqa: N802 - as NumPy spells it
        """Transposed."""
        return Bounded(self.value.T, self.error.T, self.rounding)


def product_unit(dtype: torch.dtype, device: str) -> float:
    """The unit roundoff of a matrix product's factors, by what survives a product with 1.

    TF32 keeps 10 bits of the fraction and bfloat16 7, where a setting lets products use them; that
    it may is `tensor_ops`' to judge. Rounding may be by truncation: a whole last place.
    """
    unit = UNIT_ROUNDOFF[dtype]
    identity = torch.eye(16, dtype=dtype).to(device)
    for place, kept in ((2 * unit, unit), (2.0**-10, 2.0**-10), (2.0**-7, 2.0**-7)):
        scaled = identity * (1 + place)
        if torch.equal(scaled @ identity, scaled):
            return kept
    return unit
