"""Convolutions, pooling and interpolation of more images than a launch has blocks; gradients."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.kit.case import Array, on_device
from probes.kit.gradients import integers as odd
from probes.kit.trial import Trial
from probes.large_tensors.many_rows import distinct
from probes.large_tensors.tiled import KINDS, Call, Tiled, Total, backward

_F: Final = torch.nn.functional
_IMAGES: Final = 65_541
#: On a CPU, which has no blocks: more than 2^20 elements of inputs of 24, and of results of 96.
_ON_CPU: Final = 43_701
_STRETCHED_ON_CPU: Final = 11_003
_HEIGHT, _WIDTH = 4, 6
_STRETCHED: Final = (1, 2 * _HEIGHT, 2 * _WIDTH)

#: A kernel of 2 x 2 with stride 2, which rules out algorithms that round.
_KERNEL: Final = odd((2, 1, 2, 2), 391)


def _blocks(a: Array) -> Array:
    """The elements of each block of 2 x 2 as the last two axes: (n, c, h / 2, w / 2, 2, 2)."""
    n, c, h, w = a.shape
    return np.asarray(a.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5))


def _whole(blocks: Array) -> Array:
    """The inverse of `_blocks`."""
    n, c, h, w = blocks.shape[:4]
    return np.asarray(blocks.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w))


def _max_pool(a: Array, g: Array) -> tuple[Array, Array]:
    blocks = _blocks(a)
    highest = blocks.max((4, 5), keepdims=True)
    return highest[..., 0, 0], _whole((blocks == highest) * g[..., None, None])


def _avg_pool(a: Array, g: Array) -> tuple[Array, Array]:
    blocks = _blocks(a)
    return blocks.mean((4, 5)), _whole(np.broadcast_to(g[..., None, None] / 4, blocks.shape))


def _nearest(a: Array, g: Array) -> tuple[Array, Array]:
    return a.repeat(2, 2).repeat(2, 3), _blocks(g).sum((4, 5))


def _stretched(size: int) -> Array:
    """The matrix that stretches an axis to twice its length, linearly between centres."""
    centres = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
    return np.asarray(np.clip(1 - np.abs(centres[:, None] - np.arange(size)), 0, 1))


def _bilinear(a: Array, g: Array) -> tuple[Array, Array]:
    down, across = _stretched(_HEIGHT), _stretched(_WIDTH)
    return down @ a @ across.T, down.T @ g @ across


def _interpolated(mode: str) -> Call:
    corners = None if mode == "nearest" else False
    return lambda x: _F.interpolate(x, scale_factor=2, mode=mode, align_corners=corners)


#: Operation -> call, its result and gradient in NumPy, and the shape of a result.
_IMAGE_OPERATIONS: Final[dict[str, tuple[Call, Call, tuple[int, ...]]]] = {
    "nn.functional.max_pool2d": (lambda x: _F.max_pool2d(x, 2), _max_pool, (1, 2, 3)),
    "nn.functional.avg_pool2d": (lambda x: _F.avg_pool2d(x, 2), _avg_pool, (1, 2, 3)),
    "nn.functional.adaptive_avg_pool2d": (
        lambda x: _F.adaptive_avg_pool2d(x, (2, 3)),
        _avg_pool,
        (1, 2, 3),
    ),
    "nn.functional.interpolate": (_interpolated("nearest"), _nearest, _STRETCHED),
    "nn.functional.interpolate (bilinear)": (_interpolated("bilinear"), _bilinear, _STRETCHED),
}


def images(device: str) -> Iterator[Trial]:
    """Exact: integers, and weights that are powers of two."""
    on_cpu = torch.device(device).type == "cpu"
    count = _ON_CPU if on_cpu else _IMAGES
    x = distinct((KINDS, 1, _HEIGHT, _WIDTH), 173)
    for name, (call, right, shape) in _IMAGE_OPERATIONS.items():
        few = (x, odd((KINDS, *shape), 393))
        stretched = shape == _STRETCHED and on_cpu
        yield Tiled(name, backward(call), right, few, _STRETCHED_ON_CPU if stretched else count)
    few = (odd(x.shape, 394), odd((KINDS, 2, 2, 3), 395))
    yield Tiled("nn.functional.conv2d", _convolved, _convolution, few, count)


def _convolved(x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weight = on_device(_KERNEL.astype(np.float32), str(x.device)).requires_grad_()
    run = backward(lambda x: _F.conv2d(x, weight, stride=2))
    return _integers(*run(x, g), weight.grad)


def _convolution(a: Array, g: Array) -> tuple[Any, ...]:
    blocks, kernel = _blocks(a)[:, 0], _KERNEL[:, 0]
    out = np.einsum("nhwij,oij->nohw", blocks, kernel)
    gradient = np.einsum("nohw,oij->nhwij", g, kernel)[:, None]
    return out, _whole(gradient), Total(np.einsum("nohw,nhwij->noij", g, blocks)[:, :, None])


def _integers(*found: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """What MIOpen may do here is not known; an error below 0.25 still identifies the integer."""
    return tuple(each.detach().round() for each in found if each is not None)
