"""Matrices whose inverses, spectra and norms are known by construction.

LAPACK's own tests reject a residual of 30 n u (its Users' Guide, "Testing"): so does `bound`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from probes.kit.capabilities import has_dtype
from probes.tensor_ops.case import Array
from probes.tensor_ops.operands import fractions

_SIZES: tuple[tuple[Any, tuple[int, ...]], ...] = (
    (np.float32, (2, 3, 17, 32)),
    (np.float64, (2, 16, 32)),
    (np.complex64, (3, 17)),
)

#: What torch.linalg.LinAlgError calls itself, by version; it is documented as a RuntimeError.
REFUSALS = ("_LinAlgError", "LinAlgError", "RuntimeError")

NORM = 3.0  # of every matrix here; the smallest singular value is 1


def matrices(device: str) -> Iterator[tuple[Any, int]]:
    """The types that the device has, each with its sizes."""
    for kind, sizes in _SIZES:
        if kind is not np.float64 or has_dtype(device, torch.float64):
            yield from ((kind, n) for n in sizes)


def orthogonal(n: int, kind: Any, salt: int) -> Array:
    """The reflection I - 2vv'/v'v: orthogonal (unitary) to the last bits of float64."""
    v = (fractions((n,), salt) + 0.5).astype(np.complex128)
    if np.issubdtype(kind, np.complexfloating):
        v += 1j * fractions((n,), salt + 2)
    reflection = np.eye(n) - 2 * np.outer(v, v.conj()) / np.vdot(v, v).real
    return np.asarray(reflection if np.issubdtype(kind, np.complexfloating) else reflection.real)


def spectrum(n: int) -> Array:
    """The singular values, or eigenvalues, of every matrix: ascending and well apart."""
    return np.linspace(1, NORM, n)


def symmetric(n: int, kind: Any, salt: int) -> Array:
    """Q diag(w) Q', two of them."""
    turns = (orthogonal(n, kind, salt), orthogonal(n, kind, salt + 1))
    return np.stack([(q * spectrum(n)) @ q.conj().T for q in turns]).astype(kind)


def general(n: int, kind: Any, salt: int) -> Array:
    """U diag(w) V', two of them."""
    turn = orthogonal(n, kind, salt + 7)
    return np.asarray((symmetric(n, kind, salt) @ turn).astype(kind))


def double(a: Array) -> Array:
    """The array in double precision."""
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def bound(n: int, kind: Any) -> float:
    """What may be wrong in each element of a product of factors: 30 n u times the norm."""
    return float(30 * n * np.finfo(kind).eps / 2 * NORM)


def host(tensor: torch.Tensor) -> Array:
    """The tensor in double precision, where NumPy multiplies it back."""
    return double(tensor.detach().cpu().resolve_conj().numpy())
