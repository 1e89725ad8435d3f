"""Functions with rounded results: each within its documented bound of Python's libm."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probes.kit.capabilities import back_end, has_dtype
from probes.tensor_ops.case import Array, Case, case, in_dtype
from probes.tensor_ops.operands import F32, fractions, integers
from probes.tensor_ops.trial import Trial

_POINTS = {np.float32: 2048, np.float64: 1024}

#: Function -> reference, range of operands, ulp allowed in float32 and float64.
#: The larger of CUDA's error (CUDA C++ Programming Guide, "Mathematical Functions", full range) and
#: of SLEEF's and MKL's on the CPU, which is 1; in float64 plus the error of glibc (its manual).
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

#: The same for functions of two operands: reference, both ranges, ulp.
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


#: Function -> ulp in float32 and float64 that ROCm's device library documents, where larger (AMD's
#: OCML guide, after OpenCL's table). Composed functions have the sum of their parts.
_ULP_ON_HIP: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("exp", "exp2", "expm1", "log", "log2"), (3, 3)),
    **dict.fromkeys(("sin", "cos", "sinh", "cosh", "asin", "acos", "hypot"), (4, 4)),
    **dict.fromkeys(("tan", "atan", "tanh", "atanh"), (5, 5)),
    **dict.fromkeys(("erf", "erfc", "pow"), (16, 16)),
    "atan2": (6, 6),
    "sigmoid": (8, 9),
    "xlogy": (5, 6),
    "logaddexp": (7, 8),
}

#: For other back-ends: the largest error in OpenCL's table.
_ULP_OF_OPENCL = 16.0

#: float32 functions whose vector code on the CPU may have an absolute error instead of a relative
#: one -> that error.
#: erf: 1.5e-7 of the polynomial 7.1.26 of Abramowitz and Stegun (ATen's AVX2, AVX512 and NEON), and
#: its five coefficients and six operations, rounded at numbers up to 2: 2^-24 each.
#: tanh: (exp(2x) - 1) / (exp(2x) + 1) on SVE (after Arm's Compute Library), where an exponential
#: near 1 is 2 ulp (2^-22) wrong, halved by the quotient, and two more operations round.
_ABSOLUTE_ON_CPU: dict[str, float] = {"erf": 1.5e-7 + 11 * 2.0**-24, "tanh": 2.0**-22}


def _allowed_ulp(name: str, single: float, double: float, device: str) -> tuple[float, float]:
    """The allowed error on that device, in units in the last place (float32, float64)."""
    kind = back_end(device)
    if kind == "hip":
        promised = _ULP_ON_HIP.get(name, (0, 0))
        return max(single, promised[0]), max(double, promised[1])
    slack = 0.0 if kind in {"cpu", "cuda"} else _ULP_OF_OPENCL
    return single + slack, double + slack


def elementwise(device: str) -> Iterator[Trial]:
    """Exponentials, logarithms, trigonometry and other functions, each at thousands of points.

    Run it on one host thread: with concurrent first calls, oneMKL 2024.2.0 to 2024.2.2 may use a
    kernel of low accuracy (https://github.com/pytorch/pytorch/issues/188792).
    """
    absolute = _ABSOLUTE_ON_CPU if back_end(device) == "cpu" else {}
    for name, (function, (low, high), single, double) in _UNARY.items():
        for kind, ulp in zip(
            (F32, np.float64), _allowed_ulp(name, single, double, device), strict=True
        ):
            x = _points(kind, low, high)
            extra_absolute = absolute.get(name, 0.0) if kind is F32 else 0.0
            yield _ulp_case(
                name, (x,), [function(v) for v in x.tolist()], ulp, kind, extra_absolute
            )
    for name, (binary_function, first, second, single, double) in _BINARY.items():
        for kind, ulp in zip(
            (F32, np.float64), _allowed_ulp(name, single, double, device), strict=True
        ):
            x, y = _points(kind, *first)[::-1].copy(), _points(kind, *second, 5)
            pairs = zip(x.tolist(), y.tolist(), strict=True)
            yield _ulp_case(name, (x, y), [binary_function(v, w) for v, w in pairs], ulp, kind)
    yield from _half_type_cases(device)


def _half_type_cases(device: str) -> Iterator[Trial]:
    """Functions of half types: allowed error one unit in the last place.

    The CPU, CUDA and HIP compute in float32 and round once. Other back-ends may compute in the
    half type itself: four units.
    """
    units = 1 if back_end(device) in {"cpu", "cuda", "hip"} else 4
    for name, function in (("exp", np.exp), ("tanh", np.tanh), ("sqrt", np.sqrt), ("sin", np.sin)):
        x = (integers((257,), 0, 48, 80) / F32(8)).astype(F32)
        exact = function(x.astype(np.float64))
        half_spacing = np.spacing(exact.astype(np.float16)).astype(np.float64)
        each = case(name, (x,), exact.astype(F32))
        if has_dtype(device, torch.float16):
            yield replace(in_dtype(each, torch.float16), allowed=units * half_spacing)
        if not has_dtype(device, torch.bfloat16):
            continue
        exact_f32 = exact.astype(F32)
        truncated = (exact_f32.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)
        yield replace(
            in_dtype(replace(each, expected=(truncated,)), torch.bfloat16),
            allowed=units * 2.0**-7 * np.exp2(np.floor(np.log2(np.maximum(np.abs(exact), 1e-30)))),
        )


def _points(kind: Any, low: float, high: float, salt: int = 0) -> Array:
    """Points across a range, its ends, and points of many magnitudes near zero if it has zero."""
    points = low + (high - low) * fractions((_POINTS[kind],), 81 + salt)
    points[:2] = low, high
    tiny = 2.0 ** np.linspace(-40, 0, 64) * fractions((64,), 90) * min(1.0, abs(high))
    if low < 0 < high:
        points[2:66], points[66:130] = tiny, -tiny * min(1.0, -low)
    elif low < 1e-20:
        points[2:66] = np.maximum(tiny, low)
    return points.astype(kind)


def _ulp_case(
    name: str,
    operands: tuple[Array, ...],
    answers: list[float],
    ulp: float,
    kind: Any,
    absolute: float = 0.0,
) -> Case:
    exact = np.array(answers)
    rounded = exact.astype(kind)
    if ulp == 0:
        return case(name, operands, rounded)
    allowed = (ulp + (0.5 if kind is F32 else 0)) * np.spacing(np.abs(rounded)).astype(np.float64)
    allowed += absolute
    if name == "lgamma":  # zero at 1 and 2, where only the absolute error is bounded
        allowed += 8 * np.finfo(kind).eps
    return case(name, operands, rounded, allowed)
