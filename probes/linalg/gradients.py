"""Gradients of linear algebra, by closed forms in float64.

In the comments G is the gradient of the output and S' the transpose. The forms are those of Giles,
An extended collection of matrix derivative results (2008). Decompositions are asked only for what
does not depend on the signs of their vectors.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array
from probes.kit.gradients import host, integers, leaf, recording, root, tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.linalg.matrices import NORM, general, real_types, symmetric
from probes.linalg.spectral import (
    exponential_gradient,
    of_symmetric_product,
    of_values,
    values_gradient,
)

#: Type -> rows and columns of its matrices.
_SIZES: Final = {np.float32: 12, np.float64: 48}
_TORCH_OF: Final = {np.float32: torch.float32, np.float64: torch.float64}


class Gradient(NamedTuple):
    """A function of matrices, its operands (2, ...), and their gradients for a given G."""

    name: str
    call: Callable[..., Any]
    operands: tuple[Array, ...]
    gradients: Callable[[Array], tuple[Array, ...]]


def gradients(device: str) -> Iterator[Trial]:
    """Backward passes of solutions, inverses, determinants and decompositions, batched."""
    for kind in real_types(device):
        for family in (_solutions, _positive, _least_squares, _spectral):
            for each in family(kind):
                yield Custom(each.name, partial(_backward, each, kind), _TORCH_OF[kind])


def _backward(each: Gradient, kind: Any, device: str) -> Iterator[Comparison]:
    dtype = _TORCH_OF[kind]
    with recording():
        operands = [leaf(operand, device, dtype) for operand in each.operands]
        output = each.call(*operands)
        upstream = integers(tuple(output.shape), 7)
        root(output, tensor(upstream, device, dtype)).backward()
    expected = each.gradients(upstream)
    for place, (operand, right) in enumerate(zip(operands, expected, strict=True)):
        label = f"{each.name} ({np.dtype(kind)}, gradient of operand {place})"
        if operand.grad is None:
            yield Comparison(operation=label, problem="no gradient")
            continue
        # LAPACK's bound for a solution, times the condition number, 3, for each of two factors.
        scale = max(1.0, float(np.abs(right).max()))
        allowed = 30 * _SIZES[kind] * float(np.finfo(kind).eps) / 2 * scale * NORM**2
        yield compare(label, host(operand.grad), right.astype(kind), allowed)


def _t(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _solutions(kind: Any) -> Iterator[Gradient]:
    n = _SIZES[kind]
    a = general(n, kind, 180)
    wide = a.astype(np.float64)
    inverse, x = np.linalg.inv(wide), integers((2, n, 3), 1)
    b = (wide @ x).astype(kind)

    def of_solution(g: Array) -> tuple[Array, ...]:  # -A'^-1 G X', A'^-1 G
        right = _t(inverse) @ g
        return -right @ _t(x), right

    yield Gradient("linalg.solve", torch.linalg.solve, (a, b), of_solution)
    upper = np.triu(wide) + NORM * np.eye(n)
    inverse_upper = np.linalg.inv(upper)
    b_upper = upper @ x

    def of_triangular(g: Array) -> tuple[Array, ...]:
        right = _t(inverse_upper) @ g
        return -np.triu(right @ _t(x)), right

    call = partial(torch.linalg.solve_triangular, upper=True)
    operands = (upper.astype(kind), b_upper.astype(kind))
    yield Gradient("linalg.solve_triangular", call, operands, of_triangular)
    yield Gradient(
        "linalg.inv", torch.linalg.inv, (a,), lambda g: (-_t(inverse) @ g @ _t(inverse),)
    )
    half = (wide / 2).astype(kind)  # so that the determinant stays small
    determinant = np.linalg.det(half.astype(np.float64))[:, None, None]
    yield Gradient(
        "linalg.det",
        torch.linalg.det,
        (half,),
        lambda g: (2 * g[:, None, None] * determinant * _t(inverse),),
    )
    yield Gradient(
        "linalg.slogdet",
        lambda m: torch.linalg.slogdet(m)[1],
        (a,),
        lambda g: (g[:, None, None] * _t(inverse),),
    )


def _positive(kind: Any) -> Iterator[Gradient]:
    n = _SIZES[kind]
    a = symmetric(n, kind, 182)
    wide = a.astype(np.float64)
    lower, inverse, x = np.linalg.cholesky(wide), np.linalg.inv(wide), integers((2, n, 3), 2)

    def of_factor(g: Array) -> tuple[Array, ...]:  # L'^-1 P(L'G) L^-1, P: lower, half the diagonal
        part = np.tril(_t(lower) @ g)
        part -= 0.5 * part * np.eye(n)
        turned = np.linalg.inv(lower)
        found = _t(turned) @ part @ turned
        return ((found + _t(found)) / 2,)

    yield Gradient("linalg.cholesky", torch.linalg.cholesky, (a,), of_factor)

    def of_solution(g: Array) -> tuple[Array, ...]:
        right = inverse @ g
        found = right @ _t(x)
        return -(found + _t(found)) / 2, right

    yield Gradient(
        "cholesky_solve",
        lambda m, b: torch.cholesky_solve(b, torch.linalg.cholesky(m)),
        (a, (wide @ x).astype(kind)),
        of_solution,
    )


def _least_squares(kind: Any) -> Iterator[Gradient]:
    """A tall A of full rank, with its pseudoinverse P = S A' and S = (A'A)^-1."""
    n = _SIZES[kind]
    a = np.concatenate([general(n, kind, 184), general(n, kind, 186)], 1)
    wide, b = a.astype(np.float64), integers((2, 2 * n, 2), 3)
    square = np.linalg.inv(_t(wide) @ wide)
    pseudo = square @ _t(wide)
    x, outside = pseudo @ b, np.eye(2 * n) - wide @ pseudo

    def of_solution(g: Array) -> tuple[Array, ...]:  # (B - AX)(SG)' - P'GX', P'G
        found = (b - wide @ x) @ _t(square @ g) - _t(pseudo) @ g @ _t(x)
        return found, _t(pseudo) @ g

    yield Gradient(
        "linalg.lstsq",
        lambda m, right: torch.linalg.lstsq(m, right).solution,
        (a, b.astype(kind)),
        of_solution,
    )
    yield Gradient(
        "linalg.pinv",
        torch.linalg.pinv,
        (a,),
        lambda g: (outside @ _t(g) @ square - _t(pseudo) @ g @ _t(pseudo),),
    )

    def through_qr(m: Any) -> Any:
        q, r = torch.linalg.qr(m)
        return q @ (r @ (r.mT @ r))  # A A'A

    yield Gradient("linalg.qr", through_qr, (a,), partial(_of_cube, wide))


def _of_cube(a: Array, g: Array) -> tuple[Array, ...]:
    """The gradient of A A'A."""
    return (g @ (_t(a) @ a) + a @ _t(g) @ a + a @ (_t(a) @ g),)


def _spectral(kind: Any) -> Iterator[Gradient]:
    n = _SIZES[kind]
    a, b = symmetric(n, kind, 188), general(n, kind, 190)

    def through_eigh(m: Any) -> Any:
        w, v = torch.linalg.eigh(m)
        return (v * (w * w)[..., None, :]) @ v.mT  # A A

    def through_svd(m: Any) -> Any:
        u, s, vh = torch.linalg.svd(m)
        return (u * (s * s * s)[..., None, :]) @ vh  # A A'A

    wide = a.astype(np.float64)
    yield Gradient("linalg.eigh", through_eigh, (a,), partial(of_symmetric_product, wide))
    yield Gradient("linalg.svd", through_svd, (b,), partial(_of_cube, b.astype(np.float64)))
    yield Gradient("linalg.eigvalsh", torch.linalg.eigvalsh, (a,), partial(values_gradient, 188))
    yield Gradient("linalg.svdvals", torch.linalg.svdvals, (b,), partial(of_values, 190))
    exponent = partial(exponential_gradient, 188)
    yield Gradient("linalg.matrix_exp", torch.linalg.matrix_exp, (a,), exponent)
