"""The table of gradients that are exact: of products, elements, moves and selections."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.strided_operands.backward import Derivative
from probes.strided_operands.memory import Operand
from probes.strided_operands.places import Shape

_functional: Any = torch.nn.functional

_X: Final = Operand((4, 6, 33), -3, 3)
_HALVES: Final = (torch.float32, torch.float16, torch.bfloat16)


def _m(*shape: int) -> Operand:
    return Operand(shape, -2, 2)


def _products() -> Iterator[Derivative]:
    yield Derivative(
        "mm",
        (_m(9, 17), _m(17, 13)),
        (9, 13),
        None,
        lambda g, x, y: (g @ y.T, x.T @ g),
        _HALVES,
    )
    yield Derivative(
        "bmm",
        (_m(3, 5, 9), _m(3, 9, 7)),
        (3, 5, 7),
        None,
        lambda g, x, y: (g @ y.swapaxes(1, 2), x.swapaxes(1, 2) @ g),
        _HALVES,
    )
    yield Derivative(
        "matmul",
        (_m(3, 5, 9), _m(9, 7)),
        (3, 5, 7),
        None,
        lambda g, x, y: (g @ y.T, np.tensordot(x, g, ((0, 1), (0, 1)))),
    )
    yield Derivative(
        "addmm",
        (_m(13), _m(9, 17), _m(17, 13)),
        (9, 13),
        None,
        lambda g, _, x, y: (g.sum(0), g @ y.T, x.T @ g),
    )
    yield Derivative(
        "nn.functional.linear",
        (_m(2, 5, 17), _m(13, 17), _m(13)),
        (2, 5, 13),
        None,
        lambda g, x, w, _: (g @ w, np.tensordot(g, x, ((0, 1), (0, 1))), g.sum((0, 1))),
        _HALVES,
    )


def _elements() -> Iterator[Derivative]:
    yield Derivative(
        "mul",
        (_X, _m(6, 1)),
        _X.shape,
        lambda x, y: x * y,
        lambda g, x, y: (g * y, (g * x).sum((0, 2))[:, None]),
    )
    mask = Operand((6, 33), 0, 1, torch.bool)
    yield Derivative(
        "where",
        (mask, _X, _m(33)),
        _X.shape,
        None,
        lambda g, m, _x, _y: (np.where(m, g, 0), np.where(m, 0, g).sum((0, 1))),
    )
    yield Derivative(
        "nn.functional.relu",
        (_X,),
        _X.shape,
        None,
        lambda g, x: (np.where(x > 0, g, 0),),
        _HALVES,
    )
    yield Derivative(
        "sum",
        (_X,),
        (4, 33),
        lambda x: x.sum(1),
        lambda g, x: (g[:, None] + 0 * x,),
        _HALVES,
    )
    yield Derivative(
        "cumsum",
        (_X,),
        _X.shape,
        lambda x: x.cumsum(1),
        lambda g, _: (g[:, ::-1].cumsum(1)[:, ::-1],),
    )
    yield Derivative(
        "nn.functional.mse_loss",
        (_X, _X),
        _X.shape,
        lambda x, y: _functional.mse_loss(x, y, reduction="none"),
        lambda g, x, y: (2 * g * (x - y), 2 * g * (y - x)),
    )


def _moves() -> Iterator[Derivative]:
    def joined(g: Any, *_: Any) -> tuple[Any, ...]:
        return g[:, :6], g[:, 6:]

    yield Derivative(
        "cat", (_X, _m(4, 2, 33)), (4, 8, 33), lambda x, y: torch.cat((x, y), 1), joined, _HALVES
    )
    yield Derivative(
        "stack",
        (_X, _X),
        (4, 2, 6, 33),
        lambda x, y: torch.stack((x, y), 1),
        lambda g, *_: (g[:, 0], g[:, 1]),
    )
    yield Derivative(
        "reshape",
        (_X,),
        (33, 24),
        lambda x: x.permute(2, 1, 0).reshape(33, 24),
        lambda g, _: (g.reshape(33, 6, 4).transpose(2, 1, 0),),
    )
    yield Derivative(
        "expand",
        (_m(6, 1),),
        (4, 6, 33),
        lambda x: x.expand(4, 6, 33),
        lambda g, _: (g.sum((0, 2))[:, None],),
    )
    yield Derivative(
        "Tensor.__getitem__ (steps)",
        (_X,),
        (4, 2, 11),
        lambda x: x[:, 1:4:2, ::3],
        _spread,
        _HALVES,
    )
    yield Derivative(
        "flip", (_X,), _X.shape, lambda x: x.flip(0, 2), lambda g, _: (g[::-1, :, ::-1],)
    )


def _spread(g: Any, x: Any) -> tuple[Any, ...]:
    wide = 0 * x
    wide[:, 1:4:2, ::3] = g
    return (wide,)


def _selections() -> Iterator[Derivative]:
    def along(name: str, shape: Shape, axis: int) -> Callable[..., tuple[Any, ...]]:
        """Each upstream number is added where its index came from."""

        def gradients(g: Any, *arrays: Any) -> tuple[Any, ...]:
            index = next(each for each in arrays if each.dtype == np.int64)
            total = np.zeros(shape)
            if name == "gather":
                places = list(np.indices(index.shape))
                places[axis] = index
                np.add.at(total, tuple(places), g)
            else:
                np.add.at(np.moveaxis(total, axis, 0), index, np.moveaxis(g, axis, 0))
            return (total,)

        return gradients

    index = Operand((4, 5, 33), 0, 5, torch.int64)
    rows = Operand((7,), 0, 5, torch.int64)
    yield Derivative(
        "gather",
        (_X, index),
        (4, 5, 33),
        lambda x, at: torch.gather(x, 1, at),
        along("gather", _X.shape, 1),
    )
    yield Derivative(
        "index_select",
        (_X, rows),
        (4, 7, 33),
        lambda x, at: torch.index_select(x, 1, at),
        along("rows", _X.shape, 1),
    )
    yield Derivative(
        "Tensor.__getitem__",
        (_X, rows),
        (4, 7, 33),
        lambda x, at: x[:, at],
        along("rows", _X.shape, 1),
    )
    words = Operand((4, 7), 0, 8, torch.int64)
    yield Derivative(
        "nn.functional.embedding",
        (words, _m(9, 33)),
        (4, 7, 33),
        None,
        lambda g, at, table: (_added(0 * table, at, g),),
    )
    yield Derivative(
        "scatter_add",
        (_X, index, _m(4, 5, 33)),
        _X.shape,
        lambda x, at, y: torch.scatter_add(x, 1, at, y),
        lambda g, _x, at, _y: (g, np.take_along_axis(g, at, 1)),
    )


def _added(total: Any, at: Any, g: Any) -> Any:
    np.add.at(total, at, g)
    return total


EXACT: Final = (*_products(), *_elements(), *_moves(), *_selections())
