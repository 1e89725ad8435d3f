"""Sorting with ties, and scattered writes with duplicate indices: exact results."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.case import Array, case, in_dtype, on_device, plain
from probes.kit.operands import F32, different, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial

_NAN, _INF = np.nan, np.inf


def sorting(device: str) -> Iterator[Trial]:
    """Sorts with ties, NaN and infinities; searches; unique values."""
    for dtype in floats(device):
        x = integers((5, 65), -8, 8, 66)
        ascending = np.argsort(x, 1, kind="stable")
        descending = np.argsort(-x, 1, kind="stable")
        pair = (np.take_along_axis(x, ascending, 1), ascending)
        yield in_dtype(case("sort", (x,), pair, stable=True, dim=1), dtype)
        pair = (np.take_along_axis(x, descending, 1), descending)
        yield in_dtype(case("sort", (x,), pair, stable=True, dim=1, descending=True), dtype)
        yield in_dtype(plain("argsort", (x,), ascending, stable=True), dtype)
    for kind in (np.int64, np.int16, np.uint8):
        i = integers((2100,), 0, 250, 67, kind)  # more elements than one block sorts
        ascending = np.argsort(i, kind="stable")
        yield case("sort", (i,), (i[ascending], ascending), stable=True, dim=0)
    special = np.array([3, _NAN, -_INF, 7, _INF, -2, _NAN, 5] * 5, F32)
    ascending = np.argsort(special, kind="stable")  # NaN is the largest
    yield case("sort", (special,), (special[ascending], ascending), stable=True, dim=0)
    yield case("msort", (x,), np.sort(x, 0))
    distinct = (
        integers((4, 50), 0, 9, 68) * 64 + integers((4, 50), 0, 63, 69) + np.arange(50) / 64
    ).astype(F32)
    descending = np.argsort(-distinct, 1, kind="stable")
    largest = (np.take_along_axis(distinct, descending, 1)[:, :7], descending[:, :7])
    yield case("topk", (distinct, 7), largest)
    smallest = (np.sort(distinct, 1)[:, :3], np.argsort(distinct, 1)[:, :3])
    yield case("topk", (distinct, 3), smallest, largest=False)
    yield case(
        "kthvalue", (distinct, 5), (np.sort(distinct, 1)[:, 4], np.argsort(distinct, 1)[:, 4])
    )
    values = different(x)
    inverse = np.searchsorted(values, x.ravel())
    counts = np.bincount(inverse)
    yield plain(
        "unique",
        (x.ravel(),),
        (values, inverse.ravel(), counts),
        return_inverse=True,
        return_counts=True,
    )
    runs = np.array([1, 1, 2, 2, 2, 1, 3, 3])
    yield plain(
        "unique_consecutive",
        (runs,),
        (np.array([1, 2, 1, 3]), np.array([2, 3, 1, 2])),
        return_counts=True,
    )
    edges = np.array([-3, -1, 0, 0, 2, 5], F32)
    for each in (
        case("searchsorted", (edges, x), np.searchsorted(edges, x)),
        case("searchsorted", (edges, x), np.searchsorted(edges, x, "right"), right=True),
        case("bucketize", (x, edges), np.searchsorted(edges, x)),
    ):
        yield replace(each, contiguous=True)
    yield plain("isin", (x, edges), np.isin(x, edges))
    yield Custom("mode", _mode_comparison)


def _mode_comparison(device: str) -> Iterator[Comparison]:
    """The most frequent value; its index is not specified, so it is not compared."""
    array = np.array([[1, 2, 2, 3], [5, 5, 5, 4]], F32)
    yield compare("mode", torch.mode(on_device(array, device), 1).values, np.array([2, 5], F32))


def scatter(device: str) -> Iterator[Trial]:
    """Writes through indices; duplicates add up to exact integers in any order."""
    rows = np.array([3, 0, 3, 3, 1])  # 3 comes three times
    index = integers((5, 6), 0, 3, 70, np.int64)
    columns = np.broadcast_to(np.arange(6), (5, 6))
    for dtype in floats(device):
        base, source = integers((4, 6), -9, 9, 71), integers((5, 6), -9, 9, 72)
        added = base.copy()
        np.add.at(added, rows, source)
        yield in_dtype(case("index_add", (base, 0, rows, source), added), dtype)
        added = base.copy()
        np.add.at(added, (index, columns), source)
        yield in_dtype(case("scatter_add", (base, 0, index, source), added), dtype)
        yield in_dtype(case("scatter_reduce", (base, 0, index, source, "sum"), added), dtype)
        highest = base.copy()
        np.maximum.at(highest, (index, columns), source)
        yield in_dtype(case("scatter_reduce", (base, 0, index, source, "amax"), highest), dtype)
        accumulated = base.copy()
        np.add.at(accumulated, (rows, rows), source[:, 0])
        column = source[:, 0].copy()
        yield Custom(
            "Tensor.index_put_",
            partial(_index_put_comparison, base, rows, column, accumulated, dtype),
            dtype,
        )
    counts = np.zeros(6, np.int64)
    repeated = integers((4000,), 0, 5, 73, np.int64)  # thousands of additions to one element
    np.add.at(counts, repeated, 1)
    yield case("scatter_add", (np.zeros(6, np.int64), 0, repeated, np.ones(4000, np.int64)), counts)
    # Each index once in each column.
    distinct = np.argsort(integers((4, 6), 0, 999, 74), 0, kind="stable")
    written = np.zeros((4, 6), F32)
    np.put_along_axis(written, distinct, base, 0)
    yield case("scatter", (np.zeros((4, 6), F32), 0, distinct, base), written)
    copied = base.copy()
    copied[[2, 0]] = source[:2]
    yield case("index_copy", (base, 0, np.array([2, 0]), source[:2].copy()), copied)
    copied[[2, 0]] = 5
    yield plain("index_fill", (base, 0, np.array([2, 0]), 5.0), copied)
    mask = base > 0
    taken = base.copy()
    taken[mask] = source.ravel()[: mask.sum()]
    yield plain("masked_scatter", (base, mask, source), taken)
    put = base.copy()
    np.add.at(put.reshape(-1), rows, source[:, 1])
    yield plain("put", (base, rows, source[:, 1].copy(), True), put)


def _index_put_comparison(
    base: Array, rows: Array, source: Array, expected: Array, dtype: Any, device: str
) -> Iterator[Comparison]:
    x, i = on_device(base, device, dtype), on_device(rows, device)
    x.index_put_((i, i), on_device(source, device, dtype), accumulate=True)
    yield compare(f"Tensor.index_put_ ({dtype}, accumulate)", x.float(), expected)
