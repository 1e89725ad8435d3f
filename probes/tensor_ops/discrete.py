"""Reductions, orders and scatters whose answers are exact: integer values, ties, duplicates."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.references import compare
from probes.tensor_ops.operands import F32, whole
from probes.tensor_ops.trial import (
    Array,
    Custom,
    Trial,
    case,
    fact,
    floats,
    in_dtype,
    placed,
    plain,
)
from probes.tensor_ops.trial import refused

_NAN, _INF = np.nan, np.inf


def reductions(device: str) -> Iterator[Trial]:
    """Sums, products, extremes and cumulations over every axis; the first of equal ones wins."""
    for dtype in floats(device):
        x = whole((7, 16, 8), -2, 2, 60)  # sums of all: below 2^8, exact in bfloat16
        for axis in (0, 1, 2):
            yield in_dtype(case("sum", (x, axis), x.sum(axis)), dtype)
        # Means divide by multiplying with 1/n on some devices: n is a power of 2.
        yield in_dtype(case("mean", (x, 1), x.sum(1) / 16), dtype)
        yield in_dtype(case("amax", (x, (0, 2)), x.max((0, 2))), dtype)
        yield in_dtype(case("amin", (x, (0, 2)), x.min((0, 2))), dtype)
        yield in_dtype(case("cumsum", (x, 1), x.cumsum(1, dtype=F32)), dtype)
    yield from _of_floats()
    yield from _of_integers()
    yield from _of_ties()


def _of_floats() -> Iterator[Trial]:
    x = whole((6, 33, 8), -9, 9, 61)
    yield plain("sum", (x,), x.sum())
    yield case("sum", (x, (0, 2)), x.sum((0, 2), keepdims=True), keepdim=True)
    small = whole((5, 9), 1, 3, 62)
    yield case("prod", (small, 1), small.prod(1))
    yield case("cumprod", (small, 0), small.cumprod(0))
    yield plain("aminmax", (x,), (x.min(), x.max()))
    yield plain("max", (x,), x.max())
    yield plain("min", (x,), x.min())
    holes = np.where(x == 3, F32(_NAN), x)
    yield case("nansum", (holes, 1), np.nansum(holes, 1))
    yield case("amax", (holes, 1), holes.max(1))
    yield case("amin", (holes, 1), holes.min(1))
    yield case("diff", (x,), np.diff(x))
    yield plain("trapezoid", (x,), (x[..., 1:] + x[..., :-1]).sum(-1) / 2)
    yield case("cummax", (x, 1), (np.maximum.accumulate(x, 1), _last_best(x, 1)))
    yield case("cummin", (x, 1), (np.minimum.accumulate(x, 1), _last_best(-x, 1)))
    squares = np.array([[3, 4, 0], [6, 8, 0], [2, 3, 6]], F32)
    yield case("linalg.vector_norm", (squares,), np.array([5, 10, 7], F32), dim=1)
    yield case("linalg.vector_norm", (squares, 1), np.array([7, 14, 11], F32), dim=1)
    yield case("linalg.vector_norm", (squares, _INF), np.array([4, 8, 6], F32), dim=1)
    odd = whole((9, 7), -99, 99, 63) + np.arange(63, dtype=F32).reshape(9, 7) * 200
    yield plain("median", (odd,), np.sort(odd.ravel())[31])
    yield case("median", (odd, 0), (np.sort(odd, 0)[4], np.argsort(odd, 0)[4]))
    yield case("quantile", (odd, 0.25, 0), np.sort(odd, 0)[2])
    # Welford or two passes: at most some n units of the squares' sum (Higham, section 1.9).
    spread = 4 * 33 * 2.0**-24 * x.var(1, ddof=1)
    yield case("var", (x, 1), x.astype(np.float64).var(1, ddof=1).astype(F32), spread)
    deviation = x.astype(np.float64).std(1, ddof=1).astype(F32)
    yield case("std", (x, 1), deviation, 4 * 33 * 2.0**-24 * deviation)


def _of_integers() -> Iterator[Trial]:
    i = whole((6, 35), -9, 9, 64, np.int64)
    yield case("sum", (i, 1), i.sum(1))
    yield case("sum", (i.astype(np.int32), 0), i.sum(0))  # sums of integers are int64
    yield case("sum", (i > 0, 0), (i > 0).sum(0))
    yield case("cumsum", (i + 2**40, 1), (i + 2**40).cumsum(1))
    yield case("cumprod", (i % 3 + 1, 0), (i % 3 + 1).cumprod(0))
    yield case("any", (i > 8, 1), np.asarray((i > 8).any(1)))
    yield case("all", (i > -9, 1), np.asarray((i > -9).all(1)))
    yield plain("count_nonzero", (i, 1), np.count_nonzero(i, 1))
    counts = np.bincount(i.ravel() + 9, minlength=25)
    yield plain("bincount", (i.ravel() + 9,), counts, minlength=25)
    edges = np.histogram(i, 6, (-9, 9))[0].astype(F32)
    yield case("histc", (i.astype(F32), 6, -9, 9), edges)


def _of_ties() -> Iterator[Trial]:
    x = whole((9, 40), -2, 2, 65)
    yield case("argmax", (x, 1), x.argmax(1))
    yield case("argmin", (x, 1), x.argmin(1))
    yield plain("argmax", (x,), np.asarray(x.argmax()))
    yield case("max", (x, 0), (x.max(0), x.argmax(0)))
    yield case("min", (x, 0), (x.min(0), x.argmin(0)))
    holes = x.copy()
    holes[3, 7] = holes[3, 9] = holes[5, 0] = _NAN
    yield case("argmax", (holes, 1), holes.argmax(1))
    yield case("max", (holes, 1), (holes.max(1), holes.argmax(1)))


def _last_best(x: Array, axis: int) -> Array:
    """The index of the running maximum, the latest of equal ones, as torch has it."""
    best = np.maximum.accumulate(x, axis)
    index = np.arange(x.shape[axis])[:, None]
    return np.maximum.accumulate(np.where(x == best, index, 0), axis)


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
        yield Custom("Tensor.index_put_", partial(_put, base, rows, one, spot, dtype))
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


def large(_device: str) -> Iterator[Trial]:
    """A million elements, beyond what one thread or one launch takes."""
    windows = np.lib.stride_tricks.sliding_window_view(whole((2050,), -4, 4, 75), 1024)
    x = np.ascontiguousarray(windows)  # (1027, 1024)
    yield Custom("sum", partial(_million, x))
    yield Custom("cumsum", partial(_quarter, np.ascontiguousarray(x[:259])))


def _million(x: Array, device: str) -> Iterator[Comparison]:
    t = placed(x, device)
    yield compare("add (large)", t + t, x + x)
    yield compare("sum (large)", t.sum(), np.asarray(x.sum(dtype=np.float64), F32))
    yield compare("sum (large)", t.sum(0), x.sum(0))
    yield compare("sum (large)", t.sum(1), x.sum(1))


def _quarter(x: Array, device: str) -> Iterator[Comparison]:
    t = placed(x, device)
    yield compare("t (large)", t.t().contiguous(), np.ascontiguousarray(x.T))
    total = x.ravel().cumsum(dtype=np.int64)
    yield compare("cumsum (large)", t.flatten().cumsum(0, dtype=torch.int64), total)
    yield fact("argmax (large)", int(t.flatten().argmax()), int(x.argmax()))
    yield compare("Tensor.__getitem__ (large mask)", t[t > 3], x[x > 3])
    some, same = t.flatten()[: 1 << 14], x.ravel()[: 1 << 14]
    yield compare("sort (large)", some.sort().values, np.sort(same))


def empty(_device: str) -> Iterator[Trial]:
    """No elements: neutral answers, right shapes, zeros from empty products, and refusals."""
    none = np.zeros((0, 3), F32)
    yield case("sum", (none, 0), np.zeros(3, F32))
    yield case("prod", (none, 0), np.ones(3, F32))
    yield plain("mean", (none, 0), np.full(3, _NAN, F32))
    yield case("cumsum", (none, 0), none)
    yield case("add", (none, none), none)
    yield case("cat", ([none, none],), none)
    yield case("sort", (none,), (none, np.zeros((0, 3), np.int64)), stable=True, dim=0)
    yield case("any", (none > 0, 0), np.zeros(3, bool))
    yield case("all", (none > 0, 0), np.ones(3, bool))
    yield plain("nonzero", (none,), np.zeros((0, 2), np.int64))
    yield case("index_select", (none, 1, np.array([2, 0])), np.zeros((0, 2), F32))
    # The inner dimension is empty: nothing is summed, yet all must be written.
    yield case("mm", (np.zeros((5, 0), F32), np.zeros((0, 4), F32)), np.zeros((5, 4), F32))
    yield case(
        "bmm", (np.zeros((2, 5, 0), F32), np.zeros((2, 0, 4), F32)), np.zeros((2, 5, 4), F32)
    )
    yield Custom("max", _no_largest)


def _no_largest(device: str) -> Iterator[Comparison]:
    nothing = torch.zeros(0, device=device)
    yield refused("max (empty)", lambda: torch.max(nothing), "RuntimeError", "IndexError")
