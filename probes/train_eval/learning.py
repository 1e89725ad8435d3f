"""A small model learns y = W x + b on integers; each step is compared with NumPy's."""

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
from probes.train_eval.state import Array, integers, to_tensor

_ROWS, INPUTS, OUTPUTS = 16, 4, 4
_STEPS: Final = 50
_LEARNING_RATE: Final = 2.0**-3
#: Steps from zero in which float64 rounds nothing: each step needs 6 more bits.
_EXACT_STEPS: Final = 4
#: The loss after the last step, computed with rational numbers and rounded once.
LAST_LOSS: Final = 0.015756190605662062


@dataclass(frozen=True)
class _Data:
    """Integers x (16, 4), and y = x W^T + b (16, 4)."""

    x: Array
    y: Array


def training_data() -> _Data:
    """The inputs and targets of the training."""
    x = integers((_ROWS, INPUTS), 5, 3)
    return _Data(x, x @ integers((OUTPUTS, INPUTS), 7, 8).T + integers((OUTPUTS,), 7, 9))


def numpy_training(steps: int) -> tuple[list[float], Array, Array]:
    """NumPy's losses (before each step and after the last), weight and bias, in float64."""
    data, weight, bias = training_data(), np.zeros((OUTPUTS, INPUTS)), np.zeros(OUTPUTS)
    losses = []
    for _ in range(steps):
        error = data.x @ weight.T + bias - data.y  # (16, 4)
        losses.append(float((error**2).mean()))
        gradient = error * (2 / error.size)
        weight = weight - _LEARNING_RATE * (gradient.T @ data.x)
        bias = bias - _LEARNING_RATE * gradient.sum(axis=0)
    error = data.x @ weight.T + bias - data.y
    return [*losses, float((error**2).mean())], weight, bias


def _torch_training(device: str, dtype: torch.dtype, steps: int) -> tuple[list[float], nn.Linear]:
    """Torch's losses and model after the same training, from zero, with updates by hand."""
    data = training_data()
    x, y = to_tensor(data.x, device, dtype), to_tensor(data.y, device, dtype)
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
                parameter.sub_(parameter.grad, alpha=_LEARNING_RATE)
    with torch.no_grad():
        losses.append(float(nn.functional.mse_loss(model(x), y).item()))
    return losses, model


def first_steps(device: str) -> list[Comparison]:
    """Compare every bit of weight, bias and prediction after the first steps, which are exact."""

    def compare_training(dtype: torch.dtype, steps: int) -> list[Comparison]:
        _, weight, bias = numpy_training(steps)
        model = _torch_training(device, dtype, steps)[1]
        predicted = model(to_tensor(training_data().x, device, dtype))
        kind = np.dtype(str(dtype).removeprefix("torch."))
        return [
            compare(f"{name}, {kind}, {steps} steps", observed, expected.astype(kind))
            for name, observed, expected in zip(
                ("weight", "bias", "prediction"),
                (model.weight, model.bias, predicted),
                (weight, bias, training_data().x @ weight.T + bias),
                strict=True,
            )
        ]

    comparisons = attempted_all("float32", partial(compare_training, torch.float32, 1), device)
    if widest_float(device) == torch.float64:
        comparisons += attempted_all(
            "float64", partial(compare_training, torch.float64, _EXACT_STEPS), device
        )
    return comparisons


def loss_curve(device: str) -> list[Comparison]:
    """Compare fifty losses: each is lower than the one before, and equal to NumPy's.

    A step makes the error smaller, so rounding does not add up: the bound is 1e-10 of the loss in
    float64. Without float64 it is 1e-2: after 50 steps 1/32 of the targets' size remains.
    """

    def compare_training(dtype: torch.dtype, share: float) -> list[Comparison]:
        losses, _ = _torch_training(device, dtype, _STEPS)
        expected = np.array(numpy_training(_STEPS)[0])
        falls = all(after < before for before, after in pairwise(losses))
        return [
            compare(f"{dtype}: losses", np.array(losses), expected, share * expected),
            fact(f"{dtype}: falls every step", falls, True),
            compare(
                f"{dtype}: last loss", np.array(losses[-1]), np.array(LAST_LOSS), share * LAST_LOSS
            ),
        ]

    dtype = widest_float(device)
    return attempted_all(
        "curve", partial(compare_training, dtype, 1e-10 if dtype == torch.float64 else 1e-2), device
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
    """Compare the bits of two equal trainings with deterministic algorithms."""

    def compare_two() -> list[Comparison]:
        with _deterministic():
            trainings = [_torch_training(device, torch.float32, _STEPS // 5) for _ in range(2)]
        return [
            compare("losses", np.array(trainings[1][0]), np.array(trainings[0][0])),
            *(
                compare(name, value, trainings[0][1].state_dict()[name].cpu().numpy())
                for name, value in trainings[1][1].state_dict().items()
            ),
        ]

    return attempted_all("again", compare_two, device)
