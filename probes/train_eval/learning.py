"""A small model learns y = W x + b on integers, step for step as NumPy does; and is saved whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.capabilities import widest_float
from probes.kit.references import attempted_all, compare, fact
from probes.train_eval.state import Array, integers, put

_ROWS, INPUTS, OUTPUTS = 16, 4, 4
_STEPS: Final = 50
_RATE: Final = 2.0**-3
#: Steps from zero in which float64 rounds nothing: each adds 6 bits to what the numbers need.
_EXACT_STEPS: Final = 4
#: The loss after the last step, from exact rational arithmetic, rounded.
LAST_LOSS: Final = 0.015756190605662062


@dataclass(frozen=True)
class _Task:
    """Integers x (16, 4), and y = x W^T + b (16, 4)."""

    x: Array
    y: Array


def task() -> _Task:
    """The data that is learnt."""
    x = integers((_ROWS, INPUTS), 5, 3)
    return _Task(x, x @ integers((OUTPUTS, INPUTS), 7, 8).T + integers((OUTPUTS,), 7, 9))


def reference(steps: int) -> tuple[list[float], Array, Array]:
    """Losses before each step and after the last, weight and bias, in float64 by NumPy."""
    data, weight, bias = task(), np.zeros((OUTPUTS, INPUTS)), np.zeros(OUTPUTS)
    losses = []
    for _ in range(steps):
        error = data.x @ weight.T + bias - data.y  # (16, 4)
        losses.append(float((error**2).mean()))
        above = error * (2 / error.size)
        weight = weight - _RATE * (above.T @ data.x)
        bias = bias - _RATE * above.sum(axis=0)
    error = data.x @ weight.T + bias - data.y
    return [*losses, float((error**2).mean())], weight, bias


def _learnt(device: str, dtype: torch.dtype, steps: int) -> tuple[list[float], nn.Linear]:
    """The same by torch: Linear, mse_loss, backward() and a step by hand, from zero."""
    data = task()
    x, y = put(data.x, device, dtype), put(data.y, device, dtype)
    model = nn.Linear(INPUTS, OUTPUTS).to(device, dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    losses = []
    for _ in range(steps):
        model.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        losses.append(float(loss.item()))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is None:
                    raise RuntimeError("backward() left no gradient")
                parameter.sub_(parameter.grad, alpha=_RATE)
    with torch.no_grad():
        losses.append(float(nn.functional.mse_loss(model(x), y).item()))
    return losses, model


def first_steps(device: str) -> list[Comparison]:
    """The first steps from zero are exact: every bit of weight, bias and what they predict."""

    def one(dtype: torch.dtype, steps: int) -> list[Comparison]:
        _, weight, bias = reference(steps)
        model = _learnt(device, dtype, steps)[1]
        predicted = model(put(task().x, device, dtype))
        kind = np.dtype(str(dtype).removeprefix("torch."))
        return [
            compare(f"{name}, {kind}, {steps} steps", observed, right.astype(kind))
            for name, observed, right in zip(
                ("weight", "bias", "prediction"),
                (model.weight, model.bias, predicted),
                (weight, bias, task().x @ weight.T + bias),
                strict=True,
            )
        ]

    found = attempted_all("float32", partial(one, torch.float32, 1), device)
    if widest_float(device) == torch.float64:
        found += attempted_all("float64", partial(one, torch.float64, _EXACT_STEPS), device)
    return found


def curve(device: str) -> list[Comparison]:
    """Fifty steps: the loss falls each time, along NumPy's curve, to the known value.

    A step contracts the error, so rounding does not pile up: in float64 1e-10 of the loss is far
    above it. Without float64, 1e-2 of it: what remains after 50 steps is 1/32 of the targets' size.
    """

    def one(dtype: torch.dtype, share: float) -> list[Comparison]:
        losses, _ = _learnt(device, dtype, _STEPS)
        right = np.array(reference(_STEPS)[0])
        falls = all(after < before for before, after in pairwise(losses))
        return [
            compare(f"{dtype}: losses", np.array(losses), right, share * right),
            fact(f"{dtype}: falls every step", falls, True),
            compare(
                f"{dtype}: last loss", np.array(losses[-1]), np.array(LAST_LOSS), share * LAST_LOSS
            ),
        ]

    dtype = widest_float(device)
    return attempted_all(
        "curve", partial(one, dtype, 1e-10 if dtype == torch.float64 else 1e-2), device
    )


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # torch.use_deterministic_algorithms would first import a compiler, which takes seconds.
    torch._C._set_deterministic_algorithms(True, warn_only=False)
    try:
        yield
    finally:
        torch._C._set_deterministic_algorithms(before, warn_only=warn_only)


def repeats(device: str) -> list[Comparison]:
    """The same training again gives the same bits, where deterministic algorithms are asked for."""

    def again() -> list[Comparison]:
        with _deterministic():
            runs = [_learnt(device, torch.float32, _STEPS // 5) for _ in range(2)]
        return [
            compare("losses", np.array(runs[1][0]), np.array(runs[0][0])),
            *(
                compare(name, value, runs[0][1].state_dict()[name].cpu().numpy())
                for name, value in runs[1][1].state_dict().items()
            ),
        ]

    return attempted_all("again", again, device)
