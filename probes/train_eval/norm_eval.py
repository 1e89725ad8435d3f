"""BatchNorm with frozen statistics, and its gradients in both modes."""

from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.references import compare, fact
from probes.kit.tensors import refusal
from probes.train_eval.norm_form import (
    CHANNELS,
    EPS,
    WEIGHT,
    make_batch,
    make_module,
    normalised,
    over_kinds,
    per_channel,
)
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, to_tensor


def _trained(kind: type[Any], shape: tuple[int, ...], device: str) -> Any:
    """A module with the statistics of three batches."""
    module = make_module(kind, device)
    for step in (1, 2, 3):
        module(to_tensor(make_batch(shape, step).x, device))
    return module


def _running_statistics(module: Any) -> tuple[Array, Array]:
    """The running mean and variance of a module, (C,) each, in float64."""
    mean, var = (
        buffer.detach().cpu().double().numpy()
        for buffer in (module.running_mean, module.running_var)
    )
    return mean, var


def evaluate(device: str) -> list[Comparison]:
    """Compare outputs in eval(), which uses the frozen statistics, also for one value a channel."""

    def compare_kind(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device)
        module.eval()
        mean, var = _running_statistics(module)
        x = integers(shape, 33, 9) * 4 - 20  # far from the statistics
        name, error = f"{kind.__name__} {list(shape)}", 16 * FLOAT32_UNIT
        single = np.full((1, CHANNELS, *([1] * (len(shape) - 2))), 7.0)
        comparisons = [
            compare(name, module(to_tensor(x, device)), *normalised(x, mean, var, error)),
            compare(
                f"{name}, one value",
                module(to_tensor(single, device)),
                *normalised(single, mean, var, error),
            ),
        ]
        module.train()
        refused = refusal(partial(module, to_tensor(single, device)))
        return [*comparisons, fact(f"{name}: one value in train() is refused", bool(refused), True)]

    return over_kinds(compare_kind, device)


def frozen(device: str) -> list[Comparison]:
    """Verify that in eval() no bit of statistics, counter or parameters changes."""

    def compare_kind(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device)
        module.eval()
        before = {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()}
        for seed in (11, 12):
            out = module(to_tensor(make_batch(shape, seed).x * 9, device))
        with torch.no_grad():
            module(out.detach())
        name = f"{kind.__name__} {list(shape)}"
        return [
            compare(f"{name}: {key}", value, before[key])
            for key, value in module.state_dict().items()
        ]

    return over_kinds(compare_kind, device)


def backward(device: str) -> list[Comparison]:
    """Compare gradients: through the batch's statistics in train(), a constant factor in eval()."""

    def compare_kind(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device)
        _, var = _running_statistics(module)  # before the training step below changes them
        batch, upstream = make_batch(shape, 13), integers(shape, 9, 3)
        dims, axes = batch.x.ndim, batch.axes
        factor = per_channel(WEIGHT / np.sqrt(batch.var + EPS), dims)
        x_hat = (batch.x - per_channel(batch.mean, dims)) / np.sqrt(
            per_channel(batch.var, dims) + EPS
        )
        parts = (
            upstream,
            upstream.mean(axis=axes, keepdims=True),
            x_hat * np.mean(upstream * x_hat, axis=axes, keepdims=True),
        )
        expected = factor * (parts[0] - parts[1] - parts[2])
        # The sum of the sizes of all terms, with means of absolute values.
        size = np.abs(factor) * (
            np.abs(upstream)
            + np.abs(upstream).mean(axis=axes, keepdims=True)
            + np.abs(x_hat) * np.abs(upstream * x_hat).mean(axis=axes, keepdims=True)
        )
        name = f"{kind.__name__} {list(shape)}"
        module.eval()
        eval_gradient = _gradient(module, batch.x, upstream, device)
        module.train()
        train_gradient = _gradient(module, batch.x, upstream, device)
        constant = per_channel(WEIGHT / np.sqrt(var + EPS), dims) * upstream
        return [
            compare(f"{name}: train", train_gradient, expected, 4 * batch.relative_error * size),
            compare(f"{name}: eval", eval_gradient, constant, 16 * FLOAT32_UNIT * np.abs(constant)),
        ]

    return over_kinds(compare_kind, device)


def _gradient(module: Any, x: Array, upstream: Array, device: str) -> torch.Tensor:
    """The gradient of sum(out * above) by x, on the host."""
    tensor = to_tensor(x, device).requires_grad_()
    (module(tensor) * to_tensor(upstream, device)).sum().backward()
    if tensor.grad is None:
        raise RuntimeError("backward() left no gradient")
    return tensor.grad.cpu()
