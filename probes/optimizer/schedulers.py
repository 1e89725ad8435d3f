"""Schedulers from step to step, from a loaded state, and the steps taken with their rates."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import torch
from torch.optim import swa_utils

from probes.contract import Comparison
from probes.kit.gradients import tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.optimizer.schedules import BASE, MOMENTA, SCHEDULES, WARM, Schedule

_STEPS: Final = 9
_STOPPED: Final = 4  # steps before the state is saved

#: Most schedulers multiply the last rate: some roundings at each of ten steps, which the quotients
#: of the cosine enlarge, the nearer to the end (1 + cos = 0.076) the more.
_ALLOWED: Final = BASE * 10 * 64 * 2.0**-53


def schedulers(_device: str) -> Iterator[Trial]:
    """Each scheduler from its first step to its last, and from a loaded state."""
    for name, schedule in SCHEDULES.items():
        yield Custom(name, partial(_rates, name, schedule), torch.float32)
    for name, (arguments, right) in MOMENTA.items():
        yield Custom(name, partial(_momentum, name, arguments, right), torch.float32)
    yield Custom("StepLR", _steps, torch.float32)
    yield Custom("ReduceLROnPlateau", partial(_plateau, "min"), torch.float32)
    yield Custom("ReduceLROnPlateau", partial(_plateau, "max"), torch.float32)


def _optimizer(device: str, **options: Any) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    leaf = tensor([0.0, 1.0], device).requires_grad_()
    leaf.grad = tensor([1.0, -1.0], device)
    other = tensor([1.0], device).requires_grad_()  # a group of its own, with half the rate
    groups: list[dict[str, Any]] = [{"params": [leaf]}, {"params": [other], "lr": BASE / 2}]
    return leaf, torch.optim.SGD(groups, lr=BASE, **options)


def _scheduler(name: str, optimizer: torch.optim.Optimizer, arguments: dict[str, Any]) -> Any:
    make: Any = torch.optim.lr_scheduler
    name, _, _ = name.partition(" ")
    if name == "SWALR":
        return swa_utils.SWALR(optimizer, **arguments)
    if name in {"SequentialLR", "ChainedScheduler"}:
        parts = [
            make.LinearLR(optimizer, start_factor=0.25, total_iters=WARM),
            make.ExponentialLR(optimizer, gamma=0.75),
        ]
        more = {"milestones": [WARM]} if name == "SequentialLR" else {}
        return getattr(make, name)(*([optimizer] if more else []), parts, **more)
    return getattr(make, name)(optimizer, **arguments)


def _rates(name: str, schedule: Schedule, device: str) -> Iterator[Comparison]:
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
    name: str, schedule: Schedule, saved: dict[str, Any], device: str
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


def _momentum(
    name: str, arguments: dict[str, Any], right: list[float], device: str
) -> Iterator[Comparison]:
    """The momentum is moved against the rate."""
    _, optimizer = _optimizer(device, momentum=0.9)
    scheduler = _scheduler(name, optimizer, arguments)
    momenta = [optimizer.param_groups[0]["momentum"]]
    for _ in range(_STEPS):
        optimizer.step()
        scheduler.step()
        momenta.append(optimizer.param_groups[0]["momentum"])
    yield compare(f"{name} (momentum)", np.array(momenta, float), np.array(right), _ALLOWED)


def _plateau(mode: Literal["min", "max"], device: str) -> Iterator[Comparison]:
    """Halved after more than one step without a better loss, each time anew, down to a limit."""
    _, optimizer = _optimizer(device)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.5, patience=1, min_lr=BASE / 4
    )
    rates = []
    for loss in (1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 0.5):
        optimizer.step()
        scheduler.step(loss if mode == "min" else 1 / loss)
        rates.append(_read(optimizer))
    halved = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 3])
    right = 0.5 ** halved[:, None] * np.array([BASE, BASE / 2])
    limited = np.maximum(right, BASE / 4)
    yield compare(f"ReduceLROnPlateau ({mode})", np.array(rates), limited)


def _steps(device: str) -> Iterator[Comparison]:
    """A gradient of 1: each step moves by the rate of its time, a power of two, to the bit."""
    leaf, optimizer = _optimizer(device)
    scheduler = _scheduler("StepLR", optimizer, {"step_size": 3, "gamma": 0.5})
    for _ in range(_STEPS):
        optimizer.step()
        scheduler.step()
    moved = sum(SCHEDULES["StepLR"].rate(t) for t in range(_STEPS))
    yield compare("StepLR (steps)", leaf, np.array([-moved, 1 + moved], np.float32))
