"""grid_sample and affine_grid: values of an image at places between its pixels."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from probes.kit.gradients import tensor
from probes.kit.layer import SINGLES, Backward, Layer, function, linear, trials
from probes.kit.operands import fractions, integers, odd
from probes.kit.rounding import Array, Rounded, joined
from probes.kit.trial import Trial
from probes.layers.interpolation import cubic_weight

#: Units that a weight may be off by: places are computed in float32, and off by units of the size.
_WEIGHTS_OFF: Final = 256.0

_BATCH, _CHANNELS = 2, 3


class Sampling(NamedTuple):
    """One way of sampling."""

    sizes: tuple[int, ...]  # of the image
    mode: str
    padding: str
    align: bool


def sampling(device: str) -> Iterator[Trial]:
    """Each mode and padding in two dimensions, the linear and the nearest in three."""
    ways = [
        Sampling(sizes, mode, padding, align)
        for sizes, modes in (
            ((4, 8), ("bilinear", "nearest", "bicubic")),
            ((3, 4, 5), ("bilinear", "nearest")),
        )
        for mode in modes
        for padding in ("zeros", "border", "reflection")
        for align in (False, True)
    ]
    yield from trials([*map(_layer, ways), *_affine()], device)


def _layer(way: Sampling) -> Layer:
    image = odd((_BATCH, _CHANNELS, *way.sizes), 211)
    grid = _grid(way)
    options = {"mode": way.mode, "padding_mode": way.padding, "align_corners": way.align}
    variant = ", ".join(f"{name}={value}" for name, value in options.items())
    sizes = "x".join(map(str, way.sizes))
    if way.mode == "bilinear":
        call = function("grid_sample", **options)
        return Layer(
            "grid_sample",
            call,
            (image, grid),
            partial(_linear, way),
            f"{sizes}, {variant}",
            SINGLES,
        )

    def fixed(x: torch.Tensor) -> torch.Tensor:
        places = tensor(grid, str(x.device), x.dtype)
        return functional.grid_sample(x, places, **options)  # type: ignore[arg-type]

    reference = partial(_by_weights, way, grid)
    return Layer("grid_sample", fixed, (image,), reference, f"{sizes}, {variant}", SINGLES)


def _grid(way: Sampling) -> Array:
    """Places inside and around the image, none near a pixel, a border or a half: (N, *out, D)."""
    outputs = (3, 5) if len(way.sizes) == 2 else (2, 3, 2)
    shape = (_BATCH, *outputs, len(way.sizes))
    # Pixels -2 to size + 1, and a part of 0.1 to 0.4 or 0.6 to 0.9.
    highest = np.array(way.sizes[::-1]) + 3
    whole = np.floor(fractions(shape, 212) * highest) - 2
    part = 0.1 + 0.3 * fractions(shape, 213) + 0.5 * integers(shape, 0, 1, 214)
    place = whole + part
    size = np.array(way.sizes[::-1], np.float64)  # the last axis of the image first
    grid = 2 * place / (size - 1) - 1 if way.align else (2 * place + 1) / size - 1
    return np.asarray(np.round(grid * 2**12) / 2**12)


def _places(way: Sampling, grid: Array) -> tuple[Array, Array]:
    """Places in pixels, and their derivatives by the grid, before padding."""
    size = np.array(way.sizes[::-1], np.float64)
    if way.align:
        return (grid + 1) / 2 * (size - 1), np.broadcast_to((size - 1) / 2, grid.shape)
    return ((grid + 1) * size - 1) / 2, np.broadcast_to(size / 2, grid.shape)


def _padded(way: Sampling, places: Array, size: Array) -> tuple[Array, Array]:
    """Places that padding brings into the image, and the derivatives of that."""
    ones = np.ones_like(places)
    if way.padding == "border":
        inside = (places > 0) & (places < size - 1)
        return np.clip(places, 0, size - 1), ones * inside
    if way.padding == "reflection":
        low, span = (0.0, size - 1) if way.align else (-0.5, size * 1.0)
        distance = np.abs(places - low)
        turns = np.floor(distance / span)
        rest = distance - turns * span
        even = turns % 2 == 0
        reflected = np.where(even, rest + low, span - rest + low)
        slope = np.where(even, 1.0, -1.0) * np.where(places < low, -1.0, 1.0)
        inside = (reflected > 0) & (reflected < size - 1)
        return np.clip(reflected, 0, size - 1), slope * inside
    return places, ones


def _corner(way: Sampling, corner: Any) -> tuple[Any, Any]:
    """The flat index of a pixel, and whether it is in the image; the last axis of pixels first."""
    size = np.array(way.sizes[::-1])
    inside = ((corner >= 0) & (corner < size)).all(-1)
    strides = np.cumprod([1, *way.sizes[::-1]])[:-1]
    return (np.clip(corner, 0, size - 1) * strides).sum(-1), inside


def _weight_matrix(count: int, flat: Any, weights: Array) -> Array:
    """Weights of pixels for each output of one image, (pixels, outputs)."""
    matrix = np.zeros((count, flat.size))
    np.add.at(matrix, (flat.ravel(), np.arange(flat.size)), weights.ravel())
    return matrix


def _matrix(way: Sampling, grid: Array) -> Array:
    """The weights of all pixels for the places of one image's grid, (pixels, outputs)."""
    places, _ = _places(way, grid)
    size = np.array(way.sizes[::-1], np.float64)
    count = int(np.prod(way.sizes))
    total = np.zeros((count, int(np.prod(grid.shape[:-1]))))
    if way.mode == "bicubic":
        base = np.floor(places)
        for steps in product(range(-1, 3), repeat=2):
            corner = base + steps
            distance = np.abs(places - corner)
            weights = np.vectorize(cubic_weight)(distance).prod(-1)
            # Padding is of each neighbour.
            at, _ = _padded(way, corner, size)
            flat, inside = _corner(way, np.round(at).astype(int))
            total += _weight_matrix(count, flat, weights * inside)
        return total
    places, _ = _padded(way, places, size)
    if way.mode == "nearest":
        flat, inside = _corner(way, np.round(places).astype(int))
        return _weight_matrix(count, flat, 1.0 * inside)
    base = np.floor(places)
    for steps in product((0, 1), repeat=len(way.sizes)):
        corner = base + steps
        weights = (1 - np.abs(places - corner)).prod(-1)
        flat, inside = _corner(way, corner.astype(int))
        total += _weight_matrix(count, flat, weights * inside)
    return total


@lru_cache(1)
def _matrices(way: Sampling, shape: tuple[int, ...], raw: bytes) -> list[Array]:
    """The weights of each image, for the bytes of a grid of that shape."""
    return [_matrix(way, each) for each in np.frombuffer(raw).reshape(shape)]


def _by_weights(way: Sampling, grid: Array, x: Rounded) -> tuple[Rounded, Backward]:
    """The output by the weights of each image, and the image's gradient."""
    matrices = _matrices(way, grid.shape, grid.tobytes())
    outer = grid.shape[1:-1]

    def mixed(values: Rounded, weights: list[Array], shape: tuple[int, ...]) -> Rounded:
        parts = []
        for image, matrix in enumerate(weights):
            rows = values[image].moved(lambda array: array.reshape(_CHANNELS, -1))
            found = rows @ rows.exactly(matrix)
            off = _WEIGHTS_OFF * x.unit * np.abs(rows.value).sum(1, keepdims=True)
            parts.append(replace(found, error=found.error + off)[None])
        return joined(parts).moved(lambda array: array.reshape(_BATCH, _CHANNELS, *shape))

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        return (mixed(g, [matrix.T for matrix in matrices], way.sizes),)

    return mixed(x, matrices, outer), backward


def _linear(way: Sampling, x: Rounded, grid: Rounded) -> tuple[Rounded, Backward]:
    """The output by linear weights, and the gradients of image and grid."""
    out, to_image = _by_weights(way, grid.value, x)
    raw, by_grid = _places(way, grid.value)
    size = np.array(way.sizes[::-1], np.float64)
    places, by_raw = _padded(way, raw, size)
    base = np.floor(places)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        gradient = np.zeros_like(grid.value)
        sizes = np.zeros_like(grid.value)
        for steps in product((0, 1), repeat=len(way.sizes)):
            corner = base + steps
            flat, inside = _corner(way, corner.astype(int))
            weights = 1 - np.abs(places - corner)
            for image in range(_BATCH):
                pixels = x.value[image].reshape(_CHANNELS, -1)[:, flat[image]] * inside[image]
                along = g.value[image] * pixels
                for axis in range(len(way.sizes)):
                    others = np.delete(weights[image], axis, -1).prod(-1)
                    sign = 1.0 if steps[axis] else -1.0
                    gradient[image][..., axis] += sign * (along * others).sum(0)
                    sizes[image][..., axis] += np.abs(along).sum(0)
        off = _WEIGHTS_OFF * x.unit * sizes * by_grid
        moved = replace(x, value=gradient * by_raw * by_grid, error=off)
        return (*to_image(g), moved)

    return out, backward


def _affine() -> Iterator[Layer]:
    """Grids of affine maps of a plane and of a volume."""
    for sizes in ((4, 8), (2, 4, 8)):
        for align in (False, True):
            theta = odd((_BATCH, len(sizes), len(sizes) + 1), 215)
            shape = (_BATCH, _CHANNELS, *sizes)
            forward = partial(_affine_places, sizes, align=align)
            variant = f"{'x'.join(map(str, sizes))}, align_corners={align}"
            call = function("affine_grid", shape, align_corners=align)
            yield Layer(
                "affine_grid",
                call,
                (theta,),
                linear(forward, 2, weights_off=_WEIGHTS_OFF),
                variant,
                SINGLES,
            )


def _affine_places(sizes: tuple[int, ...], theta: Array, *, align: bool) -> Array:
    """(B, D, D + 1) as grids (B, *sizes, D)."""
    axes = []
    for size in sizes:
        if align:
            axes.append(np.linspace(-1, 1, size))
        else:
            axes.append((2 * np.arange(size) + 1) / size - 1)
    mesh = np.stack([*reversed(np.meshgrid(*axes, indexing="ij")), np.ones(sizes)], -1)
    return np.asarray(np.einsum("...k,bdk->b...d", mesh, theta))
