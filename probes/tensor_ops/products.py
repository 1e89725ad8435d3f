"""Matrix products and convolutions of integers: exact in every type and order of summation.

Partial sums stay below 2^8 in bfloat16 and 2^11 in float16, so that a back-end which keeps them in
the short type (`allow_fp16_reduced_precision_reduction`, on by default) is exact too.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.references import compare, dot_bound
from probes.tensor_ops.operands import F32, fractions, whole
from probes.tensor_ops.seen import Precision
from probes.tensor_ops.trial import Array, Custom, Trial, case, floats, in_dtype, placed, plain

#: (M, K, N): the smallest, odd, prime, wide and long ones.
_SHAPES = ((2, 2, 2), (17, 16, 16), (31, 37, 41), (1, 61, 3), (64, 1, 5), (3, 40, 128))

#: Variables that shorten float32 products whatever torch says (cuBLAS, hipBLASLt).
_VARIABLES = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "HIPBLASLT_ALLOW_TF32")


def _largest(dtype: torch.dtype) -> int:
    return {torch.bfloat16: 2, torch.float16: 5}.get(dtype, 30)


def matmul_exact(device: str) -> Iterator[Trial]:
    """Products of matrices, batches and vectors in all layouts, bit for bit."""
    for dtype in floats(device):
        most = _largest(dtype)
        for m, k, n in _SHAPES:
            a, b = whole((m, k), -most, most, 100), whole((k, n), -most, most, 101)
            yield in_dtype(case("mm", (a, b), a @ b), dtype)
            yield Custom("mm", partial(_layouts, a, b, dtype))
        identity, two = np.eye(2, dtype=F32), whole((2, 2), -most, most, 102)
        yield in_dtype(case("mm", (identity, two), two), dtype)
        for each in _kinds(most):
            yield in_dtype(each, dtype)
    if torch.device(device).type == "cpu":  # CUDA has no integer product
        i, j = whole((31, 37), -99, 99, 103, np.int64), whole((37, 41), -99, 99, 104, np.int64)
        yield case("mm", (i << 20, j), (i << 20) @ j)
        yield case("matmul", (i, j), i @ j)
    # A batch beyond 65535 blocks of a launch.
    windows = np.lib.stride_tricks.sliding_window_view(whole((65540,), -9, 9, 105), 4)
    many = windows.reshape(65537, 2, 2)
    turn = np.broadcast_to(np.array([[0, 1], [-1, 2]], F32), many.shape)
    right = np.stack([0 - many[..., 1], many[..., 0] + 2 * many[..., 1]], -1)
    yield replace(plain("bmm", (many, turn), right), contiguous=True)


def _layouts(a: Array, b: Array, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Each operand stored by rows and by columns: four kernels."""
    x, y = placed(a, device, dtype), placed(b, device, dtype)
    turned_x, turned_y = (
        placed(a.T.copy(), device, dtype).t(),
        placed(b.T.copy(), device, dtype).t(),
    )
    half = np.float16 if dtype == torch.float16 else np.float64 if dtype == torch.float64 else F32
    right = (a @ b).astype(half)
    for left, at in ((turned_x, "T"), (x, "N")):
        for other, bt in ((y, "N"), (turned_y, "T")):
            yield compare(f"mm ({dtype}, {at}{bt}, {a.shape} @ {b.shape})", left @ other, right)


def _kinds(most: int) -> Iterator[Any]:
    a, b, c = (whole(shape, -most, most, 106) for shape in ((5, 17), (17, 19), (5, 19)))
    batch, other = whole((3, 7, 13), -most, most, 107), whole((3, 13, 11), -most, most, 108)
    base = whole((3, 7, 11), -most, most, 109)
    v, w = whole((17,), -most, most, 110), whole((19,), -most, most, 111)
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


def convolution(device: str) -> Iterator[Trial]:
    """Convolutions of integers: bits where no other algorithm than the sum itself may be used."""
    # A stride of 2 leaves Winograd and FFT out in cuDNN; both round. MIOpen has Winograd for it.
    exact = None if torch.version.hip is None else 0.25
    for dtype in floats(device):
        most = 1 if dtype == torch.bfloat16 else 3
        signal, image = whole((2, 6, 23), -most, most, 112), whole((2, 6, 9, 11), -most, most, 113)
        line, plane = whole((4, 6, 3), -most, most, 114), whole((4, 6, 2, 2), -most, most, 115)
        bias = whole((4,), -most, most, 116)
        deep, groups = (
            whole((2, 16, 5, 7), -most, most, 117),
            whole((16, 8, 2, 2), -most, most, 118),
        )
        f = "nn.functional"
        for each in (
            plain(f"{f}.conv1d", (signal, line, bias, 2), _conv(signal, line, bias, 2), exact),
            plain(
                f"{f}.conv2d",
                (image, plane, bias, 2, 1),
                _conv(np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1))), plane, bias, 2),
                exact,
            ),
            plain(f"{f}.conv2d", (deep, groups, None, 2, 0, 1, 2), _grouped(deep, groups), exact),
            plain(
                f"{f}.conv_transpose2d",
                (image, plane.swapaxes(0, 1).copy(), bias, 2),
                _transposed(image, plane, bias),
                exact,
            ),
        ):
            yield in_dtype(each, dtype)
    cube, block = whole((1, 3, 6, 7, 8), -4, 4, 117), whole((2, 3, 2, 2, 2), -4, 4, 118)
    none = np.zeros(2, F32)
    yield plain("nn.functional.conv3d", (cube, block, none, 2), _conv(cube, block, none, 2), exact)
    # Stride 1: any algorithm. Its error stays far below the distance of two integers.
    image, plane = whole((2, 4, 12, 12), -4, 4, 119), whole((5, 4, 3, 3), -4, 4, 120)
    right = _conv(image, plane, np.zeros(5, F32), 1)
    yield plain("nn.functional.conv2d", (image, plane), right, 0.25)
    columns = np.stack([image[0, :, i : i + 10, j : j + 10] for i in range(3) for j in range(3)], 1)
    yield plain("nn.functional.unfold", (image[:1].copy(), 3), columns.reshape(1, 36, 100))


def _conv(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """(B, I, *S) with (O, I, *K) by its definition -> (B, O, *T), computed in float64."""
    kernel = weight.shape[2:]
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), kernel, axes)
    every = tuple(slice(None, None, stride) for _ in axes)
    windows = windows[(slice(None), slice(None), *every)]
    inner = [1, *range(x.ndim, 2 * x.ndim - 2)]
    total = np.tensordot(windows, weight.astype(np.float64), (inner, [1, *axes]))
    right = np.moveaxis(total, -1, 1) + bias.reshape(-1, *(1 for _ in axes))
    return np.ascontiguousarray(right, F32)


def _grouped(x: Array, weight: Array) -> Array:
    """Two groups: the first half of the outputs sees the first half of the inputs only."""
    none = np.zeros(8, F32)
    halves = [_conv(x[:, g : g + 8], weight[g : g + 8], none, 2) for g in (0, 8)]
    return np.concatenate(halves, 1)


def _transposed(x: Array, weight: Array, bias: Array) -> Array:
    """(B, I, H, W) with (O, I, 2, 2) at stride 2: the windows do not overlap."""
    spread = np.einsum("bihw,oikl->bohkwl", x.astype(np.float64), weight)
    b, o, h, _, w, _ = spread.shape
    return (spread.reshape(b, o, 2 * h, 2 * w) + bias.reshape(-1, 1, 1)).astype(F32)


def float32_matmul(_device: str) -> Iterator[Trial]:
    """A product keeps all 24 bits of float32: no TF32, no bfloat16."""
    near_one = (1 + 2.0**-12 * whole((16, 16), 1, 9, 121)).astype(F32)
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


def float32_convolution(_device: str) -> Iterator[Trial]:
    """A convolution keeps all 24 bits of float32."""
    near_one = (1 + 2.0**-12 * whole((1, 16, 6, 6), 1, 9, 124)).astype(F32)
    one = np.eye(16, dtype=F32).reshape(16, 16, 1, 1)
    # TF32 loses 2^-12 of each element and more; an algorithm that transforms, far less.
    yield plain("nn.functional.conv2d", (near_one, one), near_one, 2.0**-14)


def precision(device: str) -> Precision:
    """What torch and the environment allow float32 products to become."""
    variables = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    try:
        matmul = torch.get_float32_matmul_precision()
    except RuntimeError as error:  # mixed use of torch's old and new switches
        matmul = str(error).splitlines()[0]
    kind = torch.device(device).type
    return Precision(
        matmul=matmul,
        matmul_may_shorten=matmul in {"high", "medium"},
        convolution_may_shorten=_convolution_may_shorten(kind, matmul),
        variables=variables,
    )


def _convolution_may_shorten(kind: str, matmul: str) -> bool:
    """Whether TF32 is allowed in convolutions: torch's default on CUDA, unknown on the others."""
    if kind == "cpu":
        return matmul != "highest"
    if kind != "cuda":
        return True
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:  # mixed use of the switches again
        return True
