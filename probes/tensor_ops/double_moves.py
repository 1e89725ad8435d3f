"""Operations in float64 that move elements, alone or adding them up at their place."""

from collections.abc import Iterator

import numpy as np

from probes.kit.case import Array, once
from probes.kit.trial import Trial


def move_cases(x: Array, y: Array) -> Iterator[Trial]:
    """Moves and scatters of x (6, 9) and y (5, 9): all bits arrive."""
    yield once("clone", (x,), x)
    yield once("Tensor.copy_", (x * 0, x), x)
    yield once("cat", ([x, y],), np.concatenate([x, y]))
    yield once("stack", ([x, -x], 1), np.stack([x, -x], 1))
    yield once("flip", (x, (0, 1)), x[::-1, ::-1])
    yield once("roll", (x, (2, -3), (0, 1)), np.roll(x, (2, -3), (0, 1)))
    yield once("tril", (x, 1), np.tril(x, 1))
    yield once("triu", (x, -1), np.triu(x, -1))
    yield once("diag_embed", (x,), np.stack([np.diag(row) for row in x]))
    yield once("nn.functional.pad", (x, (2, 1)), np.pad(x, ((0, 0), (2, 1))))
    yield once("Tensor.repeat", (x, 2, 3), np.tile(x, (2, 3)))
    yield once("repeat_interleave", (x, 3, 0), np.repeat(x, 3, 0))
    yield once("masked_fill", (x, x > 0, 1 / 3), np.where(x > 0, 1 / 3, x))
    yield once("masked_select", (x, x > 0), x[x > 0])
    yield from _indexed(x, y)


def _indexed(x: Array, y: Array) -> Iterator[Trial]:
    rows, columns = np.array([3, 0, 3, 5, 1]), np.broadcast_to(np.arange(9), (5, 9))
    index = (np.arange(45).reshape(5, 9) * 7) % 6
    yield once("index_select", (x, 0, rows), x[rows])
    yield once("gather", (x, 0, index), np.take_along_axis(x, index, 0))
    yield once("take", (x, index), x.ravel()[index])
    added = x.copy()
    np.add.at(added, rows, y)
    yield once("index_add", (x, 0, rows, y), added)
    yield once("index_put", (x, [rows], y, True), added)
    added = x.copy()
    np.add.at(added, (index, columns), y)
    yield once("scatter_add", (x, 0, index, y), added)
    yield once("scatter_reduce", (x, 0, index, y, "sum"), added)
    highest = x.copy()
    np.maximum.at(highest, (index, columns), y)
    yield once("scatter_reduce", (x, 0, index, y, "amax"), highest)
    written = x.copy()
    written[:5] = y
    first = np.broadcast_to(np.arange(5)[:, None], (5, 9)).copy()
    yield once("scatter", (x, 0, first, y), written)
    yield once("index_copy", (x, 0, np.arange(5), y), written)
    filled = x.copy()
    filled[[2, 0]] = 1 / 3
    yield once("index_fill", (x, 0, np.array([2, 0]), 1 / 3), filled)
    taken = x.copy()
    taken[x > 0] = y.ravel()[: (x > 0).sum()]
    yield once("masked_scatter", (x, x > 0, y), taken)
    put = x.copy()
    np.add.at(put.reshape(-1), rows, y[:, 0])
    yield once("put", (x, rows, y[:, 0].copy(), True), put)
