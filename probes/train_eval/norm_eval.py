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
    along,
    batch_of,
    each,
    made,
    normalised,
)
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, put


def _trained(kind: type[Any], shape: tuple[int, ...], device: str) -> Any:
    """A module that has seen three batches."""
    module = made(kind, device)
    for step in (1, 2, 3):
        module(put(batch_of(shape, step).x, device))
    return module


def _frozen(module: Any) -> tuple[Array, Array]:
    """Its statistics, read back."""
    mean, var = (
        buffer.detach().cpu().double().numpy()
        for buffer in (module.running_mean, module.running_var)
    )
    return mean, var


def evaluate(device: str) -> list[Comparison]:
    """In eval() the frozen statistics are used; one value a channel is enough."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device)
        module.eval()
        mean, var = _frozen(module)
        x = integers(shape, 33, 9) * 4 - 20  # far from the statistics
        name, error = f"{kind.__name__} {list(shape)}", 16 * FLOAT32_UNIT
        single = np.full((1, CHANNELS, *([1] * (len(shape) - 2))), 7.0)
        found = [
            compare(name, module(put(x, device)), *normalised(x, mean, var, error)),
            compare(
                f"{name}, one value",
                module(put(single, device)),
                *normalised(single, mean, var, error),
            ),
        ]
        module.train()
        refused = refusal(partial(module, put(single, device)))
        return [*found, fact(f"{name}: one value in train() is refused", bool(refused), True)]

    return each(one, device)


def frozen(device: str) -> list[Comparison]:
    """In eval() no bit of statistics, counter or parameters moves."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device)
        module.eval()
        before = {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()}
        for seed in (11, 12):
            out = module(put(batch_of(shape, seed).x * 9, device))
        with torch.no_grad():
            module(out.detach())
        name = f"{kind.__name__} {list(shape)}"
        return [
            compare(f"{name}: {key}", value, before[key])
            for key, value in module.state_dict().items()
        ]

    return each(one, device)


def backward(device: str) -> list[Comparison]:
    """Gradients: through the batch's own statistics in train(), a constant factor in eval()."""

    def one(kind: type[Any], shape: tuple[int, ...]) -> list[Comparison]:
        module = _trained(kind, shape, device)
        _, var = _frozen(module)  # before the training step below moves them
        batch, above = batch_of(shape, 13), integers(shape, 9, 3)
        dims, axes = batch.x.ndim, batch.axes
        factor = along(WEIGHT / np.sqrt(batch.var + EPS), dims)
        hat = (batch.x - along(batch.mean, dims)) / np.sqrt(along(batch.var, dims) + EPS)
        parts = (
            above,
            above.mean(axis=axes, keepdims=True),
            hat * np.mean(above * hat, axis=axes, keepdims=True),
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
        module.train()
        moved = _gradient(module, batch.x, above, device)
        constant = along(WEIGHT / np.sqrt(var + EPS), dims) * above
        return [
            compare(f"{name}: train", moved, right, 4 * batch.relative_error * size),
            compare(f"{name}: eval", still, constant, 16 * FLOAT32_UNIT * np.abs(constant)),
        ]

    return each(one, device)


def _gradient(module: Any, x: Array, above: Array, device: str) -> torch.Tensor:
    """The gradient of sum(out * above) by x, on the host."""
    tensor = put(x, device).requires_grad_()
    (module(tensor) * put(above, device)).sum().backward()
    if tensor.grad is None:
        raise RuntimeError("backward() left no gradient")
    return tensor.grad.cpu()
