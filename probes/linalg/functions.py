"""Functions of whole matrices, and systems that are not square: by their closed forms."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import Array, case, on_device, plain
from probes.kit.operands import F32, fractions, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.linalg.matrices import (
    NORM,
    bound,
    double,
    general,
    real_dtype,
    reflections,
    spectrum,
    symmetric,
    types,
    with_spectrum,
)

_SIZES: Final[dict[Any, tuple[int, ...]]] = {
    np.float32: (5, 17),
    np.float64: (5, 48),
    np.complex64: (5,),
    np.complex128: (5,),
}


def functions(device: str) -> Iterator[Trial]:
    """Exponentials, powers, norms, least squares and pseudoinverses, batched and in each type."""
    for kind in types(device):
        for n in _SIZES[kind]:
            yield from _of_symmetric(n, kind)
            yield from _of_general(n, kind)
            yield from _not_square(n, kind)
        yield from _distances(real_dtype(kind))
    yield from _exact(F32, 5)
    if has_dtype(device, torch.float64):
        yield from _exact(np.float64, 20)


def _of_symmetric(n: int, kind: Any) -> Iterator[Trial]:
    a = symmetric(n, kind, 160)
    largest = float(np.exp(NORM))
    q, w = reflections(n, kind, 160), spectrum(n)
    # Scaling and squaring: some products, of matrices up to the result's norm.
    exponential = with_spectrum(q, np.exp(w), kind)
    yield plain("linalg.matrix_exp", (a,), exponential, 4 * bound(n, kind) / NORM * largest)
    factor = np.linalg.cholesky(double(a))
    inverse = with_spectrum(q, 1 / w, kind)
    yield case("cholesky_inverse", (factor.astype(kind),), inverse, bound(n, kind) * NORM)


def _of_general(n: int, kind: Any) -> Iterator[Trial]:
    a, real = general(n, kind, 162), real_dtype(kind)
    w, allowed = spectrum(n), bound(n, kind)
    for order, norm in (("fro", np.sqrt((w**2).sum())), ("nuc", w.sum()), (2, NORM)):
        expected = np.full(2, norm, real)
        yield case("linalg.matrix_norm", (a, order), expected, allowed * max(1.0, norm / NORM))
    yield case("linalg.cond", (a,), np.full(2, NORM, real), allowed * NORM**2)
    # A reflection has determinant -1: so has the product of Q diag(w) Q' with one.
    logarithm = np.full(2, np.log(w).sum(), real)
    yield plain("linalg.slogdet", (a,), (np.full(2, -1, kind), logarithm), allowed * n)
    yield plain(
        "trace",
        (a[0],),
        np.trace(double(a[0])).astype(kind),
        allowed,
    )


def _not_square(n: int, kind: Any) -> Iterator[Trial]:
    """Two invertible matrices, one above the other."""
    a, x = general(n, kind, 164), integers((2, n, 3), -9, 9, 166).astype(kind)
    tall = np.concatenate([a, general(n, kind, 168)], 1)  # (2, 2n, n), singular values 1.4 to 4.3
    right_side = (double(tall) @ x).astype(kind)
    allowed = 2 * bound(n, kind) * 9 * NORM
    yield Custom("linalg.lstsq", partial(_least_squares, tall, right_side, x, allowed))
    if np.iscomplexobj(a):  # within a dispatch mode torch's pseudoinverse of these is wrong
        return
    half = np.linalg.inv(double(a)) / 2
    twice = np.concatenate([a, a], 1)
    yield plain(
        "linalg.pinv",
        (twice,),
        np.concatenate([half, half], 2).astype(kind),
        2 * bound(n, kind) * NORM,
    )


def _least_squares(
    tall: Array, right_side: Array, x: Array, allowed: float, device: str
) -> Iterator[Comparison]:
    found = torch.linalg.lstsq(on_device(tall, device), on_device(right_side, device))
    yield compare(f"linalg.lstsq ({x.dtype})", found.solution, x, allowed)


def _distances(kind: Any) -> Iterator[Trial]:
    """Few points: from 26 on torch may use a product, which cancels."""
    x, y = fractions((2, 17, 5), 170).astype(kind), fractions((2, 13, 5), 171).astype(kind)
    wide = x.astype(np.float64)[:, :, None] - y.astype(np.float64)[:, None]
    expected = np.sqrt((wide**2).sum(-1))
    unit = float(np.finfo(kind).eps) / 2
    # Differences, squares, their sum and the root are rounded; the reference is in float64.
    yield plain("cdist", (x, y), expected.astype(kind), 2 * (5 + 4) * unit * np.sqrt(5))


def _exact(kind: Any, power: int) -> Iterator[Trial]:
    """Integers beyond the type before, below 2^53."""
    square = np.array([[1, 2], [3, 4]])
    expected = np.linalg.matrix_power(square, power).astype(kind)
    yield case("linalg.matrix_power", (square.astype(kind), power), expected)
    chain = [integers(shape, -9, 9, 172, kind) for shape in ((7, 11), (11, 5), (5, 3))]
    if kind is np.float64:
        chain[0] = chain[0] * 2.0**20 + chain[0]
    yield case("linalg.multi_dot", (chain,), chain[0] @ chain[1] @ chain[2])
