"""Functions whose answers are rounded: each within a bound of its own, against Python's libm."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probes.tensor_ops.case import Array, Case, case, in_dtype
from probes.tensor_ops.operands import F32, fractions, whole
from probes.tensor_ops.trial import Trial

_POINTS = {np.float32: 2048, np.float64: 1024}

#: Function -> reference, range of operands, ulp allowed in float32 and float64.
#: The larger of CUDA's (CUDA C++ Programming Guide, "Mathematical Functions": full range) and of
#: SLEEF's and MKL's 1 that the CPU has; in float64 with glibc's own error on top (its manual).
_UNARY: dict[str, tuple[Callable[[float], float], tuple[float, float], float, float]] = {
    "exp": (math.exp, (-87, 88), 2, 2),
    "exp2": (lambda x: 2.0**x, (-126, 127), 2, 3),
    "expm1": (math.expm1, (-10, 80), 2, 3),
    "log": (math.log, (1e-30, 3e4), 1, 2),
    "log2": (math.log2, (1e-30, 3e4), 1, 3),
    "log10": (math.log10, (1e-30, 3e4), 3, 4),
    "log1p": (math.log1p, (-0.999, 3e4), 2, 3),
    "sin": (math.sin, (-200, 200), 2, 3),
    "cos": (math.cos, (-200, 200), 2, 3),
    "tan": (math.tan, (-50, 50), 4, 4),
    "asin": (math.asin, (-1, 1), 4, 3),
    "acos": (math.acos, (-1, 1), 4, 3),
    "atan": (math.atan, (-500, 500), 2, 3),
    "sinh": (math.sinh, (-80, 80), 3, 4),
    "cosh": (math.cosh, (-80, 80), 3, 4),
    "tanh": (math.tanh, (-9, 9), 3, 4),
    "asinh": (math.asinh, (-1e4, 1e4), 4, 5),
    "acosh": (math.acosh, (1.001, 1e4), 4, 5),
    "atanh": (math.atanh, (-0.999, 0.999), 4, 5),
    "erf": (math.erf, (-4, 4), 3, 4),
    "erfc": (math.erfc, (-4, 9), 7, 10),
    "lgamma": (math.lgamma, (0.5, 3e4), 7, 9),
    "sqrt": (math.sqrt, (1e-30, 3e4), 1, 1),
    "rsqrt": (lambda x: 1 / math.sqrt(x), (1e-30, 3e4), 2, 2),
    "reciprocal": (lambda x: 1 / x, (0.1, 3e4), 1, 1),
    "sigmoid": (lambda x: 1 / (1 + math.exp(-x)), (-80, 80), 7, 8),  # the three errors add up
}

#: The same of two operands: both ranges.
_BINARY: dict[
    str,
    tuple[Callable[[float, float], float], tuple[float, float], tuple[float, float], float, float],
] = {
    "div": (lambda x, y: x / y, (-9, 9), (0.1, 7), 0, 0),
    "pow": (math.pow, (0.1, 9), (-20, 20), 9, 4),
    "atan2": (math.atan2, (-9, 9), (-9, 9), 4, 4),
    "hypot": (math.hypot, (-9, 9), (-9, 9), 4, 3),
    "xlogy": (lambda x, y: x * math.log(y), (-9, 9), (0.1, 9), 4, 5),
    # max + log1p(exp(-|x-y|)): the errors of three functions and a sum of positive terms.
    "logaddexp": (lambda x, y: max(x, y) + math.log1p(math.exp(-abs(x - y))), (1, 9), (1, 9), 5, 6),
}


def elementwise(device: str) -> Iterator[Trial]:
    """Exponentials, logarithms, trigonometry and the rest on thousands of points each."""
    # Elsewhere OpenCL's looser table holds, where 16 ulp are allowed.
    slack = 0.0 if torch.device(device).type in {"cpu", "cuda"} else 16.0
    for name, (function, (low, high), single, double) in _UNARY.items():
        for kind, ulp in ((F32, single), (np.float64, double)):
            x = _spread(kind, low, high)
            yield _within(name, (x,), [function(v) for v in x.tolist()], ulp + slack, kind)
    for name, (of_two, first, second, single, double) in _BINARY.items():
        for kind, ulp in ((F32, single), (np.float64, double)):
            x, y = _spread(kind, *first)[::-1].copy(), _spread(kind, *second, 5)
            pairs = zip(x.tolist(), y.tolist(), strict=True)
            yield _within(name, (x, y), [of_two(v, w) for v, w in pairs], ulp + slack, kind)
    # Half types are computed in float32 and rounded once: half a unit, and a little.
    for name, function in (("exp", np.exp), ("tanh", np.tanh), ("sqrt", np.sqrt), ("sin", np.sin)):
        x = (whole((257,), 0, 48, 80) / F32(8)).astype(F32)
        exact = function(x.astype(np.float64))
        half = np.spacing(exact.astype(np.float16)).astype(np.float64)
        each = case(name, (x,), exact.astype(F32))
        yield replace(in_dtype(each, torch.float16), allowed=half)
        short = exact.astype(F32)
        brief = (short.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)
        yield replace(
            in_dtype(replace(each, expected=(brief,)), torch.bfloat16),
            allowed=2.0**-7 * np.exp2(np.floor(np.log2(np.maximum(np.abs(exact), 1e-30)))),
        )


def _spread(kind: Any, low: float, high: float, salt: int = 0) -> Array:
    """Points all over a range, its ends, and of every magnitude next to zero where it has one."""
    points = low + (high - low) * fractions((_POINTS[kind],), 81 + salt)
    points[:2] = low, high
    tiny = 2.0 ** np.linspace(-40, 0, 64) * fractions((64,), 90) * min(1.0, abs(high))
    if low < 0 < high:
        points[2:66], points[66:130] = tiny, -tiny * min(1.0, -low)
    elif low < 1e-20:
        points[2:66] = np.maximum(tiny, low)
    return points.astype(kind)


def _within(
    name: str, operands: tuple[Array, ...], answers: list[float], ulp: float, kind: Any
) -> Case:
    exact = np.array(answers)
    rounded = exact.astype(kind)
    if ulp == 0:
        return case(name, operands, rounded)
    allowed = (ulp + (0.5 if kind is F32 else 0)) * np.spacing(np.abs(rounded)).astype(np.float64)
    if name == "lgamma":  # zero at 1 and 2, where only the absolute error is bounded
        allowed += 8 * np.finfo(kind).eps
    return case(name, operands, rounded, allowed)
