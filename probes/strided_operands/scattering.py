"""Writes through indices: operands, indices and values of every layout.

Where two values would go to one element, they are equal or added up.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.kit.trial import Trial
from probes.strided_operands.gathering import (
    ALL,
    MASK,
    READS,
    ROWS,
    SHAPE,
    X,
    along,
    indices,
    on,
    with_axis,
)
from probes.strided_operands.memory import Operand
from probes.strided_operands.operations import SINGLE, Operation, read


def _added(x: Any, axis: int, index: Any, source: Any) -> Any:
    """What scatter_add gives: each value of `source` added at its index along the axis."""
    total, places = x.copy(), list(np.indices(index.shape))
    places[axis] = index
    np.add.at(total, tuple(places), source)
    return total


def _rows_added(x: Any, axis: int, rows: Any, source: Any) -> Any:
    total = np.moveaxis(x.copy(), axis, 0)
    np.add.at(total, rows, np.moveaxis(source, axis, 0))
    return np.moveaxis(total, 0, axis)


def _put(x: Any, axis: int, index: Any, source: Any) -> Any:
    written = x.copy()
    np.put_along_axis(written, index, source, axis)
    return written


def _largest(x: Any, axis: int, index: Any, source: Any) -> Any:
    found, places = x.copy(), list(np.indices(index.shape))
    places[axis] = index
    np.maximum.at(found, tuple(places), source)
    return found


def _writes() -> Iterator[Operation]:
    for axis in range(3):
        shape, index, source = along(axis, 5)

        def add(x: Any, at: Any, values: Any, axis: int = axis) -> Any:
            return _added(x, axis, at, values)

        def largest(x: Any, at: Any, values: Any, axis: int = axis) -> Any:
            return _largest(x, axis, at, values)

        def put(x: Any, at: Any, values: Any, axis: int = axis) -> Any:
            return _put(x, axis, at, values)

        def fill(x: Any, at: Any, axis: int = axis) -> Any:
            return _put(x, axis, at, 7)

        def rows(x: Any, at: Any, values: Any, axis: int = axis) -> Any:
            return _rows_added(x, axis, at, values)

        dtypes = ALL if axis == 0 else SINGLE
        yield on(
            "scatter_add",
            (X, index, source),
            add,
            call=with_axis("scatter_add", axis),
            dtypes=dtypes,
            out=True,
        )
        yield on(
            "scatter_reduce",
            (X, index, source),
            largest,
            after=("amax",),
            call=with_axis("scatter_reduce", axis),
        )
        # One value for each column, so that none is written twice.
        _, one, value = along(axis, 1)
        yield on("scatter", (X, one, value), put, call=with_axis("scatter", axis), out=True)
        yield on("scatter", (X, index), fill, after=(7,), call=with_axis("scatter", axis))
        yield on(
            "index_add",
            (X, indices((5,), SHAPE[axis]), Operand(shape)),
            rows,
            call=with_axis("index_add", axis),
            dtypes=dtypes,
            out=True,
        )
    columns = indices((7,), 33)
    yield on("index_put", (X, ROWS, columns, Operand((7,))), _at_pairs, call=_index_put, dtypes=ALL)
    yield on(
        "index_fill",
        (X, ROWS),
        _filled,
        call=lambda x, at: torch.index_fill(x, 0, at, 7),
    )
    yield on("masked_scatter", (X, MASK, X), _masked)


def _at_pairs(x: Any, rows: Any, columns: Any, values: Any) -> Any:
    total = x.copy()
    places: Any = (rows, slice(None), columns)
    np.add.at(total, places, values[:, None])
    return total


def _index_put(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, values: Any) -> Any:
    """Values added at [rows, :, columns]."""
    middle = torch.arange(6, device=x.device)
    return torch.index_put(
        x, (rows[:, None], middle, columns[:, None]), values[:, None], accumulate=True
    )


def _filled(x: Any, rows: Any) -> Any:
    found = x.copy()
    found[rows] = 7
    return found


def _masked(x: Any, mask: Any, source: Any) -> Any:
    found = x.copy()
    found[mask] = source.reshape(-1)[: mask.sum()]
    return found


WRITES: Final = tuple(_writes())


def indexing(device: str) -> Iterator[Trial]:
    """Gathers, selections, embeddings, scatters and writes that add up."""
    return read((*READS, *WRITES), device)
