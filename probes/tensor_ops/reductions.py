"""Reductions of integer values, with exact results; of equal extremes the first is returned."""

from collections.abc import Iterator

import numpy as np

from probes.kit.capabilities import floats
from probes.kit.case import Array, case, in_dtype, plain
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial

_NAN, _INF = np.nan, np.inf


def reductions(device: str) -> Iterator[Trial]:
    """Sums, products, extremes and cumulative operations over each axis."""
    for dtype in floats(device):
        x = integers((7, 16, 8), -2, 2, 60)  # sums over an axis: below 2^8, exact in bfloat16
        for axis in (0, 1, 2):
            yield in_dtype(case("sum", (x, axis), x.sum(axis)), dtype)
        # n is a power of 2: some devices multiply by 1/n instead of dividing.
        yield in_dtype(case("mean", (x, 1), x.sum(1) / 16), dtype)
        y = integers((3, 16, 5), -99, 99, 59)
        yield in_dtype(case("amax", (y, (0, 2)), y.max((0, 2))), dtype)
        yield in_dtype(case("amin", (y, (0, 2)), y.min((0, 2))), dtype)
        yield in_dtype(case("cumsum", (x, 1), x.cumsum(1, dtype=F32)), dtype)
    yield from _float_cases()
    yield from _integer_cases()
    yield from _tie_cases()


def _float_cases() -> Iterator[Trial]:
    x = integers((6, 33, 8), -9, 9, 61)
    yield plain("sum", (x,), x.sum())
    yield case("sum", (x, (0, 2)), x.sum((0, 2), keepdims=True), keepdim=True)
    small = integers((5, 9), 1, 3, 62)
    yield case("prod", (small, 1), small.prod(1))
    yield case("cumprod", (small, 0), small.cumprod(0))
    yield plain("aminmax", (x,), (x.min(), x.max()))
    yield plain("max", (x,), x.max())
    yield plain("min", (x,), x.min())
    with_nan = np.where(x == 3, F32(_NAN), x)
    yield case("nansum", (with_nan, 1), np.nansum(with_nan, 1))
    yield case("amax", (with_nan, 1), with_nan.max(1))
    yield case("amin", (with_nan, 1), with_nan.min(1))
    yield case("diff", (x,), np.diff(x))
    yield plain("trapezoid", (x,), (x[..., 1:] + x[..., :-1]).sum(-1) / 2)
    # No ties: their order is unspecified.
    distinct = (integers((6, 33), -9, 9, 58) * 64 + np.arange(33)).astype(F32)
    yield case("cummax", (distinct, 1), _running_extreme(distinct, np.maximum))
    yield case("cummin", (distinct, 1), _running_extreme(distinct, np.minimum))
    squares = np.array([[3, 4, 0], [6, 8, 0], [2, 3, 6]], F32)
    # At most three roundings of values up to 10, whether the squares are scaled or not.
    yield case("linalg.vector_norm", (squares,), np.array([5, 10, 7], F32), 2.0**-18, dim=1)
    yield case("linalg.vector_norm", (squares, 1), np.array([7, 14, 11], F32), dim=1)
    yield case("linalg.vector_norm", (squares, _INF), np.array([4, 8, 6], F32), dim=1)
    all_distinct = integers((9, 7), -99, 99, 63) + np.arange(63, dtype=F32).reshape(9, 7) * 200
    yield plain("median", (all_distinct,), np.sort(all_distinct.ravel())[31])
    yield case(
        "median", (all_distinct, 0), (np.sort(all_distinct, 0)[4], np.argsort(all_distinct, 0)[4])
    )
    yield case("quantile", (all_distinct, 0.25, 0), np.sort(all_distinct, 0)[2])
    # Welford's or the two-pass algorithm: error of order n units (Higham, section 1.9).
    allowed = 4 * 33 * 2.0**-24 * x.var(1, ddof=1)
    yield case("var", (x, 1), x.astype(np.float64).var(1, ddof=1).astype(F32), allowed)
    deviation = x.astype(np.float64).std(1, ddof=1).astype(F32)
    yield case("std", (x, 1), deviation, 4 * 33 * 2.0**-24 * deviation)


def _integer_cases() -> Iterator[Trial]:
    i = integers((6, 35), -9, 9, 64, np.int64)
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
    # No value on a bin's edge, where the bin is unspecified. 9.5 is beyond the last bin.
    between = i.astype(F32) + F32(0.5)
    yield case("histc", (between, 6, -9, 9), np.histogram(between, 6, (-9, 9))[0].astype(F32))


def _tie_cases() -> Iterator[Trial]:
    x = integers((9, 40), -2, 2, 65)
    yield case("argmax", (x, 1), x.argmax(1))
    yield case("argmin", (x, 1), x.argmin(1))
    yield plain("argmax", (x,), np.asarray(x.argmax()))
    yield case("max", (x, 0), (x.max(0), x.argmax(0)))
    yield case("min", (x, 0), (x.min(0), x.argmin(0)))
    with_nan = x.copy()
    with_nan[3, 7] = with_nan[5, 0] = _NAN  # one in a row: the index for two is unspecified
    yield case("argmax", (with_nan, 1), with_nan.argmax(1))
    yield case("max", (with_nan, 1), (with_nan.max(1), with_nan.argmax(1)))


def _running_extreme(x: Array, extreme: np.ufunc) -> tuple[Array, Array]:
    """The running extreme along axis 1 and its indices; the values must all differ."""
    best = extreme.accumulate(x, 1)
    places = np.where(x == best, np.arange(x.shape[1]), 0)
    return best, np.maximum.accumulate(places, 1)
