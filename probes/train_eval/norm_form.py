"""BatchNorm's closed form in float64, and the error bound of a float32 kernel.

Inputs are integers, so only the statistics and the final scaling round. With M values a channel the
sums and Welford updates of a float32 kernel err by gamma_M, amplified by kappa = sqrt(1 + mean^2 /
var) for the variance (Chan, Golub and LeVeque 1983, table 1); a handful of roundings follow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, to_tensor

CHANNELS: Final = 3


EPS: Final = 0.125  # large, so that a missing eps shows


MOMENTUM: Final = 0.1


WEIGHT: Final = np.array([1.0, -2.0, 0.5])


BIAS: Final = np.array([0.0, 3.0, -1.0])


#: Module, shape of its input (N, C, ...): 64 values a channel.
KINDS: Final[tuple[tuple[type[Any], tuple[int, ...]], ...]] = (
    (nn.BatchNorm1d, (64, CHANNELS)),
    (nn.BatchNorm1d, (8, CHANNELS, 8)),
    (nn.BatchNorm2d, (4, CHANNELS, 4, 4)),
    (nn.BatchNorm3d, (4, CHANNELS, 2, 2, 4)),
)


def per_channel(values: Array, dims: int) -> Array:
    """One value a channel, (C,), reshaped to broadcast over (N, C, ...)."""
    return values.reshape(1, -1, *([1] * (dims - 2)))


@dataclass(frozen=True)
class Batch:
    """Integers (N, C, ...) with a mean of about 3 in each channel, and their statistics."""

    x: Array

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes but the channels'."""
        return (0, *range(2, self.x.ndim))

    @property
    def count(self) -> int:
        """The number of values in each channel."""
        return self.x.size // CHANNELS

    @property
    def mean(self) -> Array:
        """The mean of each channel, (C,)."""
        return np.asarray(self.x.mean(axis=self.axes))

    @property
    def var(self) -> Array:
        """The biased variance of each channel, (C,)."""
        return np.asarray(self.x.var(axis=self.axes))

    @property
    def relative_error(self) -> float:
        """The relative error bound of the variance: (M + 16) u kappa."""
        kappa = float(np.sqrt(1 + self.mean**2 / self.var).max())
        return (self.count + 16) * FLOAT32_UNIT * kappa


def make_batch(shape: tuple[int, ...], seed: int) -> Batch:
    """A batch of that shape; each seed gives another one."""
    return Batch(integers(shape, 17, seed) + 3)


def make_module(kind: type[Any], device: str, **options: Any) -> Any:
    """A module of that kind with fixed weight and bias."""
    module = kind(CHANNELS, eps=EPS, **options).to(device)
    with torch.no_grad():
        module.weight.copy_(to_tensor(WEIGHT, device))
        module.bias.copy_(to_tensor(BIAS, device))
    return module


def normalised(x: Array, mean: Array, var: Array, error: float) -> tuple[Array, Array]:
    """The closed form x a + (b - mean a), and the largest allowed error of a float32 kernel."""
    factor = per_channel(WEIGHT / np.sqrt(var + EPS), x.ndim)
    middle, bias = per_channel(mean, x.ndim), per_channel(BIAS, x.ndim)
    size = np.abs(x * factor) + np.abs(middle * factor) + np.abs(bias)
    return (x - middle) * factor + bias, error * size


def over_kinds(
    compare_kind: Callable[[type[Any], tuple[int, ...]], list[Comparison]], device: str
) -> list[Comparison]:
    """The comparisons of `compare_kind` for every kind of BatchNorm."""
    return [
        comparison
        for kind, shape in KINDS
        for comparison in attempted_all(
            f"{kind.__name__} of {len(shape)} axes", partial(compare_kind, kind, shape), device
        )
    ]
