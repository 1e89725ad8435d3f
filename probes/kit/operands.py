"""Operands: reproducible numbers by formula, without a random generator."""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = np.float32


def _hashed(count: int, salt: int) -> npt.NDArray[np.uint64]:
    """32-bit numbers: a multiplicative hash of the index (Knuth, 6.4), applied twice."""
    index = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(salt << 20)
    first_hash = (index * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    second_hash = (
        (first_hash ^ (first_hash >> np.uint64(15))) * np.uint64(2246822519)
    ) & np.uint64(0xFFFFFFFF)
    return np.asarray(second_hash ^ (second_hash >> np.uint64(13)))


@cache
def integers(
    shape: tuple[int, ...], low: int, high: int, salt: int = 0, dtype: Any = F32
) -> npt.NDArray[Any]:
    """Integers from low to high, both included, by a hash. Cached and read-only: copy to change."""
    count = math.prod(shape)
    span = np.uint64(high - low + 1)
    numbers = (_hashed(count, salt) % span).astype(np.int64) + low
    values: npt.NDArray[Any] = numbers.astype(dtype).reshape(shape)
    values.setflags(write=False)
    return values


@cache
def fractions(shape: tuple[int, ...], salt: int = 0) -> npt.NDArray[np.float64]:
    """Numbers in (0, 1) with all 52 bits of the mantissa in use. Cached and read-only."""
    count = math.prod(shape)
    high, low = _hashed(count, salt), _hashed(count, salt + 1)
    wide = (high << np.uint64(20)) ^ low  # 52 bits
    values = np.asarray((wide.astype(np.float64) + 0.5) * 2.0**-52).reshape(shape)
    values.setflags(write=False)
    return values


def coarse(
    shape: tuple[int, ...], low: float, high: float, salt: int = 0
) -> npt.NDArray[np.float64]:
    """Multiples of 1/32 from low to high, below 8: each floating type holds them."""
    return np.round(32 * (low + (high - low) * fractions(shape, salt))) / 32


def odd(shape: tuple[int, ...], salt: int = 0) -> npt.NDArray[np.float64]:
    """-3, -1, 1 or 3: never 0, and sums of few of them are exact in each floating type."""
    return 2.0 * integers(shape, 0, 3, salt) - 3


def different(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The different numbers in ascending order; np.unique would import numpy.ma, for 15 ms."""
    return np.array(sorted(set(values.ravel().tolist())), values.dtype)
