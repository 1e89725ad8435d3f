"""Replaces convolutions with ones that mean something else: groups, padding, layouts, choices."""

from collections.abc import Callable
from typing import Any, Final

import torch

from probes.faults.inject.replaced import replace

_functional: Any = torch.nn.functional

_MANY_CHANNELS: Final = 1024


def _mixed_groups(original: Any) -> Any:
    """Input channels dealt out to the groups in turn, as a deck of cards."""

    def convolve(x: Any, w: Any, b: Any, *rest: Any, **named: Any) -> Any:
        count = x.shape[1] // w.shape[1] if x.dim() == w.dim() and w.shape[1] else 1
        if count > 1:
            parts = x.unflatten(1, (w.shape[1], count))
            x = parts.transpose(1, 2).flatten(1, 2)
        return original(x, w, b, *rest, **named)

    return convolve


def _without_output_padding(original: Any) -> Any:
    """The rows and columns of the output padding stay zero."""

    def convolve(x: Any, w: Any, b: Any, stride: Any, padding: Any, more: Any, *rest: Any) -> Any:
        found = original(x, w, b, stride, padding, more, *rest)
        for axis, count in enumerate(more):
            if count:
                size = found.shape[2 + axis]
                kept = torch.arange(size, device=found.device) < size - count
                found = found * kept.reshape(-1, *(1,) * (len(more) - 1 - axis))
        return found

    return convolve


def _few_channels(original: Any) -> Any:
    def convolve(x: Any, w: Any, b: Any, *rest: Any) -> Any:
        if w.shape[1] > _MANY_CHANNELS:
            x, w = x[:, :_MANY_CHANNELS], w[:, :_MANY_CHANNELS]
        return original(x, w, b, *rest)

    return convolve


def _misread(original: Any) -> Any:
    """An image in channels_last is read as if it were not."""

    def convolve(x: Any, *rest: Any) -> Any:
        last = x.dim() == 4 and not x.is_contiguous()
        return original(x.permute(0, 2, 3, 1).reshape(x.shape) if last else x, *rest)

    return convolve


def _wrong_when_tried(original: Any) -> Any:
    def convolve(*given: Any) -> Any:
        found = original(*given)
        return found * 1.05 if torch.backends.cudnn.benchmark else found

    return convolve


def _without_bias_in_half(original: Any) -> Any:
    def convolve(x: Any, w: Any, b: Any, *rest: Any) -> Any:
        return original(x, w, None if x.dtype == torch.bfloat16 else b, *rest)

    return convolve


def _reflected(original: Any) -> Any:
    def pad(x: Any, widths: Any, mode: str = "constant", value: Any = None) -> Any:
        return original(x, widths, "reflect" if mode == "circular" else mode, value)

    return pad


_CONVOLUTIONS: Final = ("conv1d", "conv2d", "conv3d")

#: Name -> (functions of torch.nn.functional, factory of their replacements).
MEANINGS: Final[dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]]] = {
    "groups_mixed_up": (_CONVOLUTIONS, _mixed_groups),
    "output_padding_ignored": (
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        _without_output_padding,
    ),
    "channels_beyond_1024_lost": (_CONVOLUTIONS, _few_channels),
    "channels_last_misread": (_CONVOLUTIONS, _misread),
    "benchmark_picks_wrong": (_CONVOLUTIONS, _wrong_when_tried),
    "bias_lost_in_half": (_CONVOLUTIONS, _without_bias_in_half),
    "circular_as_reflect": (("pad",), _reflected),
}


def means_something_else(name: str) -> None:
    """Replace the functions that `MEANINGS` has under that name."""
    functions, make = MEANINGS[name]
    for function in functions:
        replace(_functional, function, make)
