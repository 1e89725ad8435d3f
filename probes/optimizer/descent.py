"""Stochastic gradient descent, with and without momentum."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import torch

from probes.kit.trial import Trial
from probes.optimizer.algorithms import sgd as algorithm
from probes.optimizer.parameters import MANY
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
    yield _exact(options[0], only=("fused",), tensor_lr=True)
    yield _rounded(usual)


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


def momentum(device: str) -> Iterator[Trial]:
    """With momentum, dampening, Nesterov's momentum and weight decay."""
    options: tuple[dict[str, Any], ...] = (
        {"lr": 0.5, "momentum": 0.5},
        {"lr": 0.5, "momentum": 0.5, "dampening": 0.25},
        {"lr": 0.5, "momentum": 0.5, "nesterov": True},
        {"lr": 0.5, "momentum": 0.25, "dampening": 0.5, "maximize": True},
        {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.25, "nesterov": True},
    )
    usual = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}
    yield from trials([*_recipes(options, usual, device)], device)
