"""Elements that a pooling selects, and the way back of their gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np

from probes.kit.layer import Backward
from probes.kit.rounding import Array, Rounded


def picked(x: Array, axes: int, picks: Any) -> tuple[Array, Callable[[Array], Array]]:
    """The elements of each plane at those flat indices, and the way back of gradients."""
    lead, inner = x.shape[:-axes], x.shape[-axes:]
    planes = x.reshape(-1, int(np.prod(inner)))
    columns = picks.reshape(planes.shape[0], -1)
    rows = np.arange(planes.shape[0])[:, None]

    def back(g: Array) -> Array:
        gradient = np.zeros_like(planes)
        np.add.at(gradient, (rows, columns), g.reshape(columns.shape))
        return gradient.reshape(x.shape)

    return planes[rows, columns].reshape(*lead, *picks.shape[len(lead) :]), back


def selection(x: Rounded, axes: int, picks: Any) -> tuple[Rounded, Backward]:
    """Selected elements; sums of few gradients, which are small integers, are exact."""
    value, back = picked(x.value, axes, picks)
    return x.exactly(value), lambda g: (g.exactly(back(g.value)),)


def places(shape: tuple[int, ...], lead: tuple[int, ...]) -> Array:
    """The flat index of each element in its plane, in the shape of all planes."""
    count = int(np.prod(shape))
    return np.broadcast_to(np.arange(float(count)).reshape(shape), (*lead, *shape))
