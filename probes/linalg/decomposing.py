"""Matrix decompositions, checked by their product, orthonormality and known spectrum."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, case, on_device, plain
from probes.kit.operands import F32
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, refused
from probes.linalg.matrices import (
    REFUSALS,
    bound,
    general,
    matrices,
    on_host,
    real_dtype,
    spectrum,
    symmetric,
)


def decomposing(device: str) -> Iterator[Trial]:
    """The product of the factors is the matrix, factors are orthogonal, the spectrum is right."""
    for kind, n in matrices(device):
        for name, body in (("linalg.svd", _svd), ("linalg.eigh", _eigh), ("linalg.qr", _qr)):
            yield Custom(name, partial(body, n, kind))
        w = np.broadcast_to(spectrum(n), (2, n)).astype(real_dtype(kind))
        yield case("linalg.eigvalsh", (symmetric(n, kind, 140),), w, bound(n, kind))
        yield case(
            "linalg.svdvals",
            (general(n, kind, 142),),
            np.ascontiguousarray(w[:, ::-1]),
            bound(n, kind),
        )
    yield Custom("linalg.cholesky", _indefinite)
    known = np.array([[2, 0, 0], [1, 2, 0], [3, 1, 3]], F32)
    yield case("linalg.cholesky", (known @ known.T,), known, 1e-5)
    # A nilpotent matrix: the series of its exponential ends after the second power.
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
    matrix = on_device(np.array([[1, 2], [2, 1]], F32), device)
    call = "linalg.cholesky (indefinite)"
    yield refused(call, lambda: torch.linalg.cholesky(matrix), *REFUSALS)


def _orthonormal(name: str, q: Array, n: int, kind: Any) -> Comparison:
    identity = np.broadcast_to(np.eye(q.shape[-1]), (2, q.shape[-1], q.shape[-1]))
    return compare(f"{name} (orthonormal)", q.conj().swapaxes(1, 2) @ q, identity, bound(n, kind))


def _svd(n: int, kind: Any, device: str) -> Iterator[Comparison]:
    for call in range(2):  # a bug of torch gave zeros in the first call
        a = general(n, kind, 142 + call)
        u, s, vh = (on_host(each) for each in torch.linalg.svd(on_device(a, device)))
        yield compare("linalg.svd (product)", (u * s[:, None]) @ vh, a, bound(n, kind))
        w = np.broadcast_to(spectrum(n)[::-1], (2, n))
        yield compare("linalg.svd (values)", s.real, w, bound(n, kind))
        yield _orthonormal("linalg.svd", u, n, kind)
        yield _orthonormal("linalg.svd", vh, n, kind)


def _eigh(n: int, kind: Any, device: str) -> Iterator[Comparison]:
    for call in range(2):  # a bug of torch gave wrong vectors in later calls
        a = symmetric(n, kind, 144 + call)
        w, v = (on_host(each) for each in torch.linalg.eigh(on_device(a, device)))
        yield compare(
            "linalg.eigh (product)", (v * w[:, None]) @ v.conj().swapaxes(1, 2), a, bound(n, kind)
        )
        expected = np.broadcast_to(spectrum(n), (2, n))
        yield compare("linalg.eigh (values)", w.real, expected, bound(n, kind))
        yield _orthonormal("linalg.eigh", v, n, kind)


def _qr(n: int, kind: Any, device: str) -> Iterator[Comparison]:
    a = np.concatenate([general(n, kind, 146), general(n, kind, 148)], 1)  # (2, 2n, n)
    q, r = (on_host(each) for each in torch.linalg.qr(on_device(a, device)))
    yield compare("linalg.qr (product)", q @ r, a, 2 * bound(n, kind))
    yield compare("linalg.qr (triangular)", np.tril(r, -1), np.zeros_like(r))
    yield _orthonormal("linalg.qr", q, 2 * n, kind)
