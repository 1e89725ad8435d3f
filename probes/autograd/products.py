"""Cases of matrix products and convolutions."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.autograd.exact import Case, contraction
from probes.kit.convolutions import ROUNDED
from probes.kit.gradients import Array, integers

#: Shapes are small primes: they fit no kernel's tile, and a wrong transposition changes the shape.
_A, _B = integers((5, 7), 1), integers((7, 3), 2)
_V, _W = integers((7,), 5), integers((5,), 6)

PRODUCTS: Final[tuple[Case, ...]] = (
    contraction("matmul", "ij,jk->ik", (_A, _B), torch.matmul),
    contraction("matmul transposed", "ji,jk->ik", (_A.T.copy(), _B), lambda a, b: a.t() @ b),
    contraction("mv", "ij,j->i", (_A, _V), torch.mv),
    contraction("dot", "i,i->", (_V, integers((7,), 8)), torch.dot),
    contraction("outer", "i,j->ij", (_V, _W), torch.outer),
    contraction("bmm", "bij,bjk->bik", (integers((2, 5, 7), 3), integers((2, 7, 3), 4)), torch.bmm),
    contraction("matmul broadcast", "bij,jk->bik", (integers((2, 5, 7), 3), _B), torch.matmul),
    contraction("linear", "bi,oi->bo", (_A, integers((3, 7), 9)), functional.linear),
    contraction(
        "einsum",
        "ij,jk,k->i",
        (_A, _B, _B[0]),
        lambda a, b, c: torch.einsum("ij,jk,k->i", a, b, c),
        in_halves=False,
    ),
    contraction(
        "bilinear",
        "bi,oij,bj->bo",
        (_A, integers((2, 7, 3), 10), integers((5, 3), 11)),
        lambda x, w, y: functional.bilinear(x, y, w),
        in_halves=False,
    ),
    Case(
        "addmm",
        (integers((5, 3), 11), _A, _B),
        lambda c, a, b: torch.addmm(c, a, b, beta=2, alpha=-1),
        lambda g, _c, a, b: (2 * g, -g @ b.T, -a.T @ g),
        in_halves=True,
    ),
    Case(
        "linear with bias",
        (_A, integers((3, 7), 12), integers((3,), 13)),
        functional.linear,
        lambda g, x, w, _b: (g @ w, g.T @ x, g.sum(0)),
        in_halves=True,
    ),
    Case(
        "matrix squared",
        (_A[:, :5].copy(),),
        lambda a: a @ a,
        lambda g, a: (g @ a.T + a.T @ g,),
    ),
)


def _windows(
    kernel: Sequence[int], narrow: Sequence[int], stride: int, dilation: int
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield each kernel position, with the slices of the wide array that it multiplies."""
    for at in itertools.product(*(range(size) for size in kernel)):
        spans = (
            slice(k * dilation, k * dilation + stride * (size - 1) + 1, stride)
            for k, size in zip(at, narrow, strict=True)
        )
        yield at, (slice(None), slice(None), *spans)


def _padded(wide: Array, padding: int) -> Array:
    return np.pad(wide, ((0, 0), (0, 0), *((padding, padding),) * (wide.ndim - 2)))


def _inner(wide: Array, padding: int) -> Array:
    inside = slice(padding, -padding or None)
    place = (slice(None), slice(None), *(inside,) * (wide.ndim - 2))
    return wide[place]


def convolution(
    name: str,
    operands: tuple[Array, Array],
    call: Callable[..., torch.Tensor],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    allowed: float | None = None,
) -> Case:
    """A case of a convolution: input (N, C, *S), kernel (O, C/groups, *K)."""

    def gradients(upstream: Array, x: Array, w: Array) -> tuple[Array, Array]:
        of_x, of_w = _padded(np.zeros_like(x), padding), np.zeros_like(w)
        xs = np.split(_padded(x, padding), groups, axis=1)
        for k, (into, wide, narrow) in enumerate(
            zip(
                np.split(of_x, groups, axis=1),  # views of of_x, which is filled through them
                xs,
                np.split(upstream, groups, axis=1),
                strict=True,
            )
        ):
            outputs = slice(k * narrow.shape[1], (k + 1) * narrow.shape[1])
            for at, window in _windows(w.shape[2:], upstream.shape[2:], stride, dilation):
                place: tuple[Any, ...] = (outputs, slice(None), *at)
                tap = w[place]  # (O/groups, C/groups)
                into[window] += np.einsum("no...,oc->nc...", narrow, tap)
                contribution = np.einsum("no...,nc...->oc...", narrow, wide[window])
                of_w[place] = contribution.reshape(*tap.shape, -1).sum(-1)
        return _inner(of_x, padding), of_w

    return Case(name, operands, call, gradients, allowed=allowed, allowed_on_hip=ROUNDED)


def transposed(
    name: str,
    operands: tuple[Array, Array],
    call: Callable[..., torch.Tensor],
    *,
    stride: int = 1,
    padding: int = 0,
) -> Case:
    """A case of a transposed convolution: input (N, C, *S), kernel (C, O, *K)."""

    def gradients(upstream: Array, x: Array, w: Array) -> tuple[Array, Array]:
        of_x, of_w = np.zeros_like(x), np.zeros_like(w)
        wide = _padded(upstream, padding)
        for at, window in _windows(w.shape[2:], x.shape[2:], stride, 1):
            place: tuple[Any, ...] = (slice(None), slice(None), *at)
            tap = w[place]  # (C, O)
            of_x += np.einsum("no...,co->nc...", wide[window], tap)
            contribution = np.einsum("nc...,no...->co...", x, wide[window])
            of_w[place] = contribution.reshape(*tap.shape, -1).sum(-1)
        return of_x, of_w

    return Case(name, operands, call, gradients, allowed_on_hip=ROUNDED)


_IMAGE = integers((2, 4, 9, 7), 21)

#: Mostly stride or dilation 2, for which cuDNN and the CPU's libraries compute the plain sum. With
#: stride 1 a GPU may use Winograd's or an FFT algorithm, which round: there only the nearest
#: integer must be right.
CONVOLUTIONS: Final[tuple[Case, ...]] = (
    convolution(
        "conv1d stride 2",
        (integers((2, 3, 11), 22), integers((5, 3, 3), 23)),
        lambda x, w: functional.conv1d(x, w, stride=2, padding=1),
        stride=2,
        padding=1,
    ),
    convolution(
        "conv2d stride 2",
        (_IMAGE, integers((3, 4, 3, 3), 24)),
        lambda x, w: functional.conv2d(x, w, stride=2, padding=1),
        stride=2,
        padding=1,
    ),
    convolution(
        "conv2d dilation 2",
        (_IMAGE, integers((3, 4, 3, 3), 25)),
        lambda x, w: functional.conv2d(x, w, dilation=2),
        dilation=2,
    ),
    convolution(
        "conv2d groups 2",
        # Four channels a group: of fewer, oneDNN spends 25 ms on code for these sizes alone.
        (integers((2, 8, 9, 7), 21), integers((8, 4, 3, 3), 26)),
        lambda x, w: functional.conv2d(x, w, stride=2, groups=2),
        stride=2,
        groups=2,
    ),
    convolution(
        "conv2d depthwise",
        (_IMAGE, integers((4, 1, 3, 3), 27)),
        lambda x, w: functional.conv2d(x, w, stride=2, groups=4),
        stride=2,
        groups=4,
    ),
    convolution(
        "conv2d channels last",
        (_IMAGE, integers((3, 4, 3, 3), 28)),
        lambda x, w: functional.conv2d(x.contiguous(memory_format=torch.channels_last), w, None, 2),
        stride=2,
    ),
    convolution(
        "conv2d stride 1",
        (_IMAGE, integers((3, 4, 3, 3), 29)),
        lambda x, w: functional.conv2d(x, w, padding=1),
        padding=1,
        allowed=0.49,
    ),
    convolution(
        "conv3d stride 2",
        (integers((1, 2, 5, 5, 5), 30), integers((3, 2, 2, 3, 2), 31)),
        lambda x, w: functional.conv3d(x, w, stride=2),
        stride=2,
    ),
    transposed(
        "conv_transpose2d stride 2",
        (integers((2, 4, 3, 5), 32), integers((4, 3, 3, 3), 33)),
        lambda x, w: functional.conv_transpose2d(x, w, stride=2, padding=1),
        stride=2,
        padding=1,
    ),
    Case(
        "conv2d bias",
        (integers((3,), 34),),
        lambda b: functional.conv2d(
            b.new_ones((2, 4, 9, 7)), b.new_ones((3, 4, 3, 3)), b, stride=2
        ),
        lambda g, _b: (g.sum((0, 2, 3)),),
    ),
)
