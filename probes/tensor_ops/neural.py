"""Complex numbers, Fourier transforms and functions of neural networks, by their formulas."""

import math
from collections.abc import Iterator

import numpy as np

from probes.tensor_ops.case import Array, case, plain
from probes.tensor_ops.operands import F32, fractions, integers
from probes.tensor_ops.trial import Trial


def complex_numbers(_device: str) -> Iterator[Trial]:
    """Complex arithmetic on integers is exact; angles and Fourier transforms within their bound."""
    for kind in (np.complex64, np.complex128):
        a = (integers((5, 16), -9, 9, 82) + 1j * integers((5, 16), -9, 9, 83)).astype(kind)
        b = (integers((5, 16), -9, 9, 84) + 1j * integers((5, 16), -9, 9, 85)).astype(kind)
        unit = float(np.finfo(kind).eps)
        # Compare values, not bits: the sign of a zero part depends on the order of operations.
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
    # Error relative to the norm: a multiple of log2(n) units (Higham, theorem 24.2); n = 16 here.
    size = float(np.sqrt(np.sum(np.abs(a) ** 2, 1)).max()) * 4
    bound = 8 * unit * size
    real = np.ascontiguousarray(a.real)
    yield case("fft.fft", (a,), np.fft.fft(a).astype(a.dtype), bound)
    yield case("fft.ifft", (a,), np.fft.ifft(a).astype(a.dtype), bound)
    yield case("fft.fft2", (a,), np.fft.fft2(a).astype(a.dtype), 4 * bound)
    yield case("fft.rfft", (real,), np.fft.rfft(real).astype(a.dtype), bound)
    half = np.fft.rfft(real).astype(a.dtype)
    yield case("fft.irfft", (half,), real, bound, n=16)
    prime = a[:, :13].copy()  # not a power of 2: another algorithm
    yield case("fft.fft", (prime,), np.fft.fft(prime).astype(a.dtype), 4 * bound)
    yield plain("fft.fftshift", (real,), np.fft.fftshift(real))


def neural(_device: str) -> Iterator[Trial]:
    """Activations, normalisation, pooling, embedding and losses by their formulas."""
    f = "nn.functional"
    x = (fractions((9, 65), 86) * 12 - 6).astype(F32)
    wide = x.astype(np.float64)
    unit = 2.0**-23
    erf = np.array([[math.erf(v / math.sqrt(2)) for v in row] for row in wide.tolist()])
    # The functions inside have errors of 2 to 4 ulp, scaled by the size of the factors.
    size = 8 * unit * np.maximum(np.abs(wide), 1)
    yield plain(f"{f}.gelu", (x,), (wide * (1 + erf) / 2).astype(F32), size)
    yield plain(f"{f}.silu", (x,), (wide / (1 + np.exp(-wide))).astype(F32), size)
    yield plain(f"{f}.softplus", (x,), np.log1p(np.exp(wide)).astype(F32), size)
    yield plain(f"{f}.elu", (x,), np.where(wide > 0, wide, np.expm1(wide)).astype(F32), size)
    whole_x = integers((9, 65), -9, 9, 87)
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
    target = integers((9,), 0, 64, 88, np.int64)
    loss = -np.log(soft[np.arange(9), target]).mean()
    yield plain(f"{f}.cross_entropy", (x, target), np.asarray(loss, F32), (65 + 8) * unit * 16)
    centred = wide - wide.mean(1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    yield plain(f"{f}.layer_norm", (x, (65,)), normal.astype(F32), (65 + 8) * unit * 4)
    image = integers((2, 3, 8, 6), -9, 9, 89)
    blocks = image.reshape(2, 3, 4, 2, 3, 2)
    yield plain(f"{f}.max_pool2d", (image, 2), blocks.max((3, 5)))
    yield plain(f"{f}.avg_pool2d", (image, 2), blocks.mean((3, 5)))
    yield plain(f"{f}.interpolate", (image,), image.repeat(2, 2).repeat(2, 3), scale_factor=2)
    shuffled = integers((1, 8, 3, 4), -9, 9, 90)
    yield plain(
        f"{f}.pixel_shuffle",
        (shuffled, 2),
        shuffled.reshape(1, 2, 2, 2, 3, 4).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 6, 8),
    )
    table, tokens = integers((11, 5), -9, 9, 91), integers((4, 7), 0, 10, 92, np.int64)
    yield plain(f"{f}.embedding", (tokens, table), table[tokens])
    yield plain(f"{f}.one_hot", (tokens, 11), np.eye(11, dtype=np.int64)[tokens])
    yield plain(
        f"{f}.mse_loss",
        (whole_x[:8, :64], whole_x[1:, 1:]),
        np.asarray(((whole_x[:8, :64] - whole_x[1:, 1:]) ** 2).mean(), F32),
    )
