"""Permutations of axes, and indexing: nothing is computed, so all results are exact."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, case, on_device, plain, strided
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, refused

#: One type of each element size, and bool.
_KINDS: tuple[Any, ...] = (np.bool_, np.uint8, np.int16, np.float32, np.float64, np.complex128)


def transposing(_device: str) -> Iterator[Trial]:
    """Axes exchanged, flipped and shifted, also for sizes beyond one tile of a copy kernel."""
    for kind in _KINDS:
        a = integers((33, 65), -99, 99, 30, np.int64).astype(kind)
        yield plain("t", (a,), a.T)
        yield plain("Tensor.contiguous", (a,), a)
        yield plain("flip", (a, (0, 1)), a[::-1, ::-1])
        yield plain("roll", (a, (3, -5), (0, 1)), np.roll(a, (3, -5), (0, 1)))
    a, cube = integers((5, 7), -99, 99, 31), integers((2, 3, 4, 5), -99, 99, 32)
    yield plain("transpose", (cube, 1, 3), cube.swapaxes(1, 3))
    yield plain("transpose", (cube, -2, -1), cube.swapaxes(2, 3))
    yield plain("swapaxes", (cube, 0, 2), cube.swapaxes(0, 2))
    yield plain("permute", (cube, (3, 1, 0, 2)), cube.transpose(3, 1, 0, 2))
    yield plain("movedim", (cube, (0, 1), (-1, 0)), np.moveaxis(cube, (0, 1), (-1, 0)))
    yield plain("adjoint", (cube,), cube.swapaxes(2, 3))
    yield plain("fliplr", (a,), np.fliplr(a))
    yield plain("flipud", (a,), np.flipud(a))
    for turns in (1, 2, -1):
        yield plain("rot90", (a, turns, (0, 1)), np.rot90(a, turns))
    yield plain("roll", (a, 4), np.roll(a, 4))
    yield plain("Tensor.contiguous", (cube,), cube, memory_format=torch.channels_last)
    yield Custom("Tensor.mT", partial(_attribute, "mT", cube, cube.swapaxes(2, 3)))
    yield Custom("Tensor.T", partial(_attribute, "T", a, a.T))


def _attribute(name: str, array: Array, expected: Array, device: str) -> Iterator[Comparison]:
    for place in (on_device, strided):
        yield compare(f"Tensor.{name}", getattr(place(array, device), name), expected)


#: Expressions that NumPy and torch read alike: x is (5, 6, 7), i an index of rows.
_READS: dict[str, Callable[[Any, Any], Any]] = {
    "integer": lambda x, _: x[2],
    "negative integers": lambda x, _: x[-1, 3, -7],
    "slices": lambda x, _: x[1:4, 2:, :-1],
    "steps": lambda x, _: x[::2, 1::3, ::4],
    "slices beyond the end": lambda x, _: x[-100:3, 4:100],
    "empty slice": lambda x, _: x[2:2],
    "ellipsis": lambda x, _: x[..., 1],
    "new axis": lambda x, _: x[:, None, 1],
    "list": lambda x, _: x[[3, 0, 3]],
    "negative list": lambda x, _: x[:, [-1, 2, -6]],
    "two lists": lambda x, _: x[[0, 4, 2], [1, 5, 1]],
    "lists apart": lambda x, _: x[[0, 4], :, [1, 6]],
    "broadcast lists": lambda x, _: x[[[0], [4]], [1, 2, 3]],
    "mask": lambda x, _: x[x > 10],
    "mask of an axis": lambda x, _: x[:, :, x[0, 0] > 0],
    "index tensor": lambda x, i: x[i],
    "index tensor of 2 axes": lambda x, i: x[:, i[:, None] % 6],
}

_WRITES: dict[str, tuple[Any, Any]] = {
    "integer": (2, -1.0),
    "slice": (np.s_[1:4, ::2], -2.0),
    "list": (np.s_[[4, 1]], -3.0),
    "two lists": (np.s_[[0, 3], [1, 5]], -4.0),
    "column": (np.s_[..., -1], -5.0),
}


def indexing(_device: str) -> Iterator[Trial]:
    """Elements read and written by integers, lists, masks and index tensors."""
    yield Custom("Tensor.__getitem__", _read_comparisons)
    yield Custom("Tensor.__setitem__", _write_comparisons)
    x, rows = integers((5, 6, 7), -99, 99, 33), np.array([4, 0, 4, 2])
    mask = x > 20
    yield case("index_select", (x, 0, rows), x[rows])
    yield case("index_select", (x, 2, rows), x[:, :, rows])
    index = integers((5, 3, 7), 0, 5, 34, np.int64)
    yield case("gather", (x, 1, index), np.take_along_axis(x, index, 1))
    yield case("take", (x, index), x.ravel()[index])
    order = np.argsort(x, axis=1, kind="stable")
    yield case("take_along_dim", (x, order), np.take_along_axis(x, order, 1), dim=1)
    yield case("masked_select", (x, mask), x[mask])
    yield case("nonzero", (mask,), np.argwhere(mask))
    yield plain("argwhere", (x % 3 == 0,), np.argwhere(x % 3 == 0))
    yield plain("count_nonzero", (x,), np.array(np.count_nonzero(x)))
    yield plain("masked_fill", (x, mask, -7), np.where(mask, F32(-7), x))
    after, row = x.copy(), np.full((1, 6, 7), 77, F32)
    after[2] = 77
    yield plain("select_scatter", (x, row[0].copy()), after, dim=0, index=2)
    yield plain("slice_scatter", (x, row), after, dim=0, start=2, end=3)


def _read_comparisons(device: str) -> Iterator[Comparison]:
    array, index = integers((5, 6, 7), -99, 99, 35), np.array([4, 0, 2, 4])
    for place in (on_device, strided):
        x, i = place(array, device), place(index, device)
        for how, read in _READS.items():
            label = f"Tensor.__getitem__ ({how})"
            yield compare(label, read(x, i), np.asarray(read(array, index)))
    x = on_device(array, device)
    yield refused("Tensor.__getitem__ (out of range)", lambda: x[5], "IndexError")
    yield refused("Tensor.__getitem__ (negative step)", lambda: x[::-1])


def _write_comparisons(device: str) -> Iterator[Comparison]:
    for place in (on_device, strided):
        for how, (at, value) in _WRITES.items():
            array = integers((5, 6, 7), -99, 99, 36).copy()
            x = place(array, device)
            x[at] = value
            array[at] = value
            yield compare(f"Tensor.__setitem__ ({how})", x, array)
        array = integers((5, 6, 7), -99, 99, 37).copy()
        x, row = place(array, device), integers((7,), -9, 9, 38)
        x[:, 1:3] = place(row, device)  # broadcast
        array[:, 1:3] = row
        yield compare("Tensor.__setitem__ (broadcast)", x, array)
        x[x > 5] = 5
        array[array > 5] = 5
        yield compare("Tensor.__setitem__ (mask)", x, array)
