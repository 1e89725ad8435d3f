"""Orders with ties, and writes through indices with duplicates: exact answers."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.references import compare
from probes.tensor_ops.case import Array, case, in_dtype, placed, plain
from probes.tensor_ops.operands import F32, whole
from probes.tensor_ops.trial import Custom, Trial

_NAN, _INF = np.nan, np.inf


def sorting(device: str) -> Iterator[Trial]:
    """Orders with ties, NaN and infinities; searches; sets."""
    for dtype in floats(device):
        x = whole((5, 65), -8, 8, 66)
        up = np.argsort(x, 1, kind="stable")
        down = np.argsort(-x, 1, kind="stable")
        pair = (np.take_along_axis(x, up, 1), up)
        yield in_dtype(case("sort", (x,), pair, stable=True, dim=1), dtype)
        pair = (np.take_along_axis(x, down, 1), down)
        yield in_dtype(case("sort", (x,), pair, stable=True, dim=1, descending=True), dtype)
        yield in_dtype(plain("argsort", (x,), up, stable=True), dtype)
    for kind in (np.int64, np.int16, np.uint8):
        i = whole((2100,), 0, 250, 67, kind)  # beyond a block's sort
        up = np.argsort(i, kind="stable")
        yield case("sort", (i,), (i[up], up), stable=True, dim=0)
    odd = np.array([3, _NAN, -_INF, 7, _INF, -2, _NAN, 5] * 5, F32)
    up = np.argsort(odd, kind="stable")  # NaN is the largest
    yield case("sort", (odd,), (odd[up], up), stable=True, dim=0)
    yield case("msort", (x,), np.sort(x, 0))
    apart = (whole((4, 50), 0, 9, 68) * 64 + whole((4, 50), 0, 63, 69) + np.arange(50) / 64).astype(
        F32
    )
    down = np.argsort(-apart, 1, kind="stable")
    best = (np.take_along_axis(apart, down, 1)[:, :7], down[:, :7])
    yield case("topk", (apart, 7), best)
    rest = (np.sort(apart, 1)[:, :3], np.argsort(apart, 1)[:, :3])
    yield case("topk", (apart, 3), rest, largest=False)
    yield case("kthvalue", (apart, 5), (np.sort(apart, 1)[:, 4], np.argsort(apart, 1)[:, 4]))
    values, inverse, counts = np.unique(x.ravel(), return_inverse=True, return_counts=True)
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
    yield Custom("mode", _modes)


def _modes(device: str) -> Iterator[Comparison]:
    """The most frequent value; which of its places is not specified."""
    array = np.array([[1, 2, 2, 3], [5, 5, 5, 4]], F32)
    yield compare("mode", torch.mode(placed(array, device), 1).values, np.array([2, 5], F32))


def scatter(device: str) -> Iterator[Trial]:
    """Writes through indices; duplicates add up, whatever their order: the values are integers."""
    rows = np.array([3, 0, 3, 3, 1])  # 3 comes three times
    index = whole((5, 6), 0, 3, 70, np.int64)
    columns = np.broadcast_to(np.arange(6), (5, 6))
    for dtype in floats(device):
        base, source = whole((4, 6), -9, 9, 71), whole((5, 6), -9, 9, 72)
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
        spot = base.copy()
        np.add.at(spot, (rows, rows), source[:, 0])
        one = source[:, 0].copy()
        yield Custom("Tensor.index_put_", partial(_put, base, rows, one, spot, dtype), dtype)
    counts = np.zeros(6, np.int64)
    many = whole((4000,), 0, 5, 73, np.int64)  # thousands of adds to one place
    np.add.at(counts, many, 1)
    yield case("scatter_add", (np.zeros(6, np.int64), 0, many, np.ones(4000, np.int64)), counts)
    apart = np.argsort(whole((4, 6), 0, 999, 74), 0, kind="stable")  # each index once a column
    written = np.zeros((4, 6), F32)
    np.put_along_axis(written, apart, base, 0)
    yield case("scatter", (np.zeros((4, 6), F32), 0, apart, base), written)
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


def _put(
    base: Array, rows: Array, source: Array, expected: Array, dtype: Any, device: str
) -> Iterator[Comparison]:
    x, i = placed(base, device, dtype), placed(rows, device)
    x.index_put_((i, i), placed(source, device, dtype), accumulate=True)
    yield compare(f"Tensor.index_put_ ({dtype}, accumulate)", x.float(), expected)
