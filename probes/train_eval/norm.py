"""BatchNorm in train() and eval(), by its closed form in float64.

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
from probes.references import attempted_all, compare, fact
from probes.tensors import refusal
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, near, put

_CHANNELS: Final = 3
_EPS: Final = 0.125  # large, so that one left out shows
_MOMENTUM: Final = 0.1
_WEIGHT: Final = np.array([1.0, -2.0, 0.5])
_BIAS: Final = np.array([0.0, 3.0, -1.0])

#: Module, shape of its input (N, C, ...): 64 values a channel.
_KINDS: Final[tuple[tuple[type[Any], tuple[int, ...]], ...]] = (
    (nn.BatchNorm1d, (64, _CHANNELS)),
    (nn.BatchNorm1d, (8, _CHANNELS, 8)),
    (nn.BatchNorm2d, (4, _CHANNELS, 4, 4)),
    (nn.BatchNorm3d, (4, _CHANNELS, 2, 2, 4)),
)


def _along(values: Array, dims: int) -> Array:
    """Values a channel, (C,), to be broadcast over (N, C, ...)."""
    return values.reshape(1, -1, *([1] * (dims - 2)))


@dataclass(frozen=True)
class _Batch:
    """Integers (N, C, ...) with a mean of about 3 in each channel, and their statistics."""

    x: Array

    @property
    def axes(self) -> tuple[int, ...]:
        return (0, *range(2, self.x.ndim))

    @property
    def count(self) -> int:
        return self.x.size // _CHANNELS

    @property
    def mean(self) -> Array:
        return np.asarray(self.x.mean(axis=self.axes))

    @property
    def var(self) -> Array:
        return np.asarray(self.x.var(axis=self.axes))  # biased

    @property
    def relative_error(self) -> float:
        """Of the variance: (M + 16) u kappa."""
        kappa = float(np.sqrt(1 + self.mean**2 / self.var).max())
        return (self.count + 16) * FLOAT32_UNIT * kappa


def _batch(shape: tuple[int, ...], seed: int) -> _Batch:
    return _Batch(integers(shape, 17, seed) + 3)


def _module(kind: type[Any], device: str, **options: Any) -> Any:
    module = kind(_CHANNELS, eps=_EPS, **options).to(device)
    with torch.no_grad():
        module.weight.copy_(put(_WEIGHT, device))
        module.bias.copy_(put(_BIAS, device))
    return module


def _normalised(x: Array, mean: Array, var: Array, error: float) -> tuple[Array, Array]:
    """The closed form, and how far a float32 kernel may be from it: x a + (b - mean a)."""
    factor = _along(_WEIGHT / np.sqrt(var + _EPS), x.ndim)
    middle, bias = _along(mean, x.ndim), _along(_BIAS, x.ndim)
    size = np.abs(x * factor) + np.abs(middle * factor) + np.abs(bias)
    return (x - middle) * factor + bias, error * size


def _each(one: Callable[[type[Any], tuple[int, ...]], list[Comparison]]) -> list[Comparison]:
    return [
        comparison
        for kind, shape in _KINDS
        for comparison in attempted_all(
            f"{kind.__name__} of {len(shape)} axes", partial(one, kind, shape)
        )
    ]


def train(device: str) -> list[Comparison]:
    """In train() a batch is normalised by its own mean and biased variance."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        batch = _batch(shape, 5)
        module = _module(kind, device)
        module.running_mean.fill_(100.0)  # what must not be used
        out = module(put(batch.x, device))
        right = _normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [compare(f"{kind.__name__} {list(shape)}", out, *right)]

    def functional() -> list[Comparison]:
        batch = _batch((8, _CHANNELS, 8), 6)
        out = nn.functional.batch_norm(
            put(batch.x, device),
            None,
            None,
            put(_WEIGHT, device),
            put(_BIAS, device),
            training=True,
            eps=_EPS,
        )
        right = _normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [compare("functional", out, *right)]

    return [*_each(one), *attempted_all("functional", functional)]


def statistics(device: str) -> list[Comparison]:
    """Running mean and unbiased variance move by the momentum, and the counter counts."""

    def one(kind: type[Any], shape: tuple[int, ...], momentum: float | None) -> list[Comparison]:
        module = _module(kind, device, momentum=momentum)
        mean, var = np.zeros(_CHANNELS), np.ones(_CHANNELS)
        for step in (1, 2, 3):
            batch = _batch(shape, step)
            module(put(batch.x, device))
            share = 1 / step if momentum is None else momentum
            unbiased = batch.var * batch.count / (batch.count - 1)
            mean, var = (1 - share) * mean + share * batch.mean, (1 - share) * var + share * unbiased
        name, error = f"{kind.__name__} {list(shape)}, momentum {momentum}", 4 * batch.relative_error
        return [
            compare(f"{name}: mean", module.running_mean, mean, error * (np.abs(mean) + 8)),
            compare(f"{name}: variance", module.running_var, var, error * var),
            fact(f"{name}: counter", int(module.num_batches_tracked.item()), 3),
        ]

    def untracked() -> list[Comparison]:
        module = _module(nn.BatchNorm1d, device, track_running_stats=False).eval()
        batch = _batch((64, _CHANNELS), 7)
        out = module(put(batch.x, device))
        right = _normalised(batch.x, batch.mean, batch.var, batch.relative_error)
        return [
            fact("untracked: no statistics", module.running_mean, None),
            compare("untracked: eval() uses the batch", out, *right),
        ]

    return [
        *_each(partial(one, momentum=_MOMENTUM)),
        *attempted_all("cumulative", partial(one, *_KINDS[1], momentum=None)),
        *attempted_all("untracked", untracked),
    ]


def _trained(kind: type[Any], shape: tuple[int, ...], device: str) -> Any:
    """A module that has seen three batches."""
    module = _module(kind, device)
    for step in (1, 2, 3):
        module(put(_batch(shape, step).x, device))
    return module


def _frozen(module: Any) -> tuple[Array, Array]:
    """Its statistics, read back."""
    return tuple(  # type: ignore[return-value]
        buffer.detach().cpu().double().numpy() for buffer in (module.running_mean, module.running_var)
    )


def evaluate(device: str) -> list[Comparison]:
    """In eval() the frozen statistics are used, whatever the batch; one value a channel is enough."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device).eval()
        mean, var = _frozen(module)
        x = integers(shape, 33, 9) * 4 - 20  # far from the statistics
        name, error = f"{kind.__name__} {list(shape)}", 16 * FLOAT32_UNIT
        single = np.full((1, _CHANNELS, *([1] * (len(shape) - 2))), 7.0)
        return [
            compare(name, module(put(x, device)), *_normalised(x, mean, var, error)),
            compare(
                f"{name}, one value",
                module(put(single, device)),
                *_normalised(single, mean, var, error),
            ),
            fact(
                f"{name}: one value in train() is refused",
                refusal(partial(module.train(), put(single, device)))[:10],
                "ValueError",
            ),
        ]

    return _each(one)


def frozen(device: str) -> list[Comparison]:
    """In eval() no bit of statistics, counter or parameters moves."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device).eval()
        before = {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()}
        for seed in (11, 12):
            out = module(put(_batch(shape, seed).x * 9, device))
        with torch.no_grad():
            module(out.detach())
        name = f"{kind.__name__} {list(shape)}"
        return [
            compare(f"{name}: {key}", value, before[key])
            for key, value in module.state_dict().items()
        ]

    return _each(one)


def backward(device: str) -> list[Comparison]:
    """Gradients: through the batch's own statistics in train(), a constant factor in eval()."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device)
        mean, var = _frozen(module)  # before the training step below moves them
        batch, above = _batch(shape, 13), integers(shape, 9, 3)
        dims, axes = batch.x.ndim, batch.axes
        factor = _along(_WEIGHT / np.sqrt(batch.var + _EPS), dims)
        hat = (batch.x - _along(batch.mean, dims)) / np.sqrt(_along(batch.var, dims) + _EPS)
        parts = above, above.mean(axis=axes, keepdims=True), hat * np.mean(
            above * hat, axis=axes, keepdims=True
        )
        right = factor * (parts[0] - parts[1] - parts[2])
        # Of the size of what is added up, where the means are of absolute values.
        size = np.abs(factor) * (
            np.abs(above)
            + np.abs(above).mean(axis=axes, keepdims=True)
            + np.abs(hat) * np.abs(above * hat).mean(axis=axes, keepdims=True)
        )
        name = f"{kind.__name__} {list(shape)}"
        module.eval()
        still = _gradient(module, batch.x, above, device)
        moved = _gradient(module.train(), batch.x, above, device)
        constant = _along(_WEIGHT / np.sqrt(var + _EPS), dims) * above
        return [
            compare(f"{name}: train", moved, right, 4 * batch.relative_error * size),
            compare(f"{name}: eval", still, constant, 16 * FLOAT32_UNIT * np.abs(constant)),
            near(f"{name}: train, mean", float(moved.mean()), 0.0, 4 * batch.relative_error * size.max()),
        ]

    return _each(one)


def _gradient(module: Any, x: Array, above: Array, device: str) -> torch.Tensor:
    """The gradient of sum(out * above) by x, on the host."""
    tensor = put(x, device).requires_grad_()
    (module(tensor) * put(above, device)).sum().backward()
    if tensor.grad is None:
        raise RuntimeError("backward() left no gradient")
    return tensor.grad.cpu()
