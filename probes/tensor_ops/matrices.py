"""Matrices whose inverses, spectra and norms are known by construction.

LAPACK's own tests reject a residual of 30 n u (its Users' Guide, "Testing"): so does `bound`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from probes.tensor_ops.operands import fractions
from probes.tensor_ops.trial import (
    Array,
    has_double,
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


def _host(tensor: torch.Tensor) -> Array:
    """The tensor in double precision, where NumPy multiplies it back."""
    return _double(tensor.detach().cpu().resolve_conj().numpy())
