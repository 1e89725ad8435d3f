"""State dicts of optimizers: what they hold, and going on from one."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import Array, exact
from probes.kit.trial import Custom, Trial, fact
from probes.optimizer import algorithms
from probes.optimizer.parameters import (
    DENSE,
    flat,
    gradients,
    implementations,
    set_gradients,
    start,
)

_STEPS: Final = 5
_STOPPED: Final = 3  # steps before the state is saved
_FLOAT32: Final = UNIT_ROUNDOFF[torch.float32]


class _Optimizer(NamedTuple):
    """An optimizer that keeps state, and its options."""

    algorithm: Any
    fused: str
    options: dict[str, Any]


#: Short averages: the bias corrections of the first steps are far from 1.
_BETAS: Final[dict[str, Any]] = {"lr": 0.25, "betas": (0.75, 0.875), "eps": 0.125}
_OPTIMIZERS: Final[dict[str, _Optimizer]] = {
    "SGD": _Optimizer(algorithms.sgd, "_fused_sgd_", {"lr": 0.1, "momentum": 0.75}),
    "Adam": _Optimizer(algorithms.adam, "_fused_adam_", {**_BETAS, "amsgrad": True}),
    "AdamW": _Optimizer(algorithms.adamw, "_fused_adamw_", {**_BETAS, "weight_decay": 0.25}),
    "RMSprop": _Optimizer(
        algorithms.rmsprop, "", {"lr": 0.125, "alpha": 0.75, "momentum": 0.5, "eps": 0.125}
    ),
    "Adagrad": _Optimizer(algorithms.adagrad, "_fused_adagrad_", {"lr": 0.25, "lr_decay": 0.5}),
}


def state(device: str) -> Iterator[Trial]:
    """Stop after some steps, load the state into a new optimizer, and go on."""
    for name, optimizer in _OPTIMIZERS.items():
        for implementation, chosen in implementations(name, optimizer.fused, device):
            label = f"{name} {implementation}"
            body = partial(_resumed, label, name, optimizer, chosen)
            yield Custom(label, body, torch.float32)
    yield Custom("SGD groups", _groups, torch.float32)


def _resumed(
    label: str, name: str, recipe: _Optimizer, chosen: dict[str, Any], device: str
) -> Iterator[Comparison]:
    given = gradients(DENSE.size, (1.0, 4.0, 0.5, 0.25, 2.0), 0.25)

    def made(values: Array, **options: Any) -> tuple[list[torch.Tensor], torch.optim.Optimizer]:
        leaves = DENSE.parameters(values, device)
        return leaves, getattr(torch.optim, name)(leaves, **options, **chosen)

    def run(
        leaves: list[torch.Tensor], optimizer: torch.optim.Optimizer, steps: Sequence[Array]
    ) -> Array:
        for gradient in steps:
            set_gradients(leaves, DENSE, gradient)
            optimizer.step()
        return flat(leaves)

    leaves, optimizer = made(start(DENSE.size, 0.25), **recipe.options)
    stopped = run(leaves, optimizer, given[:_STOPPED])
    saved = deepcopy(optimizer.state_dict())
    yield from _contents(label, saved, len(leaves), recipe.options, name)
    whole = run(leaves, optimizer, given[_STOPPED:])
    # Another rate and coefficient: those of the state dict must be taken over.
    others, resumed = made(stopped.astype(float), lr=7.0)
    resumed.load_state_dict(saved)
    again = run(others, resumed, given[_STOPPED:])
    right = recipe.algorithm(exact(start(DENSE.size, 0.25), _FLOAT32), given, **recipe.options)[-1]
    yield compare(f"{label} (without a stop)", whole, right.value, right.error)
    yield compare(f"{label} (loaded)", again, right.value, right.error)
    if torch.device(device).type == "cpu":  # equal bits from run to run are promised there only
        yield compare(f"{label} (loaded, bits)", again, whole)


def _groups(device: str) -> Iterator[Comparison]:
    """Each group gets its own options and state back; integers and powers of two are exact."""
    options: list[dict[str, Any]] = [
        {"lr": 0.5, "momentum": 0.5},
        {"lr": 0.25, "momentum": 0.25, "weight_decay": 0.25},
    ]
    given, starts = gradients(DENSE.size, (1.0, 1.0, 1.0)), start(DENSE.size)
    stopped = [algorithms.sgd(starts, given[:2], **each)[-1] for each in options]

    def made(values: Sequence[Array]) -> tuple[list[list[torch.Tensor]], torch.optim.Optimizer]:
        leaves = [DENSE.parameters(each, device) for each in values]
        return leaves, torch.optim.SGD([{"params": each} for each in leaves], lr=7.0)

    def step(
        leaves: list[list[torch.Tensor]], optimizer: torch.optim.Optimizer, gradient: Array
    ) -> None:
        for each in leaves:
            set_gradients(each, DENSE, gradient)
        optimizer.step()

    leaves, optimizer = made([starts, starts])
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)
    for gradient in given[:2]:
        step(leaves, optimizer, gradient)
    others, resumed = made(stopped)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    step(others, resumed, given[2])
    for number, (each, own) in enumerate(zip(others, options, strict=True)):
        right = algorithms.sgd(starts, given, **own)[-1].astype(np.float32)
        yield compare(f"SGD groups (loaded, group {number}, {own})", flat(each), right)


def _contents(
    label: str, saved: dict[str, Any], count: int, options: dict[str, Any], name: str
) -> Iterator[Comparison]:
    """The documented keys, the parameters by their order, the options, and the steps taken."""
    yield fact(f"{label} (keys)", sorted(saved), ["param_groups", "state"])
    (group,) = saved["param_groups"]
    yield fact(f"{label} (parameters)", group["params"], list(range(count)))
    yield fact(f"{label} (options)", {key: group[key] for key in options}, options)
    yield fact(f"{label} (states)", sorted(saved["state"]), list(range(count)))
    if name != "SGD":
        steps = {float(each["step"]) for each in saved["state"].values()}
        yield fact(f"{label} (steps)", steps, {float(_STOPPED)})
