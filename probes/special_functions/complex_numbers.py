"""Complex numbers and Fourier transforms."""

from collections.abc import Iterator

import numpy as np

from probes.kit.case import Array, case, plain
from probes.kit.operands import integers
from probes.kit.trial import Trial


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
