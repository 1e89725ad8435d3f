"""Optimizers that adapt their steps otherwise than by Adam's averages."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from probes.kit.trial import Trial
from probes.optimizer import step_sizes
from probes.optimizer.adaptive import recipes
from probes.optimizer.stepping import FACTORS, trials

#: Steps until RAdam's average is long enough to be rectified, and one more.
_UNTIL_RECTIFIED: Final = (*FACTORS, 0.5, 4.0)


def radam(device: str) -> Iterator[Trial]:
    """Plain, with weight decay, and with that apart from the gradient."""
    plain: dict[str, Any] = {"lr": 0.25, "betas": (0.75, 0.875)}
    options = (
        plain,
        {**plain, "weight_decay": 0.25, "eps": 0.125},
        {**plain, "weight_decay": 0.25, "decoupled_weight_decay": True},
    )
    made = recipes("RAdam", step_sizes.radam, options)
    yield from trials([*(replace(each, factors=_UNTIL_RECTIFIED) for each in made)], device)


def adadelta(device: str) -> Iterator[Trial]:
    """Plain and with weight decay."""
    plain: dict[str, Any] = {"lr": 0.5, "rho": 0.75, "eps": 0.125}
    options = (plain, {**plain, "weight_decay": 0.25})
    yield from trials(recipes("Adadelta", step_sizes.adadelta, options), device)


def asgd(device: str) -> Iterator[Trial]:
    """Plain and with weight decay."""
    plain: dict[str, Any] = {"lr": 0.25, "lambd": 0.5, "alpha": 1.0}
    options = (
        plain,
        {**plain, "weight_decay": 0.25},
    )
    yield from trials(recipes("ASGD", step_sizes.asgd, options), device)


def rprop(device: str) -> Iterator[Trial]:
    """Plain, within narrow limits, and with maximize."""
    plain: dict[str, Any] = {"lr": 0.25, "etas": (0.25, 1.5)}
    options = (
        plain,
        {**plain, "step_sizes": (0.125, 0.3125)},
    )
    yield from trials(recipes("Rprop", step_sizes.rprop, options), device)
