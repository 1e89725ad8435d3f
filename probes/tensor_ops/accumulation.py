"""Long sums and products in half types, which are right only if they are summed in float32.

torch's default allows a product to be split along K and the sums of its parts to be added in the
half type (`allow_fp16_reduced_precision_reduction`, `allow_bf16_reduced_precision_reduction`). So
the terms come in blocks of 8 that sum to a small even integer: wherever it is split, the sums of
the parts and of these are exact in both types. Within a block 4096 comes before two ones and -4096
after them: in a half type 4096 + 1 is 4096.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np
import torch

from probes.kit.capabilities import floats
from probes.kit.case import Array, Case, in_dtype, once
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial

K: Final = 4096  # terms of a sum
BLOCK: Final = 8
_LARGE: Final = 64  # a factor; a product of two is 4096
_ZEROS: Final = 8192  # terms exp(0) of a softmax

#: Operations whose float16 sums a setting of torch may shorten: products.
PRODUCTS: Final = frozenset(
    {"mm", "bmm", "addmm", "mv", "nn.functional.linear", "nn.functional.conv2d"}
)


@cache
def _places() -> tuple[Array, Array]:
    """Where the large terms and the two ones of each block are, two masks of shape (K,).

    Their places change from block to block, so that lanes of a vector get both.
    """
    order = np.argsort(integers((K // BLOCK, BLOCK), 0, 2**20, 220), axis=1, kind="stable")
    large, small = (np.zeros((K // BLOCK, BLOCK), bool) for _ in range(2))
    np.put_along_axis(large, np.sort(order[:, :2], 1), values=True, axis=1)
    np.put_along_axis(small, order[:, 2:4], values=True, axis=1)
    return large.ravel(), small.ravel()


@cache
def factors(rows: int, salt: int, *, alternating: bool) -> Array:
    """Rows of factors (rows, K): 64 and -64 (or twice 64) around a sign that a block has twice."""
    large, small = _places()
    signs = integers((rows, K // BLOCK), 0, 1, salt) * 2 - 1
    values = np.repeat(signs, BLOCK, 1) * small
    values[:, large] = _LARGE
    if alternating:
        values[:, np.flatnonzero(large)[1::2]] = -_LARGE
    return values.astype(F32)


def accumulation(device: str) -> Iterator[Trial]:
    """Products, sums and normalisations over thousands of terms, in each half type."""
    halves = [each for each in floats(device) if each in {torch.float16, torch.bfloat16}]
    table = (*_products(), *_sums()) if halves else ()
    for dtype in halves:
        yield from (in_dtype(each, dtype) for each in table)


def _products() -> Iterator[Case]:
    a, b = factors(8, 221, alternating=True), factors(8, 222, alternating=False)  # (8, K)
    product = (a.astype(np.float64) @ b.T).astype(F32)
    columns = np.ascontiguousarray(b.T)
    yield once("mm", (a, columns), product)
    yield once("mm", (a[:1].copy(), columns), product[:1])
    yield once("nn.functional.linear", (a, b), product)
    yield once("addmm", (np.full((8, 8), 2, F32), a, columns), product + 2)
    yield once("bmm", (a.reshape(2, 4, K), np.stack([columns, columns])), product.reshape(2, 4, 8))
    yield once("mv", (a, b[1].copy()), product[:, 1])
    image, weight = a[:4].T.reshape(1, K, 2, 2), b.reshape(8, K, 1, 1)
    expected = product[:4].T.reshape(1, 8, 2, 2)
    yield once("nn.functional.conv2d", (image.copy(), weight), expected)


def _sums() -> Iterator[Any]:
    terms = factors(3, 223, alternating=True)
    x = np.where(np.abs(terms) == _LARGE, terms * _LARGE, terms)
    total = x.sum(1, dtype=np.float64).astype(F32)
    yield once("sum", (x, 1), total)
    yield once("sum", (x.T.copy(), 0), total)
    yield once("mean", (x, 1), total / F32(K))
    # Rows of ones and threes: mean 2, variance 1.
    pair = np.tile(np.array([1, 3], F32), (2, K // 2))
    one_step = 2.0**-7  # of bfloat16 at 1, the coarser type
    yield once("nn.functional.layer_norm", (pair, (K,)), pair - 2, one_step)
    yield once("var", (pair, 1), np.ones(2, F32), one_step, unbiased=False)
    ones = np.ones((2, K), F32)
    yield once("linalg.vector_norm", (ones,), np.full(2, 64, F32), 64 * one_step, dim=1)
    zeros = np.zeros((2, _ZEROS), F32)
    share, logarithm = np.full_like(zeros, 1 / _ZEROS), np.log(F32(_ZEROS))
    yield once("softmax", (zeros, 1), share, one_step / _ZEROS)
    yield once("log_softmax", (zeros, 1), zeros - logarithm, 16 * one_step)
    yield once("logsumexp", (zeros, 1), zeros[:, 0] + logarithm, 16 * one_step)
