"""Values with a bound of their rounding error, and the precision of a device's matrix products.

This is a running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section
3.3): to first order, each bound comes from the roundings of its own operation and from the errors
of its operands.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from probes.kit import precision
from probes.kit.capabilities import back_end
from probes.kit.gradients import Array
from probes.kit.references import UNIT_ROUNDOFF

#: Unit roundoffs of error of one exp, tanh or log: CUDA documents at most 4 ulp, which are 8.
_FUNCTION_ROUNDINGS: Final = 8.0
#: Other back-ends promise OpenCL's table, whose largest error (erf, pow) is 16 ulp.
#: https://registry.khronos.org/OpenCL/specs/3.0-unified/html/OpenCL_C.html#relative-error-as-ulps
_WITHIN_4_ULP: Final = ("cpu", "cuda")
_OPENCL_SLACK: Final = 4.0
#: Values of variables that let libraries shorten factors to bfloat16; other values: to TF32.
_TO_BFLOAT16: Final = re.compile(r"=(BF16|F16|ANY)", re.IGNORECASE)


@dataclass(frozen=True)
class Rounding:
    """Unit roundoffs: of a single operation, and of the factors of a matrix product."""

    unit: float
    product: float
    function: float = _FUNCTION_ROUNDINGS  # error of one exp, tanh or log, in `unit`


@dataclass(frozen=True)
class Bounded:
    """A value with a bound of its error, in a computation with that rounding."""

    value: Array
    error: Array
    rounding: Rounding

    def _rounded(self, value: Array, carried: Array, roundings: float = 1.0) -> "Bounded":
        own_error = roundings * self.rounding.unit * (np.abs(value) + carried)
        return Bounded(value, carried + own_error, self.rounding)

    def __add__(self, other: "Bounded") -> "Bounded":
        return self._rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: "Bounded") -> "Bounded":
        return self._rounded(self.value - other.value, self.error + other.error)

    def __mul__(self, other: "Bounded") -> "Bounded":
        left, right = np.abs(self.value), np.abs(other.value)
        carried = left * other.error + right * self.error + self.error * other.error
        return self._rounded(self.value * other.value, carried)

    def __matmul__(self, other: "Bounded") -> "Bounded":
        left, right = np.abs(self.value) + self.error, np.abs(other.value) + other.error
        carried = left @ other.error + self.error @ right
        # Both factors may first be rounded to a shorter type, then K terms are summed.
        units = 2 * self.rounding.product + self.value.shape[-1] * self.rounding.unit
        return Bounded(self.value @ other.value, carried + units * (left @ right), self.rounding)

    def scaled(self, factor: float) -> "Bounded":
        """The value times a constant."""
        return self._rounded(self.value * factor, self.error * abs(factor), 2)

    def total(self, axis: int) -> "Bounded":
        """The sum over an axis, which keeps length 1."""
        length = self.value.shape[axis]
        magnitude = (np.abs(self.value) + self.error).sum(axis, keepdims=True)
        carried = self.error.sum(axis, keepdims=True)
        own_error = length * self.rounding.unit * magnitude
        return Bounded(self.value.sum(axis, keepdims=True), carried + own_error, self.rounding)

    def mapped(self, value: Array, slope: Array) -> "Bounded":
        """The value of a function of this one, given with its derivative here."""
        return self._rounded(value, np.abs(slope) * self.error, self.rounding.function)

    @property
    def T(self) -> "Bounded":  # noqa: N802 - as NumPy spells it
        """Transposed."""
        return Bounded(self.value.T, self.error.T, self.rounding)


def function_slack(device: str) -> float:
    """The allowed error of a device's functions, in multiples of CUDA's documented errors."""
    return 1.0 if back_end(device) in _WITHIN_4_ULP else _OPENCL_SLACK


def rounding(dtype: torch.dtype, device: str) -> Rounding:
    """The rounding of a computation in that type on that device."""
    return Rounding(
        UNIT_ROUNDOFF[dtype],
        product_unit(dtype, device),
        _FUNCTION_ROUNDINGS * function_slack(device),
    )


def product_unit(dtype: torch.dtype, device: str) -> float:
    """The unit roundoff of a matrix product's factors, found by products with the identity.

    TF32 keeps 10 bits of the fraction and bfloat16 7. This probe sets full precision, so only a
    library that ignores torch's settings shortens factors; `tensor_ops` judges whether it may.
    Truncation costs a whole unit in the last place. If a variable lets the library shorten, it
    may do so for larger products only, so the variable counts too.
    """
    unit = UNIT_ROUNDOFF[dtype]
    forced = precision.read(device).forced_by
    if forced and dtype == torch.float32:
        unit = 2.0**-7 if _TO_BFLOAT16.search(forced) else 2.0**-10
    identity = torch.eye(16, dtype=dtype).to(device)
    for place, kept in ((2 * unit, unit), (2.0**-10, 2.0**-10), (2.0**-7, 2.0**-7)):
        scaled = identity * (1 + place)
        if torch.equal(scaled @ identity, scaled):
            return max(kept, unit)
    return unit
