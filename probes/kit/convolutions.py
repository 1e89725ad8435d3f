"""Convolutions of integers by their definition, and the errors that fast algorithms may make.

Shapes: inputs (N, C, *S), weights (O, C/groups, *K), outputs (N, O, *T), in float64.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.kit.capabilities import back_end

Array = npt.NDArray[Any]

#: An error that still identifies an integer. Winograd's and FFT algorithms round; MIOpen may take
#: Winograd for any stride and filter (https://github.com/ROCm/rocm-libraries/issues/12334), in a
#: form with factors 1/6 and 1/24, which are not exact in binary.
ROUNDED: Final = 0.25

#: Types in which cuDNN's FFT over tiles takes images.
_TILED: Final = {torch.float16, torch.float32}

_IMAGE_AXES: Final = 2
_TILED_STRIDE: Final = 2  # the largest

#: Digits behind the first one.
_HALF_DIGITS: Final = {torch.float16: 10, torch.bfloat16: 7}


@dataclass(frozen=True)
class Convolution:
    """How a filter moves over its input; one number for each spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def windows(self, x: Array, kernel: tuple[int, ...]) -> Array:
        """Each output's part of the input, as a view: (N, C, *T, *K)."""
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True))
        axes = tuple(range(2, x.ndim))
        padded = self._padded(x)
        wide = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
        steps = (slice(None, None, step) for step in (*self.stride, *self.dilation))
        found: Array = wide[_all_channels(steps)]
        return found

    def forward(self, x: Array, w: Array) -> Array:
        """The output, without a bias."""
        columns, places = self._columns(x, w.shape[2:])
        found = columns @ self._rows(w).swapaxes(1, 2)  # (groups, N T, O/groups)
        outputs = found.reshape(self.groups, len(x), math.prod(places), len(w) // self.groups)
        outputs = outputs.transpose(1, 0, 3, 2)
        return np.asarray(outputs.reshape(len(x), len(w), *places))

    def weight_gradient(self, upstream: Array, x: Array, kernel: tuple[int, ...]) -> Array:
        """The gradient of the weight."""
        columns, _ = self._columns(x, kernel)
        found = self._of_outputs(upstream).swapaxes(1, 2) @ columns
        return np.asarray(found.reshape(upstream.shape[1], x.shape[1] // self.groups, *kernel))

    def input_gradient(self, upstream: Array, w: Array, shape: tuple[int, ...]) -> Array:
        """The gradient of an input of that shape: a transposed convolution of `upstream`."""
        pads, kernel, places = self.padding, w.shape[2:], upstream.shape[2:]
        wide = np.zeros((*shape[:2], *(n + 2 * p for n, p in zip(shape[2:], pads, strict=True))))
        columns = self._of_outputs(upstream) @ self._rows(w)  # (groups, N T, C/groups K)
        sizes = (shape[0], math.prod(places), w.shape[1], math.prod(kernel))
        parts = columns.reshape(self.groups, *sizes)
        parts = parts.transpose(4, 1, 0, 3, 2).reshape(math.prod(kernel), *shape[:2], *places)
        for part, window in zip(parts, self._taps(kernel, places), strict=True):
            wide[window] += part
        inside = (slice(p, n + p) for n, p in zip(shape[2:], pads, strict=True))
        found: Array = wide[_all_channels(inside)]
        return found

    def _columns(self, x: Array, kernel: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
        """Each output's part of the input, (groups, N T, C/groups K), and the shape of T."""
        windows = self.windows(x, kernel)
        places, taps = windows.shape[2 : x.ndim], math.prod(kernel)
        each = windows.reshape(
            len(x), self.groups, x.shape[1] // self.groups, math.prod(places), taps
        )
        columns = each.transpose(1, 0, 3, 2, 4)
        size = (self.groups, len(x) * math.prod(places), x.shape[1] // self.groups * taps)
        return columns.reshape(size), places

    def _rows(self, w: Array) -> Array:
        """The weight as (groups, O/groups, C/groups K)."""
        return w.reshape(self.groups, len(w) // self.groups, math.prod(w.shape[1:]))

    def _of_outputs(self, y: Array) -> Array:
        """Numbers of each output as (groups, N T, O/groups)."""
        count, outputs = len(y), y.shape[1] // self.groups
        size = math.prod(y.shape[2:])
        each = y.reshape(count, self.groups, outputs, size).transpose(1, 0, 3, 2)
        return np.asarray(each.reshape(self.groups, count * size, outputs))

    def _padded(self, x: Array) -> Array:
        return np.pad(x, ((0, 0), (0, 0), *((p, p) for p in self.padding)))

    def _taps(self, kernel: tuple[int, ...], outputs: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
        """For each place in the filter, the index of the padded inputs that it multiplies."""
        for at in itertools.product(*map(range, kernel)):
            spans = (
                slice(k * d, k * d + s * (n - 1) + 1, s)
                for k, d, s, n in zip(at, self.dilation, self.stride, outputs, strict=True)
            )
            yield _all_channels(spans)


def _all_channels(places: Iterable[Any]) -> tuple[Any, ...]:
    """The index of these places in each channel of each item."""
    return (slice(None), slice(None), *places)


def moving(axes: int, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1) -> Any:
    """A convolution that is alike along its spatial axes."""
    return Convolution((stride,) * axes, (padding,) * axes, (dilation,) * axes, groups)


def may_be_tiled(steps: Convolution, kernel: tuple[int, ...]) -> bool:
    """Whether cuDNN's FFT over tiles, which rounds, may take it although a stride is 2.

    It takes stride 1 or 2 where both sides of an image's filter are longer than 1, else stride 1
    (cudnnConvolutionForward, CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING); never a dilation.
    """
    return (
        len(kernel) == _IMAGE_AXES
        and min(kernel) > 1
        and max(steps.stride) <= _TILED_STRIDE
        and max(steps.dilation) == 1
    )


def allowed_error(
    device: str, dtype: torch.dtype, largest: float, *, exact: bool, tiled: bool = False
) -> float | None:
    """The error allowed to a convolution of integers; None: bits are equal.

    Args:
        device: where it ran.
        dtype: of its operands.
        largest: the largest partial sum in any order.
        exact: oneDNN can only use the plain sum: stride or dilation 2; so can cuDNN, unless
        tiled: `may_be_tiled`.
    """
    kind = back_end(device)
    if exact and (kind == "cpu" or (kind == "cuda" and not (tiled and dtype in _TILED))):
        return None
    return half_error(dtype, largest, ROUNDED)


def half_error(dtype: torch.dtype | None, largest: float, allowed: float) -> float:
    """An allowed error, or in a half type at least the two steps that MIOpen's F(2,3) may need."""
    digits = _HALF_DIGITS.get(dtype) if dtype is not None else None
    if digits is None:
        return allowed
    return max(allowed, 2 * 2.0 ** (math.floor(math.log2(largest)) - digits))
