"""Numbers carried with a bound of their rounding error, and how finely a device multiplies.

This is a running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section
3.3): to first order, each bound comes from the roundings of its own operation and from the errors
of its operands.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from probes.autograd.trial import Array
from probes.kit import precision
from probes.kit.capabilities import back_end
from probes.kit.references import UNIT_ROUNDOFF

#: Roundings of one exp, tanh or log: 4 ulp, the worst that CUDA documents of them, are 8 units.
_FUNCTION: Final = 8.0
#: Back-ends other than these promise OpenCL's table, whose worst (erf, pow) is 16 ulp.
#: https://registry.khronos.org/OpenCL/specs/3.0-unified/html/OpenCL_C.html#relative-error-as-ulps
_WITHIN_4_ULP: Final = ("cpu", "cuda")
_OPENCL: Final = 4.0
#: What libraries shorten factors to below torch's switches: bfloat16, and else TF32.
_SHORTEST: Final = re.compile(r"=(BF16|F16|ANY)", re.IGNORECASE)


@dataclass(frozen=True)
class Rounding:
    """Unit roundoffs: of a single operation, and of the factors of a matrix product."""

    unit: float
    product: float
    function: float = _FUNCTION  # roundings of one exp, tanh or log


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

    def mapped(self, value: Array, slope: Array) -> "Bounded":
        """A function's value, with its derivative at this one."""
        return self._made(value, np.abs(slope) * self.error, self.rounding.function)

    @property
    def T(self) -> "Bounded":  # noqa: N802 - as NumPy spells it
        """Transposed."""
        return Bounded(self.value.T, self.error.T, self.rounding)


def function_slack(device: str) -> float:
    """How many times CUDA's documented errors of functions a device's library may be off."""
    return 1.0 if back_end(device) in _WITHIN_4_ULP else _OPENCL


def rounding(dtype: torch.dtype, device: str) -> Rounding:
    """The rounding of a computation in that type on that device."""
    return Rounding(
        UNIT_ROUNDOFF[dtype], product_unit(dtype, device), _FUNCTION * function_slack(device)
    )


def product_unit(dtype: torch.dtype, device: str) -> float:
    """The unit roundoff of a matrix product's factors, by what survives a product with 1.

    TF32 keeps 10 bits of the fraction and bfloat16 7. This probe computes in full precision, so
    that they come only from a library that asks nobody; that it may is `tensor_ops`' to judge.
    Rounding may be by truncation: a whole last place. Where a variable lets the library shorten,
    it may do so in the larger product only.
    """
    unit = UNIT_ROUNDOFF[dtype]
    forced = precision.read(device).forced_by
    if forced and dtype == torch.float32:
        unit = 2.0**-7 if _SHORTEST.search(forced) else 2.0**-10
    identity = torch.eye(16, dtype=dtype).to(device)
    for place, kept in ((2 * unit, unit), (2.0**-10, 2.0**-10), (2.0**-7, 2.0**-7)):
        scaled = identity * (1 + place)
        if torch.equal(scaled @ identity, scaled):
            return max(kept, unit)
    return unit
