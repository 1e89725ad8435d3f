"""Functions with rounded results: each within its documented bound of Python's libm."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import torch

from probes.kit.capabilities import back_end, has_dtype
from probes.kit.case import case, in_dtype
from probes.kit.functions import Binary, Ulp, Unary, binary_cases, unary_cases
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial

#: The ulp of ROCm's device library are those of AMD's OCML guide, after OpenCL's table; composed
#: functions have the sum of their parts.
_UNARY: Final[dict[str, Unary]] = {
    "exp": Unary(math.exp, (-87, 88), Ulp(2, 2), Ulp(3, 3)),
    "expm1": Unary(math.expm1, (-10, 80), Ulp(2, 3), Ulp(3, 3)),
    "log": Unary(math.log, (1e-30, 3e4), Ulp(1, 2), Ulp(3, 3)),
    "log2": Unary(math.log2, (1e-30, 3e4), Ulp(1, 3), Ulp(3, 3)),
    "log10": Unary(math.log10, (1e-30, 3e4), Ulp(3, 4)),
    "log1p": Unary(math.log1p, (-0.999, 3e4), Ulp(2, 3)),
    "sin": Unary(math.sin, (-200, 200), Ulp(2, 3), Ulp(4, 4)),
    "cos": Unary(math.cos, (-200, 200), Ulp(2, 3), Ulp(4, 4)),
    "tan": Unary(math.tan, (-50, 50), Ulp(4, 4), Ulp(5, 5)),
    "asin": Unary(math.asin, (-1, 1), Ulp(4, 3), Ulp(4, 4)),
    "acos": Unary(math.acos, (-1, 1), Ulp(4, 3), Ulp(4, 4)),
    "atan": Unary(math.atan, (-500, 500), Ulp(2, 3), Ulp(5, 5)),
    "sinh": Unary(math.sinh, (-80, 80), Ulp(3, 4), Ulp(4, 4)),
    "cosh": Unary(math.cosh, (-80, 80), Ulp(3, 4), Ulp(4, 4)),
    "tanh": Unary(math.tanh, (-9, 9), Ulp(3, 4), Ulp(5, 5)),
    "asinh": Unary(math.asinh, (-1e4, 1e4), Ulp(4, 5)),
    "acosh": Unary(math.acosh, (1.001, 1e4), Ulp(4, 5)),
    "atanh": Unary(math.atanh, (-0.999, 0.999), Ulp(4, 5), Ulp(5, 5)),
    "erf": Unary(math.erf, (-4, 4), Ulp(3, 4), Ulp(16, 16)),
    "sqrt": Unary(math.sqrt, (1e-30, 3e4), Ulp(1, 1)),
    "rsqrt": Unary(lambda x: 1 / math.sqrt(x), (1e-30, 3e4), Ulp(2, 2)),
    "reciprocal": Unary(lambda x: 1 / x, (0.1, 3e4), Ulp(1, 1)),
    "sigmoid": Unary(
        lambda x: 1 / (1 + math.exp(-x)), (-80, 80), Ulp(7, 8), Ulp(8, 9)
    ),  # the three errors add up
}

_BINARY: Final[dict[str, Binary]] = {
    "div": Binary(lambda x, y: x / y, (-9, 9), (0.1, 7), Ulp(0, 0)),
    "pow": Binary(math.pow, (0.1, 9), (-20, 20), Ulp(9, 4), Ulp(16, 16)),
    "atan2": Binary(math.atan2, (-9, 9), (-9, 9), Ulp(4, 4), Ulp(6, 6)),
    "hypot": Binary(math.hypot, (-9, 9), (-9, 9), Ulp(4, 3), Ulp(4, 4)),
    "xlogy": Binary(lambda x, y: x * math.log(y), (-9, 9), (0.1, 9), Ulp(4, 5), Ulp(5, 6)),
    # max + log1p(exp(-|x-y|)): the errors of three functions and a sum of positive terms.
    "logaddexp": Binary(
        lambda x, y: max(x, y) + math.log1p(math.exp(-abs(x - y))),
        (1, 9),
        (1, 9),
        Ulp(5, 6),
        Ulp(7, 8),
    ),
}

#: float32 functions whose vector code on the CPU may have an absolute error instead of a relative
#: one -> that error.
#: erf: 1.5e-7 of the polynomial 7.1.26 of Abramowitz and Stegun (ATen's AVX2, AVX512 and NEON), and
#: its five coefficients and six operations, rounded at numbers up to 2: 2^-24 each.
#: tanh: (exp(2x) - 1) / (exp(2x) + 1) on SVE (after Arm's Compute Library), where an exponential
#: near 1 is 2 ulp (2^-22) wrong, halved by the quotient, and two more operations round.
_ABSOLUTE_ON_CPU: Final[dict[str, float]] = {"erf": 1.5e-7 + 11 * 2.0**-24, "tanh": 2.0**-22}


def elementwise(device: str) -> Iterator[Trial]:
    """Exponentials, logarithms, trigonometry and other functions, each at thousands of points.

    Run it on one host thread: with concurrent first calls, oneMKL 2024.2.0 to 2024.2.2 may use a
    kernel of low accuracy (https://github.com/pytorch/pytorch/issues/188792).
    """
    yield from unary_cases(_UNARY, device, _ABSOLUTE_ON_CPU if back_end(device) == "cpu" else None)
    yield from binary_cases(_BINARY, device)
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
