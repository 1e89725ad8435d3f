"""BatchNorm in train(): its answers, and the statistics that it keeps."""

from functools import partial
from typing import Any

import numpy as np
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare, fact
from probes.train_eval.norm_form import (
    BIAS,
    CHANNELS,
    EPS,
    KINDS,
    MOMENTUM,
    WEIGHT,
    batch_of,
    each,
    made,
    normalised,
)
from probes.train_eval.state import put


def train(device: str) -> list[Comparison]:
    """A batch in training is normalised by its own mean and biased variance."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        batch = batch_of(shape, 5)
        module = made(kind, device)
        module.running_mean.fill_(100.0)  # what must not be used
        out = module(put(batch.x, device))
        right = normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [compare(f"{kind.__name__} {list(shape)}", out, *right)]

    def functional() -> list[Comparison]:
        batch = batch_of((8, CHANNELS, 8), 6)
        out = nn.functional.batch_norm(
            put(batch.x, device),
            None,
            None,
            put(WEIGHT, device),
            put(BIAS, device),
            training=True,
            eps=EPS,
        )
        right = normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [compare("functional", out, *right)]

    return [*each(one, device), *attempted_all("functional", functional, device)]


def statistics(device: str) -> list[Comparison]:
    """Running mean and unbiased variance move by the momentum, and the counter counts."""

    def one(kind: type[Any], shape: tuple[int, ...], momentum: float | None) -> list[Comparison]:
        module = made(kind, device, momentum=momentum)
        mean, var = np.zeros(CHANNELS), np.ones(CHANNELS)
        for step in (1, 2, 3):
            batch = batch_of(shape, step)
            module(put(batch.x, device))
            share = 1 / step if momentum is None else momentum
            unbiased = batch.var * batch.count / (batch.count - 1)
            mean, var = (
                (1 - share) * mean + share * batch.mean,
                (1 - share) * var + share * unbiased,
            )
        name, error = (
            f"{kind.__name__} {list(shape)}, momentum {momentum}",
            4 * batch.relative_error,
        )
        return [
            compare(f"{name}: mean", module.running_mean, mean, error * (np.abs(mean) + 8)),
            compare(f"{name}: variance", module.running_var, var, error * var),
            fact(f"{name}: counter", int(module.num_batches_tracked.item()), 3),
        ]

    def untracked() -> list[Comparison]:
        module = made(nn.BatchNorm1d, device, track_running_stats=False)
        module.eval()
        batch = batch_of((64, CHANNELS), 7)
        out = module(put(batch.x, device))
        right = normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [
            fact("untracked: no statistics", module.running_mean, None),
            compare("untracked: eval() uses the batch", out, *right),
        ]

    return [
        *each(partial(one, momentum=MOMENTUM), device),
        *attempted_all("cumulative", partial(one, *KINDS[1], momentum=None), device),
        *attempted_all("untracked", untracked, device),
    ]
