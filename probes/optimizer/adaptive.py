"""Optimizers that scale each element's step by its past gradients."""

from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from typing import Any, Final

import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.gradients import integers, tensor
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import exact
from probes.kit.trial import Custom, Trial
from probes.optimizer import algorithms
from probes.optimizer.parameters import MANY, implementations
from probes.optimizer.stepping import HALF, Recipe, trials

#: Coefficients far from 1 and exact in every type, so that the bias corrections lose no digits.
_BETAS: Final = (0.75, 0.875)
_PLAIN: Final[dict[str, Any]] = {"lr": 0.25, "betas": _BETAS}


def _adams(
    name: str, algorithm: Callable[..., Any], fused: str, decays: tuple[float, ...]
) -> Iterator[Recipe]:
    """The recipes of Adam or AdamW."""
    yield Recipe(name, algorithm, fused, by_default=True)  # torch's defaults
    # A constant gradient: each step moves by lr g / (|g| + eps).
    yield Recipe(name, algorithm, fused, {**_PLAIN, "eps": 0.125}, constant=True)
    changed: tuple[dict[str, Any], ...] = (
        *({"weight_decay": decay} for decay in decays),
        {"amsgrad": True},
        {"maximize": True},
        {"amsgrad": True, "maximize": True, "weight_decay": decays[0]},
    )
    yield from (Recipe(name, algorithm, fused, {**_PLAIN, **options}) for options in changed)
    # eps must not vanish in float16.
    half = {**_PLAIN, "eps": 2.0**-10}
    yield Recipe(name, algorithm, fused, half, dtypes=HALF, factors=(1.0, 2.0, 1.0))
    yield Recipe(
        name, algorithm, fused, _PLAIN, layout=MANY, dtypes=(torch.float32,), factors=(1.0, 2.0)
    )
    # A rate in float32 may bring its precision into a step in float64.
    single = (torch.float32,)
    taken = ("for-loop", "fused")  # the form for lists takes no such rate
    yield Recipe(name, algorithm, fused, _PLAIN, dtypes=single, only=taken, tensor_lr=True)
    # For graphs of a GPU: the number of steps is on the device, in float32.
    graphs = {**_PLAIN, "amsgrad": True}
    yield Recipe(name, algorithm, fused, graphs, dtypes=single, capturable=True)


def adam(device: str) -> Iterator[Trial]:
    """With defaults, weight decay, amsgrad, maximize."""
    yield from trials([*_adams("Adam", algorithms.adam, "_fused_adam_", (0.25,))], device)
    if has_dtype(device, torch.complex64):
        for name, chosen in implementations("Adam", "", device):
            yield Custom(f"Adam {name}", partial(_complex, name, chosen), torch.complex64)


def _complex(name: str, chosen: dict[str, Any], device: str) -> Iterator[Comparison]:
    """Real and imaginary parts step each as a real parameter does."""
    options: dict[str, Any] = {**_PLAIN, "amsgrad": True, "weight_decay": 0.25}
    size = (7, 2)  # the parts along the last axis
    given = [integers(size, 92 + t) / 4 for t in range(3)]
    parameter = torch.view_as_complex(tensor(integers(size, 91) / 4, device)).requires_grad_()
    optimizer = torch.optim.Adam([parameter], **options, **chosen)
    for gradient in given:
        parameter.grad = torch.view_as_complex(tensor(gradient, device))
        optimizer.step()
    unit = UNIT_ROUNDOFF[torch.float32]
    right = algorithms.adam(exact(integers(size, 91) / 4, unit), given, **options)[-1]
    parts = torch.view_as_real(parameter.detach())
    yield compare(f"Adam {name} (complex64)", parts, right.value, right.error)


def adamw(device: str) -> Iterator[Trial]:
    """With defaults, weight decay, amsgrad, maximize."""
    yield from trials([*_adams("AdamW", algorithms.adamw, "_fused_adamw_", (0.25, 0.0))], device)


def recipes(
    name: str, algorithm: Callable[..., Any], options: tuple[dict[str, Any], ...], fused: str = ""
) -> list[Recipe]:
    """Torch's defaults, and each set of options, of which the first is for many tensors too.

    With the first also `maximize`, which not all versions have.
    """
    if "maximize" in signature(getattr(torch.optim, name)).parameters:
        options = (*options, {**options[0], "maximize": True})
    return [
        Recipe(name, algorithm, fused, by_default=True),
        *(Recipe(name, algorithm, fused, each) for each in options),
        Recipe(
            name,
            algorithm,
            fused,
            options[0],
            layout=MANY,
            dtypes=(torch.float32,),
            factors=(1.0, 2.0),
        ),
    ]


def rmsprop(device: str) -> Iterator[Trial]:
    """Plain, centered, with momentum and weight decay."""
    plain: dict[str, Any] = {"lr": 0.125, "alpha": 0.75}
    options = (
        plain,
        {**plain, "centered": True, "eps": 0.125},
        {**plain, "momentum": 0.5, "weight_decay": 0.25},
        {**plain, "momentum": 0.875, "centered": True, "eps": 0.125},
    )
    yield from trials(recipes("RMSprop", algorithms.rmsprop, options), device)


def adagrad(device: str) -> Iterator[Trial]:
    """Plain, with a decaying learning rate, weight decay, a first sum of squares and maximize."""
    plain: dict[str, Any] = {"lr": 0.25}
    options = (
        plain,
        {**plain, "lr_decay": 0.5},
        {**plain, "weight_decay": 0.25, "initial_accumulator_value": 2.0},
        {**plain, "eps": 0.125},
    )
    yield from trials(recipes("Adagrad", algorithms.adagrad, options, "_fused_adagrad_"), device)


def adamax(device: str) -> Iterator[Trial]:
    """Plain and with weight decay."""
    options = (_PLAIN, {**_PLAIN, "weight_decay": 0.25, "eps": 0.125})
    yield from trials(recipes("Adamax", algorithms.adamax, options), device)


def nadam(device: str) -> Iterator[Trial]:
    """Plain, with weight decay and another decay of the momentum."""
    decayed = {**_PLAIN, "weight_decay": 0.25, "momentum_decay": 0.5, "eps": 0.125}
    options = (_PLAIN, decayed, {**decayed, "decoupled_weight_decay": True})
    yield from trials(recipes("NAdam", algorithms.nadam, options), device)
