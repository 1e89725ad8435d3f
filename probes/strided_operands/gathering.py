"""Reads through indices: operands, indices and masks of every layout."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.strided_operands.memory import Operand
from probes.strided_operands.operations import FLOATS, SINGLE, WHOLE, Operation
from probes.strided_operands.places import Shape

SHAPE: Final = (4, 6, 33)
X: Final = Operand(SHAPE)
ROWS: Final = Operand((7,), 0, 3, torch.int64)
MASK: Final = Operand(SHAPE, 0, 1, torch.bool)
ALL: Final = (*FLOATS, *WHOLE)


def indices(shape: Shape, count: int) -> Operand:
    """Indices of that shape into so many places."""
    return Operand(shape, 0, count - 1, torch.int64)


def on(
    name: str, operands: tuple[Operand, ...], answer: Callable[..., Any], **fields: Any
) -> Operation:
    """An operation in float32 without `out=`, unless it is told otherwise."""
    return Operation(name, operands, answer, **{"dtypes": SINGLE, "out": False, **fields})


def with_axis(name: str, axis: int) -> Callable[..., Any]:
    """Calls whose second argument is an axis."""

    def call(x: torch.Tensor, *rest: Any, **options: Any) -> Any:
        return getattr(torch, name)(x, axis, *rest, **options)

    return call


def along(axis: int, count: int) -> tuple[Shape, Operand, Operand]:
    """A shape of `SHAPE` but for that axis; indices and values of it."""
    shape = tuple(count if at == axis else size for at, size in enumerate(SHAPE))
    return shape, indices(shape, SHAPE[axis]), Operand(shape)


def _reads() -> Iterator[Operation]:
    for axis in range(3):
        _, index, _ = along(axis, 5)

        def take(x: Any, at: Any, axis: int = axis) -> Any:
            return np.take_along_axis(x, at, axis)

        def select(x: Any, rows: Any, axis: int = axis) -> Any:
            return np.take(x, rows, axis)

        dtypes = (*ALL, torch.uint8) if axis == 1 else SINGLE
        yield on(
            "gather",
            (X if dtypes == SINGLE else Operand(SHAPE, 0, 9), index),
            take,
            call=with_axis("gather", axis),
            dtypes=dtypes,
            out=True,
        )
        yield on("take_along_dim", (X, index), take, options={"dim": axis}, out=True)
        rows = indices((7,), SHAPE[axis])
        yield on(
            "index_select",
            (X, rows),
            select,
            call=with_axis("index_select", axis),
            dtypes=ALL if axis == 0 else SINGLE,
            out=True,
        )
    flat = indices((5, 9), 4 * 6 * 33)
    yield on("take", (X, flat), lambda x, at: x.reshape(-1)[at], out=True)
    yield on("masked_select", (X, MASK), lambda x, mask: x[mask], out=True)
    yield on("nonzero", (MASK,), np.argwhere, out=True)
    columns = indices((7,), 33)
    yield on(
        "Tensor.__getitem__",
        (X, ROWS, columns),
        lambda x, i, j: x[i, :, j],
        call=lambda x, i, j: x[i, :, j],
    )
    yield on(
        "Tensor.__getitem__",
        (X, indices((3, 1), 4), indices((5,), 6)),
        lambda x, i, j: x[i, j],
        call=lambda x, i, j: x[i, j],
        dtypes=ALL,
    )
    yield on(
        "nn.functional.embedding",
        (indices((4, 7), 9), Operand((9, 33))),
        lambda at, table: table[at],
        dtypes=FLOATS,
    )


READS: Final = tuple(_reads())
