"""Layers of the sizes that models have: long rows, many rows, many planes.

Libraries choose kernels by size, and grids of GPUs have at most 65,535 blocks along some axes.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import torch

from probes.kit.layer import function, trials
from probes.kit.operands import coarse, integers
from probes.kit.trial import Trial
from probes.kit.typed.curves import PIECEWISE, SMOOTH, layer
from probes.kit.typed.softmax import along
from probes.layers.average_pooling import mean
from probes.layers.max_pooling import largest
from probes.layers.normalisation import ROW_NORMS, grouped, over_batch, over_rows
from probes.layers.pools import Pool

#: More than 4,096 elements, and no multiple of 2.
_LONG: Final = (3, 5003)

#: More than 65,536 rows.
_MANY: Final = (65_601, 2)

#: Images and channels, more than 65,536 together.
_PLANES: Final = (241, 273)
_POOL: Final = Pool((2, 4), (2, 2), (2, 2), (1, 0))

#: More than a thread of the host computes at once, which is 32,768 elements.
_ELEMENTS: Final = (3, 41, 331)

_CURVES: Final = ("relu", "gelu", "silu", "sigmoid", "tanh")

#: One of each size of an element.
_TYPES: Final = (torch.float32, torch.bfloat16)


def sizes(device: str) -> Iterator[Trial]:
    """Softmax and norms of long rows and of many, large groups and batches, many planes."""
    names = ("softmax", "log_softmax")
    long = [
        *(along(-1, coarse(_LONG, -4, 4, 283), name, "long rows") for name in names),
        *(over_rows(name, _LONG, 1) for name in ROW_NORMS),
        *(grouped((1, 4, 60, 61), 2), over_batch((3, 4, 60, 61))),
    ]
    operand = (2.0 * integers(_ELEMENTS, -96, 95, 284) + 1) / 32
    long += [
        layer(curve, function(curve.name, **curve.options), "large", operand)
        for curve in (*SMOOTH, *PIECEWISE)
        if curve.name in _CURVES
    ]
    # Half types would lose the sums of so many gradients, which the CPU keeps in them.
    many = [
        *(along(-1, coarse(_MANY, -4, 4, 283), name, "many rows") for name in names),
        *(over_rows(name, _MANY, 1) for name in ROW_NORMS),
        *(largest(_POOL, _PLANES), mean(_POOL, {}, _PLANES)),
    ]
    single = (torch.float32,)
    chosen = [*(replace(each, dtypes=_TYPES) for each in long)]
    chosen += [replace(each, dtypes=single) for each in many]
    yield from trials(chosen, device)
