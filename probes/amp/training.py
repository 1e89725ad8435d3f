"""Whole steps of training as torch's recipe has them: exact, so that bits are compared."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.amp.lower import signs
from probes.amp.regions import Array, autocast, compare_typed, lower_types, name_of
from probes.amp.scalers import no_scaler, scaler
from probes.contract import Comparison
from probes.kit.gradients import leaf, tensor
from probes.kit.trial import Custom, Trial, fact

_SINGLE: Final = torch.float32

#: torch's default. Gradients of 2 times it are too large for float16, and sums of two are with half
#: of it: the first steps are skipped.
_SCALE: Final = 2.0**16
_STEPS: Final = 6

#: The largest number of float16, and half the distance to the next.
_HALF_LIMIT: Final = 65504.0 + 16.0


def training(device: str) -> Iterator[Trial]:
    """In each lower type, with a scaler where there is one, with one optimizer and another."""
    for lower in lower_types(device):
        for way in ({"foreach": False}, {"foreach": True}):
            name = f"training {name_of(lower)}"
            yield Custom(name, partial(_trained, name, lower, way), lower)


class _Model:
    """A linear layer and its loss, the sum of its outputs times 1 or -1, in NumPy.

    Each weight moves by 2 or not at all in a step, and is an integer below 17: so is every product.
    """

    def __init__(self) -> None:
        self.weight, self.bias = signs((4, 8), 190), signs((4,), 191)

    def batch(self, step: int) -> tuple[Array, Array]:
        """Inputs (2, 8) and factors (2, 4) of the outputs in the loss."""
        return signs((2, 8), 192 + step), signs((2, 4), 200 + step)

    def output(self, x: Array) -> Array:
        """The layer's output."""
        return np.asarray(x @ self.weight.T + self.bias)

    def gradients(self, x: Array, factors: Array) -> tuple[Array, Array]:
        """Of weight and bias."""
        return factors.T @ x, factors.sum(0)


def _trained(
    name: str, lower: torch.dtype, way: dict[str, Any], device: str
) -> Iterator[Comparison]:
    model = _Model()
    weight, bias = leaf(model.weight, device), leaf(model.bias, device)
    optimizer = torch.optim.SGD([weight, bias], lr=1.0, **way)
    made = None if no_scaler(device) else scaler(device, init_scale=_SCALE)
    scale = 1.0 if made is None else _SCALE
    for step in range(_STEPS):
        x, factors = model.batch(step)
        optimizer.zero_grad()
        with autocast(device, lower):
            out = torch.nn.functional.linear(tensor(x, device), weight, bias)
            loss = (out * tensor(factors, device)).sum()
        label = f"{name} ({way}, step {step}"
        yield compare_typed(f"{label}, output)", out, lower, model.output(x))
        right = (model.output(x) * factors).sum()
        yield compare_typed(f"{label}, loss)", loss, _SINGLE, right)
        if made is None:
            loss.backward()
            optimizer.step()
        else:
            made.scale(loss).backward()
            made.step(optimizer)
            made.update()
        gradients = model.gradients(x, factors)
        largest = max(1.0, *(float(np.abs(each).max()) for each in gradients)) * scale
        if lower == torch.float16 and largest >= _HALF_LIMIT:
            scale /= 2
        else:
            model.weight, model.bias = model.weight - gradients[0], model.bias - gradients[1]
        if made is not None:
            yield fact(f"{label}, scale)", made.get_scale(), scale)
        yield compare_typed(f"{label}, weight)", weight, _SINGLE, model.weight)
        yield compare_typed(f"{label}, bias)", bias, _SINGLE, model.bias)
