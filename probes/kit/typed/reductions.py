"""Sums, means, products, extremes, scans, sorts, and sums by index: all exact."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from probes.kit.case import Array, Case, case, plain
from probes.kit.operands import integers
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.rounding import ROUNDINGS
from probes.kit.typed.values import BOOL, COMPLEX, FLOATS, REAL, Tables, Values

#: Sums of all 128 elements from -2 to 2 are integers that bfloat16 has, and so are 1/128 of them.
_SHAPE: Final = (8, 16)


def _wide(v: Values) -> Any:
    """The type of sums: that of the operand, or int64 of integers and truth values."""
    return v.kind if v.floating else np.int64


def _sum(v: Values, x: Array, axis: int | None) -> Array:
    return np.asarray(x.astype(np.float64).sum(axis)).astype(_wide(v))


def _sums(v: Values) -> Iterator[Case]:
    x, factors = v(_SHAPE, 50, -2, 2), v((4, 6), 51, 1, 2)
    yield plain("sum", (x,), _sum(v, x, None))
    yield case("sum", (x, 1), _sum(v, x, 1))
    yield case("sum", (x, 0), _sum(v, x, 0))
    yield case("prod", (factors, 1), factors.prod(1, dtype=_wide(v)))
    yield case("cumsum", (x, 1), x.cumsum(1, dtype=_wide(v)))
    yield case("cumprod", (factors, 1), factors.cumprod(1, dtype=_wide(v)))
    truth = np.uint8 if v.kind is np.uint8 else np.bool_  # as torch.all documents
    for name, right in (("all", np.all), ("any", np.any)):
        yield case(name, (x, 1), right(x, 1).astype(truth))
        yield plain(name, (x,), np.asarray(right(x), truth))
    yield plain("count_nonzero", (x, 1), np.count_nonzero(x, 1))
    yield case("nonzero", (x,), np.argwhere(x))


def _shuffled(v: Values, salt: int) -> Array:
    """Rows without equal elements."""
    order = np.argsort(integers(_SHAPE, 0, 9999, salt, np.int64), 1, "stable")
    return v.cast(order - (0 if v.dtype.itemsize == 1 and not v.dtype.is_signed else 7))


def _extremes(v: Values) -> Iterator[Case]:
    x = _shuffled(v, 52)
    for name, right, at in (("max", x.max, x.argmax), ("min", x.min, x.argmin)):
        yield case(name, (x, 1), (right(1), at(1)))
        yield plain(name, (x,), np.asarray(right()))
        yield case(f"a{name}", (x, 1), right(1))
        yield case(f"arg{name}", (x, 1), at(1))
    yield case("aminmax", (x,), (x.min(1), x.max(1)), dim=1)


def _orders(v: Values) -> Iterator[Case]:
    x = _shuffled(v, 53)
    order = np.argsort(x, 1, "stable")
    rising = np.sort(x, 1)
    yield case("sort", (x, 1), (rising, order))
    yield case("sort", (x, 1, True), (rising[:, ::-1], order[:, ::-1]))
    yield plain("argsort", (x, 1), order)
    largest = (rising[:, : -4 - 1 : -1], order[:, : -4 - 1 : -1])
    yield case("topk", (x, 4, 1), largest)
    yield case("topk", (x, 4, 1, False), (rising[:, :4], order[:, :4]))


def _by_index(v: Values) -> Iterator[Case]:
    x, rows = v((5, 13), 54, -3, 3), np.array([4, 0, 4, 2])
    more, index = v((4, 13), 55, -3, 3), integers((4, 13), 0, 4, 56, np.int64)
    added, scattered = x.copy(), x.copy()
    np.add.at(added, rows, more)
    np.add.at(scattered, (index, np.arange(13)[None]), more)
    for name in ("index_add", "Tensor.index_add_"):
        yield plain(name, (x, 0, rows, more), added)
    twice = v.cast(2 * added - x)
    yield plain("Tensor.index_add_", (x, 0, rows, more), twice, alpha=2)
    yield plain("Tensor.index_put_", (x, [rows], more, True), added)
    for name in ("scatter_add", "Tensor.scatter_add_"):
        yield plain(name, (x, 0, index, more), scattered)


def _means(v: Values) -> Iterator[Case]:
    x = v(_SHAPE, 57, -2, 2)
    legs = v.cast(np.array([[3, 4], [-6, 8], [5, -12], [0, 7], [8, 15]]))
    yield plain("mean", (x,), v.cast(x.astype(np.float64).mean()))
    yield case("mean", (x, 1), v.cast(x.astype(np.float64).mean(1)))
    lengths = np.array([5.0, 10.0, 13.0, 7.0, 17.0])
    allowed = ROUNDINGS * UNIT_ROUNDOFF[v.dtype] * lengths
    yield case("linalg.vector_norm", (legs, 2, 1), v.cast(lengths), allowed)
    yield plain("norm", (legs, 1, 1), v.cast(np.array([7, 14, 17, 7, 23])))


def _complex(v: Values) -> Iterator[Case]:
    x = v(_SHAPE, 58, -2, 2)
    legs = v.cast(np.array([3 + 4j, -6 + 8j, 5 - 12j, 7j, -8 - 15j]))
    lengths = np.array([5.0, 10.0, 13.0, 7.0, 17.0])
    yield plain("sum", (x,), v.cast(x.sum()), 0.0)
    yield case("sum", (x, 1), v.cast(x.sum(1)), 0.0)
    yield case("mean", (x, 1), v.cast(x.mean(1)), 0.0)
    yield case("cumsum", (x, 1), v.cast(x.cumsum(1)), 0.0)
    allowed = ROUNDINGS * UNIT_ROUNDOFF[v.dtype] * lengths
    yield case("abs", (legs,), lengths.astype(legs.real.dtype), allowed)


#: Over all elements and along an axis.
REDUCTIONS: Final[Tables] = (
    (_sums, (*REAL, *BOOL)),
    (_extremes, REAL),
    (_orders, REAL),
    (_by_index, REAL),
    (_means, FLOATS),
    (_complex, COMPLEX),
)
