"""Convolutions of integers, held against their definition."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from probes.kit.capabilities import back_end, floats
from probes.tensor_ops.case import Array, Case, in_dtype, plain
from probes.tensor_ops.operands import F32, whole
from probes.tensor_ops.trial import Trial


def convolution(device: str) -> Iterator[Trial]:
    """Convolutions of integers: bits where no other algorithm than the sum itself may be used."""
    # A stride of 2 leaves Winograd and FFT out in cuDNN and oneDNN; both round. MIOpen has Winograd
    # for it, and what others do is not known: integers are 1 apart, so 0.25 still tells them apart.
    exact = None if back_end(device) in {"cpu", "cuda"} else 0.25
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
            most_summed = _largest_sum(each, most)
            yield _rounded_partially(in_dtype(each, dtype), most_summed)
    cube, block = whole((1, 3, 6, 7, 8), -4, 4, 117), whole((2, 3, 2, 2, 2), -4, 4, 118)
    none = np.zeros(2, F32)
    yield plain("nn.functional.conv3d", (cube, block, none, 2), _conv(cube, block, none, 2), exact)
    # Stride 1: any algorithm. Its error stays far below the distance of two integers.
    image, plane = whole((2, 4, 12, 12), -4, 4, 119), whole((5, 4, 3, 3), -4, 4, 120)
    right = _conv(image, plane, np.zeros(5, F32), 1)
    yield plain("nn.functional.conv2d", (image, plane), right, 0.25)
    columns = np.stack([image[0, :, i : i + 10, j : j + 10] for i in range(3) for j in range(3)], 1)
    yield plain("nn.functional.unfold", (image[:1].copy(), 3), columns.reshape(1, 36, 100))


def _largest_sum(each: Case, most: int) -> float:
    """The largest partial sum that any order of summation can meet."""
    weight = each.operands[1]
    return float((weight[0].size + 1) * most * most)


def _rounded_partially(each: Case, largest: float) -> Case:
    """Allow two steps of a half type where its transforms may round: MIOpen's F(2,3) by design.

    https://github.com/ROCm/rocm-libraries/issues/12334
    """
    digits = {torch.float16: 10, torch.bfloat16: 7}.get(each.dtype or torch.float32)
    if each.allowed is None or digits is None:
        return each
    step = 2.0 ** (math.floor(math.log2(largest)) - digits)
    return replace(each, allowed=max(float(np.max(each.allowed)), 2 * step))


def _conv(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """(B, I, *S) with (O, I, *K) by its definition -> (B, O, *T), computed in float64."""
    kernel = weight.shape[2:]
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), kernel, axes)
    index = (slice(None), slice(None), *(slice(None, None, stride) for _ in axes))
    windows = windows[index]
    inner = [1, *range(x.ndim, 2 * x.ndim - 2)]
    total: Array = np.tensordot(windows, weight.astype(np.float64), (inner, [1, *axes]))
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
    return np.asarray(spread.reshape(b, o, 2 * h, 2 * w) + bias.reshape(-1, 1, 1), F32)


def float32_convolution(_device: str) -> Iterator[Trial]:
    """A convolution keeps all 24 bits of float32."""
    near_one = (1 + 2.0**-12 * whole((1, 16, 6, 6), 1, 9, 124)).astype(F32)
    one = np.eye(16, dtype=F32).reshape(16, 16, 1, 1)
    # TF32 loses 2^-12 of each element and more; an algorithm that transforms, far less.
    yield plain("nn.functional.conv2d", (near_one, one), near_one, 2.0**-14)
