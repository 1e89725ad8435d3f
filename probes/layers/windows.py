"""Windows that slide over the last axes of an array, as pooling and unfolding take them."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from probes.kit.rounding import Array


def windows(
    values: npt.NDArray[Any],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    fill: float = 0.0,
    beyond: Sequence[int] | None = None,
) -> npt.NDArray[Any]:
    """The windows of an array (B, *S) as (B, *outputs, *kernel), with `fill` in the padding.

    `beyond`: elements behind the padding at the end of each axis, which have `fill` too.
    """
    axes = len(kernel)
    pads = padding or [0] * axes
    steps = dilation or [1] * axes
    lead = values.ndim - axes
    ends = [pad + more for pad, more in zip(pads, beyond or [0] * axes, strict=True)]
    around = [(0, 0)] * lead + list(zip(pads, ends, strict=True))
    wide = np.pad(values, around, constant_values=fill)
    spans = [step * (size - 1) + 1 for size, step in zip(kernel, steps, strict=True)]
    found = np.lib.stride_tricks.sliding_window_view(wide, spans, tuple(range(lead, values.ndim)))
    starts = [slice(None, None, each) for each in stride]
    inside = [slice(None, None, each) for each in steps]
    index: Any = (*[slice(None)] * lead, *starts, *inside)
    return np.asarray(found[index])


def kernel_axes(count: int) -> tuple[int, ...]:
    """The axes of `windows` that are a kernel's."""
    return tuple(range(-count, 0))


def adaptive(length: int, outputs: int) -> list[slice]:
    """The window of each output of an adaptive pooling along one axis."""
    return [
        slice(at * length // outputs, -(-(at + 1) * length // outputs)) for at in range(outputs)
    ]


def adaptive_windows(values: npt.NDArray[Any], outputs: Sequence[int]) -> list[npt.NDArray[Any]]:
    """The windows of an adaptive pooling of the last axes, output by output."""
    axes = len(outputs)
    lengths = values.shape[-axes:]
    along = [adaptive(length, count) for length, count in zip(lengths, outputs, strict=True)]
    places: list[Any] = [(..., *slices) for slices in product(*along)]
    return [values[place] for place in places]


def means(parts: list[Array], outputs: Sequence[int]) -> Array:
    """The mean of each window, in the shape of the outputs."""
    axes = kernel_axes(len(outputs))
    stacked = np.stack([part.mean(axes) for part in parts], -1)
    return stacked.reshape(*stacked.shape[:-1], *outputs)
