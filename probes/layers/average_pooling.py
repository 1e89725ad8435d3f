"""Average pooling with and without its padding counted, and power pooling."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from probes.kit.layer import SINGLES, Backward, Layer, function, linear, trials
from probes.kit.operands import coarse, odd
from probes.kit.rounding import Array, Rounded, square_root
from probes.kit.trial import Trial
from probes.layers.pools import LEAD, POOLS, Pool
from probes.layers.windows import kernel_axes


def averages(device: str) -> Iterator[Trial]:
    """Average pooling with and without its padding counted, and power pooling."""
    layers = []
    for pool in POOLS:
        # What a window that reaches beyond the padding is divided by is documented in two ways.
        ways: list[dict[str, Any]] = [{"count_include_pad": False}, *([] if pool.ceil else [{}])]
        ways += [{"divisor_override": 4}] if pool.axes > 1 else []
        layers += [mean(pool, options) for options in ways]
    for axes, shape in ((1, (12,)), (2, (6, 8))):
        x = coarse((*LEAD, *shape), 0.5, 3.5, 183)
        call = function(f"lp_pool{axes}d", 2.0, 2)
        layers.append(Layer(f"lp_pool{axes}d", call, (x,), _euclidean, dtypes=SINGLES))
    yield from trials(layers, device)


def mean(pool: Pool, options: dict[str, Any], lead: tuple[int, ...] = LEAD) -> Layer:
    """Average pooling of so many images and channels."""
    name = f"avg_pool{pool.axes}d"
    call = function(name, pool.kernel, pool.stride, pool.padding, pool.ceil, **options)
    counted = options.get("count_include_pad", True)
    forward = partial(_average, pool, counted=counted, divisor=options.get("divisor_override"))
    variant = ", ".join([str(pool), *(f"{key}={each}" for key, each in options.items())])
    x = odd((*lead, *pool.shape), 182)
    reference = linear(forward, pool.axes)
    return Layer(name, call, (x,), reference, variant, channels_last=pool.axes > 1)


def _average(
    pool: Pool, values: Array, *, counted: bool = True, divisor: int | None = None
) -> Array:
    sums = pool.over(values).sum(kernel_axes(pool.axes))
    if divisor is not None or counted:
        return np.asarray(sums / (divisor or np.prod(pool.kernel)))
    present = pool.over(np.ones((1, *pool.shape))).sum(kernel_axes(pool.axes))
    return np.asarray(sums / present)


def _euclidean(x: Rounded) -> tuple[Rounded, Backward]:
    """The root of the sum of squares of windows of two that do not overlap."""
    axes = x.value.ndim - 2
    split = [part for size in x.value.shape[2:] for part in (size // 2, 2)]
    shape = (*x.value.shape[:2], *split)
    blocks = x.moved(lambda array: array.reshape(shape))
    inner = tuple(range(3, 3 + 2 * axes, 2))
    out = square_root((blocks * blocks).total(inner))

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        gradient = blocks * g.moved(lambda array: array.reshape(out.value.shape)) / out
        return (gradient.moved(lambda array: array.reshape(x.value.shape)),)

    outer = tuple(size // 2 for size in x.value.shape[2:])
    return out.moved(lambda array: array.reshape(*x.value.shape[:2], *outer)), backward
