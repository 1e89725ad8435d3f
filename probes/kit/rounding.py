"""Arithmetic in float64 that carries a bound on the rounding errors of a device's arithmetic.

This is a running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section
3.3) that leaves room for other orders of evaluation: the error of a sum is taken relative to the
magnitudes of its terms, not to the sum, which also covers a fused multiply-add and a lerp.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

#: Units that one operation may be off by: its own rounding, that of a constant in it, one more for
#: another order of evaluation, and one for a quotient or root that is off by 1 ulp.
ROUNDINGS = 4

#: Units that exp, log, tanh and the like may be off by: fused kernels on the CPU use an exponential
#: that is right to 20 ulp (SLEEF's `exp_u20`), OpenCL allows 16 ulp at most.
FUNCTION_UNITS = 64

#: Below its smallest normal number float16 has the distance of its smallest ones as its step.
_FLOAT16_UNIT = 2.0**-11
_SMALLEST_FLOAT16 = 2.0**-24


@dataclass(frozen=True, eq=False)
class Rounded:
    """Values, and how far a device's may be from them; `unit` is its unit roundoff."""

    value: Array
    error: Array
    unit: float
    #: The unit roundoff of a half type, in which values are stored between the operations of a
    #: device; `unit` is then that of the arithmetic. 0 where both are the same.
    storage: float = 0.0

    def _rounded(self, value: Array, inherited: Array, magnitude: Array | None = None) -> "Rounded":
        size = np.abs(value) if magnitude is None else magnitude
        return replace(self, value=value, error=inherited + ROUNDINGS * self.unit * size)

    def _wrap(self, other: "Rounded | Array | float") -> "Rounded":
        """The other operand; a number or array is exact: its rounding is among `ROUNDINGS`."""
        return other if isinstance(other, Rounded) else self.exactly(other)

    def __add__(self, other: "Rounded | Array | float") -> "Rounded":
        """The sum."""
        b = self._wrap(other)
        terms = np.abs(self.value) + np.abs(b.value)
        return self._rounded(self.value + b.value, self.error + b.error, terms)

    __radd__ = __add__

    def __neg__(self) -> "Rounded":
        """The negative, which is exact."""
        return replace(self, value=-self.value)

    def __sub__(self, other: "Rounded | Array | float") -> "Rounded":
        """The difference."""
        return self + -self._wrap(other)

    def __rsub__(self, other: "Array | float") -> "Rounded":
        """The difference from a number or array."""
        return -self + other

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

    def __rtruediv__(self, other: "Array | float") -> "Rounded":
        """The quotient of a number or array by this."""
        return self._wrap(other) / self

    def __matmul__(self, other: "Rounded") -> "Rounded":
        """The product of matrices, summed in any order."""
        left, right = np.abs(self.value), np.abs(other.value)
        inherited = left @ other.error + self.error @ (right + other.error)
        units = (self.value.shape[-1] + ROUNDINGS) * self.unit
        error = inherited + units * (left @ right)
        return replace(self, value=self.value @ other.value, error=error)

    def __getitem__(self, index: Any) -> "Rounded":
        """Some of the elements."""
        return replace(self, value=self.value[index], error=self.error[index])

    # NumPy's operators with an array on the left would otherwise make an array of objects.
    __array_ufunc__ = None

    @property
    def T(self) -> "Rounded":  # noqa: N802 - as NumPy spells it
        """Transposed."""
        return self.moved(np.transpose)

    def moved(self, move: Callable[[Array], Array]) -> "Rounded":
        """With its elements moved, repeated or selected."""
        return replace(self, value=move(self.value), error=move(self.error))

    def total(self, axis: int | tuple[int, ...], *, keepdims: bool = True) -> "Rounded":
        """The sum over axes, in any order."""
        value = np.asarray(self.value.sum(axis, keepdims=keepdims))
        terms = self.value.size / max(value.size, 1)
        sizes = np.asarray(np.abs(self.value).sum(axis, keepdims=keepdims))
        inherited = np.asarray(self.error.sum(axis, keepdims=keepdims))
        error = inherited + (terms + ROUNDINGS) * self.unit * sizes
        return replace(self, value=value, error=error)

    def mean(self, axis: int | tuple[int, ...]) -> "Rounded":
        """The mean over axes, which keep length 1."""
        total = self.total(axis)
        return total * (total.value.size / self.value.size)

    def stored(self, times: int = 1) -> "Rounded":
        """As it is after it was stored in the half type, so many times on its way."""
        if not self.storage:
            return self
        size = np.abs(self.value) + self.error
        smallest = _SMALLEST_FLOAT16 / 2 if self.storage == _FLOAT16_UNIT else 0.0
        return replace(self, error=self.error + times * (self.storage * size + smallest))

    def exactly(self, value: Array | float) -> "Rounded":
        """Values without an error, in the same arithmetic."""
        array = np.asarray(value, np.float64)
        return replace(self, value=array, error=np.zeros_like(array))

    def mapped(self, value: Array, slope: Array, steepest: float) -> "Rounded":
        """A bounded function of this, with its derivative here and the largest one.

        The second derivative is at most 1, and two values are at most 2 apart.
        """
        near = np.abs(slope) * self.error + self.error**2 / 2
        inherited = np.minimum(near, np.minimum(steepest * self.error, 2.0))
        error = inherited + FUNCTION_UNITS * self.unit * np.abs(value)
        return replace(self, value=value, error=error)


def exact(value: Array | float, unit: float, storage: float = 0.0) -> Rounded:
    """Values without an error."""
    array = np.asarray(value, np.float64)
    return Rounded(array, np.zeros_like(array), unit, storage)


def square_root(x: Rounded) -> Rounded:
    """The root: |sqrt(x') - sqrt(x)| is at most e / sqrt(x) and at most sqrt(e)."""
    root = np.sqrt(x.value)
    relative = np.divide(x.error, root, out=np.full_like(root, np.inf), where=root > 0)
    return x._rounded(root, np.minimum(relative, np.sqrt(x.error)))


def larger(x: Rounded, y: Rounded) -> Rounded:
    """The larger of each pair, which is exact."""
    return replace(x, value=np.maximum(x.value, y.value), error=np.maximum(x.error, y.error))


def magnitude(x: Rounded) -> Rounded:
    """The absolute values, which are exact."""
    return replace(x, value=np.abs(x.value))


def exponential(x: Rounded) -> Rounded:
    """e^x."""
    value = np.exp(x.value)
    error = value * (np.expm1(x.error) + FUNCTION_UNITS * x.unit)
    return replace(x, value=value, error=error)


def logarithm(x: Rounded) -> Rounded:
    """The natural logarithm; the error of x must be smaller than x."""
    value = np.log(x.value)
    error = x.error / (x.value - x.error) + FUNCTION_UNITS * x.unit * np.abs(value)
    return replace(x, value=value, error=error)


def hyperbolic_tangent(x: Rounded) -> Rounded:
    """tanh(x)."""
    value = np.tanh(x.value)
    return x.mapped(value, 1 - value**2, 1.0)


def logistic(x: Rounded) -> Rounded:
    """1 / (1 + e^-x)."""
    value = 1 / (1 + np.exp(-x.value))
    return x.mapped(value, value * (1 - value), 0.25)


def selected(mask: npt.NDArray[np.bool_], x: Rounded, y: Rounded | float) -> Rounded:
    """The elements of x where the mask is set, else those of y."""
    other = x._wrap(y)
    return replace(
        x,
        value=np.where(mask, x.value, other.value),
        error=np.where(mask, x.error, other.error),
    )


def joined(parts: Sequence[Rounded], axis: int = 0) -> Rounded:
    """The parts one after the other."""
    return replace(
        parts[0],
        value=np.concatenate([part.value for part in parts], axis),
        error=np.concatenate([part.error for part in parts], axis),
    )
