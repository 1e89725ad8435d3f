"""Learning rates by their schedulers' closed forms, and the steps taken with them."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch.optim import swa_utils

from probes.contract import Comparison
from probes.kit.gradients import tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial

_BASE: Final = 0.5
_STEPS: Final = 9
_STOPPED: Final = 4  # steps before the state is saved

#: Most schedulers multiply the last rate: some roundings at each of ten steps, which the quotients
#: of the cosine enlarge, the nearer to the end (1 + cos = 0.076) the more.
_ALLOWED: Final = _BASE * 10 * 64 * 2.0**-53

_MAX: Final = 1.0
_HALF_PERIOD: Final = 8
_WARM: Final = 3  # steps of a warm-up in front of another schedule


class _Schedule(NamedTuple):
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
    return _BASE * (0.25 + 0.75 * t / _WARM if t < _WARM else 0.75 ** (t - _WARM))


SCHEDULES: Final[dict[str, _Schedule]] = {
    "StepLR": _Schedule({"step_size": 3, "gamma": 0.5}, lambda t: _BASE * 0.5 ** (t // 3)),
    "MultiStepLR": _Schedule(
        {"milestones": [2, 5], "gamma": 0.25}, lambda t: _BASE * 0.25 ** ((t >= 2) + (t >= 5))
    ),
    "ExponentialLR": _Schedule({"gamma": 0.75}, lambda t: _BASE * 0.75**t),
    "CosineAnnealingLR": _Schedule(
        {"T_max": _HALF_PERIOD, "eta_min": 0.125},
        lambda t: _cosine(_BASE, 0.125, t / _HALF_PERIOD),  # rises again after the end
        proportional=False,
    ),
    "CosineAnnealingWarmRestarts": _Schedule(
        {"T_0": 4, "eta_min": 0.125},
        lambda t: _cosine(_BASE, 0.125, t % 4 / 4),
        proportional=False,
    ),
    "ConstantLR": _Schedule(
        {"factor": 0.25, "total_iters": 4}, lambda t: _BASE * (0.25 if t < 4 else 1)
    ),
    "PolynomialLR": _Schedule(
        {"total_iters": 6, "power": 2.0}, lambda t: _BASE * (1 - min(t, 6) / 6) ** 2
    ),
    "MultiplicativeLR": _Schedule({"lr_lambda": lambda _: 0.5}, lambda t: _BASE * 0.5**t),
    "LinearLR": _Schedule(
        {"start_factor": 0.25, "end_factor": 1.0, "total_iters": 6},
        lambda t: _BASE * (0.25 + 0.75 * min(t, 6) / 6),
    ),
    "LambdaLR": _Schedule({"lr_lambda": lambda t: 1 / (1 + t)}, lambda t: _BASE / (1 + t)),
    "OneCycleLR": _Schedule(
        {"max_lr": _MAX, "total_steps": 10, "cycle_momentum": False},
        lambda t: _one_cycle(t, _MAX / 25, _MAX, _MAX / 25 / 1e4),
        proportional=False,
    ),
    "SequentialLR": _Schedule({}, _warmed_up),
    "ChainedScheduler": _Schedule(
        {}, lambda t: _BASE * (0.25 + 0.75 * min(t, _WARM) / _WARM) * 0.75**t
    ),
    "CyclicLR": _Schedule(
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
    "SWALR": _Schedule(
        {"swa_lr": 0.125, "anneal_epochs": 4, "anneal_strategy": "linear"},
        lambda t: _BASE + (0.125 - _BASE) * min(t, 4) / 4,
        proportional=False,
    ),
}


def schedulers(_device: str) -> Iterator[Trial]:
    """Each scheduler from its first step to its last, and from a loaded state."""
    for name, schedule in SCHEDULES.items():
        yield Custom(name, partial(_rates, name, schedule), torch.float32)
    yield Custom("OneCycleLR", _momentum, torch.float32)
    yield Custom("StepLR", _steps, torch.float32)
    yield Custom("ReduceLROnPlateau", _plateau, torch.float32)


def _optimizer(device: str, **options: Any) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    leaf = tensor([0.0, 1.0], device).requires_grad_()
    leaf.grad = tensor([1.0, -1.0], device)
    other = tensor([1.0], device).requires_grad_()  # a group of its own, with half the rate
    groups: list[dict[str, Any]] = [{"params": [leaf]}, {"params": [other], "lr": _BASE / 2}]
    return leaf, torch.optim.SGD(groups, lr=_BASE, **options)


def _scheduler(name: str, optimizer: torch.optim.Optimizer, arguments: dict[str, Any]) -> Any:
    make: Any = torch.optim.lr_scheduler
    if name == "SWALR":
        return swa_utils.SWALR(optimizer, **arguments)
    if name in {"SequentialLR", "ChainedScheduler"}:
        parts = [
            make.LinearLR(optimizer, start_factor=0.25, total_iters=_WARM),
            make.ExponentialLR(optimizer, gamma=0.75),
        ]
        more = {"milestones": [_WARM]} if name == "SequentialLR" else {}
        return getattr(make, name)(*([optimizer] if more else []), parts, **more)
    return getattr(make, name)(optimizer, **arguments)


def _rates(name: str, schedule: _Schedule, device: str) -> Iterator[Comparison]:
    _, optimizer = _optimizer(device)
    scheduler = _scheduler(name, optimizer, schedule.arguments)
    rates, saved = [_read(optimizer)], {}
    for step in range(_STEPS):
        optimizer.step()
        scheduler.step()
        rates.append(_read(optimizer))
        if step + 1 == _STOPPED:
            saved = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    right = np.array([schedule.rate(t) for t in range(_STEPS + 1)])
    first, second = np.array(rates, float).T
    yield compare(f"{name} (rates)", first, right, _ALLOWED)
    if schedule.proportional:
        yield compare(f"{name} (rates of the second group)", second, right / 2, _ALLOWED)
    last = np.array(scheduler.get_last_lr(), float)
    yield compare(f"{name} (get_last_lr)", last[:1], right[-1:], _ALLOWED)
    yield from _loaded(name, schedule, saved, device)


def _read(optimizer: torch.optim.Optimizer) -> list[float]:
    """The rate of each group."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def _loaded(
    name: str, schedule: _Schedule, saved: dict[str, Any], device: str
) -> Iterator[Comparison]:
    _, optimizer = _optimizer(device)
    scheduler = _scheduler(name, optimizer, schedule.arguments)
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    optimizer.step()
    scheduler.step()
    rate = np.array(optimizer.param_groups[0]["lr"], float)
    right = np.array(schedule.rate(_STOPPED + 1))
    yield compare(f"{name} (loaded)", rate, right, _ALLOWED)


def _momentum(device: str) -> Iterator[Comparison]:
    """OneCycleLR moves the momentum against the rate, from 0.95 to 0.85 and back."""
    _, optimizer = _optimizer(device, momentum=0.9)
    scheduler = _scheduler("OneCycleLR", optimizer, {"max_lr": _MAX, "total_steps": 10})
    momenta = [optimizer.param_groups[0]["momentum"]]
    for _ in range(_STEPS):
        optimizer.step()
        scheduler.step()
        momenta.append(optimizer.param_groups[0]["momentum"])
    right = np.array([_one_cycle(t, 0.95, 0.85, 0.95) for t in range(_STEPS + 1)])
    yield compare("OneCycleLR (momentum)", np.array(momenta, float), right, _ALLOWED)


def _plateau(device: str) -> Iterator[Comparison]:
    """Halved after more than one step without a smaller loss, each time anew."""
    _, optimizer = _optimizer(device)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    rates = []
    for loss in (1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.5, 0.5):
        optimizer.step()
        scheduler.step(loss)
        rates.append(_read(optimizer))
    halved = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    right = 0.5 ** halved[:, None] * np.array([_BASE, _BASE / 2])
    yield compare("ReduceLROnPlateau", np.array(rates), right)


def _steps(device: str) -> Iterator[Comparison]:
    """A gradient of 1: each step moves by the rate of its time, a power of two, to the bit."""
    leaf, optimizer = _optimizer(device)
    scheduler = _scheduler("StepLR", optimizer, {"step_size": 3, "gamma": 0.5})
    for _ in range(_STEPS):
        optimizer.step()
        scheduler.step()
    moved = sum(SCHEDULES["StepLR"].rate(t) for t in range(_STEPS))
    yield compare("StepLR (steps)", leaf, np.array([-moved, 1 + moved], np.float32))
