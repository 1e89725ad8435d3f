"""Linear systems: solutions, inverses, determinants, least squares."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, case, on_device, plain
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, refused
from probes.linalg.matrices import (
    NORM,
    REFUSALS,
    bound,
    double,
    general,
    matrices,
    on_host,
    spectrum,
    symmetric,
)


def solving(device: str) -> Iterator[Trial]:
    """Solutions, inverses, determinants and least squares of matrices with known condition."""
    for kind, n in matrices(device):
        a, x = general(n, kind, 130), integers((2, n, 3), -9, 9, 136).astype(kind)
        # The rounding of b changes x by at most 3 times as much, the condition number.
        b = (double(a) @ x).astype(kind)
        allowed = bound(n, kind) * 9 * NORM  # solutions reach 9
        yield case("linalg.solve", (a, b), x, allowed)
        inverse = np.linalg.inv(double(a)).astype(kind)
        yield case("linalg.inv", (a,), inverse, bound(n, kind) * NORM)
        yield plain(
            "linalg.det",
            (a,),
            np.linalg.det(double(a)).astype(kind),
            bound(n, kind) * float(np.prod(spectrum(n))),
        )
        for name, body in (("linalg.lu_factor", _lu), ("linalg.cholesky", _cholesky_solves)):
            yield Custom(name, partial(body, a, n))
        upper = np.triu(a) + NORM * np.eye(n, dtype=kind)
        right_side = (double(upper) @ x).astype(kind)
        yield case("linalg.solve_triangular", (upper, right_side), x, allowed * n, upper=True)
    square = np.array([[1, 2], [3, 4]], F32)
    yield case("linalg.matrix_power", (square, 5), np.linalg.matrix_power(square, 5))
    # An explicit rtol: rounding may exceed the default one, of some units.
    one = np.outer([1, 2, 3], [1, 1, 2]).astype(F32)
    yield plain("linalg.matrix_rank", (one,), np.array(1), rtol=1e-3)
    yield Custom("linalg.inv", _singular)
    sign, logarithm = np.linalg.slogdet(-2 * np.eye(3, dtype=F32))
    yield plain("linalg.slogdet", (-2 * np.eye(3, dtype=F32),), (sign, logarithm), 1e-6)
    tall = np.concatenate([np.eye(3), np.eye(3)]).astype(F32)
    yield Custom("linalg.lstsq", partial(_least_squares, tall))
    yield plain("linalg.pinv", (tall,), tall.T / F32(2), bound(6, F32))


def _singular(device: str) -> Iterator[Comparison]:
    matrix = on_device(np.array([[1, 2], [2, 4]], F32), device)
    yield refused("linalg.inv (singular)", lambda: torch.linalg.inv(matrix), *REFUSALS)


def _least_squares(tall: Array, device: str) -> Iterator[Comparison]:
    """`tall` is two identities stacked: the solution is the mean of the two right sides."""
    values = integers((6, 2), -9, 9, 137)
    found = torch.linalg.lstsq(on_device(tall, device), on_device(values, device)).solution
    yield compare("linalg.lstsq", found, (values[:3] + values[3:]) / 2, bound(6, F32) * 9)


def _lu(a: Array, n: int, device: str) -> Iterator[Comparison]:
    factors, pivots = torch.linalg.lu_factor(on_device(a, device))
    packed, swaps = on_host(factors), pivots.cpu().numpy() - 1
    for one, swap, matrix in zip(packed, swaps, a, strict=True):
        order = np.arange(n)
        for i, j in enumerate(swap):
            order[[i, j]] = order[[j, i]]
        product = (np.tril(one, -1) + np.eye(n)) @ np.triu(one)
        yield compare("linalg.lu_factor", product, matrix[order], bound(n, a.dtype))


def _cholesky_solves(a: Array, n: int, device: str) -> Iterator[Comparison]:
    positive = symmetric(n, a.dtype, 138)
    factor = torch.linalg.cholesky(on_device(positive, device))
    lower = on_host(factor)
    yield compare(
        "linalg.cholesky", lower @ lower.conj().swapaxes(1, 2), positive, bound(n, a.dtype)
    )
    yield compare("linalg.cholesky", np.triu(lower, 1), np.zeros_like(lower))
    x = integers((2, n, 2), -9, 9, 139).astype(a.dtype)
    b = (double(positive) @ x).astype(a.dtype)
    solved = torch.cholesky_solve(on_device(b, device), factor)
    yield compare("cholesky_solve", solved, x, bound(n, a.dtype) * 9 * NORM)
