"""Stochastic gradient descent, with and without momentum."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.gradients import leaf, tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact
from probes.optimizer.algorithms import sgd as algorithm
from probes.optimizer.parameters import MANY, flat, gradients, implementations, start
from probes.optimizer.stepping import HALF, Recipe, trials

_FUSED: Final = "_fused_sgd_"

#: Powers of two and integers: no step needs more than 21 bits, or 8 in two steps without decay.
_exact: Final = partial(
    Recipe, "SGD", algorithm, _FUSED, factors=(1.0, 1.0, 1.0), exact=True, scale=1.0
)
_rounded: Final = partial(Recipe, "SGD", algorithm, _FUSED)


def _recipes(
    options: tuple[dict[str, Any], ...], usual: dict[str, Any], device: str
) -> Iterator[Recipe]:
    """Exact recipes of all options; the first also in half types and for many tensors."""
    yield from (_exact(each) for each in options)
    yield _exact(options[0], factors=(1.0, 1.0), dtypes=HALF, only=_in_half(device))
    yield _exact(options[0], layout=MANY, dtypes=(torch.float32,))
    yield _exact(options[0], only=("for-loop", "fused"), tensor_lr=True)
    yield _rounded(usual, by_default=True)


def _in_half(device: str) -> tuple[str, ...]:
    """The implementations that are compared in half types.

    On the CPU the fused one of torch 2.4 and later leaves most elements as they were, of which the
    maintainers know: https://github.com/pytorch/pytorch/issues/191763.
    """
    on_cpu = torch.device(device).type == "cpu"
    return ("for-loop", "foreach") if on_cpu else ("for-loop", "foreach", "fused")


def sgd(device: str) -> Iterator[Trial]:
    """Without momentum."""
    options: tuple[dict[str, Any], ...] = (
        {"lr": 0.5},
        {"lr": 0.25, "weight_decay": 0.25},
        {"lr": 0.5, "maximize": True},
        {"lr": 0.25, "weight_decay": 0.5, "maximize": True},
    )
    yield from trials([*_recipes(options, {"lr": 0.1, "weight_decay": 0.01}, device)], device)
    yield Custom("SGD closure", _closure, torch.float32)


def momentum(device: str) -> Iterator[Trial]:
    """With momentum, dampening, Nesterov's momentum and weight decay."""
    options: tuple[dict[str, Any], ...] = (
        {"lr": 0.5, "momentum": 0.5},
        {"lr": 0.5, "momentum": 0.5, "dampening": 0.25},
        {"lr": 0.5, "momentum": 0.5, "nesterov": True},
        {"lr": 0.5, "momentum": 0.25, "dampening": 0.5, "maximize": True},
        {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.25, "nesterov": True},
        {"lr": 0.5, "momentum": 0.5, "nesterov": True, "maximize": True},
        {"lr": 0.5, "momentum": 0.25, "dampening": 0.5, "weight_decay": 0.25},
    )
    usual = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}
    yield from trials([*_recipes(options, usual, device)], device)
    if has_dtype(device, torch.bfloat16):
        for name, chosen in implementations("SGD", _FUSED, device):
            if name != "fused" or name in _in_half(device):
                yield Custom(f"SGD {name}", partial(_mixed, name, chosen))


def _closure(device: str) -> Iterator[Comparison]:
    """It is called once, with gradients on, before the step; its loss is returned."""
    weight = leaf([1.0, 2.0, -3.0], device)
    calls: list[float] = []
    optimizer = torch.optim.SGD([weight], lr=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight * tensor([2.0, 4.0, -1.0], device)).sum()
        loss.backward()
        calls.append(float(loss.detach()))
        return calls[-1]

    with torch.no_grad():
        returned = optimizer.step(closure)
    yield fact("SGD closure (calls)", calls, [13.0])
    yield fact("SGD closure (returned)", returned, 13.0)
    yield compare("SGD closure (step)", weight, np.array([0.0, 0.0, -2.5], np.float32))


def _mixed(name: str, chosen: dict[str, Any], device: str) -> Iterator[Comparison]:
    """Parameters of two types by turns, as where norms stay in float32: each keeps its own."""
    types = (torch.float32, torch.bfloat16) * 2
    options: dict[str, Any] = {"lr": 0.5, "momentum": 0.5}
    values = np.split(start(5 * len(types)), len(types))
    steps = [np.split(each, len(types)) for each in gradients(5 * len(types), (1.0, 1.0))]
    leaves = [leaf(each, device, dtype) for each, dtype in zip(values, types, strict=True)]
    optimizer = torch.optim.SGD(leaves, **options, **chosen)
    for step in steps:
        for each, gradient in zip(leaves, step, strict=True):
            each.grad = tensor(gradient, device, each.dtype)
        optimizer.step()
    found = [each.dtype for each in leaves]
    yield fact(f"SGD {name} (two types)", found, list(types))
    right = [
        algorithm(value, given, **options)[-1]
        for value, given in zip(values, zip(*steps, strict=True), strict=True)
    ]
    whole = np.concatenate(right).astype(np.float32)
    yield compare(f"SGD {name} (two types)", flat(leaves), whole)
