"""Comparisons, extremes, limits and selections; bitwise and logical operations."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from probes.kit.case import Case, case, plain
from probes.kit.typed.values import BOOL, REAL, SINGLES, WHOLE, Tables, Values

_SHAPE: Final = (5, 13)

_COMPARISONS: Final[dict[str, Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_BITWISE: Final[dict[str, Any]] = {
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}
_LOGICAL: Final[dict[str, Any]] = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}


def _compared(v: Values) -> Iterator[Case]:
    a, b = v(_SHAPE, 1), v(_SHAPE, 2)
    for name, right in _COMPARISONS.items():
        yield case(name, (a, b), right(a, b))
    yield case("where", (a, b, ~b), np.where(a, b, ~b))


def _ordered(v: Values) -> Iterator[Case]:
    a, b = v(_SHAPE, 1), v(_SHAPE, 2)
    for name, right in _COMPARISONS.items():
        yield case(name, (a, b), right(a, b))
        yield case(name, (a, 3), right(a, 3))
    yield case("minimum", (a, b), np.minimum(a, b))
    yield case("maximum", (a, b), np.maximum(a, b))
    yield case("clamp", (a, 2, 7), np.clip(a, 2, 7))
    low, high = v(_SHAPE, 3, 0, 4), v(_SHAPE, 4, 5, 9)
    yield case("clamp", (a, low, high), np.clip(a, low, high))
    yield case("clamp_min", (a, 2), np.maximum(a, 2))
    yield case("clamp_min", (a, low), np.maximum(a, low))
    yield case("clamp_max", (a, 5), np.minimum(a, 5))
    yield case("sign", (a,), np.sign(a))
    yield plain("sgn", (a,), np.sign(a))
    chosen = a.astype(np.int64) > 3  # exact in every type
    yield case("where", (chosen, a, b), np.where(chosen, a, b))
    yield plain("where", (chosen, a, 3), v.cast(np.where(chosen, a, 3)))
    ordered = np.sort(a.ravel())
    places = np.searchsorted(ordered, b)
    yield replace(case("searchsorted", (ordered, b), places), contiguous=True)
    number = np.asarray(np.searchsorted(ordered, 3))
    yield replace(plain("searchsorted", (ordered, 3), number), contiguous=True)
    behind = np.searchsorted(ordered, b, "right")
    yield replace(case("bucketize", (b, ordered), behind, right=True), contiguous=True)


def _members(v: Values) -> Iterator[Case]:
    """Half types have it in few versions."""
    a, few = v(_SHAPE, 1), v((3,), 2)
    yield plain("isin", (a, few), np.isin(a, few))


def _bits(v: Values) -> Iterator[Case]:
    a, b = v(_SHAPE, 5), v(_SHAPE, 6)
    number = True if v.kind is np.bool_ else 6
    for name, right in _BITWISE.items():
        yield case(name, (a, b), right(a, b))
        yield case(name, (a, number), v.cast(right(a, number)))
        yield plain(f"Tensor.{name}_", (a, b), right(a, b))
    yield case("bitwise_not", (a,), np.invert(a))


def _truth(v: Values) -> Iterator[Case]:
    a, b = v(_SHAPE, 7, -1, 1), v(_SHAPE, 8, -1, 1)
    for name, right in _LOGICAL.items():
        yield case(name, (a, b), right(a, b))
        yield plain(f"Tensor.{name}_", (a, b), v.cast(right(a, b)))
    yield case("logical_not", (a,), np.logical_not(a))


def _masks(v: Values) -> Iterator[Case]:
    mask, x = v(_SHAPE, 9), Values(REAL[0])(_SHAPE, 10)
    for name, right in (("add", np.add), ("mul", np.multiply)):
        yield case(name, (mask, x), right(mask, x))
    all_of_it = np.ones(_SHAPE, np.bool_)
    for each in (mask, all_of_it):
        yield plain("_is_all_true", (each,), np.asarray(each.all()))
        yield plain("_is_any_true", (~each,), np.asarray((~each).any()))


#: Of tensors, and of a tensor with a number.
COMPARISONS: Final[Tables] = (
    (_ordered, REAL),
    (_members, (*SINGLES, *WHOLE)),
    (_compared, BOOL),
)

#: Of integers and truth values; sums and products of truth values with numbers.
LOGIC: Final[Tables] = ((_bits, (*WHOLE, *BOOL)), (_truth, (*REAL, *BOOL)), (_masks, BOOL))
