"""Calls of operands that repeat few rows: their results repeat the few results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import Array, on_device
from probes.kit.gradients import recording, root
from probes.kit.operands import F32
from probes.kit.references import compare
from probes.kit.trial import fact
from probes.large_tensors.pattern import same
from probes.large_tensors.sizes import Sized

#: Different rows, repeated: a period that divides no power of two.
KINDS: Final = 7

#: Operands and results, and as much again for what an operation keeps.
_COPIES: Final = 2

Call = Callable[..., Any]


@dataclass(frozen=True)
class Total:
    """Expected: the sum of these terms, of shape (kinds, ...), over all rows."""

    terms: Array

    def of(self, rows: int) -> Array:
        """The sum over so many rows."""
        periods, rest = divmod(rows, len(self.terms))
        return np.asarray(periods * self.terms.sum(0) + self.terms[:rest].sum(0))


@dataclass(frozen=True)
class Tiled:
    """A call of tensors with so many rows, which repeat the few rows of each operand."""

    operation: str
    call: Call  # of the operands on the device; returns an output, or several
    right: Call  # of the few operands in NumPy: few rows for each output, or its `Total`
    few: tuple[Array, ...]  # each of shape (kinds, ...); float64 is converted to `dtype`
    rows: int
    rounding: float | None = None  # the error allowed, of the largest element; None: none
    dtype: torch.dtype = torch.float32

    def run(self, device: str) -> Iterator[Comparison]:
        """Yield the comparisons.

        Raises:
            LeftOut: it would take more memory than it may.
        """
        if not has_dtype(device, self.dtype):
            return
        values = sum(each.size // len(each) for each in self.few) * self.dtype.itemsize
        trial = Sized(self.operation, self._body, self.rows, _COPIES * values, self.dtype)
        yield from trial.run(device)

    def _body(self, n: int, device: str) -> Iterator[Comparison]:
        with recording():
            found = self.call(*(repeated(each, device, n, self.dtype) for each in self.few))
        expected = self.right(*self.few)
        outputs = found if isinstance(found, tuple) else (found,)
        answers = expected if isinstance(expected, tuple) else (expected,)
        for i, (output, right) in enumerate(zip(outputs, answers, strict=True)):
            label = f"{self.operation} ({n} rows{', gradient' * min(i, 1)})"
            yield from self._compared(label, n, output.detach(), right)

    def _compared(
        self, label: str, n: int, output: torch.Tensor, right: Array | Total
    ) -> Iterator[Comparison]:
        values = right.of(n) if isinstance(right, Total) else right
        if values.dtype == np.float64:
            yield fact(f"{label}: dtype", output.dtype, self.dtype)
            values = values.astype(np.float16 if self.dtype == torch.float16 else F32)
        allowed = None
        if self.rounding is not None:
            allowed = self.rounding * float(np.abs(values).max())
        if isinstance(right, Total):
            yield compare(label, output, values, allowed)
            return
        yield fact(f"{label}: shape", tuple(output.shape), (n, *values.shape[1:]))
        yield same(label, output, values.ravel(), allowed=allowed)


def repeated(few: Array, device: str, rows: int, dtype: torch.dtype) -> torch.Tensor:
    """So many rows on the device, which repeat these; a new tensor, contiguous."""
    exact = few.astype(F32) if few.dtype == np.float64 else few
    tensor = on_device(exact, device, dtype if few.dtype == np.float64 else None)
    times = -(-rows // len(few))
    return tensor.repeat(times, *[1] * (few.ndim - 1))[:rows]


def gradient_of(leaf: torch.Tensor) -> torch.Tensor:
    """The gradient that a backward left; empty where it left none, which is found to be wrong."""
    return torch.empty(0) if leaf.grad is None else leaf.grad


def backward(call: Call, leaves: int = 1) -> Call:
    """A call that returns the output, and the gradients of the first operands.

    Its last operand is the gradient of the output.
    """

    def run(*operands: torch.Tensor) -> tuple[torch.Tensor, ...]:
        *given, upstream = operands
        inputs = [each.detach().requires_grad_() for each in given[:leaves]]
        output = call(*inputs, *given[leaves:])
        root(output, upstream).backward()
        return (output, *map(gradient_of, inputs))

    return run
