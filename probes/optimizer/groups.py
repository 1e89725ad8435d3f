"""Groups of parameters with their own options, and parameters without a gradient."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.gradients import integers, tensor
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import Array, exact
from probes.kit.trial import Custom, Trial, fact
from probes.optimizer import algorithms
from probes.optimizer.parameters import flat, implementations

_SHAPE: Final = (3, 5)
_STEPS: Final = 3
_FLOAT32: Final = UNIT_ROUNDOFF[torch.float32]

#: Fused kernel -> optimizer.
_OPTIMIZERS: Final = {"SGD": "_fused_sgd_", "Adam": "_fused_adam_"}


def _values(salt: int) -> Array:
    return integers(_SHAPE, salt)


def _leaf(salt: int, device: str) -> torch.Tensor:
    return tensor(_values(salt), device).requires_grad_()


def groups(device: str) -> Iterator[Trial]:
    """Two groups with different options, and a third that is added after the first step."""
    for name, fused in _OPTIMIZERS.items():
        for implementation, chosen in implementations(name, fused, device):
            body = _sgd_groups if name == "SGD" else _adam_groups
            label = f"{name} {implementation}"
            yield Custom(label, partial(body, label, chosen), torch.float32)


def _sgd_groups(label: str, chosen: dict[str, Any], device: str) -> Iterator[Comparison]:
    """Powers of two and integers, so that bits must be equal."""
    options: list[dict[str, Any]] = [
        {},
        {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.25},
        {"lr": 0.125, "maximize": True},
    ]
    leaves = [_leaf(60 + i, device) for i in range(3)]
    given = [{"params": [each], **group} for each, group in zip(leaves, options, strict=True)]
    optimizer = torch.optim.SGD(given[:2], lr=0.5, **chosen)
    for step in range(_STEPS):
        if step == 1:
            optimizer.add_param_group(given[2])
        for salt, each in enumerate(leaves):
            each.grad = tensor(_values(70 + salt + step), device)
        optimizer.step()
    for salt, (each, group) in enumerate(zip(leaves, options, strict=True)):
        first = 1 if salt == 2 else 0
        gradients = [_values(70 + salt + step) for step in range(first, _STEPS)]
        right = algorithms.sgd(_values(60 + salt), gradients, **{"lr": 0.5, **group})[-1]
        name = f"{label} (group {salt}, {group})"
        yield compare(name, each, right.astype(np.float32))


def _adam_groups(label: str, chosen: dict[str, Any], device: str) -> Iterator[Comparison]:
    """Averages of a group of their own, and its own learning rate."""
    options: list[dict[str, Any]] = [
        {"betas": (0.75, 0.875)},
        {"lr": 0.125, "betas": (0.5, 0.75), "weight_decay": 0.25, "eps": 0.125},
    ]
    leaves = [_leaf(62 + i, device) for i in range(2)]
    given = [{"params": [each], **group} for each, group in zip(leaves, options, strict=True)]
    optimizer = torch.optim.Adam(given, lr=0.5, **chosen)
    for step in range(_STEPS):
        for salt, each in enumerate(leaves):
            each.grad = tensor(_values(72 + salt + step), device)
        optimizer.step()
    for salt, (each, group) in enumerate(zip(leaves, options, strict=True)):
        gradients = [_values(72 + salt + step) for step in range(_STEPS)]
        theta = exact(_values(62 + salt), _FLOAT32)
        right = algorithms.adam(theta, gradients, **{"lr": 0.5, **group})[-1]
        yield compare(f"{label} (group {salt}, {group})", each, right.value, right.error)


def missing_gradients(device: str) -> Iterator[Trial]:
    """Without a gradient a step changes nothing, whatever the options; with zeros it does."""
    for name, fused in _OPTIMIZERS.items():
        for implementation, chosen in implementations(name, fused, device):
            label = f"{name} {implementation}"
            yield Custom(label, partial(_skipped, label, name, chosen), torch.float32)
    yield Custom("zero_grad", _zero_grad)


def _skipped(label: str, name: str, chosen: dict[str, Any], device: str) -> Iterator[Comparison]:
    """A parameter whose gradient comes and goes, beside one that always has one."""
    options: dict[str, Any] = {"lr": 0.5, "weight_decay": 0.5}
    options |= {"momentum": 0.5} if name == "SGD" else {"betas": (0.75, 0.875), "eps": 0.125}
    always, sometimes = _leaf(64, device), _leaf(65, device)
    frozen = tensor(_values(68), device)
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(
        [always, frozen, sometimes], **options, **chosen
    )
    optimizer.step()  # nobody has a gradient
    yield compare(f"{label} (no gradients)", always, _values(64).astype(np.float32))
    gradients = [_values(76), _values(77), np.zeros(_SHAPE)]
    for step, gradient in enumerate([gradients[0], None, *gradients[1:], None]):
        always.grad = tensor(_values(78 + step), device)
        sometimes.grad = None if gradient is None else tensor(gradient, device)
        kept = flat([sometimes])
        optimizer.step()
        if gradient is None:
            yield compare(f"{label} (no gradient in step {step + 1})", flat([sometimes]), kept)
    yield compare(f"{label} (frozen)", frozen, _values(68).astype(np.float32))
    all_gradients = [_values(78 + step) for step in range(5)]
    for salt, each, given in ((64, always, all_gradients), (65, sometimes, gradients)):
        theta = exact(_values(salt), _FLOAT32)
        algorithm: Any = algorithms.sgd if name == "SGD" else algorithms.adam
        right = algorithm(theta, given, **options)[-1]
        which = "always a gradient" if each is always else "three gradients, the last of zeros"
        yield compare(f"{label} ({which})", each, right.value, right.error)


def _zero_grad(device: str) -> Iterator[Comparison]:
    """None by default, zeros where asked for; a parameter that has no gradient gets none."""
    leaves = [_leaf(66, device), _leaf(67, device)]
    optimizer = torch.optim.SGD(leaves, lr=0.5)
    leaves[0].grad = tensor(_values(79), device)
    optimizer.zero_grad(set_to_none=False)
    zeroed = leaves[0].grad
    yield fact("zero_grad (zeros)", zeroed is not None, True)
    if zeroed is not None:
        yield compare("zero_grad (zeros)", zeroed, np.zeros(_SHAPE, np.float32))
    yield fact("zero_grad (of none)", leaves[1].grad, None)
    optimizer.zero_grad()
    yield fact("zero_grad", [each.grad for each in leaves], [None, None])
