"""Matrix products of integers: exact in every type and order of summation.

Partial sums stay below 2^8 in bfloat16 and 2^11 in float16, so that sums kept in the half type
(`allow_fp16_reduced_precision_reduction`, on by default) are exact too.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.case import Array, case, in_dtype, on_device, once, plain
from probes.kit.operands import F32, fractions, integers
from probes.kit.references import compare, dot_bound
from probes.kit.trial import Custom, Trial

#: (M, K, N): small, odd, prime, wide and long matrices.
_SHAPES = ((2, 2, 2), (17, 16, 16), (31, 37, 41), (1, 61, 3), (64, 1, 5), (3, 40, 128))

#: Of these each operand is stored by rows and by columns; `matmul` does that for real sizes.
_STORED = ((17, 16, 16), (31, 37, 41))


def _largest_value(dtype: torch.dtype) -> int:
    return {torch.bfloat16: 2, torch.float16: 5}.get(dtype, 30)


def matmul_exact(device: str) -> Iterator[Trial]:
    """Products of matrices, batches and vectors in all layouts, bit for bit."""
    for dtype in floats(device):
        largest = _largest_value(dtype)
        for m, k, n in _SHAPES:
            a, b = (
                integers((m, k), -largest, largest, 100),
                integers((k, n), -largest, largest, 101),
            )
            yield in_dtype(case("mm", (a, b), a @ b), dtype)
            if (m, k, n) in _STORED:
                yield Custom("mm", partial(_layouts, a, b, dtype), dtype)
        identity, two = np.eye(2, dtype=F32), integers((2, 2), -largest, largest, 102)
        yield in_dtype(case("mm", (identity, two), two), dtype)
        for each in _product_cases(largest):
            yield in_dtype(each, dtype)
    if torch.device(device).type == "cpu":  # CUDA has no integer product
        i, j = (
            integers((31, 37), -99, 99, 103, np.int64),
            integers((37, 41), -99, 99, 104, np.int64),
        )
        yield case("mm", (i << 20, j), (i << 20) @ j)
        yield case("matmul", (i, j), i @ j)
    # A batch larger than the 65535 blocks of one launch.
    windows = np.lib.stride_tricks.sliding_window_view(integers((65540,), -9, 9, 105), 4)
    many = windows.reshape(65537, 2, 2)
    turn = np.broadcast_to(np.array([[0, 1], [-1, 2]], F32), many.shape)
    expected = np.stack([0 - many[..., 1], many[..., 0] + 2 * many[..., 1]], -1)
    yield once("bmm", (many, turn), expected)


def _layouts(a: Array, b: Array, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Each operand stored by rows and by columns: four different kernels."""
    x, y = on_device(a, device, dtype), on_device(b, device, dtype)
    turned_x, turned_y = (
        on_device(a.T.copy(), device, dtype).t(),
        on_device(b.T.copy(), device, dtype).t(),
    )
    kind = np.float16 if dtype == torch.float16 else np.float64 if dtype == torch.float64 else F32
    expected = (a @ b).astype(kind)
    for left, at in ((turned_x, "T"), (x, "N")):
        for other, bt in ((y, "N"), (turned_y, "T")):
            yield compare(f"mm ({dtype}, {at}{bt}, {a.shape} @ {b.shape})", left @ other, expected)


def _product_cases(largest: int) -> Iterator[Any]:
    a, b, c = (integers(shape, -largest, largest, 106) for shape in ((5, 17), (17, 19), (5, 19)))
    batch, other = (
        integers((3, 7, 13), -largest, largest, 107),
        integers((3, 13, 11), -largest, largest, 108),
    )
    base = integers((3, 7, 11), -largest, largest, 109)
    v, w = integers((17,), -largest, largest, 110), integers((19,), -largest, largest, 111)
    yield case("matmul", (batch, other), batch @ other)
    yield case("matmul", (a, v), a @ v)
    yield case("bmm", (batch, other), batch @ other)
    yield case("addmm", (c, a, b), a @ b - 2 * c, beta=-2)
    yield case("baddbmm", (base, batch, other), base + batch @ other)
    yield case("addbmm", (base[0].copy(), batch, other), base[0] + (batch @ other).sum(0))
    yield case("mv", (a, v), a @ v)
    yield case("addmv", (c[:, 0].copy(), a, v), c[:, 0] + a @ v)
    yield case("dot", (v, v), np.asarray(v @ v))
    yield case("outer", (v, w), np.outer(v, w))
    yield case("addr", (b, v, w), b + np.outer(v, w))
    yield plain("nn.functional.linear", (a, b.T.copy(), w), a @ b + w)
    yield plain("einsum", ("bij,bjk->bik", batch, other), batch @ other)
    yield plain("einsum", ("bij,bjk->ki", batch, other), (batch @ other).sum(0).T)
    yield plain(
        "tensordot", (batch, other, ([0, 2], [0, 1])), np.tensordot(batch, other, ([0, 2], [0, 1]))
    )
    yield case("kron", (c, batch[0].copy()), np.kron(c, batch[0]))
    yield case("linalg.cross", (a[:, :3].copy(), a[:, 3:6].copy()), np.cross(a[:, :3], a[:, 3:6]))


def float32_matmul(_device: str) -> Iterator[Trial]:
    """A product keeps all 24 bits of float32: no TF32, no bfloat16."""
    near_one = (1 + 2.0**-12 * integers((16, 16), 1, 9, 121)).astype(F32)
    yield case("mm", (near_one, np.eye(16, dtype=F32)), near_one)
    yield case(
        "mm",
        (np.full((16, 16), 1024.5, F32), np.eye(16, dtype=F32)),
        np.full((16, 16), 1024.5, F32),
    )
    a, b = fractions((32, 48), 122).astype(F32), fractions((48, 24), 123).astype(F32)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    exact = wide_a @ wide_b
    allowed = dot_bound(wide_a, wide_b, 2.0**-24) + np.spacing(exact.astype(F32))
    yield case("matmul", (a, b), exact.astype(F32), allowed)
