"""Conversions between types: truncation, rounding to even, overflow and wrapping."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from probes.kit.case import plain
from probes.kit.operands import F32
from probes.kit.trial import Trial

#: float32 -> float16, bfloat16: ties to even, overflow, underflow. bfloat16 answers as float32.
_HALVES = (
    (2049.0, 2048.0, 2048.0),
    (2051.0, 2052.0, 2048.0),
    (1 + 2.0**-8, 1 + 2.0**-8, 1.0),
    (1 + 3 * 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-6),
    (65519.0, 65504.0, 65536.0),
    (65520.0, np.inf, 65536.0),
    (-1e30, -np.inf, None),
    (2.0**-24, 2.0**-24, 2.0**-24),
    (-0.0, -0.0, -0.0),
    (np.inf, np.inf, np.inf),
    (np.nan, np.nan, np.nan),
)


def conversion(_device: str) -> Iterator[Trial]:
    """`.to(dtype)` truncates to integers, rounds to even to narrower floats, and wraps integers."""
    reals = np.tile(np.array([-3.9, -1.5, -0.5, -0.0, 0.5, 1.999, 2.5, 1e6], F32), 9)
    for dtype, kind in ((torch.int64, np.int64), (torch.int32, np.int32), (torch.int8, np.int8)):
        small = reals[np.abs(reals) < 100]
        yield plain("Tensor.to", (small, dtype), small.astype(kind))
    yield plain("Tensor.long", (reals,), np.trunc(reals).astype(np.int64))
    yield plain("Tensor.int", (reals,), np.trunc(reals).astype(np.int32))
    special = np.array([0.0, -0.0, 1e-30, np.nan, np.inf, -2], F32)
    yield plain("Tensor.bool", (special,), np.array([False, False, True, True, True, True]))
    big = 2**24 + np.arange(-4, 8)
    yield plain("Tensor.float", (big,), big.astype(F32))
    yield plain(
        "Tensor.to",
        (np.array([300, -1, 255, 256]), torch.uint8),
        np.array([44, 255, 255, 0], np.uint8),
    )
    yield plain(
        "Tensor.to",
        (np.array([128, -129, 65535, 7]), torch.int8),
        np.array([-128, 127, -1, 7], np.int8),
    )
    before = np.array([row[0] for row in _HALVES], F32)
    yield plain("Tensor.half", (before,), np.array([row[1] for row in _HALVES], np.float16))
    in_bfloat16 = np.array([row[2] is not None for row in _HALVES])
    after = np.array([row[2] for row in _HALVES if row[2] is not None], F32)
    yield replace(plain("Tensor.bfloat16", (before[in_bfloat16],), after), dtype=torch.bfloat16)
    all_halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    yield plain("Tensor.float", (all_halves,), all_halves.astype(F32))
    yield plain("Tensor.half", (all_halves.astype(F32),), all_halves)
    doubles = np.array([1 + 2.0**-24, 1 + 3 * 2.0**-24, 1e39, -1e-50, 0.1, np.nan])
    yield plain("Tensor.float", (doubles,), doubles.astype(F32))
    yield plain("Tensor.double", (reals,), reals.astype(np.float64))
    pair = np.array([1 + 2j, -3.5j], np.complex64)
    yield plain("Tensor.to", (pair, torch.complex128), pair.astype(np.complex128))
