"""Quotients, remainders and bit operations of integers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from probes.kit.capabilities import floats
from probes.kit.case import case, in_dtype
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial

INTEGERS: tuple[tuple[torch.dtype, Any], ...] = (
    (torch.int64, np.int64),
    (torch.int32, np.int32),
    (torch.int16, np.int16),
    (torch.int8, np.int8),
)


def integer_division(device: str) -> Iterator[Trial]:
    """Quotients and remainders of negative numbers round and sign as documented."""
    for _, kind in INTEGERS:
        a = np.repeat(np.arange(-13, 14), 6).astype(kind)
        b = np.tile(np.array([-7, -3, -1, 1, 2, 5]), 27).astype(kind)
        yield case("floor_divide", (a, b), a // b)
        yield case("remainder", (a, b), a % b)
        yield case("fmod", (a, b), np.fmod(a, b))
        yield case("div", (a, b), a // b, rounding_mode="floor")
        yield case("div", (a, b), ((a - np.fmod(a, b)) // b).astype(kind), rounding_mode="trunc")
    a = np.array([2**62 + 1, -(2**62) - 1, 2**53 + 1, -(2**53) - 1])  # not exact as floats
    for divisor in (3, -7, 2**31):
        b = np.full(4, divisor)
        yield case("floor_divide", (a, b), a // b)
        yield case("remainder", (a, b), a % b)
    for dtype in floats(device):
        x, y = integers((96,), -19, 19, 8) / F32(2), integers((96,), 1, 7, 9) / F32(2)
        y[::2] *= -1
        # Both values are exact; only the sign of a zero may differ.
        yield in_dtype(case("floor_divide", (x, y), np.floor_divide(x, y), 0.0), dtype)
        yield in_dtype(case("remainder", (x, y), np.remainder(x, y), 0.0), dtype)
        yield in_dtype(case("fmod", (x, y), np.fmod(x, y), 0.0), dtype)
        yield in_dtype(case("div", (x, y), np.trunc(x / y), 0.0, rounding_mode="trunc"), dtype)


def bitwise(_device: str) -> Iterator[Trial]:
    """Bit operations on signed, unsigned and boolean tensors; right shifts keep the sign."""
    for dtype, kind in (*INTEGERS, (torch.uint8, np.uint8), (torch.bool, np.bool_)):
        low, high = {torch.uint8: (0, 255), torch.bool: (0, 1)}.get(dtype, (-128, 127))
        a, b = integers((77,), low, high, 10, kind), integers((77,), low, high, 11, kind)
        yield case("bitwise_and", (a, b), a & b)
        yield case("bitwise_or", (a, b), a | b)
        yield case("bitwise_xor", (a, b), a ^ b)
        yield case("bitwise_not", (a,), ~a)
        if dtype != torch.bool:
            by = integers((77,), 0, 6, 12, kind)
            fits = np.right_shift(a, by)  # so that no bit is shifted out, which is unspecified
            yield case("bitwise_left_shift", (fits, by), np.left_shift(fits, by))
            yield case("bitwise_right_shift", (a, by), np.right_shift(a, by))
