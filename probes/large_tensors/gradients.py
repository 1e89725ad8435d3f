"""Gradients of moves and reductions of large tensors, and terms that add up at few places."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, on_device
from probes.kit.gradients import integers as odd
from probes.kit.gradients import recording, root
from probes.kit.operands import F32
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.addressing import places
from probes.large_tensors.many_rows import distinct
from probes.large_tensors.sizes import COUNTED, MILLION, Sized
from probes.large_tensors.tiled import KINDS, Call, Tiled, Total, backward, gradient_of, repeated

_F: Final = torch.nn.functional
_WIDTH: Final = 4

#: Name -> call of rows, its result and gradient in NumPy; exact.
_MOVES: Final[dict[str, tuple[Call, Call]]] = {
    "sum": (lambda x: x.sum(1), lambda a, g: (a.sum(1), _each(g, a))),
    "mean": (lambda x: x.mean(1), lambda a, g: (a.mean(1), _each(g / _WIDTH, a))),
    "amax": (lambda x: x.amax(1), lambda a, g: (a.max(1), g[:, None] * (a == _highest(a)))),
    "max": (lambda x: x.max(1).values, lambda a, g: (a.max(1), g[:, None] * (a == _highest(a)))),
    "cumsum": (
        lambda x: x.cumsum(1),
        lambda a, g: (a.cumsum(1), g[:, ::-1].cumsum(1)[:, ::-1]),
    ),
    "flip": (lambda x: x.flip(1), lambda a, g: (a[:, ::-1], g[:, ::-1])),
    "roll": (lambda x: x.roll(1, 1), lambda a, g: (np.roll(a, 1, 1), np.roll(g, -1, 1))),
    "cat": (lambda x: torch.cat([x, -x], 1), lambda a, g: (np.hstack([a, -a]), _split(g))),
    "stack": (
        lambda x: torch.stack([x, -x], 1).flatten(1),
        lambda a, g: (np.hstack([a, -a]), _split(g)),
    ),
    "nn.functional.pad": (
        lambda x: _F.pad(x, (2, 2)),
        lambda a, g: (np.pad(a, ((0, 0), (2, 2))), g[:, 2:-2]),
    ),
    "sort": (
        lambda x: x.sort(1).values,
        lambda a, g: (np.sort(a, 1), np.take_along_axis(g, a.argsort(1).argsort(1), 1)),
    ),
    "where": (
        lambda x: torch.where(x > 0, x, 1.0),
        lambda a, g: (np.where(a > 0, a, 1), np.where(a > 0, g, 0)),
    ),
    "Tensor.to (bfloat16)": (lambda x: x.bfloat16().float(), lambda a, g: (a, g)),
}


def _each(g: Array, a: Array) -> Array:
    return np.broadcast_to(g[:, None], a.shape)


def _highest(a: Array) -> Array:
    return np.asarray(a.max(1, keepdims=True))


def _split(g: Array) -> Array:
    return np.asarray(g[:, :_WIDTH] - g[:, _WIDTH:])


#: Width of what comes in, in elements: of those not named _WIDTH.
_UPSTREAM: Final = {
    **dict.fromkeys(("sum", "mean", "amax", "max"), ()),
    **dict.fromkeys(("cat", "stack", "nn.functional.pad"), (2 * _WIDTH,)),
}


def gradients(device: str) -> Iterator[Trial]:
    """Of rows, of products, of a bias, of a table."""
    on_cpu = torch.device(device).type == "cpu"
    rows = MILLION // _WIDTH + 1 if on_cpu else COUNTED // _WIDTH + 1
    x = distinct((KINDS, _WIDTH))
    for name, (call, right) in _MOVES.items():
        g = odd((KINDS, *_UPSTREAM.get(name, (_WIDTH,))), 381)
        yield Tiled(name, backward(call), right, (x, g), rows)
    y, g = odd((KINDS, _WIDTH), 382), odd((KINDS, _WIDTH), 383)
    yield Tiled("mul", backward(torch.mul, 2), _product, (x, y, g), rows)
    yield Tiled("nn.functional.linear", _linear, _linear_both, (y, g[:, :3]), _TERMS)
    yield Tiled("bmm", backward(torch.bmm, 2), _matrices, _MATRICES, _BATCH)
    for name, call in _ACCUMULATED.items():
        yield Accumulated(name, call, MILLION if on_cpu else COUNTED)
    yield Sized("nn.functional.embedding (large table)", _table, MILLION, 4 * 4 * 4)


def _product(a: Array, b: Array, g: Array) -> tuple[Array, ...]:
    return a * b, g * b, g * a


_WEIGHT: Final = odd((3, _WIDTH), 384)


def _linear(x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """With the gradients of weight and bias, sums of a term for each row."""
    device = str(x.device)
    weight = on_device(_WEIGHT.astype(F32), device).requires_grad_()
    bias = torch.ones(3, device=device, requires_grad=True)
    found = backward(lambda x: _F.linear(x, weight, bias))(x, g)
    return (*found, gradient_of(weight), gradient_of(bias))


def _linear_both(a: Array, g: Array) -> tuple[Array | Total, ...]:
    weights = Total(g[:, :, None] * a[:, None])
    return a @ _WEIGHT.T + 1, g @ _WEIGHT, weights, Total(g)


_MATRICES: Final = tuple(odd((KINDS, 3, 3), salt) for salt in (385, 386, 387))
#: So many terms of at most 25 are below 2^24.
_TERMS: Final = MILLION // _WIDTH + 1
_BATCH: Final = 131_073  # more than two launches' blocks


def _matrices(a: Array, b: Array, g: Array) -> tuple[Array, ...]:
    return a @ b, g @ b.transpose(0, 2, 1), a.transpose(0, 2, 1) @ g


_PLACES: Final = 4093  # a prime
#: Name -> adds the terms (n,) up at the places (n,) of zeros (_PLACES,).
_ACCUMULATED: Final[dict[str, Call]] = {
    "Tensor.index_add_": lambda zeros, i, terms: zeros.index_add_(0, i, terms),
    "Tensor.scatter_add_": lambda zeros, i, terms: zeros.scatter_add_(0, i, terms),
    "Tensor.index_put_": lambda zeros, i, terms: zeros.index_put_((i,), terms, accumulate=True),
    "Tensor.scatter_reduce_": lambda zeros, i, terms: zeros.scatter_reduce_(0, i, terms, "sum"),
    "bincount": lambda zeros, i, terms: i.bincount(terms, len(zeros)).to(zeros.dtype),
    "index_select": lambda zeros, i, terms: _gradient(lambda x: x.index_select(0, i), zeros, terms),
    "gather": lambda zeros, i, terms: _gradient(lambda x: x.gather(0, i), zeros, terms),
    "Tensor.__getitem__": lambda zeros, i, terms: _gradient(lambda x: x[i], zeros, terms),
    "nn.functional.embedding": lambda zeros, i, terms: _gradient(
        lambda x: _F.embedding(i, x[:, None])[:, 0], zeros, terms
    ),
}


def _gradient(read: Call, zeros: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
    x = zeros.requires_grad_()
    root(read(x), upstream).backward()
    return gradient_of(x)


@dataclass(frozen=True)
class Accumulated:
    """So many terms that add up at few places: integers, exact in any order."""

    operation: str
    call: Call
    count: int
    dtype: torch.dtype | None = torch.float32

    def run(self, device: str) -> Iterator[Comparison]:
        """Yield the comparison; a row of `_ACCUMULATED` at each place gets hundreds of terms."""
        yield from Sized(self.operation, self._body, self.count, 4 * 16).run(device)

    def _body(self, n: int, device: str) -> Iterator[Comparison]:
        index = np.arange(_PLACES) * 1021 % _PLACES
        terms = odd((_PLACES,), 388)
        i = repeated(index, device, n, torch.float32)
        zeros = torch.zeros(_PLACES, device=device)
        with recording():
            found = self.call(zeros, i, repeated(terms, device, n, torch.float32))
        right = np.empty(_PLACES)
        periods, rest = divmod(n, _PLACES)
        right[index] = terms * (periods + (np.arange(_PLACES) < rest))
        yield compare(f"{self.operation} ({n} terms)", found, right.astype(F32))


def _table(n: int, device: str) -> Iterator[Comparison]:
    """The gradient is 0 but in the rows that were read."""
    index = places(n)
    terms = odd((len(index), 2), 389).astype(F32)
    with recording():
        table = torch.zeros((n, 2), device=device, requires_grad=True)
        found = _F.embedding(on_device(index, device), table)
        root(found, on_device(terms, device)).backward()
    slopes, name = gradient_of(table), "nn.functional.embedding (large table"
    yield compare(f"{name}, backward)", slopes[on_device(index, device)], terms)
    size = int(np.abs(terms).sum())
    yield fact(f"{name}, the rest of its gradient)", float(slopes.abs().sum()), float(size))
