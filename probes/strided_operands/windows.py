"""Convolution, pooling and interpolation of images of every layout; weights laid out as well."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.kit.convolutions import allowed_error, moving
from probes.kit.trial import Trial
from probes.strided_operands.memory import Operand
from probes.strided_operands.operations import SINGLE, Operation, read

_F: Final = "nn.functional"
_LINE: Final = Operand((2, 4, 32), -2, 2)
_IMAGE: Final = Operand((2, 4, 8, 12), -2, 2)
_VOLUME: Final = Operand((2, 4, 4, 6, 8), -2, 2)
_HALVES: Final = (torch.float32, torch.float16, torch.bfloat16)


def _on(
    name: str, operands: tuple[Operand, ...], answer: Callable[..., Any], *after: Any, **fields: Any
) -> Operation:
    return Operation(
        f"{_F}.{name}", operands, answer, after, **{"dtypes": SINGLE, "out": False, **fields}
    )


def _bias(b: Any, axes: int) -> Any:
    return b.reshape(-1, *(1 for _ in range(axes)))


def _convolutions() -> Iterator[Operation]:
    """With stride 2, for which oneDNN computes the plain sum, and cuDNN but for images."""
    bias = Operand((6,), -2, 2)
    for axes, x, size in ((1, _LINE, 3), (2, _IMAGE, 2), (3, _VOLUME, 2)):
        steps = moving(axes, 2, 1)

        def forward(x: Any, w: Any, b: Any, axes: int = axes, steps: Any = steps) -> Any:
            return steps.forward(x, w) + _bias(b, axes)

        weight = Operand((6, 4, *(size,) * axes), -1, 1)
        dtypes = _HALVES if axes == 2 else SINGLE
        yield _on(f"conv{axes}d", (x, weight, bias), forward, 2, 1, dtypes=dtypes)
    grouped = moving(2, 2, groups=2)
    yield _on(
        "conv2d",
        (_IMAGE, Operand((6, 2, 2, 2), -1, 1), bias),
        lambda x, w, b: grouped.forward(x, w) + _bias(b, 2),
        *(2, 0, 1, 2),
    )
    back = moving(2, 2)
    yield _on(
        "conv_transpose2d",
        (_IMAGE, Operand((4, 6, 2, 2), -1, 1), bias),
        lambda x, w, b: back.input_gradient(x, w, (2, 6, 16, 24)) + _bias(b, 2),
        2,
    )


def _blocks(x: Any) -> Any:
    """Blocks of 2 elements along each spatial axis, on new last axes."""
    axes = x.ndim - 2
    split = x.reshape(*x.shape[:2], *(n for size in x.shape[2:] for n in (size // 2, 2)))
    inner = range(3, 3 + 2 * axes, 2)
    return np.moveaxis(split, list(inner), list(range(-axes, 0))).reshape(
        *x.shape[:2], *(size // 2 for size in x.shape[2:]), -1
    )


def _pools() -> Iterator[Operation]:
    for axes, x in ((1, _LINE), (2, _IMAGE), (3, _VOLUME)):
        image = replace(x, low=-60, high=60)
        dtypes = _HALVES if axes == 2 else SINGLE
        small = x if axes == 2 else image  # means of 4 small integers are exact in each type
        yield _on(f"max_pool{axes}d", (image,), lambda x: _blocks(x).max(-1), 2, dtypes=dtypes)
        yield _on(f"avg_pool{axes}d", (small,), lambda x: _blocks(x).mean(-1), 2, dtypes=dtypes)
    yield _on("adaptive_avg_pool2d", (_IMAGE,), lambda x: _blocks(x).mean(-1), (4, 6))
    yield _on("adaptive_max_pool2d", (_IMAGE,), lambda x: _blocks(x).max(-1), (4, 6))
    image = replace(_IMAGE, low=-60, high=60)
    yield _on(
        "interpolate",
        (image,),
        lambda x: x.repeat(2, 2).repeat(2, 3),
        dtypes=_HALVES,
        options={"scale_factor": 2},
    )
    yield _on(
        "pad",
        (image,),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (2, 1)), mode="reflect"),
        (2, 1, 1, 2),
        "reflect",
    )
    yield _on("unfold", (_IMAGE,), _columns, 3)
    yield _on(
        "pixel_shuffle",
        (image,),
        lambda x: x.reshape(2, 1, 2, 2, 8, 12).transpose(0, 1, 4, 2, 5, 3).reshape(2, 1, 16, 24),
        2,
    )


def _columns(x: Any) -> Any:
    patches = [x[:, :, i : i + 6, j : j + 10] for i in range(3) for j in range(3)]
    return np.stack(patches, 2).reshape(2, 36, 60)


CONVOLUTIONS: Final = tuple(_convolutions())
POOLS: Final = tuple(_pools())

#: The largest sum of 33 products up to 2, and a bias.
_LARGEST: Final = 66.0


def _allowed(device: str, dtype: torch.dtype, image: Any, *_: Any) -> float:
    """Zeros may have either sign."""
    tiled = image.ndim == len(_IMAGE.shape)
    return allowed_error(device, dtype, _LARGEST, exact=True, tiled=tiled) or 0.0


def windows(device: str) -> Iterator[Trial]:
    """Convolutions in one to three dimensions, pooling, padding and interpolation."""
    rounding = [
        replace(each, dtypes=dtypes, allowed=partial(_allowed, device, dtypes[-1]))
        for each in CONVOLUTIONS
        for dtypes in (each.dtypes[:2], each.dtypes[2:])
        if dtypes
    ]
    return read((*rounding, *POOLS), device)
