"""Maximum, average and power pooling, indices and unpooling, in one to three dimensions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.layer import (
    SINGLES,
    Backward,
    Layer,
    Reference,
    function,
    linear,
    trials,
)
from probes.kit.operands import coarse, fractions, odd
from probes.kit.references import compare
from probes.kit.rounding import Array, Rounded, square_root
from probes.kit.trial import Custom, Trial
from probes.layers.windows import adaptive_windows, kernel_axes, means, windows


@dataclass(frozen=True)
class Pool:
    """The sizes of one pooling, an entry for each dimension."""

    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...] = ()

    @property
    def axes(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def over(self, values: Any, fill: float = 0.0) -> Any:
        """Its windows over the last axes."""
        return windows(values, self.kernel, self.stride, self.padding, self.dilation or None, fill)


#: Windows that overlap, windows with gaps, and more outputs than a warp or a vector has.
_POOLS: Final = (
    Pool((23,), (3,), (2,), (1,)),
    Pool((12,), (3,), (3,), (0,)),
    Pool((7, 9), (2, 2), (2, 2), (0, 0)),
    Pool((4, 6, 5), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    Pool((9, 11), (3, 3), (2, 2), (1, 1)),
    Pool((8, 9), (3, 2), (1, 3), (1, 0)),
    Pool((5, 6, 7), (2, 3, 2), (2, 2, 3), (1, 1, 0)),
)
_DILATED: Final = (
    Pool((19,), (3,), (2,), (1,), (2,)),
    Pool((11, 12), (3, 2), (2, 2), (1, 1), (2, 3)),
    Pool((7, 6, 5), (2, 2, 2), (2, 1, 1), (1, 0, 0), (2, 2, 3)),
)
_LEAD: Final = (2, 3)


def ranked(shape: tuple[int, ...], salt: int) -> Array:
    """Numbers with 8 bits, no two equal in a plane of at most 255."""
    planes = int(np.prod(shape[:2]))
    drawn = fractions((planes, int(np.prod(shape[2:]))), salt)
    values: Array = (np.argsort(np.argsort(drawn, 1), 1) - 120.0) / 32
    return values.reshape(shape)


def maxima(device: str) -> Iterator[Trial]:
    """Maximum pooling, its indices, the way back by them, and fractional maximum pooling."""
    layers = []
    for pool in (*_POOLS, *_DILATED):
        x = ranked((*_LEAD, *pool.shape), 181)
        options: dict[str, Any] = {"stride": pool.stride, "padding": pool.padding}
        if pool.dilation:
            options["dilation"] = pool.dilation
        call = function(f"max_pool{pool.axes}d", pool.kernel, **options)
        variant = _variant(pool)
        layers.append(
            Layer(
                f"max_pool{pool.axes}d",
                call,
                (x,),
                _selecting(pool),
                variant,
                channels_last=pool.axes > 1,
            )
        )
        if pool.stride == pool.kernel:
            layers.append(_unpooling(pool))
    yield from trials(layers, device)
    for pool in (*_POOLS, *_DILATED):
        yield Custom(f"max_pool{pool.axes}d indices", partial(_indices, pool), torch.float32)
    for axes in (2, 3):
        yield Custom(f"fractional_max_pool{axes}d", partial(_fractional, axes), torch.float32)


def averages(device: str) -> Iterator[Trial]:
    """Average pooling with and without its padding counted, and power pooling."""
    layers = []
    for pool in _POOLS:
        x = odd((*_LEAD, *pool.shape), 182)
        ways: list[tuple[dict[str, Any], Callable[[Array], Array]]] = [
            ({}, partial(_average, pool, counted=True)),
            ({"count_include_pad": False}, partial(_average, pool, counted=False)),
        ]
        if pool.axes > 1:
            ways.append(({"divisor_override": 4}, partial(_average, pool, divisor=4)))
        for options, forward in ways:
            call = function(
                f"avg_pool{pool.axes}d", pool.kernel, pool.stride, pool.padding, **options
            )
            variant = ", ".join([_variant(pool), *(f"{k}={v}" for k, v in options.items())])
            layers.append(
                Layer(
                    f"avg_pool{pool.axes}d",
                    call,
                    (x,),
                    linear(forward, pool.axes),
                    variant,
                    channels_last=pool.axes > 1,
                )
            )
    for axes, shape in ((1, (12,)), (2, (6, 8))):
        x = coarse((*_LEAD, *shape), 0.5, 3.5, 183)
        call = function(f"lp_pool{axes}d", 2.0, 2)
        layers.append(Layer(f"lp_pool{axes}d", call, (x,), _euclidean, dtypes=SINGLES))
    yield from trials(layers, device)


def adaptive(device: str) -> Iterator[Trial]:
    """Adaptive average and maximum pooling to smaller, equal and larger sizes."""
    sizes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
        ((12,), (4,)),
        ((13,), (5,)),
        ((8, 6), (1, 1)),
        ((8, 6), (2, 3)),
        ((7, 10), (3, 4)),
        ((3, 5), (5, 5)),
        ((4, 6, 5), (2, 3, 1)),
        ((5, 4, 7), (3, 3, 2)),
    )
    layers = []
    for shape, outputs in sizes:
        axes, variant = len(shape), f"{_sizes(shape)} to {_sizes(outputs)}"
        layers += [
            Layer(
                f"adaptive_avg_pool{axes}d",
                function(f"adaptive_avg_pool{axes}d", outputs),
                (odd((*_LEAD, *shape), 184),),
                linear(partial(_adaptive_means, outputs), axes),
                variant,
                channels_last=axes > 1,
            ),
            Layer(
                f"adaptive_max_pool{axes}d",
                function(f"adaptive_max_pool{axes}d", outputs),
                (ranked((*_LEAD, *shape), 185),),
                _selecting_adaptively(outputs),
                variant,
                channels_last=axes > 1,
            ),
        ]
    yield from trials(layers, device)


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _variant(pool: Pool) -> str:
    parts = [f"kernel {_sizes(pool.kernel)}", f"stride {_sizes(pool.stride)}"]
    parts += [f"padding {_sizes(pool.padding)}"] if any(pool.padding) else []
    parts += [f"dilation {_sizes(pool.dilation)}"] if pool.dilation else []
    return ", ".join(parts)


def _average(
    pool: Pool, values: Array, *, counted: bool = True, divisor: int | None = None
) -> Array:
    sums = pool.over(values).sum(kernel_axes(pool.axes))
    if divisor is not None or counted:
        return np.asarray(sums / (divisor or np.prod(pool.kernel)))
    present = pool.over(np.ones((1, *pool.shape))).sum(kernel_axes(pool.axes))
    return np.asarray(sums / present)


def _adaptive_means(outputs: tuple[int, ...], values: Array) -> Array:
    return means(adaptive_windows(values, outputs), outputs)


def _picked(x: Array, axes: int, picks: Any) -> tuple[Array, Callable[[Array], Array]]:
    """The elements of each plane at those flat indices, and the way back of gradients."""
    lead, inner = x.shape[:-axes], x.shape[-axes:]
    planes = x.reshape(-1, int(np.prod(inner)))
    places = picks.reshape(planes.shape[0], -1)
    rows = np.arange(planes.shape[0])[:, None]

    def back(g: Array) -> Array:
        gradient = np.zeros_like(planes)
        np.add.at(gradient, (rows, places), g.reshape(places.shape))
        return gradient.reshape(x.shape)

    return planes[rows, places].reshape(*lead, *picks.shape[len(lead) :]), back


def _exactly(x: Rounded, axes: int, picks: Any) -> tuple[Rounded, Backward]:
    """Selected elements; sums of few gradients, which are small integers, are exact."""
    value, back = _picked(x.value, axes, picks)
    return x.exactly(value), lambda g: (g.exactly(back(g.value)),)


def _places(shape: tuple[int, ...], lead: tuple[int, ...]) -> Array:
    """The flat index of each element in its plane, in the shape of all planes."""
    count = int(np.prod(shape))
    return np.broadcast_to(np.arange(float(count)).reshape(shape), (*lead, *shape))


def _largest(x: Array, pool: Pool) -> Any:
    """The flat index in its plane of the largest element of each window."""
    lead = x.shape[: -pool.axes]
    found = pool.over(x, -np.inf)
    at = pool.over(_places(pool.shape, lead), -1.0)
    flat = (*found.shape[: -pool.axes], -1)
    best = found.reshape(flat).argmax(-1)[..., None]
    return np.take_along_axis(at.reshape(flat), best, -1)[..., 0].astype(np.int64)


def _selecting(pool: Pool) -> Reference:
    return lambda x: _exactly(x, pool.axes, _largest(x.value, pool))


def _selecting_adaptively(outputs: tuple[int, ...]) -> Reference:
    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        axes, lead = len(outputs), x.value.shape[: -len(outputs)]
        picks = []
        places = _places(x.value.shape[-axes:], lead)
        pairs = zip(
            adaptive_windows(x.value, outputs), adaptive_windows(places, outputs), strict=True
        )
        for values, at in pairs:
            best = values.reshape(*lead, -1).argmax(-1)[..., None]
            picks.append(np.take_along_axis(at.reshape(*lead, -1), best, -1)[..., 0])
        stacked = np.stack(picks, -1).astype(np.int64).reshape(*lead, *outputs)
        return _exactly(x, axes, stacked)

    return reference


def _unpooling(pool: Pool) -> Layer:
    """Each value at the place where it was found, zeros elsewhere."""
    picks = _largest(ranked((*_LEAD, *pool.shape), 181), pool)
    count = int(np.prod(pool.shape))

    def call(values: torch.Tensor) -> torch.Tensor:
        indices = torch.from_numpy(picks).to(values.device)
        unpool = getattr(functional, f"max_unpool{pool.axes}d")
        out: torch.Tensor = unpool(values, indices, pool.kernel, output_size=pool.shape)
        return out

    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        rows = np.arange(x.value.shape[0] * x.value.shape[1])[:, None]
        places = picks.reshape(rows.size, -1)
        planes = np.zeros((rows.size, count))
        planes[rows, places] = x.value.reshape(places.shape)
        shape = (*x.value.shape[:2], *pool.shape)

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            kept = g.value.reshape(rows.size, count)[rows, places]
            return (g.exactly(kept.reshape(x.value.shape)),)

        return x.exactly(planes.reshape(shape)), backward

    return Layer(
        f"max_unpool{pool.axes}d", call, (odd(picks.shape, 186),), reference, dtypes=SINGLES
    )


def _indices(pool: Pool, device: str) -> Iterator[Comparison]:
    x = ranked((*_LEAD, *pool.shape), 181)
    given = tensor(x, device, torch.float32)
    options: dict[str, Any] = {"dilation": pool.dilation} if pool.dilation else {}
    call = getattr(functional, f"max_pool{pool.axes}d")
    _, found = call(given, pool.kernel, pool.stride, pool.padding, return_indices=True, **options)
    yield compare(f"max_pool{pool.axes}d indices ({_variant(pool)})", found, _largest(x, pool))


def _fractional(axes: int, device: str) -> Iterator[Comparison]:
    """Each output is the element at its index, and gradients go there.

    Windows are drawn; here what is drawn is given, so that no generator moves. They are large
    enough to reach each element, so that the largest of a plane is among the outputs.
    """
    shape, outputs = ((9, 10), (4, 5)) if axes == 2 else ((6, 5, 7), (3, 2, 3))
    name = f"fractional_max_pool{axes}d"
    x = ranked((*_LEAD, *shape), 187)
    given = leaf(x, device)
    samples = tensor(coarse((*_LEAD, axes), 0.1, 0.9, 188), device, torch.float32)
    call = getattr(functional, f"{name}_with_indices")
    found, at = call(given, 3, outputs, _random_samples=samples)
    picks = at.cpu().numpy()
    inside = bool(((picks >= 0) & (picks < np.prod(shape))).all())
    yield Comparison(operation=f"{name} (indices)", elements=1, problem="" if inside else "outside")
    if not inside or picks.shape != (*_LEAD, *outputs):
        return
    value, back = _picked(x, axes, picks)
    yield compare(f"{name} (values)", host(found), value.astype(np.float32))
    largest = np.sort(x.reshape(*_LEAD, -1))[..., -1]
    yield compare(f"{name} (largest)", host(found.flatten(2).max(2)[0]), largest.astype(np.float32))
    upstream = odd(picks.shape, 189)
    (gradient,) = torch.autograd.grad(root(found, tensor(upstream, device)), given)
    yield compare(f"{name} (gradient)", host(gradient), back(upstream).astype(np.float32))


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
