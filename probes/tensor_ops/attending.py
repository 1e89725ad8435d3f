"""Attention whose softmax picks one key: its answer is that key's value."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from probes.kit.case import plain
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial

_HEADS: Final = (2, 3)
_LENGTH: Final = 70  # one block of 64 and a rest
_WIDTH: Final = 16

#: Scores differ by 1 or more: times this, what the other keys add is far below rounding, and with
#: 1/sqrt(width) in its place it is not.
_SCALE: Final = 64.0

#: Of a value. Fused kernels round the largest exponent, up to 2^12.7 in base 2, in their numerator
#: and not in their denominator: that is 2^-12 at most; then weight and value, to TF32 at worst.
_ALLOWED: Final = 2.0**-9


def attending() -> Iterator[Trial]:
    """With and without is_causal, with a scale.

    Each key has one score, and a query wants the largest or the smallest: all are exact in TF32.
    """
    shape = (*_HEADS, _LENGTH, _WIDTH)
    scores = np.argsort(integers((*_HEADS, _LENGTH), 0, 2**20, 93), -1).astype(F32)
    wants = np.where(np.arange(_LENGTH) % 2 == 0, F32(1), F32(-1))
    query = np.zeros(shape, F32)
    query[..., 0] = wants
    key, value = integers(shape, -3, 3, 94).copy(), 2 * integers(shape, -4, 4, 95) + 1  # never 0
    key[..., 0] = scores
    asked = wants[:, None] * scores[..., None, :]  # (..., query, key)
    seen = np.where(np.tri(_LENGTH, dtype=bool), asked, -np.inf)
    attention = partial(plain, "nn.functional.scaled_dot_product_attention", (query, key, value))
    for causal, kept in ((False, asked), (True, seen)):
        picked = kept.argmax(-1)[..., None]
        right = np.take_along_axis(value, picked, -2)
        yield attention(right, _ALLOWED * np.abs(right), is_causal=causal, scale=_SCALE)
