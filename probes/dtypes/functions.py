"""Functions of half types, of integers and of rows: rounded results, within their bounds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import NormalDist
from typing import Final

import numpy as np
import torch

from probes.kit.capabilities import back_end, has_dtype
from probes.kit.case import Case, case, in_dtype, plain
from probes.kit.operands import F32, integers
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.rounding import FUNCTION_UNITS
from probes.kit.trial import Custom, Trial
from probes.kit.typed.values import HALVES, WHOLE, Values, tried

_EULER_GAMMA: Final = 0.57721566490153286

#: Operation -> reference, and the ends of a range in which the result is not near zero, in eighths.
_FUNCTIONS: Final[dict[str, tuple[Callable[[float], float], int, int]]] = {
    "exp": (math.exp, -40, 40),
    "exp2": (lambda x: 2.0**x, -40, 40),
    "expm1": (math.expm1, 4, 40),
    "log": (math.log, 16, 120),
    "log2": (math.log2, 16, 120),
    "log10": (math.log10, 16, 120),
    "log1p": (math.log1p, 8, 120),
    "cos": (math.cos, -10, 10),
    "sin": (math.sin, 4, 20),
    "atan": (math.atan, 4, 60),
    "erf": (math.erf, 4, 24),
    "sqrt": (math.sqrt, 1, 120),
    "rsqrt": (lambda x: 1 / math.sqrt(x), 1, 120),
    "reciprocal": (lambda x: 1 / x, 1, 120),
    "sigmoid": (lambda x: 1 / (1 + math.exp(-x)), -40, 40),
    "tanh": (math.tanh, 4, 40),
    "lgamma": (math.lgamma, 28, 80),
    "digamma": (lambda x: digamma(round(8 * x), 8), 16, 72),
}

#: Whole numbers at which each function has a result of ordinary size.
_OF_INTEGERS: Final = ("exp", "log", "cos", "sin", "sqrt", "rsqrt", "reciprocal", "sigmoid", "tanh")


def digamma(numerator: int, denominator: int) -> float:
    """The logarithmic derivative of the gamma function at a positive fraction.

    By its recurrence up to 30 or more, and there by Stirling's series (DLMF 5.5.2 and 5.11.2).
    """
    x = numerator / denominator
    steps = max(0, 30 - int(x))
    below = math.fsum(1 / (x + step) for step in range(steps))
    x += steps
    tail = 1 / (12 * x**2) - 1 / (120 * x**4) + 1 / (252 * x**6) - 1 / (240 * x**8)
    return math.log(x) - 1 / (2 * x) - tail - below


def functions(device: str) -> Iterator[Trial]:
    """Functions of half types and of integers; the digamma and inverse error function; windows."""
    for dtype in HALVES:
        if has_dtype(device, dtype):
            for each in _halves(dtype, device):
                yield Custom(each.operation, each.run, dtype, optional_kernel=True)
    yield from tried(((_whole, WHOLE),), device)
    for dtype in (torch.float32, torch.float64):
        if has_dtype(device, dtype):
            yield from (in_dtype(each, dtype) for each in _singles(dtype))


def _halves(dtype: torch.dtype, device: str) -> Iterator[Case]:
    """The CPU, CUDA and HIP compute in float32, and round once or, inside, twice: two units.

    Other back-ends may compute in the half type itself: four units.
    """
    units = 2 if back_end(device) in {"cpu", "cuda", "hip"} else 4
    for name, (function, low, high) in _FUNCTIONS.items():
        x = (np.arange(low, high + 1) / 8).astype(F32)
        right = np.array([function(value) for value in x.tolist()])
        spacing = 2 * UNIT_ROUNDOFF[dtype] * np.exp2(np.floor(np.log2(np.abs(right))))
        smallest = 2.0**-24 if dtype == torch.float16 else 0.0  # below its normal numbers
        allowed = units * np.maximum(spacing, smallest)
        yield in_dtype(case(name, (x,), right.astype(F32), allowed), dtype)


def _whole(v: Values) -> Iterator[Case]:
    """Of integers they are computed in float32."""
    x = v((77,), 60, 1, 4)
    for name in _OF_INTEGERS:
        right = np.array([_FUNCTIONS[name][0](value) for value in x.tolist()])
        allowed = FUNCTION_UNITS * UNIT_ROUNDOFF[torch.float32] * np.maximum(np.abs(right), 1)
        yield case(name, (x,), right.astype(F32), allowed)


def _singles(dtype: torch.dtype) -> Iterator[Case]:
    """In float32 and float64; operands that both have."""
    unit = UNIT_ROUNDOFF[dtype]
    x = np.arange(4, 300) / 16
    right = np.array([digamma(place, 16) for place in range(4, 300)])
    yield case("digamma", (x,), right, FUNCTION_UNITS * unit * (1 + np.abs(right)))
    y = np.arange(-24, 25) / 32
    inverse = np.array([NormalDist().inv_cdf((1 + each) / 2) / math.sqrt(2) for each in y])
    # The inverse is steeper than 1 by at most exp(x^2) sqrt(pi) / 2, which is below 1.8 here.
    allowed = FUNCTION_UNITS * unit * np.maximum(np.abs(inverse), unit)
    yield case("erfinv", (y,), inverse, allowed)
    yield plain("Tensor.erfinv_", (y,), inverse, allowed)
    yield from _distances(unit)
    window = 0.5 - 0.5 * np.cos(np.arange(48) * np.pi / 24)
    made = plain("hann_window", (48,), window, FUNCTION_UNITS * unit, dtype=dtype)
    yield replace(made, factory=True)


def _distances(unit: float) -> Iterator[Case]:
    """Of more than 25 rows torch takes them from a product, whose sums are integers here."""
    x, y = (integers((30, 4), -3, 3, 61 + salt).astype(np.float64) for salt in range(2))
    right = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    yield plain("cdist", (x, y), right, 4 * unit * right)
    few = right[:5, :7]
    yield plain("cdist", (x[:5].copy(), y[:7].copy()), few, FUNCTION_UNITS * unit * few)
