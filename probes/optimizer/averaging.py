"""Averages of a model's parameters over its training, and batch statistics of the average."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.optim import swa_utils

from probes.contract import Comparison
from probes.kit.gradients import integers, tensor
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import ROUNDINGS, Array
from probes.kit.trial import Custom, Trial
from probes.optimizer.parameters import flat

_SHAPES: Final = ((3, 5), (7,))
_UPDATES: Final = 4
_DECAY: Final = 0.75
_UNIT: Final = UNIT_ROUNDOFF[torch.float32]

#: Values are within 5; each update rounds.
_ALLOWED: Final = 5 * _UPDATES * ROUNDINGS * _UNIT


def averaging(_device: str) -> Iterator[Trial]:
    """The mean and the exponential mean, one by one and as a list; batch statistics."""
    for name, function in (
        ("mean", {}),
        ("exponential mean", {"multi_avg_fn": "get_ema_multi_avg_fn"}),
        ("exponential mean, one by one", {"avg_fn": "get_ema_avg_fn"}),
    ):
        yield Custom("AveragedModel", partial(_averaged, name, function), torch.float32)
    yield Custom("update_bn", _statistics, torch.float32)


class _Model(nn.Module):
    """A model of two parameters."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.weights = nn.ParameterList(tensor(_values(shape, 0), device) for shape in _SHAPES)


def _values(shape: tuple[int, ...], update: int) -> Array:
    return integers(shape, 81 + update)


def _averaged(name: str, functions: dict[str, str], device: str) -> Iterator[Comparison]:
    """The first update takes the parameters as they are."""
    model = _Model(device)
    made: dict[str, Any] = {
        argument: getattr(swa_utils, function)(_DECAY) for argument, function in functions.items()
    }
    average = swa_utils.AveragedModel(model, **made)
    sums = [np.zeros(shape) for shape in _SHAPES]
    for update in range(_UPDATES):
        with torch.no_grad():
            for parameter, shape in zip(model.weights, _SHAPES, strict=True):
                parameter.copy_(tensor(_values(shape, update), device))
        average.update_parameters(model)
        for at, shape in enumerate(_SHAPES):
            share = 1 / (update + 1) if name == "mean" else 1 - _DECAY if update else 1.0
            sums[at] = sums[at] + (_values(shape, update) - sums[at]) * share
    right = np.concatenate([each.reshape(-1) for each in sums])
    yield compare(f"AveragedModel ({name})", flat([*average.parameters()]), right, _ALLOWED)
    last = np.concatenate([_values(shape, _UPDATES - 1).reshape(-1) for shape in _SHAPES])
    kept = flat([*model.parameters()])
    yield compare(f"AveragedModel ({name}, the model)", kept, last.astype(np.float32))


def _statistics(device: str) -> Iterator[Comparison]:
    """Means and variances over two batches of equal size, whatever was counted before."""
    norm = nn.BatchNorm1d(3, momentum=0.5, device=device, dtype=torch.float32)
    batches = [_values((8, 3), update) for update in range(2)]
    with torch.no_grad():
        norm.running_mean.fill_(7.0)  # type: ignore[union-attr]
    swa_utils.update_bn([tensor(each, device) for each in batches], norm)
    found = flat([norm.running_mean, norm.running_var])  # type: ignore[list-item]
    means = np.mean([each.mean(0) for each in batches], 0)
    variances = np.mean([each.var(0, ddof=1) for each in batches], 0)
    # Sums of 8 squares of 5 at most, of which means are taken.
    allowed = 25 * 8 * ROUNDINGS * _UNIT
    yield compare("update_bn", found, np.concatenate([means, variances]), allowed)
