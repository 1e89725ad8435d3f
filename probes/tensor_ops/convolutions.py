"""Convolutions of integers, compared with their definition."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from probes.kit.capabilities import floats
from probes.kit.case import Array, Case, in_dtype, plain
from probes.kit.convolutions import ROUNDED, allowed_error, half_error
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial


def convolution(device: str) -> Iterator[Trial]:
    """Convolutions of integers, exact where only the plain sum can be used."""
    # With stride 2 oneDNN uses no Winograd or FFT, which round; nor does cuDNN but for images.
    exact = allowed_error(device, torch.float32, 1, exact=True)
    for dtype in floats(device):
        of_image = allowed_error(device, dtype, 1, exact=True, tiled=True)
        largest = 1 if dtype == torch.bfloat16 else 3
        signal, image = (
            integers((2, 6, 23), -largest, largest, 112),
            integers((2, 6, 9, 11), -largest, largest, 113),
        )
        line, plane = (
            integers((4, 6, 3), -largest, largest, 114),
            integers((4, 6, 2, 2), -largest, largest, 115),
        )
        bias = integers((4,), -largest, largest, 116)
        deep, groups = (
            integers((2, 16, 5, 7), -largest, largest, 117),
            integers((16, 8, 2, 2), -largest, largest, 118),
        )
        f = "nn.functional"
        for each in (
            plain(f"{f}.conv1d", (signal, line, bias, 2), _conv(signal, line, bias, 2), exact),
            plain(
                f"{f}.conv2d",
                (image, plane, bias, 2, 1),
                _conv(np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1))), plane, bias, 2),
                of_image,
            ),
            plain(
                f"{f}.conv2d", (deep, groups, None, 2, 0, 1, 2), _grouped(deep, groups), of_image
            ),
            plain(
                f"{f}.conv_transpose2d",
                (image, plane.swapaxes(0, 1).copy(), bias, 2),
                _transposed(image, plane, bias),
                of_image,
            ),
        ):
            largest_sum = _largest_sum(each, largest)
            yield _with_half_tolerance(in_dtype(each, dtype), largest_sum)
    cube, block = integers((1, 3, 6, 7, 8), -4, 4, 117), integers((2, 3, 2, 2, 2), -4, 4, 118)
    zero_bias = np.zeros(2, F32)
    yield plain(
        "nn.functional.conv3d", (cube, block, zero_bias, 2), _conv(cube, block, zero_bias, 2), exact
    )
    # Stride 1: any algorithm may be used; its error is far below 1.
    image, plane = integers((2, 4, 12, 12), -4, 4, 119), integers((5, 4, 3, 3), -4, 4, 120)
    expected = _conv(image, plane, np.zeros(5, F32), 1)
    yield plain("nn.functional.conv2d", (image, plane), expected, ROUNDED)
    columns = np.stack([image[0, :, i : i + 10, j : j + 10] for i in range(3) for j in range(3)], 1)
    yield plain("nn.functional.unfold", (image[:1].copy(), 3), columns.reshape(1, 36, 100))


def _largest_sum(each: Case, largest: int) -> float:
    """The largest partial sum in any order of summation."""
    weight = each.operands[1]
    return float((weight[0].size + 1) * largest * largest)


def _with_half_tolerance(each: Case, largest: float) -> Case:
    """The case with the tolerance that its half type may need."""
    if each.allowed is None:
        return each
    return replace(each, allowed=half_error(each.dtype, largest, float(np.max(each.allowed))))


def _conv(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """The convolution by its definition in float64: (B, I, *S) with (O, I, *K) -> (B, O, *T)."""
    kernel = weight.shape[2:]
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), kernel, axes)
    index = (slice(None), slice(None), *(slice(None, None, stride) for _ in axes))
    windows = windows[index]
    inner = [1, *range(x.ndim, 2 * x.ndim - 2)]
    total: Array = np.tensordot(windows, weight.astype(np.float64), (inner, [1, *axes]))
    expected = np.moveaxis(total, -1, 1) + bias.reshape(-1, *(1 for _ in axes))
    return np.ascontiguousarray(expected, F32)


def _grouped(x: Array, weight: Array) -> Array:
    """The convolution in two groups: each half of the outputs uses one half of the inputs."""
    zero_bias = np.zeros(8, F32)
    halves = [_conv(x[:, g : g + 8], weight[g : g + 8], zero_bias, 2) for g in (0, 8)]
    return np.concatenate(halves, 1)


def _transposed(x: Array, weight: Array, bias: Array) -> Array:
    """The transposed convolution (B, I, H, W) with (O, I, 2, 2), stride 2: no windows overlap."""
    spread = np.einsum("bihw,oikl->bohkwl", x.astype(np.float64), weight)
    b, o, h, _, w, _ = spread.shape
    return np.asarray(spread.reshape(b, o, 2 * h, 2 * w) + bias.reshape(-1, 1, 1), F32)


def float32_convolution(_device: str) -> Iterator[Trial]:
    """A convolution keeps all 24 bits of float32."""
    near_one = (1 + 2.0**-12 * integers((1, 16, 6, 6), 1, 9, 124)).astype(F32)
    one = np.eye(16, dtype=F32).reshape(16, 16, 1, 1)
    # TF32 has an error of 2^-12 of each element or more; Winograd and FFT far less.
    yield plain("nn.functional.conv2d", (near_one, one), near_one, 2.0**-14)
