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
#: Winograd for any stride and filter (https://github.com/ROCm/rocm-libraries/issues/12334).
ROUNDED: Final = 0.25

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
        axes = tuple(range(2, x.ndim))
        outputs = [
            np.tensordot(self.windows(part, w.shape[2:]), taps, ((1, *_last(x)), (1, *axes)))
            for part, taps in zip(self._groups(x), self._groups(w, 0), strict=True)
        ]
        return np.ascontiguousarray(np.moveaxis(np.concatenate(outputs, -1), -1, 1))

    def weight_gradient(self, upstream: Array, x: Array, kernel: tuple[int, ...]) -> Array:
        """The gradient of the weight."""
        over = (0, *range(2, x.ndim))
        parts = zip(self._groups(upstream), self._groups(x), strict=True)
        return np.concatenate(
            [np.tensordot(up, self.windows(part, kernel), (over, over)) for up, part in parts]
        )

    def input_gradient(self, upstream: Array, w: Array, shape: tuple[int, ...]) -> Array:
        """The gradient of an input of that shape: a transposed convolution of `upstream`."""
        pads = self.padding
        wide = np.zeros((*shape[:2], *(n + 2 * p for n, p in zip(shape[2:], pads, strict=True))))
        into = self._groups(wide)  # views, through which `wide` is filled
        for part, up, taps in zip(into, self._groups(upstream), self._groups(w, 0), strict=True):
            for at, window in self._taps(w.shape[2:], upstream.shape[2:]):
                tap: Array = taps[_all_channels(at)]  # (O/groups, C/groups)
                part[window] += np.einsum("no...,oc->nc...", up, tap, optimize=True)
        inside = (slice(p, n + p) for n, p in zip(shape[2:], pads, strict=True))
        found: Array = wide[_all_channels(inside)]
        return found

    def _padded(self, x: Array) -> Array:
        return np.pad(x, ((0, 0), (0, 0), *((p, p) for p in self.padding)))

    def _groups(self, x: Array, axis: int = 1) -> list[Array]:
        return np.split(x, self.groups, axis)

    def _taps(
        self, kernel: tuple[int, ...], outputs: tuple[int, ...]
    ) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
        """Each place in the filter, and the slices of the padded input that it multiplies."""
        for at in itertools.product(*map(range, kernel)):
            spans = (
                slice(k * d, k * d + s * (n - 1) + 1, s)
                for k, d, s, n in zip(at, self.dilation, self.stride, outputs, strict=True)
            )
            yield at, _all_channels(spans)


def _all_channels(places: Iterable[Any]) -> tuple[Any, ...]:
    """The index of these places in each channel of each item."""
    return (slice(None), slice(None), *places)


def _last(x: Array) -> tuple[int, ...]:
    """The axes of windows that are places in the filter."""
    return tuple(range(x.ndim, 2 * x.ndim - 2))


def moving(axes: int, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1) -> Any:
    """A convolution that is alike along its spatial axes."""
    return Convolution((stride,) * axes, (padding,) * axes, (dilation,) * axes, groups)


def allowed_error(device: str, dtype: torch.dtype, largest: float, *, exact: bool) -> float | None:
    """The error allowed to a convolution of integers; None: bits are equal.

    Args:
        device: where it ran.
        dtype: of its operands.
        largest: the largest partial sum in any order.
        exact: cuDNN and oneDNN can only use the plain sum: stride or dilation 2.
    """
    if exact and back_end(device) in {"cpu", "cuda"}:
        return None
    return half_error(dtype, largest, ROUNDED)


def half_error(dtype: torch.dtype | None, largest: float, allowed: float) -> float:
    """An allowed error, or in a half type at least the two steps that MIOpen's F(2,3) may need."""
    digits = _HALF_DIGITS.get(dtype) if dtype is not None else None
    if digits is None:
        return allowed
    return max(allowed, 2 * 2.0 ** (math.floor(math.log2(largest)) - digits))
