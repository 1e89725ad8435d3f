"""Learning rates and momenta by the closed forms of their schedulers' pages."""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

BASE: Final = 0.5
_MAX: Final = 1.0
_HALF_PERIOD: Final = 8
WARM: Final = 3  # steps of a warm-up in front of another schedule


class Schedule(NamedTuple):
    """The arguments of a scheduler, and the rate after t steps."""

    arguments: dict[str, Any]
    rate: Callable[[int], float]
    proportional: bool = True  # to the rate at the start


def _cosine(start: float, end: float, share: float) -> float:
    """Half a period of a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _one_cycle(t: int, low: float, high: float, end: float) -> float:
    """Up to `high` in the first 30 % of ten steps, then down to `end`."""
    return _cosine(low, high, t / 2) if t <= 2 else _cosine(high, end, (t - 2) / 7)


def _triangle(t: int) -> float:
    """Up in two steps and down in four."""
    return t / 2 if t <= 2 else (6 - t) / 4


def _warmed_up(t: int) -> float:
    """Up to the rate in three steps, then down exponentially."""
    return BASE * (0.25 + 0.75 * t / WARM if t < WARM else 0.75 ** (t - WARM))


#: Scheduler, and a word for its arguments -> its schedule.
SCHEDULES: Final[dict[str, Schedule]] = {
    "StepLR": Schedule({"step_size": 3, "gamma": 0.5}, lambda t: BASE * 0.5 ** (t // 3)),
    "MultiStepLR": Schedule(
        {"milestones": [2, 5], "gamma": 0.25}, lambda t: BASE * 0.25 ** ((t >= 2) + (t >= 5))
    ),
    "ExponentialLR": Schedule({"gamma": 0.75}, lambda t: BASE * 0.75**t),
    "CosineAnnealingLR": Schedule(
        {"T_max": _HALF_PERIOD, "eta_min": 0.125},
        lambda t: _cosine(BASE, 0.125, t / _HALF_PERIOD),  # rises again after the end
        proportional=False,
    ),
    "CosineAnnealingWarmRestarts": Schedule(
        {"T_0": 4, "eta_min": 0.125},
        lambda t: _cosine(BASE, 0.125, t % 4 / 4),
        proportional=False,
    ),
    "ConstantLR": Schedule(
        {"factor": 0.25, "total_iters": 4}, lambda t: BASE * (0.25 if t < 4 else 1)
    ),
    "PolynomialLR": Schedule(
        {"total_iters": 6, "power": 2.0}, lambda t: BASE * (1 - min(t, 6) / 6) ** 2
    ),
    "MultiplicativeLR": Schedule({"lr_lambda": lambda _: 0.5}, lambda t: BASE * 0.5**t),
    "LinearLR": Schedule(
        {"start_factor": 0.25, "end_factor": 1.0, "total_iters": 6},
        lambda t: BASE * (0.25 + 0.75 * min(t, 6) / 6),
    ),
    "LambdaLR": Schedule({"lr_lambda": lambda t: 1 / (1 + t)}, lambda t: BASE / (1 + t)),
    "OneCycleLR": Schedule(
        {"max_lr": _MAX, "total_steps": 10, "cycle_momentum": False},
        lambda t: _one_cycle(t, _MAX / 25, _MAX, _MAX / 25 / 1e4),
        proportional=False,
    ),
    "SequentialLR": Schedule({}, _warmed_up),
    "ChainedScheduler": Schedule(
        {}, lambda t: BASE * (0.25 + 0.75 * min(t, WARM) / WARM) * 0.75**t
    ),
    "CyclicLR": Schedule(
        {
            "base_lr": 0.125,
            "max_lr": _MAX,
            "step_size_up": 2,
            "step_size_down": 4,
            "mode": "triangular2",
            "cycle_momentum": False,
        },
        lambda t: 0.125 + (_MAX - 0.125) * _triangle(t % 6) / 2 ** (t // 6),
        proportional=False,
    ),
    "CyclicLR exp_range": Schedule(
        {
            "base_lr": 0.125,
            "max_lr": _MAX,
            "step_size_up": 2,
            "step_size_down": 4,
            "mode": "exp_range",
            "gamma": 0.75,
            "cycle_momentum": False,
        },
        lambda t: 0.125 + (_MAX - 0.125) * _triangle(t % 6) * 0.75**t,
        proportional=False,
    ),
    "OneCycleLR three_phase": Schedule(
        {
            "max_lr": _MAX,
            "total_steps": 10,
            "anneal_strategy": "linear",
            "three_phase": True,
            "cycle_momentum": False,
        },
        lambda t: float(np.interp(t, (0, 2, 4, 9), (0.04, _MAX, 0.04, 4e-6))),
        proportional=False,
    ),
    "CosineAnnealingWarmRestarts T_mult": Schedule(
        {"T_0": 2, "T_mult": 2},
        lambda t: _cosine(BASE, 0, t / 2 if t < 2 else (t - 2) / 4 if t < 6 else (t - 6) / 8),
    ),
    "SWALR cos": Schedule(
        {"swa_lr": 0.125, "anneal_epochs": 4, "anneal_strategy": "cos"},
        lambda t: _cosine(BASE, 0.125, min(t, 4) / 4),
        proportional=False,
    ),
    "SWALR": Schedule(
        {"swa_lr": 0.125, "anneal_epochs": 4, "anneal_strategy": "linear"},
        lambda t: BASE + (0.125 - BASE) * min(t, 4) / 4,
        proportional=False,
    ),
}

#: Scheduler -> its arguments, and the momentum after each step.
MOMENTA: Final[dict[str, tuple[dict[str, Any], list[float]]]] = {
    "OneCycleLR": (
        {"max_lr": _MAX, "total_steps": 10},
        [_one_cycle(t, 0.95, 0.85, 0.95) for t in range(10)],
    ),
    "CyclicLR": (
        {"base_lr": 0.125, "max_lr": _MAX, "step_size_up": 2, "step_size_down": 4},
        [0.9 - 0.1 * _triangle(t % 6) for t in range(10)],
    ),
}
