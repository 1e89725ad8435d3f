"""Values in float64 with a bound on the error that a device may make, carried along the formula.

A running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section 3.3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from probes.kit.capabilities import back_end
from probes.kit.precision import read
from probes.kit.references import UNIT_ROUNDOFF

Array = npt.NDArray[Any]

_HALVES: Final = (torch.float16, torch.bfloat16)

#: OpenBLAS computes a product of that many multiplications in the calling thread
#: (`SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD`); its threads spin where cores are shared.
_IN_ONE_THREAD: Final = 2**18

#: The exponential of fused kernels on the CPU is right to 20 ulp (`exp_u20` of SLEEF), that of
#: CUDA's `ex2.approx` to 2 ulp beside the rounding of its operand.
_EXPONENTIAL: Final = 64

#: float32 products of fused kernels on GPUs are sums of three TF32 products, each operand as two
#: numbers of 11 bits (CUTLASS, `OpMultiplyAddFastF32`): the rest of each operand and the product
#: of both small parts are lost, 2^-22 each.
_THREE_TF32: Final = 2.0**-20


class Units(NamedTuple):
    """Unit roundoffs of one type on one device."""

    #: Of sums and of exponentials: half types are summed in float32.
    inner: float
    #: Of operands and results between two products: torch's formula and some kernels store scores,
    #: probabilities and their gradients in the half type, fused kernels round probabilities to it
    #: before the product with V.
    stored: float
    #: The absolute error below the smallest normal number of the type.
    tiny: float

    def of_sum(self, terms: int) -> float:
        """The relative error of a sum of products, of its result, and of two partial sums of it.

        A product of half types may add its parts in the half type (split-K, torch's
        `allow_fp16_reduced_precision_reduction`).
        """
        return terms * self.inner + 2 * self.stored


def units(device: str, dtype: torch.dtype) -> Units:
    """The units of a type on a device."""
    unit = UNIT_ROUNDOFF[dtype]
    if dtype in _HALVES:
        # Some AMD GPUs compute products of float16 in backward by way of bfloat16
        # (https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html).
        by_bfloat16 = dtype == torch.float16 and back_end(device) == "hip"
        stored = UNIT_ROUNDOFF[torch.bfloat16] if by_bfloat16 else unit
        return Units(2.0**-24, stored, 2.0**-24 if dtype == torch.float16 else 0.0)
    if dtype == torch.float32 and read(device).forced_by:  # a variable shortens the operands
        return Units(unit, UNIT_ROUNDOFF[torch.bfloat16], 0.0)
    if dtype == torch.float32 and torch.device(device).type != "cpu":
        return Units(unit, _THREE_TF32, 0.0)
    return Units(unit, unit, 0.0)


@dataclass(frozen=True)
class Bounded:
    """The exact values, and the largest error of each."""

    value: Array
    error: Array

    @property
    def size(self) -> Array:
        """The largest magnitude that the device may have in its place."""
        return np.abs(self.value) + self.error

    def moved(self, move: Callable[[Array], Array]) -> "Bounded":
        """With its elements moved, repeated or selected."""
        return Bounded(move(self.value), move(self.error))

    def swapped(self) -> "Bounded":
        """Transposed in the last two axes."""
        return self.moved(lambda array: array.swapaxes(-1, -2))

    def times(self, factor: float) -> "Bounded":
        """Multiplied by an exact factor."""
        return Bounded(self.value * factor, self.error * abs(factor))

    def plus(self, other: "Bounded", unit: float) -> "Bounded":
        """The sum of two, rounded to a unit."""
        value = self.value + other.value
        error = self.error + other.error
        return Bounded(value, error + unit * (np.abs(value) + error))

    def summed(self, axes: tuple[int, ...], unit: float) -> "Bounded":
        """The sum over axes, which stay with length 1; each term and the sum are rounded."""
        error = (self.error + 2 * unit * self.size).sum(axes, keepdims=True)
        return Bounded(self.value.sum(axes, keepdims=True), error)


def exact(values: Array) -> Bounded:
    """Values that the device has without error."""
    return Bounded(values, np.zeros_like(values))


def matmul(a: Array, b: Array) -> Array:
    """The product of matrices, some rows at a time, so that it stays in this thread."""
    rows = max(1, _IN_ONE_THREAD // (b.shape[-2] * b.shape[-1]))
    parts = [a[..., at : at + rows, :] @ b for at in range(0, a.shape[-2], rows)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, -2)


def product(a: Bounded, b: Bounded, by: Units, terms: int = 0) -> Bounded:
    """The product of matrices, a sum of that many terms."""
    rounding = by.of_sum(terms or a.value.shape[-1])
    a_size, b_size = a.size, b.size
    error = rounding * matmul(a_size, b_size)
    if a.error.any():
        error += matmul(a.error, b_size)
    if b.error.any():
        error += matmul(np.abs(a.value), b.error)
    return Bounded(matmul(a.value, b.value), error)


def exponential(by: Units, terms: int) -> float:
    """The relative error of a probability: its exponential, the sum of all, and its storage."""
    return (_EXPONENTIAL + terms) * by.inner + 2 * by.stored
