"""BatchNorm in train(): its outputs and its running statistics."""

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
    make_batch,
    make_module,
    normalised,
    over_kinds,
)
from probes.train_eval.state import to_tensor


def train(device: str) -> list[Comparison]:
    """Compare outputs in training, normalised by the batch's mean and biased variance."""

    def compare_kind(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        batch = make_batch(shape, 5)
        module = make_module(kind, device)
        module.running_mean.fill_(100.0)  # what must not be used
        out = module(to_tensor(batch.x, device))
        expected = normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [compare(f"{kind.__name__} {list(shape)}", out, *expected)]

    def functional() -> list[Comparison]:
        batch = make_batch((8, CHANNELS, 8), 6)
        out = nn.functional.batch_norm(
            to_tensor(batch.x, device),
            None,
            None,
            to_tensor(WEIGHT, device),
            to_tensor(BIAS, device),
            training=True,
            eps=EPS,
        )
        expected = normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [compare("functional", out, *expected)]

    return [*over_kinds(compare_kind, device), *attempted_all("functional", functional, device)]


def statistics(device: str) -> list[Comparison]:
    """Compare running mean, unbiased variance and the counter after three batches."""

    def compare_kind(
        kind: type[Any], shape: tuple[int, ...], momentum: float | None
    ) -> list[Comparison]:
        module = make_module(kind, device, momentum=momentum)
        mean, var = np.zeros(CHANNELS), np.ones(CHANNELS)
        for step in (1, 2, 3):
            batch = make_batch(shape, step)
            module(to_tensor(batch.x, device))
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
        module = make_module(nn.BatchNorm1d, device, track_running_stats=False)
        module.eval()
        batch = make_batch((64, CHANNELS), 7)
        out = module(to_tensor(batch.x, device))
        expected = normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [
            fact("untracked: no statistics", module.running_mean, None),
            compare("untracked: eval() uses the batch", out, *expected),
        ]

    return [
        *over_kinds(partial(compare_kind, momentum=MOMENTUM), device),
        *attempted_all("cumulative", partial(compare_kind, *KINDS[1], momentum=None), device),
        *attempted_all("untracked", untracked, device),
    ]
