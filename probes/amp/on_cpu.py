"""Operations that autocast runs in float32 on the CPU alone: exact, or within a few roundings."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.amp.functions import ONE, SEVERAL, large
from probes.amp.regions import Array
from probes.amp.rows import Row
from probes.kit.gradients import integers

_CPU: Final = ("cpu",)


def rows() -> Iterator[Row]:
    """Pooling and padding, transforms, matrices, and what is left."""
    yield from _windows()
    yield from _transforms()
    yield from _matrices()
    yield from _others()


def _windows() -> Iterator[Row]:
    functional: Any = torch.nn.functional
    x = large((2, 3, 4, 6, 8), 20)
    blocks = x.reshape(2, 3, 2, 2, 3, 2, 4, 2)
    axes = (3, 5, 7)
    yield Row("avg_pool3d", lambda v: functional.avg_pool3d(v, 2), (x,), blocks.mean(axes), _CPU)
    yield Row("max_pool3d", lambda v: functional.max_pool3d(v, 2), (x,), blocks.max(axes), _CPU)
    name = "adaptive_avg_pool3d"
    call = getattr(functional, name)
    yield Row(name, lambda v: call(v, (2, 3, 4)), (x,), blocks.mean(axes), _CPU)
    name = "adaptive_max_pool3d"
    call_max = getattr(functional, name)
    yield Row(name, lambda v: call_max(v, (2, 3, 4)), (x,), blocks.max(axes), _CPU)
    for dimensions in (1, 2, 3):
        part = x[(0,) * (3 - dimensions)]
        widths = ((0, 0),) * (part.ndim - dimensions) + ((1, 2),) * dimensions
        for mode, numpy_mode in (("reflect", "reflect"), ("replicate", "edge")):
            if mode == "reflect" and dimensions == 3:
                continue
            kind = {"reflect": "reflection", "replicate": "replication"}[mode]
            yield Row(
                f"{kind}_pad{dimensions}d",
                lambda v, m=mode, d=dimensions: functional.pad(v, (1, 2) * d, m),
                (part.copy(),),
                np.pad(part, widths, numpy_mode),  # type: ignore[call-overload]
                _CPU,
            )


def _transforms() -> Iterator[Row]:
    """Of 4 elements the factors are 1 and i, so that sums of integers are exact."""
    x = large((6, 4), 21)
    parts = _parts(np.fft.fft(x))
    back = _parts(np.fft.ifft(x))
    scale = np.abs(x).sum(1)[:, None, None]  # the largest partial sums
    fft = torch.fft
    yield Row("fft_fft", lambda v: _real(fft.fft(v)), (x,), parts, _CPU, ONE, scale)
    yield Row("fft_rfft", lambda v: _real(fft.rfft(v)), (x,), parts[:, :3], _CPU, ONE, scale)
    yield Row("fft_ifft", lambda v: _real(fft.ifft(v)), (x,), back, _CPU, ONE, scale)
    pairs = large((6, 2), 22)
    yield Row("view_as_complex", lambda v: _real(torch.view_as_complex(v)), (pairs,), pairs, _CPU)
    radius, angle = np.abs(large((24,), 23)), integers((24,), 24) / 4
    right = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    scale = np.stack([radius, radius], -1)
    yield Row(
        "polar", lambda r, a: _real(torch.polar(r, a)), (radius, angle), right, _CPU, ONE, scale
    )


def _real(values: Any) -> torch.Tensor:
    """Complex numbers as pairs of real ones, on the device."""
    return torch.view_as_real(values.resolve_conj())


def _parts(values: Any) -> Array:
    """Complex numbers as pairs of real ones."""
    return np.stack([values.real, values.imag], -1)


def _matrices() -> Iterator[Row]:
    """Triangular with ones on the diagonal, or diagonal: every step of a solver is exact."""
    lower = np.tril(integers((4, 4), 25), -1) + np.eye(4)
    inverse = np.round(np.linalg.inv(lower))
    yield Row("inverse", torch.inverse, (lower,), inverse, _CPU, ONE, np.full((4, 4), 1e4))
    linalg = torch.linalg
    yield Row("linalg_inv", linalg.inv, (lower,), inverse, _CPU, ONE, np.full((4, 4), 1e4))
    b = integers((4, 3), 26)
    yield Row(
        "linalg_solve", linalg.solve, (lower, b), inverse @ b, _CPU, ONE, np.full((4, 3), 1e4)
    )
    diagonal = np.diag([4.0, 16.0, 64.0, 1.0])
    root = np.sqrt(diagonal)
    yield Row("linalg_cholesky", linalg.cholesky, (diagonal,), root, _CPU, ONE)
    values = np.array([64.0, 16.0, 4.0, 1.0])
    yield Row("linalg_svdvals", linalg.svdvals, (diagonal,), values, _CPU, SEVERAL)
    yield Row("linalg_eigvalsh", linalg.eigvalsh, (diagonal,), values[::-1].copy(), _CPU, SEVERAL)
    yield Row("trace", torch.trace, (large((24, 24), 27),), np.trace(large((24, 24), 27)), _CPU)


def _others() -> Iterator[Row]:
    functional: Any = torch.nn.functional
    x = np.sort(large((33,), 28))
    quartile = np.asarray(x[8])  # 32 gaps, so that a quarter lies on an element
    yield Row("quantile", lambda v: torch.quantile(v, 0.25), (x,), quartile, _CPU)
    yield Row("nanquantile", lambda v: torch.nanquantile(v, 0.25), (x,), quartile, _CPU)
    chance, target = (np.arange(32) % 15 + 1) / 16, (np.arange(32) % 2).astype(np.float64)
    right = -(target * np.log(chance) + (1 - target) * np.log(1 - chance)).mean()
    call = functional.binary_cross_entropy
    yield Row("binary_cross_entropy", call, (chance, target), right, _CPU, SEVERAL)
    # Corners of pixels: each output is one input.
    image = large((1, 2, 4, 4), 29)
    centers = (2 * np.arange(4) + 1) / 4 - 1
    grid = np.stack(np.meshgrid(centers[::-1], centers), -1)[None]
    call_grid = functional.grid_sample
    yield Row(
        "grid_sampler",
        lambda v, w: call_grid(v, w, align_corners=False),
        (image, grid),
        image[..., ::-1].copy(),
        _CPU,
    )
