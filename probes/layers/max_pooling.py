"""Maximum pooling, its indices, and unpooling by them."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import tensor
from probes.kit.layer import SINGLES, Backward, Layer, Reference, function, trials
from probes.kit.operands import odd
from probes.kit.references import compare
from probes.kit.rounding import Array, Rounded
from probes.kit.trial import Custom, Trial
from probes.layers.fractional_pooling import fractional
from probes.layers.pools import LEAD, POOLS, Pool, ranked
from probes.layers.selection import places, selection

_DILATED: Final = (
    Pool((19,), (3,), (2,), (1,), (2,)),
    Pool((11, 12), (3, 2), (2, 2), (1, 1), (2, 3)),
    Pool((7, 6, 5), (2, 2, 2), (2, 1, 1), (1, 0, 0), (2, 2, 3)),
)


def maxima(device: str) -> Iterator[Trial]:
    """Maximum pooling, its indices, the way back by them, and fractional maximum pooling."""
    pools = (*POOLS, *_DILATED)
    layers = [largest(pool) for pool in pools]
    layers += [_unpooling(pool) for pool in pools if pool.stride == pool.kernel]
    yield from trials(layers, device)
    for pool in pools:
        yield Custom(f"max_pool{pool.axes}d indices", partial(_indices, pool), torch.float32)
    for axes in (2, 3):
        yield Custom(f"fractional_max_pool{axes}d", partial(fractional, axes), torch.float32)


def largest(pool: Pool, lead: tuple[int, ...] = LEAD) -> Layer:
    """Maximum pooling of so many images and channels."""
    name = f"max_pool{pool.axes}d"
    call = function(name, pool.kernel, **_options(pool))
    x = ranked((*lead, *pool.shape), 181)
    return Layer(name, call, (x,), _selecting(pool), str(pool), channels_last=pool.axes > 1)


def _options(pool: Pool) -> dict[str, Any]:
    options = {"stride": pool.stride, "padding": pool.padding, "ceil_mode": pool.ceil}
    return options | ({"dilation": pool.dilation} if pool.dilation else {})


def _largest(x: Array, pool: Pool) -> Any:
    """The flat index in its plane of the largest element of each window."""
    lead = x.shape[: -pool.axes]
    found = pool.over(x, -np.inf)
    at = pool.over(places(pool.shape, lead), -1.0)
    flat = (*found.shape[: -pool.axes], -1)
    best = found.reshape(flat).argmax(-1)[..., None]
    return np.take_along_axis(at.reshape(flat), best, -1)[..., 0].astype(np.int64)


def _selecting(pool: Pool) -> Reference:
    return lambda x: selection(x, pool.axes, _largest(x.value, pool))


def _unpooling(pool: Pool) -> Layer:
    """Each value at the place where it was found, zeros elsewhere."""
    picks = _largest(ranked((*LEAD, *pool.shape), 181), pool)
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
    x = ranked((*LEAD, *pool.shape), 181)
    given = tensor(x, device, torch.float32)
    call = getattr(functional, f"max_pool{pool.axes}d")
    _, found = call(given, pool.kernel, return_indices=True, **_options(pool))
    yield compare(f"max_pool{pool.axes}d indices ({pool})", found, _largest(x, pool))
