"""Matrices whose inverses, spectra and norms are known by construction.

LAPACK's own tests reject a residual above 30 n u (Users' Guide, "Testing"); `bound` is the same.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.kit.capabilities import has_dtype
from probes.kit.case import Array
from probes.kit.operands import fractions

_SIZES: tuple[tuple[Any, tuple[int, ...]], ...] = (
    (np.float32, (2, 3, 17, 32)),
    (np.float64, (2, 16, 64)),
    (np.complex64, (3, 17)),
    (np.complex128, (17,)),
)

_WIDE: Final = (np.dtype(np.float64), np.dtype(np.complex128))

#: Names of torch.linalg.LinAlgError by version; documented as a RuntimeError.
REFUSALS = ("_LinAlgError", "LinAlgError", "RuntimeError")

NORM = 3.0  # 2-norm of every matrix here; the smallest singular value is 1


def types(device: str) -> tuple[Any, ...]:
    """The types that the device has, as NumPy's."""
    wide = has_dtype(device, torch.float64)
    return tuple(kind for kind, _ in _SIZES if wide or np.dtype(kind) not in _WIDE)


def real_types(device: str) -> tuple[Any, ...]:
    """The real types of `types`."""
    return tuple(kind for kind in types(device) if real_dtype(kind) is kind)


def matrices(device: str) -> Iterator[tuple[Any, int]]:
    """(type, size) pairs, for the types that the device has."""
    sizes = dict(_SIZES)
    yield from ((kind, n) for kind in types(device) for n in sizes[kind])


def real_dtype(kind: Any) -> Any:
    """The type of the real part."""
    return np.zeros(0, kind).real.dtype.type


def orthogonal(n: int, kind: Any, salt: int) -> Array:
    """The reflection I - 2vv'/v'v: orthogonal (unitary) to the last bits of float64."""
    v = (fractions((n,), salt) + 0.5).astype(np.complex128)
    if np.issubdtype(kind, np.complexfloating):
        v += 1j * fractions((n,), salt + 2)
    reflection = np.eye(n) - 2 * np.outer(v, v.conj()) / np.vdot(v, v).real
    return np.asarray(reflection if np.issubdtype(kind, np.complexfloating) else reflection.real)


def spectrum(n: int) -> Array:
    """The singular values or eigenvalues of every matrix: ascending and well separated."""
    return np.linspace(1, NORM, n)


def reflections(n: int, kind: Any, salt: int) -> Array:
    """The two matrices Q of `symmetric` with that salt, in double precision: (2, n, n)."""
    return np.stack([orthogonal(n, kind, salt), orthogonal(n, kind, salt + 1)])


def with_spectrum(q: Array, w: Array, kind: Any) -> Array:
    """Q diag(w) Q' for each of the matrices Q (2, n, n)."""
    return np.asarray(((q * w) @ q.conj().swapaxes(1, 2)).astype(kind))


def symmetric(n: int, kind: Any, salt: int) -> Array:
    """Two matrices Q diag(w) Q', shape (2, n, n)."""
    return with_spectrum(reflections(n, kind, salt), spectrum(n), kind)


def general(n: int, kind: Any, salt: int) -> Array:
    """Two matrices U diag(w) V', shape (2, n, n)."""
    reflection = orthogonal(n, kind, salt + 7)
    return np.asarray((symmetric(n, kind, salt) @ reflection).astype(kind))


def double(a: Array) -> Array:
    """The array in double precision."""
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def bound(n: int, kind: Any) -> float:
    """The allowed error of each element of a product of factors: 30 n u times the norm."""
    return float(30 * n * np.finfo(kind).eps / 2 * NORM)


def on_host(tensor: torch.Tensor) -> Array:
    """The tensor as a NumPy array in double precision."""
    return double(tensor.detach().cpu().resolve_conj().numpy())
