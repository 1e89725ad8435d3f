"""Functions whose answers are rounded: each within a bound of its own, against Python's libm."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probes.tensor_ops.operands import F32, fractions, whole
from probes.tensor_ops.trial import Array, Case, Trial, case, in_dtype, plain

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
    "sigmoid": (lambda x: 1 / (1 + math.exp(-x)), (-80, 80), 4, 5),
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
    "xlogy": (lambda x, y: x * math.log(y), (-9, 9), (0.1, 9), 3, 4),
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


def complex_numbers(_device: str) -> Iterator[Trial]:
    """Complex arithmetic on integers is exact; angles and Fourier transforms within their bound."""
    for kind in (np.complex64, np.complex128):
        a = (whole((5, 16), -9, 9, 82) + 1j * whole((5, 16), -9, 9, 83)).astype(kind)
        b = (whole((5, 16), -9, 9, 84) + 1j * whole((5, 16), -9, 9, 85)).astype(kind)
        unit = float(np.finfo(kind).eps)
        # Values are compared, not bits: the sign of a zero part depends on the form of the sum.
        yield case("add", (a, b), a + b, 0.0)
        yield case("mul", (a, b), a * b, 0.0)
        yield case("neg", (a,), -a, 0.0)
        yield plain("conj", (a,), a.conj(), 0.0)
        yield plain("real", (a,), a.real.copy(), 0.0)
        yield plain("imag", (a,), a.imag.copy(), 0.0)
        yield plain("mm", (a, b.T.copy()), a @ b.T, 0.0)
        yield case("abs", (a,), np.abs(a), 2 * unit * 13)
        yield case("angle", (a,), np.angle(a), 4 * unit * np.pi)
        yield case("polar", (np.abs(a), np.angle(a)), a, 16 * unit * 13)
        yield from _transforms(a, unit)


def _transforms(a: Array, unit: float) -> Iterator[Trial]:
    # Relative to the root mean square: some log2(n) units (Higham, theorem 24.2); n = 16 here.
    size = float(np.sqrt(np.sum(np.abs(a) ** 2, 1)).max()) * 4
    bound = 8 * unit * size
    real = np.ascontiguousarray(a.real)
    yield case("fft.fft", (a,), np.fft.fft(a).astype(a.dtype), bound)
    yield case("fft.ifft", (a,), np.fft.ifft(a).astype(a.dtype), bound)
    yield case("fft.fft2", (a,), np.fft.fft2(a).astype(a.dtype), 4 * bound)
    yield case("fft.rfft", (real,), np.fft.rfft(real).astype(a.dtype), bound)
    half = np.fft.rfft(real).astype(a.dtype)
    yield case("fft.irfft", (half,), real, bound, n=16)
    prime = a[:, :13].copy()  # another algorithm: no power of 2
    yield case("fft.fft", (prime,), np.fft.fft(prime).astype(a.dtype), 4 * bound)
    yield plain("fft.fftshift", (real,), np.fft.fftshift(real))


def neural(_device: str) -> Iterator[Trial]:
    """Activations, normalisation, pooling, embedding and losses by their formulas."""
    f = "nn.functional"
    x = (fractions((9, 65), 86) * 12 - 6).astype(F32)
    wide = x.astype(np.float64)
    unit = 2.0**-23
    erf = np.array([[math.erf(v / math.sqrt(2)) for v in row] for row in wide.tolist()])
    # Errors of the functions inside, 2 to 4 ulp each, on the size of what is multiplied.
    size = 8 * unit * np.maximum(np.abs(wide), 1)
    yield plain(f"{f}.gelu", (x,), (wide * (1 + erf) / 2).astype(F32), size)
    yield plain(f"{f}.silu", (x,), (wide / (1 + np.exp(-wide))).astype(F32), size)
    yield plain(f"{f}.softplus", (x,), np.log1p(np.exp(wide)).astype(F32), size)
    yield plain(f"{f}.elu", (x,), np.where(wide > 0, wide, np.expm1(wide)).astype(F32), size)
    whole_x = whole((9, 65), -9, 9, 87)
    yield plain(f"{f}.relu", (whole_x,), np.maximum(whole_x, 0), 0.0)
    yield plain(
        f"{f}.leaky_relu",
        (whole_x, 0.5),
        np.where(whole_x > 0, whole_x, whole_x / 2).astype(F32),
        0.0,
    )
    yield plain(f"{f}.hardtanh", (whole_x,), np.clip(whole_x, -1, 1))
    shifted = np.exp(wide - wide.max(1, keepdims=True))
    soft = shifted / shifted.sum(1, keepdims=True)
    # exp and division, and 65 additions: each at most a unit.
    yield case("softmax", (x, 1), soft.astype(F32), (65 + 8) * unit * soft)
    yield case("log_softmax", (x, 1), np.log(soft).astype(F32), (65 + 8) * unit * 16)
    total = np.log(shifted.sum(1)) + wide.max(1)
    yield case("logsumexp", (x, 1), total.astype(F32), (65 + 8) * unit * 8)
    scan = np.logaddexp.accumulate(wide, 1)
    yield case("logcumsumexp", (x, 1), scan.astype(F32), (65 + 8) * unit * 8)
    target = whole((9,), 0, 64, 88, np.int64)
    loss = -np.log(soft[np.arange(9), target]).mean()
    yield plain(f"{f}.cross_entropy", (x, target), np.asarray(loss, F32), (65 + 8) * unit * 16)
    centred = wide - wide.mean(1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    yield plain(f"{f}.layer_norm", (x, (65,)), normal.astype(F32), (65 + 8) * unit * 4)
    image = whole((2, 3, 8, 6), -9, 9, 89)
    blocks = image.reshape(2, 3, 4, 2, 3, 2)
    yield plain(f"{f}.max_pool2d", (image, 2), blocks.max((3, 5)))
    yield plain(f"{f}.avg_pool2d", (image, 2), blocks.mean((3, 5)))
    yield plain(f"{f}.interpolate", (image,), image.repeat(2, 2).repeat(2, 3), scale_factor=2)
    shuffled = whole((1, 8, 3, 4), -9, 9, 90)
    yield plain(
        f"{f}.pixel_shuffle",
        (shuffled, 2),
        shuffled.reshape(1, 2, 2, 2, 3, 4).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 6, 8),
    )
    table, tokens = whole((11, 5), -9, 9, 91), whole((4, 7), 0, 10, 92, np.int64)
    yield plain(f"{f}.embedding", (tokens, table), table[tokens])
    yield plain(f"{f}.one_hot", (tokens, 11), np.eye(11, dtype=np.int64)[tokens])
    yield plain(
        f"{f}.mse_loss",
        (whole_x[:8, :64], whole_x[1:, 1:]),
        np.asarray(((whole_x[:8, :64] - whole_x[1:, 1:]) ** 2).mean(), F32),
    )
