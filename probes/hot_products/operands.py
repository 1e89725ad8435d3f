"""Operands whose product has a closed form in integers, which the host computes without products.

The terms of a product come in pairs, of which all but a few cancel: in each row of the first factor
a column is the one before it, negated, and now and then 1 more or less; in the second factor each
row is there twice. All elements are in use, partial sums over whole pairs are small, and each
result is a sum of few elements of the second factor, which every type of a result holds. Rows of
the first factor and columns of the second repeat after a prime number of them, so that no tile of
a kernel has the same numbers as its neighbour, and so do those of the product.
"""

from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from probes.kit.operands import integers

#: After so many rows and columns they repeat.
PERIOD: Final = 509

#: Operands are at most 1 more: the four bits of float8. 32 terms add up to less than 2^13, which
#: the shortest accumulator of float8 holds (https://arxiv.org/abs/2412.19437, section 3.3.2).
LARGEST: Final = 15

#: Pairs of a row that do not cancel: results are at most 240, which bfloat16 holds.
_UNEQUAL: Final = 16

Bytes = npt.NDArray[np.int8]


class Pattern(NamedTuple):
    """What repeats of the factors and of the product of n terms; read-only."""

    a: Bytes  # (PERIOD, n)
    b: Bytes  # (n, PERIOD)
    product: npt.NDArray[np.int64]  # (PERIOD, PERIOD)


@cache
def pattern(n: int) -> Pattern:
    """The operands of a product of n terms, a multiple of 32, and the product."""
    pairs = n // 2
    one = integers((PERIOD, pairs), -LARGEST, LARGEST, 500, np.int8)
    doubled = integers((pairs, PERIOD), -LARGEST, LARGEST, 501, np.int8)
    rows, turns = np.arange(PERIOD)[:, None], np.arange(_UNEQUAL)
    unequal = (131 * rows + turns * (pairs // _UNEQUAL)) % pairs  # (PERIOD, 16), all different
    by = 2 * integers((PERIOD, _UNEQUAL), 0, 1, 502, np.int64) - 1
    difference = np.zeros((PERIOD, pairs), np.int8)
    difference[rows, unequal] = by
    a = np.stack([one, difference - one], -1).reshape(PERIOD, n)
    product = np.zeros((PERIOD, PERIOD), np.int64)
    for turn in range(_UNEQUAL):
        product += by[:, turn, None] * doubled[unequal[:, turn]]
    for each in (a, product):
        each.setflags(write=False)
    return Pattern(a, np.repeat(doubled, 2, axis=0), product)


def right_rows(of: Pattern, n: int, kind: Any) -> npt.NDArray[Any]:
    """The rows that a product with n columns repeats, in a NumPy type: (PERIOD, n)."""
    return np.ascontiguousarray(of.product[:, np.arange(n) % PERIOD].astype(kind))
