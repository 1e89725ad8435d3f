"""Problems of convolutions: shapes, steps, integer operands, and their right answers.

Partial sums, forward and backward, are at most 2^8 in bfloat16 and 2^11 in float16, so that sums
that are kept in a half type, or in TF32's operands, are exact too.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch

from probes.kit.capabilities import back_end, floats
from probes.kit.convolutions import Array, Convolution, allowed_error, half_error, may_be_tiled
from probes.kit.operands import integers
from probes.kit.precision import read

#: Largest numbers of input, weight and upstream gradient by type.
_LARGEST: Final = {torch.bfloat16: 1, torch.float16: 2, torch.float32: 2, torch.float64: 5}

#: An error of a gradient that still identifies an integer: weight gradients of Winograd's and FFT
#: algorithms round more than outputs do.
_ROUNDED_GRADIENT: Final = 0.49

#: Where TF32 is allowed, an algorithm that transforms its operands rounds those to 2^-11 each.
_TF32_STEP: Final = 2.0**-10


@dataclass(frozen=True)
class Problem:
    """One call of conv1d, conv2d, conv3d or their transposed forms."""

    x: tuple[int, ...]  # (N, C, *S)
    w: tuple[int, ...]  # (O, C/groups, *K); transposed: (C, O/groups, *K)
    steps: Convolution
    bias: bool = True
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    #: Only one weight in so many is not zero: then sums over thousands of channels stay small.
    sparse: int = 1
    #: Whether it is run in float16 on the CPU: from torch 2.9 to 2.13 some filters of 15 and more
    #: never return there, where the CPU has AVX512-FP16.
    in_half_on_cpu: bool = True

    def dtypes(self, device: str) -> tuple[torch.dtype, ...]:
        """The types that it is run in."""
        left_out = torch.float16 if back_end(device) == "cpu" and not self.in_half_on_cpu else None
        return tuple(dtype for dtype in floats(device) if dtype != left_out)

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.w) - 2

    @property
    def name(self) -> str:
        """The function of torch.nn.functional."""
        return f"conv{'_transpose' if self.transposed else ''}{self.axes}d"

    def __str__(self) -> str:
        """The shapes, and what is not the default."""
        parts = ["x".join(map(str, self.x)), "by " + "x".join(map(str, self.w))]
        for name in ("stride", "dilation", "padding"):
            values, default = getattr(self.steps, name), 0 if name == "padding" else 1
            if any(value != default for value in values):
                parts.append(f"{name} {values[0] if len(set(values)) == 1 else values}")
        parts += [f"{self.steps.groups} groups"] if self.steps.groups > 1 else []
        return ", ".join(parts)

    @property
    def only_plain_sums(self) -> bool:
        """Whether oneDNN has no other algorithm: stride or dilation is not 1."""
        return any(step > 1 for step in (*self.steps.stride, *self.steps.dilation))

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        return self.w[1] * self.steps.groups if self.transposed else self.w[0]

    def output_shape(self) -> tuple[int, ...]:
        """The shape of the output."""
        moves = zip(
            self.x[2:],
            self.w[2:],
            self.steps.stride,
            self.steps.padding,
            self.steps.dilation,
            self.output_padding or (0,) * self.axes,
            strict=True,
        )
        if self.transposed:
            sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + more for n, k, s, p, d, more in moves]
        else:
            sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in moves]
        return (self.x[0], self.outputs, *sizes)

    def arguments(self) -> tuple[Any, ...]:
        """What torch's function takes after the bias."""
        steps = self.steps
        if self.transposed:
            more = self.output_padding or (0,) * self.axes
            return steps.stride, steps.padding, more, steps.groups, steps.dilation
        return steps.stride, steps.padding, steps.dilation, steps.groups


class Operands:
    """Input, weight, bias and upstream gradient of a problem, as float64 arrays."""

    def __init__(self, problem: Problem, largest: int) -> None:
        span = problem.sparse * (2 * largest + 1) // 2
        weight = integers(problem.w, -max(span, largest), max(span, largest), 2)
        self.x = integers(problem.x, -largest, largest, 1).astype(np.float64)
        self.w = np.where(np.abs(weight) <= largest, weight, 0).astype(np.float64)
        self.b = integers((problem.outputs,), -largest, largest, 3).astype(np.float64)
        shape = problem.output_shape()
        self.upstream = integers(shape, -largest, largest, 4).astype(np.float64)


@dataclass(frozen=True)
class Answer:
    """The output and the gradients of input, weight and bias, each with its largest sum."""

    output: Array
    of_x: Array
    of_w: Array
    of_b: Array
    sums: tuple[float, float, float, float]


def largest(dtype: torch.dtype) -> int:
    """The largest operand in a type."""
    return _LARGEST[dtype]


#: A family uses a problem in each type one after the other; a half type's operands are its own.
_KEPT: Final = 8


@lru_cache(_KEPT)
def operands(problem: Problem, size: int) -> Operands:
    """The operands with numbers up to that size."""
    return Operands(problem, size)


@lru_cache(_KEPT)
def output(problem: Problem, size: int) -> Array:
    """The right output."""
    each = operands(problem, size)
    shape = problem.output_shape()
    if problem.transposed:
        found = problem.steps.input_gradient(each.x, each.w, shape)
    else:
        found = problem.steps.forward(each.x, each.w)
    bias = each.b.reshape(-1, *(1,) * problem.axes)
    return found + bias if problem.bias else found


@lru_cache(_KEPT)
def gradients(problem: Problem, size: int) -> tuple[Array, Array, Array]:
    """The right gradients of input, weight and bias."""
    each, steps, kernel = operands(problem, size), problem.steps, problem.w[2:]
    up = each.upstream
    of_b = up.sum((0, *range(2, up.ndim)))
    if problem.transposed:
        return steps.forward(up, each.w), steps.weight_gradient(each.x, up, kernel), of_b
    return (
        steps.input_gradient(up, each.w, problem.x),
        steps.weight_gradient(up, each.x, kernel),
        of_b,
    )


def largest_sums(problem: Problem, size: int) -> tuple[float, float, float]:
    """The largest partial sums, in any order, of the output and the gradients of x and w."""
    each = operands(problem, size)
    taps = np.abs(each.w)
    first = taps.reshape(len(taps), -1).sum(1).max(initial=0)
    second = taps.sum(tuple(axis for axis in range(taps.ndim) if axis != 1))
    second = second.max(initial=0)
    of_output, of_x = (second, first) if problem.transposed else (first, second)
    moved = each.x if problem.transposed else each.upstream  # one term for each of its places
    terms = np.abs(moved).sum((0, *range(2, moved.ndim))).max(initial=0)
    return size * of_output + size, size * of_x, size * terms


def allowed(problem: Problem, dtype: torch.dtype, size: int, device: str) -> tuple[float, ...]:
    """The errors allowed to output, and gradients of x, w and b; 0: a zero may have either sign."""
    of_output, of_x, of_w = largest_sums(problem, size)
    exact, tiled = problem.only_plain_sums, may_be_tiled(problem.steps, problem.w[2:])
    found = allowed_error(device, dtype, max(of_output, 1), exact=exact, tiled=tiled)
    if found is None:
        return 0.0, 0.0, 0.0, 0.0
    pairs = ((of_output, found), (of_x, _ROUNDED_GRADIENT), (of_w, _ROUNDED_GRADIENT))
    unit = _TF32_STEP if dtype == torch.float32 and read(device).convolution_may_shorten else 0.0
    errors = (half_error(dtype, max(most, 1), max(error, unit * most)) for most, error in pairs)
    # Without an algorithm of its own a bias gets a sum; on other back-ends it may be none.
    of_b = 0.0 if back_end(device) in {"cpu", "cuda", "hip"} else _ROUNDED_GRADIENT
    return (*errors, of_b)
