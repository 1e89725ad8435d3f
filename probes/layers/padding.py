"""Padding, shuffling of pixels, and windows as columns: layers that only move elements."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import tensor
from probes.kit.layer import Layer, function, linear, trials
from probes.kit.operands import integers, odd
from probes.kit.references import compare
from probes.kit.rounding import Array
from probes.kit.trial import Custom, Trial
from probes.layers.windows import windows

_LEAD: Final = (2, 3)

#: torch's mode -> NumPy's.
_MODES: Final = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}

#: Shape, and the padding as torch takes it: the last axis first, before and after.
_PADS: Final = (
    ((11,), (3, 2)),
    ((6, 5), (2, 1, 3, 4)),
    ((4, 3, 5), (2, 0, 1, 2, 3, 1)),
)
_WHOLE: Final = (torch.int64, torch.int32, torch.uint8, torch.bool)

#: Negative padding crops.
_CROPS: Final = (((11,), (-2, 3)), ((6, 5), (1, -1, -2, 2)), ((4, 3, 5), (0, -3, 2, 0, -1, 1)))


def padding(device: str) -> Iterator[Trial]:
    """Constant, reflected, replicated and circular padding in one to three dimensions."""
    layers = []
    for shape, pads in _PADS:
        for mode, by_numpy in _MODES.items():
            layers.append(_padded(mode, shape, pads, partial(_pad, pads, mode=by_numpy)))
    for shape, pads in (*_PADS, *_CROPS):
        for value in (0.0, 1.5):
            forward = partial(_constant, pads, value)
            layers.append(_padded("constant", shape, pads, forward, value=value))
    yield from trials(layers, device)
    for dtype in _WHOLE:
        yield Custom("pad constant", partial(_whole, dtype))


def _whole(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Tokens, images and masks, padded and cropped."""
    values = integers((3, 7), 0, 1 if dtype == torch.bool else 100, 206, np.int64)
    x = torch.from_numpy(values.copy()).to(device, dtype)
    for pads in ((2, 3), (-1, 2, 1, 0)):
        found = functional.pad(x, pads, value=1)
        widths = [(0, 0)] * (2 - len(pads) // 2) + _by_axis(pads)
        wide = np.pad(values, [(max(a, 0), max(b, 0)) for a, b in widths], constant_values=1)
        right = wide[:, 1:] if pads[0] < 0 else wide
        label = f"pad constant ({str(dtype).removeprefix('torch.')} by {pads})"
        yield compare(label, found, torch.from_numpy(right.copy()).to(dtype).numpy())


def moves(device: str) -> Iterator[Trial]:
    """PixelShuffle and its inverse, channel_shuffle, unfold and fold."""
    layers = [
        Layer(
            "pixel_shuffle",
            function("pixel_shuffle", 2),
            (odd((2, 12, 3, 5), 202),),
            linear(_shuffled, 3),
            channels_last=True,
        ),
        Layer(
            "pixel_unshuffle",
            function("pixel_unshuffle", 3),
            (odd((2, 2, 6, 9), 203),),
            linear(_unshuffled, 3),
            channels_last=True,
        ),
    ]
    for kernel, options in (
        ((3, 2), {}),
        ((2, 3), {"dilation": (2, 1), "padding": (1, 2), "stride": (2, 1)}),
    ):
        shape = (2, 6, 5)
        forward = partial(_columns, kernel, options)
        variant = f"kernel {kernel}" + "".join(f", {k} {v}" for k, v in options.items())
        layers.append(
            Layer(
                "unfold",
                function("unfold", kernel, **options),
                (odd((2, *shape), 204),),
                linear(forward, 3),
                variant,
            )
        )
        columns = forward(np.zeros((1, *shape))).shape[1:]
        matrix = forward(np.eye(int(np.prod(shape))).reshape(-1, *shape)).reshape(
            int(np.prod(shape)), -1
        )
        back = partial(_summed, matrix, shape)
        layers.append(
            Layer(
                "fold",
                function("fold", shape[1:], kernel, **options),
                (odd((2, *columns), 205),),
                linear(back, 2),
                variant,
            )
        )
    yield from trials(layers, device)
    yield Custom("channel_shuffle", _shuffled_channels, torch.float32)


def _shuffled_channels(device: str) -> Iterator[Comparison]:
    """Forward alone: before torch 2.3 it has no gradient."""
    values = odd((2, 6, 3, 5), 207)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = tensor(values, device).contiguous(memory_format=memory_format)
        with torch.no_grad():
            found = functional.channel_shuffle(x, 3)
        label = f"channel_shuffle ({str(memory_format).removeprefix('torch.')})"
        yield compare(label, found, _by_groups(values).astype(np.float32))


def _padded(
    mode: str,
    shape: tuple[int, ...],
    pads: tuple[int, ...],
    forward: Callable[[Array], Array],
    **options: Any,
) -> Layer:
    variant = f"{len(shape)}d by {pads}" + "".join(f", {k}={v}" for k, v in options.items())
    call = function("pad", pads, mode=mode, **options)
    x = odd((*_LEAD, *shape), 201)
    reference = linear(forward, len(shape))
    return Layer(f"pad {mode}", call, (x,), reference, variant, channels_last=len(shape) > 1)


def _by_axis(pads: tuple[int, ...]) -> list[tuple[int, int]]:
    """The pads of each axis, the first axis first."""
    return list(zip(pads[::2], pads[1::2], strict=True))[::-1]


def _pad(pads: tuple[int, ...], values: Array, *, mode: Any) -> Array:
    return np.pad(values, [(0, 0), *_by_axis(pads)], mode=mode)


def _constant(pads: tuple[int, ...], value: float, values: Array) -> Array:
    widths = [(max(before, 0), max(after, 0)) for before, after in _by_axis(pads)]
    wide = np.pad(values, [(0, 0), *widths], constant_values=value)
    kept: Any = [
        slice(max(-before, 0), size - max(-after, 0))
        for (before, after), size in zip(_by_axis(pads), wide.shape[1:], strict=True)
    ]
    inside = (..., *kept)
    return np.asarray(wide[inside])


def _shuffled(values: Array) -> Array:
    """(B, 4 C, H, W) as (B, C, 2 H, 2 W)."""
    count, channels, height, width = values.shape
    blocks = values.reshape(count, channels // 4, 2, 2, height, width)
    moved = blocks.transpose(0, 1, 4, 2, 5, 3)
    return np.asarray(moved.reshape(count, channels // 4, 2 * height, 2 * width))


def _unshuffled(values: Array) -> Array:
    """(B, C, 3 H, 3 W) as (B, 9 C, H, W)."""
    count, channels, height, width = values.shape
    blocks = values.reshape(count, channels, height // 3, 3, width // 3, 3)
    moved = blocks.transpose(0, 1, 3, 5, 2, 4)
    return np.asarray(moved.reshape(count, 9 * channels, height // 3, width // 3))


def _by_groups(values: Array) -> Array:
    """The channels of three groups, one of each group in turn."""
    count, channels, *sizes = values.shape
    groups = values.reshape(count, 3, channels // 3, *sizes)
    return np.asarray(groups.swapaxes(1, 2).reshape(values.shape))


def _columns(kernel: tuple[int, int], options: dict[str, Any], values: Array) -> Array:
    """(B, C, H, W) as (B, C kernel, outputs)."""
    found = windows(
        values,
        kernel,
        options.get("stride", (1, 1)),
        options.get("padding"),
        options.get("dilation"),
    )  # (B, C, OH, OW, KH, KW)
    count, channels, high, wide = found.shape[:4]
    moved = found.transpose(0, 1, 4, 5, 2, 3)
    return np.asarray(moved.reshape(count, channels * kernel[0] * kernel[1], high * wide))


def _summed(matrix: Array, shape: tuple[int, ...], columns: Array) -> Array:
    """The sum of columns at their places: the transpose of `_columns`."""
    return np.asarray((columns.reshape(columns.shape[0], -1) @ matrix.T).reshape(-1, *shape))
