"""Fused optimizers, which take the scale and what was found into their kernel.

Not compared: SGD with momentum whose first step of all is skipped. In every release that has the
kernel, its momentum is then memory that nothing was written to (`_fused_sgd` in torch/optim/sgd.py
makes it with empty_like); foreach=True has no such step.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from probes.amp.regions import Array, compare_typed
from probes.amp.scalers import SCALE, Parameters, started
from probes.contract import Comparison
from probes.kit.capabilities import has_kernel
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.trial import Custom, Trial, fact

_SINGLE: Final = torch.float32

#: Of a step of Adam: averages, their corrections, a root, a quotient, a product and a difference,
#: with several roundings each.
_ROUNDINGS: Final = 64

_BAD: Final = (float("inf"), float("nan"))


class _Optimizer(NamedTuple):
    """An optimizer that has a fused kernel, its options, and whether its steps are exact."""

    kernel: str
    options: dict[str, Any]
    exact: bool


#: With a constant gradient g each step of Adam moves by lr g / (|g| + eps).
_ADAM: Final[dict[str, Any]] = {"lr": 0.25, "betas": (0.75, 0.875), "eps": 0.5}

_OPTIMIZERS: Final = {
    "SGD": _Optimizer("_fused_sgd_", {"lr": 0.5}, exact=True),
    "SGD with momentum": _Optimizer("_fused_sgd_", {"lr": 0.5, "momentum": 0.5}, exact=True),
    "Adam": _Optimizer("_fused_adam_", _ADAM, exact=False),
    "AdamW": _Optimizer("_fused_adamw_", {**_ADAM, "weight_decay": 0.0}, exact=False),
}


def no_fused(device: str) -> str:
    """Why nothing is compared; empty where something is."""
    if any(has_kernel(each.kernel, device) for each in _OPTIMIZERS.values()):
        return ""
    return f"this torch has no fused optimizer for {torch.device(device).type}"


def fused_steps(device: str) -> Iterator[Trial]:
    """Each optimizer that has a kernel here, unscaled by its kernel or before."""
    for name, optimizer in _OPTIMIZERS.items():
        if not has_kernel(optimizer.kernel, device):
            continue
        for explicit in (False, True):
            yield Custom(name, partial(_good, name, explicit=explicit), _SINGLE)
            for bad in _BAD:
                yield Custom(name, partial(_bad, name, bad, explicit=explicit), _SINGLE)


def _made(name: str, parameters: Parameters) -> torch.optim.Optimizer:
    kind = getattr(torch.optim, name.partition(" ")[0])
    found: torch.optim.Optimizer = kind(parameters.leaves, fused=True, **_OPTIMIZERS[name].options)
    return found


def _iterate(made: Any, optimizer: Any, parameters: Parameters, *bad: Any, explicit: bool) -> None:
    parameters.scaled(made.get_scale(), *bad)
    if explicit:
        made.unscale_(optimizer)
    made.step(optimizer)
    made.update()


def _good(name: str, device: str, *, explicit: bool) -> Iterator[Comparison]:
    """Three steps."""
    made, parameters = started(device, growth_interval=2), Parameters(device)
    optimizer = _made(name, parameters)
    label = f"{name} ({'after unscale_' if explicit else 'alone'}, step"
    for count in (1, 2, 3):
        _iterate(made, optimizer, parameters, explicit=explicit)
        yield from _compared(name, parameters, count, f"{label} {count},")
    yield fact(f"{label}s, scale)", made.get_scale(), 2 * SCALE)


def _bad(name: str, bad: float, device: str, *, explicit: bool) -> Iterator[Comparison]:
    """A good step, one that is skipped with all its state, and a good one again."""
    made, parameters = started(device), Parameters(device)
    optimizer = _made(name, parameters)
    label = f"{name} ({'after unscale_' if explicit else 'alone'}, {bad}"
    first = 0 if "momentum" in name else 1
    if first:  # so that the first step of all is skipped
        _iterate(made, optimizer, parameters, bad, explicit=explicit)
        yield from _compared(name, parameters, 0, f"{label} at first,")
    _iterate(made, optimizer, parameters, explicit=explicit)
    before = _state(optimizer)
    _iterate(made, optimizer, parameters, bad, (0, 0), explicit=explicit)
    yield from _compared(name, parameters, 1, f"{label} in between,")
    yield fact(f"{label}, state)", _state(optimizer) == before, True)
    yield fact(f"{label}, scale)", made.get_scale(), SCALE / 2 ** (1 + first))
    _iterate(made, optimizer, parameters, explicit=explicit)
    yield from _compared(name, parameters, 2, f"{label} behind,")


def _state(optimizer: torch.optim.Optimizer) -> list[Any]:
    """What the optimizer keeps of each parameter."""
    return [
        {name: value.tolist() for name, value in state.items() if isinstance(value, torch.Tensor)}
        for state in optimizer.state_dict()["state"].values()
    ]


def _compared(name: str, parameters: Parameters, steps: int, label: str) -> Iterator[Comparison]:
    """Compare the parameters after so many good steps."""
    _, options, exact = _OPTIMIZERS[name]
    for i, leaf in enumerate(parameters.leaves):
        start, own = parameters.start[i], parameters.own[i]
        rate = options["lr"]
        if exact:
            momentum = options.get("momentum", 0.0)
            moved = sum(1 - momentum ** (steps - k) for k in range(steps)) / (1 - momentum)
            right: Array = start - rate * moved * own
        else:
            right = start - steps * rate * own / (np.abs(own) + options["eps"])
        bound = _ROUNDINGS * UNIT_ROUNDOFF[_SINGLE] * (np.abs(start) + steps)
        yield compare_typed(
            f"{label} parameter {i})", leaf, _SINGLE, right, None if exact else bound
        )
