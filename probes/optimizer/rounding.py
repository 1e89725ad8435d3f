"""Arithmetic in float64 that carries a bound on the rounding errors of a device's arithmetic.

This is a running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section
3.3) that leaves room for other orders of evaluation: the error of a sum is taken relative to the
magnitudes of its terms, not to the sum, which also covers a fused multiply-add and a lerp.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

#: Units that one operation may be off by: its own rounding, that of a constant in it, one more for
#: another order of evaluation, and one for a quotient or root that is off by 1 ulp.
ROUNDINGS = 4

#: Error of a power that the device computes, in units: OpenCL allows `pow` 16 ulp.
_POWER_UNITS = 32

#: No back-end computes a step's scalars in less than float32.
_SCALAR_UNIT = 2.0**-24


@dataclass(frozen=True, eq=False)
class Rounded:
    """Values, and how far a device's may be from them; `unit` is its unit roundoff."""

    value: Array
    error: Array
    unit: float

    def _rounded(self, value: Array, inherited: Array, magnitude: Array | None = None) -> "Rounded":
        size = np.abs(value) if magnitude is None else magnitude
        return Rounded(value, inherited + ROUNDINGS * self.unit * size, self.unit)

    def _wrap(self, other: "Rounded | Array | float") -> "Rounded":
        """The other operand; a number or array is exact: its rounding is among `ROUNDINGS`."""
        return other if isinstance(other, Rounded) else exact(other, self.unit)

    def __add__(self, other: "Rounded | Array | float") -> "Rounded":
        """The sum."""
        b = self._wrap(other)
        terms = np.abs(self.value) + np.abs(b.value)
        return self._rounded(self.value + b.value, self.error + b.error, terms)

    def __neg__(self) -> "Rounded":
        """The negative, which is exact."""
        return Rounded(-self.value, self.error, self.unit)

    def __sub__(self, other: "Rounded | Array | float") -> "Rounded":
        """The difference."""
        return self + -self._wrap(other)

    def __mul__(self, other: "Rounded | Array | float") -> "Rounded":
        """The product."""
        b = self._wrap(other)
        inherited = np.abs(self.value) * b.error + (np.abs(b.value) + b.error) * self.error
        return self._rounded(self.value * b.value, inherited)

    __rmul__ = __mul__

    def __truediv__(self, other: "Rounded | Array | float") -> "Rounded":
        """The quotient; the divisor's error must be smaller than the divisor."""
        b = self._wrap(other)
        quotient = self.value / b.value
        inherited = (self.error + np.abs(quotient) * b.error) / (np.abs(b.value) - b.error)
        return self._rounded(quotient, inherited)


def exact(value: Array | float, unit: float) -> Rounded:
    """Values without an error."""
    array = np.asarray(value, np.float64)
    return Rounded(array, np.zeros_like(array), unit)


def square_root(x: Rounded) -> Rounded:
    """The root: |sqrt(x') - sqrt(x)| is at most e / sqrt(x) and at most sqrt(e)."""
    root = np.sqrt(x.value)
    relative = np.divide(x.error, root, out=np.full_like(root, np.inf), where=root > 0)
    return x._rounded(root, np.minimum(relative, np.sqrt(x.error)))


def larger(x: Rounded, y: Rounded) -> Rounded:
    """The larger of each pair, which is exact."""
    return Rounded(np.maximum(x.value, y.value), np.maximum(x.error, y.error), x.unit)


def magnitude(x: Rounded) -> Rounded:
    """The absolute values, which are exact."""
    return Rounded(np.abs(x.value), x.error, x.unit)


def bias_correction(beta: float, step: int, unit: float) -> Rounded:
    """1 - beta^step: beta is rounded, and the power may be computed on the device."""
    small = min(unit, _SCALAR_UNIT)
    power = beta**step
    error = (step + _POWER_UNITS) * small * power + ROUNDINGS * small
    return Rounded(np.asarray(1 - power), np.asarray(error), unit)
