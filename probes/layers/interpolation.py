"""Interpolation by its weights along each axis: nearest, linear, cubic, area, antialiased."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np

from probes.kit.layer import FLOATS, SINGLES, Layer, Reference, function, linear, trials
from probes.kit.operands import odd
from probes.kit.rounding import Array
from probes.kit.trial import Trial
from probes.layers.windows import adaptive_windows, means

_LEAD: Final = (2, 2)

#: Coefficients of cubic convolution: torch's own, and Pillow's with antialias.
_CUBIC: Final = -0.75
_PILLOW_CUBIC: Final = -0.5

#: Units that a weight may be off by: torch computes an element's place in float32, which is off by
#: some units of the length, and the weights of two axes are multiplied.
_WEIGHTS_OFF: Final = 128.0

#: Sizes whose weights are multiples of a power of 2, without and with align_corners, where the
#: corners are the ends; and sizes whose weights are rounded. No place is nearer than 1/10 to where
#: nearest changes its element.
_EXACT: Final = {
    False: (((5, 4), (10, 8)), ((6, 8), (3, 4))),
    True: (((5, 3), (9, 9)),),
}
_ROUNDED: Final = ((5, 4), (7, 6))
#: Sizes and a factor: that of the sizes, and another, of which the size is rounded down.
_BY_FACTOR: Final = (((5, 4), (10, 8), 2.0), ((5, 4), (6, 5), 1.3))
_ANTIALIASED: Final = (((8, 6), (4, 3)), ((9, 10), (4, 7)), ((5, 4), (10, 6)))


def interpolation(device: str) -> Iterator[Trial]:
    """Each mode in one to three dimensions, larger and smaller."""
    yield from trials(_layers(), device)


def _layers() -> Iterator[Layer]:
    for shape, outputs in (*_EXACT[False], _ROUNDED):
        for mode in ("nearest", "nearest-exact"):
            yield _layer(mode, shape, outputs)
        yield _layer("nearest", shape[:1], outputs[:1])
        yield _layer("nearest", (2, *shape), (4, *outputs))
        yield _layer("area", shape, outputs)
    for align, sizes in _EXACT.items():
        for shape, outputs in (*sizes, _ROUNDED):
            options = {"align_corners": align, "rounded": (shape, outputs) == _ROUNDED}
            yield _layer("linear", shape[:1], outputs[:1], **options)
            yield _layer("bilinear", shape, outputs, **options)
            yield _layer("bicubic", shape, outputs, **options)
        volume = ((2, *sizes[0][0]), (3 if align else 4, *sizes[0][1]))
        yield _layer("trilinear", *volume, align_corners=align)
    yield _layer("trilinear", (3, 5, 4), (2, 7, 6), align_corners=False, rounded=True)
    for mode in ("bilinear", "bicubic"):
        for shape, outputs in _ANTIALIASED:
            yield _layer(mode, shape, outputs, align_corners=False, antialias=True, rounded=True)
    for shape, outputs, factor in _BY_FACTOR:
        for again in (False, True):
            way = partial(_layer, shape=shape, outputs=outputs, factor=factor, recomputed=again)
            yield way("bilinear", align_corners=False, rounded=True)
            yield way("nearest")
    yield _layer("nearest-exact", (6,), (4,))
    yield _layer("nearest-exact", (3, 6, 6), (2, 4, 4))


def _layer(
    mode: str,
    shape: tuple[int, ...],
    outputs: tuple[int, ...],
    *,
    align_corners: bool | None = None,
    antialias: bool = False,
    rounded: bool = False,
    factor: float = 0.0,
    recomputed: bool = False,
) -> Layer:
    """`factor`: given instead of the size; it is that of places too, if not recomputed from it."""
    options: dict[str, Any] = {"mode": mode, "align_corners": align_corners}
    if antialias:
        options["antialias"] = True
    if factor:
        options |= {"scale_factor": factor, "recompute_scale_factor": recomputed}
    else:
        options["size"] = outputs
    off = _WEIGHTS_OFF * max(shape) if rounded and not mode.startswith("nearest") else 0.0
    sizes = ["x".join(map(str, each)) for each in (shape, outputs)]
    parts = [f"{sizes[0]} to {sizes[1]}"]
    parts += [f"align_corners={align_corners}"] if align_corners is not None else []
    parts += ["antialias"] if antialias else []
    parts += [f"by {factor}"] if factor else []
    parts += ["recomputed"] if recomputed else []
    return Layer(
        f"interpolate {mode}",
        function("interpolate", **options),
        (odd((*_LEAD, *shape), 191),),
        _reference(
            mode,
            outputs,
            off,
            align_corners=align_corners,
            antialias=antialias,
            factor=0.0 if recomputed else factor,
        ),
        ", ".join(parts),
        SINGLES if antialias else FLOATS,
        channels_last=len(shape) > 1,
    )


@lru_cache(64)
def _reference(
    mode: str,
    outputs: tuple[int, ...],
    off: float,
    *,
    align_corners: bool | None,
    antialias: bool,
    factor: float,
) -> Reference:
    axes = len(outputs)
    if mode == "area":
        return linear(partial(_area, outputs), axes)
    along: Callable[[int, int], Array]
    if antialias:
        along = partial(_antialiased, mode)
    elif mode.startswith("nearest"):
        along = partial(_nearest, 0.5 if mode == "nearest-exact" else 0.0, factor=factor)
    else:
        along = partial(_weights, mode, align_corners=bool(align_corners), factor=factor)
    return linear(partial(_separable, along, outputs), axes, weights_off=off, in_halves=True)


def _separable(
    along: Callable[[int, int], Array], outputs: tuple[int, ...], values: Array
) -> Array:
    """Multiply each of the last axes by its matrix of weights."""
    axes = len(outputs)
    for axis, length in zip(range(-axes, 0), outputs, strict=True):
        weights = along(values.shape[axis], length)  # (outputs, inputs)
        values = np.moveaxis(np.tensordot(values, weights, ([axis], [1])), -1, axis)
    return np.ascontiguousarray(values)


def _area(outputs: tuple[int, ...], values: Array) -> Array:
    return means(adaptive_windows(values, outputs), outputs)


def _nearest(offset: float, length: int, outputs: int, factor: float = 0.0) -> Array:
    weights = np.zeros((outputs, length))
    step = 1 / factor if factor else length / outputs
    at = np.floor((np.arange(outputs) + offset) * step).astype(int)
    weights[np.arange(outputs), np.minimum(at, length - 1)] = 1
    return weights


def _weights(
    mode: str, length: int, outputs: int, *, align_corners: bool, factor: float = 0.0
) -> Array:
    """Linear or cubic weights. Cubic neighbours beyond an end are the end's element."""
    if align_corners:
        places = np.arange(outputs) * ((length - 1) / max(outputs - 1, 1))
    else:
        places = (np.arange(outputs) + 0.5) * (1 / factor if factor else length / outputs) - 0.5
    cubic = mode == "bicubic"
    if not cubic:
        places = np.maximum(places, 0)
    reach = 2 if cubic else 1
    weights = np.zeros((outputs, length))
    for row, place in enumerate(places.tolist()):
        start = math.floor(place)
        for neighbour in range(start - reach + 1, start + reach + 1):
            distance = abs(place - neighbour)
            weight = cubic_weight(distance, _CUBIC) if cubic else max(0.0, 1 - distance)
            weights[row, min(max(neighbour, 0), length - 1)] += weight
    return weights


def cubic_weight(distance: float, a: float = _CUBIC) -> float:
    """The kernel of cubic convolution (Keys, 1981)."""
    if distance <= 1:
        return ((a + 2) * distance - (a + 3)) * distance**2 + 1
    if distance < 2:
        return ((distance - 5) * distance + 8) * distance * a - 4 * a
    return 0.0


def _antialiased(mode: str, length: int, outputs: int) -> Array:
    """Pillow's weights: the kernel is widened by the scale, and its weights sum to 1."""
    scale = length / outputs
    widened = max(scale, 1.0)
    cubic = mode == "bicubic"
    support = (2 if cubic else 1) * widened
    weights = np.zeros((outputs, length))
    for row in range(outputs):
        centre = scale * (row + 0.5)
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), length)
        for at in range(low, high):
            distance = abs(at - centre + 0.5) / widened
            weight = cubic_weight(distance, _PILLOW_CUBIC) if cubic else max(0.0, 1 - distance)
            weights[row, at] = weight
    return np.asarray(weights / weights.sum(1, keepdims=True))
