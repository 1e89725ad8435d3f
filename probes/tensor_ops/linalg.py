"""Linear algebra by its properties and by matrices whose answers are known by construction.

LAPACK's own tests reject a residual of 30 n u (its Users' Guide, "Testing"): so do these.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.references import compare
from probes.tensor_ops.operands import F32, fractions, whole
from probes.tensor_ops.trial import (
    Array,
    Custom,
    Trial,
    case,
    has_double,
    placed,
    plain,
    refused,
)

_SIZES: tuple[tuple[Any, tuple[int, ...]], ...] = (
    (np.float32, (2, 3, 17, 32)),
    (np.float64, (2, 16, 32)),
    (np.complex64, (3, 17)),
)
#: What LAPACK's refusals are called, before and since torch 1.13's public name.
_REFUSALS = ("_LinAlgError", "LinAlgError")
_NORM = 3.0  # of every matrix here; the smallest singular value is 1


def _matrices(device: str) -> Iterator[tuple[Any, int]]:
    """The types that the device has, each with its sizes."""
    for kind, sizes in _SIZES:
        if kind is not np.float64 or has_double(device):
            yield from ((kind, n) for n in sizes)


def _orthogonal(n: int, kind: Any, salt: int) -> Array:
    """The reflection I - 2vv'/v'v: orthogonal (unitary) to the last bits of float64."""
    v = (fractions((n,), salt) + 0.5).astype(np.complex128)
    if np.issubdtype(kind, np.complexfloating):
        v += 1j * fractions((n,), salt + 2)
    reflection = np.eye(n) - 2 * np.outer(v, v.conj()) / np.vdot(v, v).real
    return np.asarray(reflection if np.issubdtype(kind, np.complexfloating) else reflection.real)


def _spectrum(n: int) -> Array:
    return np.linspace(1, _NORM, n)  # ascending and well apart


def _symmetric(n: int, kind: Any, salt: int) -> Array:
    """Q diag(w) Q', two of them."""
    turns = (_orthogonal(n, kind, salt), _orthogonal(n, kind, salt + 1))
    return np.stack([(q * _spectrum(n)) @ q.conj().T for q in turns]).astype(kind)


def _general(n: int, kind: Any, salt: int) -> Array:
    """U diag(w) V', two of them."""
    turn = _orthogonal(n, kind, salt + 7)
    return np.asarray((_symmetric(n, kind, salt) @ turn).astype(kind))


def _double(a: Array) -> Array:
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def _bound(n: int, kind: Any) -> float:
    return float(30 * n * np.finfo(kind).eps / 2 * _NORM)


def _real(kind: Any) -> Any:
    return np.zeros(0, kind).real.dtype


def _host(tensor: torch.Tensor) -> Array:
    """The tensor in double precision, where NumPy multiplies it back."""
    return _double(tensor.detach().cpu().resolve_conj().numpy())


def solving(device: str) -> Iterator[Trial]:
    """Solutions, inverses and determinants: A x gives b back, A^-1 A the identity."""
    for kind, n in _matrices(device):
        a, x = _general(n, kind, 130), whole((2, n, 3), -9, 9, 136).astype(kind)
        b = (_double(a) @ x).astype(kind)  # rounded: within condition 3 of x
        bound = _bound(n, kind) * 9 * _NORM
        yield case("linalg.solve", (a, b), x, bound)
        inverse = np.linalg.inv(_double(a)).astype(kind)
        yield case("linalg.inv", (a,), inverse, _bound(n, kind) * _NORM)
        yield plain(
            "linalg.det",
            (a,),
            np.linalg.det(_double(a)).astype(kind),
            _bound(n, kind) * float(np.prod(_spectrum(n))),
        )
        for name, body in (("linalg.lu_factor", _lu), ("linalg.cholesky", _cholesky_solves)):
            yield Custom(name, partial(body, a, n))
        upper = np.triu(a) + _NORM * np.eye(n, dtype=kind)
        right = (_double(upper) @ x).astype(kind)
        yield case("linalg.solve_triangular", (upper, right), x, bound * n, upper=True)
    square = np.array([[1, 2], [3, 4]], F32)
    yield case("linalg.matrix_power", (square, 5), np.linalg.matrix_power(square, 5))
    yield plain("linalg.matrix_rank", (np.outer([1, 2, 3], [1, 1, 2]).astype(F32),), np.array(1))
    yield Custom("linalg.inv", _singular)
    sign, logarithm = np.linalg.slogdet(-2 * np.eye(3, dtype=F32))
    yield plain("linalg.slogdet", (-2 * np.eye(3, dtype=F32),), (sign, logarithm), 1e-6)
    tall = np.concatenate([np.eye(3), np.eye(3)]).astype(F32)
    yield Custom("linalg.lstsq", partial(_least_squares, tall))
    yield plain("linalg.pinv", (tall,), tall.T / F32(2), _bound(6, F32))


def _singular(device: str) -> Iterator[Comparison]:
    matrix = placed(np.array([[1, 2], [2, 4]], F32), device)
    yield refused("linalg.inv (singular)", lambda: torch.linalg.inv(matrix), *_REFUSALS)


def _least_squares(tall: Array, device: str) -> Iterator[Comparison]:
    """Two identities on top of each other: the solution is the mean of the right sides."""
    values = whole((6, 2), -9, 9, 137)
    found = torch.linalg.lstsq(placed(tall, device), placed(values, device)).solution
    yield compare("linalg.lstsq", found, (values[:3] + values[3:]) / 2, _bound(6, F32) * 9)


def _lu(a: Array, n: int, device: str) -> Iterator[Comparison]:
    factors, pivots = torch.linalg.lu_factor(placed(a, device))
    packed, swaps = _host(factors), pivots.cpu().numpy() - 1
    for one, swap, matrix in zip(packed, swaps, a, strict=True):
        order = np.arange(n)
        for i, j in enumerate(swap):
            order[[i, j]] = order[[j, i]]
        product = (np.tril(one, -1) + np.eye(n)) @ np.triu(one)
        yield compare("linalg.lu_factor", product, matrix[order], _bound(n, a.dtype))


def _cholesky_solves(a: Array, n: int, device: str) -> Iterator[Comparison]:
    positive = _symmetric(n, a.dtype, 138)
    factor = torch.linalg.cholesky(placed(positive, device))
    lower = _host(factor)
    yield compare(
        "linalg.cholesky", lower @ lower.conj().swapaxes(1, 2), positive, _bound(n, a.dtype)
    )
    yield compare("linalg.cholesky", np.triu(lower, 1), np.zeros_like(lower))
    x = whole((2, n, 2), -9, 9, 139).astype(a.dtype)
    b = (_double(positive) @ x).astype(a.dtype)
    solved = torch.cholesky_solve(placed(b, device), factor)
    yield compare("cholesky_solve", solved, x, _bound(n, a.dtype) * 9 * _NORM)


def decomposing(device: str) -> Iterator[Trial]:
    """Factors multiply back to the matrix, are orthogonal, and show the known spectrum."""
    for kind, n in _matrices(device):
        for name, body in (
            ("linalg.svd", _svd),
            ("linalg.eigh", _eigh),
            ("linalg.qr", _qr),
        ):
            yield Custom(name, partial(body, n, kind))
        w = np.broadcast_to(_spectrum(n), (2, n)).astype(_real(kind))
        yield case("linalg.eigvalsh", (_symmetric(n, kind, 140),), w, _bound(n, kind))
        yield case(
            "linalg.svdvals",
            (_general(n, kind, 142),),
            np.ascontiguousarray(w[:, ::-1]),
            _bound(n, kind),
        )
    yield Custom("linalg.cholesky", _indefinite)
    known = np.array([[2, 0, 0], [1, 2, 0], [3, 1, 3]], F32)
    yield case("linalg.cholesky", (known @ known.T,), known, 1e-5)
    # A nilpotent matrix: its exponential ends after the second power.
    shift = np.diag([1, 2], 1).astype(F32)
    yield plain(
        "linalg.matrix_exp", (shift,), np.eye(3, dtype=F32) + shift + shift @ shift / 2, 1e-5
    )
    yield plain(
        "cdist",
        (np.zeros((1, 2), F32), np.array([[3, 4], [-6, 8]], F32)),
        np.array([[5, 10]], F32),
        1e-5,
    )
    yield plain("trace", (known,), np.array(7, F32))
    yield case("linalg.matrix_norm", (known,), np.array(np.sqrt(28), F32), 1e-5)


def _indefinite(device: str) -> Iterator[Comparison]:
    matrix = placed(np.array([[1, 2], [2, 1]], F32), device)
    call = "linalg.cholesky (indefinite)"
    yield refused(call, lambda: torch.linalg.cholesky(matrix), *_REFUSALS)


def _orthonormal(name: str, q: Array, n: int, kind: Any) -> Comparison:
    identity = np.broadcast_to(np.eye(q.shape[-1]), (2, q.shape[-1], q.shape[-1]))
    return compare(f"{name} (orthonormal)", q.conj().swapaxes(1, 2) @ q, identity, _bound(n, kind))


def _svd(n: int, kind: Any, device: str) -> Iterator[Comparison]:
    for call in range(2):  # a first call once gave zeros
        a = _general(n, kind, 142 + call)
        u, s, vh = (_host(each) for each in torch.linalg.svd(placed(a, device)))
        yield compare("linalg.svd (product)", (u * s[:, None]) @ vh, a, _bound(n, kind))
        w = np.broadcast_to(_spectrum(n)[::-1], (2, n))
        yield compare("linalg.svd (values)", s.real, w, _bound(n, kind))
        yield _orthonormal("linalg.svd", u, n, kind)
        yield _orthonormal("linalg.svd", vh, n, kind)


def _eigh(n: int, kind: Any, device: str) -> Iterator[Comparison]:
    for call in range(2):  # a second call once gave vectors that were not orthonormal
        a = _symmetric(n, kind, 144 + call)
        w, v = (_host(each) for each in torch.linalg.eigh(placed(a, device)))
        yield compare(
            "linalg.eigh (product)", (v * w[:, None]) @ v.conj().swapaxes(1, 2), a, _bound(n, kind)
        )
        spectrum = np.broadcast_to(_spectrum(n), (2, n))
        yield compare("linalg.eigh (values)", w.real, spectrum, _bound(n, kind))
        yield _orthonormal("linalg.eigh", v, n, kind)


def _qr(n: int, kind: Any, device: str) -> Iterator[Comparison]:
    a = np.concatenate([_general(n, kind, 146), _general(n, kind, 148)], 1)  # (2, 2n, n)
    q, r = (_host(each) for each in torch.linalg.qr(placed(a, device)))
    yield compare("linalg.qr (product)", q @ r, a, 2 * _bound(n, kind))
    yield compare("linalg.qr (triangular)", np.tril(r, -1), np.zeros_like(r))
    yield _orthonormal("linalg.qr", q, 2 * n, kind)
