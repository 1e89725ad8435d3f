"""Adaptive average and maximum pooling."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from probes.kit.layer import Backward, Layer, Reference, function, linear, trials
from probes.kit.operands import odd
from probes.kit.rounding import Array, Rounded
from probes.kit.trial import Trial
from probes.layers.pools import LEAD, by, ranked
from probes.layers.selection import places, selection
from probes.layers.windows import adaptive_windows, means


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
        axes, variant = len(shape), f"{by(shape)} to {by(outputs)}"
        layers += [
            Layer(
                f"adaptive_avg_pool{axes}d",
                function(f"adaptive_avg_pool{axes}d", outputs),
                (odd((*LEAD, *shape), 184),),
                linear(partial(_adaptive_means, outputs), axes),
                variant,
                channels_last=axes > 1,
            ),
            Layer(
                f"adaptive_max_pool{axes}d",
                function(f"adaptive_max_pool{axes}d", outputs),
                (ranked((*LEAD, *shape), 185),),
                _selecting_adaptively(outputs),
                variant,
                channels_last=axes > 1,
            ),
        ]
    yield from trials(layers, device)


def _adaptive_means(outputs: tuple[int, ...], values: Array) -> Array:
    return means(adaptive_windows(values, outputs), outputs)


def _selecting_adaptively(outputs: tuple[int, ...]) -> Reference:
    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        axes, lead = len(outputs), x.value.shape[: -len(outputs)]
        picks = []
        flat = places(x.value.shape[-axes:], lead)
        pairs = zip(
            adaptive_windows(x.value, outputs), adaptive_windows(flat, outputs), strict=True
        )
        for values, at in pairs:
            best = values.reshape(*lead, -1).argmax(-1)[..., None]
            picks.append(np.take_along_axis(at.reshape(*lead, -1), best, -1)[..., 0])
        stacked = np.stack(picks, -1).astype(np.int64).reshape(*lead, *outputs)
        return selection(x, axes, stacked)

    return reference
