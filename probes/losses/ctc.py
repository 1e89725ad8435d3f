"""CTC: the sum over alignments by Graves' recursions in logarithms, and its gradient.

The gradient is compared behind log_softmax, as torch documents it: softmax less the share of
alignments that pass through each symbol at each step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.operands import coarse, integers, odd
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import FUNCTION_UNITS, Array
from probes.kit.trial import Custom, Trial

_SYMBOLS: Final = 6


@dataclass(frozen=True)
class Setting:
    """One way of calling it."""

    steps: tuple[int, ...] = (12, 9, 12)  # of each sequence
    lengths: tuple[int, ...] = (4, 1, 3)  # of each target
    blank: int = 0
    joined: bool = False  # the targets one after the other
    in_tensors: bool = False  # the lengths are tensors on the device
    host_targets: bool = False  # int32 on the host, as cuDNN asks for
    repeated: bool = False  # the same symbol in a row needs a blank between

    def targets(self) -> list[Any]:
        """The symbols of each target, without the blank."""
        drawn = integers((len(self.lengths), max(self.lengths)), 1, _SYMBOLS - 1, 331, np.int64)
        if self.repeated:
            drawn = np.full_like(drawn, 2)
        shifted = np.where(drawn <= self.blank, drawn - 1, drawn)
        return [row[:length] for row, length in zip(shifted, self.lengths, strict=True)]

    def __str__(self) -> str:
        """The options."""
        parts = [f"lengths {self.lengths} in {self.steps}", f"blank {self.blank}"]
        parts += ["joined"] if self.joined else []
        parts += ["lengths on the device"] if self.in_tensors else []
        parts += ["int32 on the host"] if self.host_targets else []
        parts += ["repeated"] if self.repeated else []
        return ", ".join(parts)


_SETTINGS: Final = (
    Setting(),
    Setting(blank=_SYMBOLS - 1, in_tensors=True),
    Setting(blank=2, joined=True),
    Setting(steps=(12, 12, 12), joined=True, host_targets=True),
    Setting(lengths=(5, 3, 2), repeated=True),
    Setting(lengths=(4, 0, 3)),
    Setting(steps=(150, 149, 131), lengths=(60, 41, 33)),  # more states than a warp has threads
)
#: The second target is longer than its sequence.
_IMPOSSIBLE: Final = Setting(steps=(12, 2, 12), lengths=(4, 4, 3))


def ctc(_device: str) -> Iterator[Trial]:
    """Each setting and reduction in float32 and float64, and a target that does not fit."""
    for dtype in (torch.float32, torch.float64):
        for setting in _SETTINGS:
            for reduction in ("none", "mean", "sum"):
                yield Custom("ctc_loss", partial(_compare, setting, reduction, dtype), dtype)
        yield Custom("ctc_loss alone", partial(_alone, dtype), dtype)
        yield Custom("ctc_loss impossible", partial(_impossible, dtype), dtype)


def _scores(setting: Setting) -> Array:
    """(T, B, symbols)."""
    return coarse((max(setting.steps), 3, _SYMBOLS), -2, 2, 332)


def expected(setting: Setting) -> tuple[Array, Array]:
    """The loss of each sequence, and the gradients of its sum by the scores (T, B, symbols)."""
    scores = _scores(setting)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    losses, gradient = [], np.zeros_like(scores)
    for at, (steps, target) in enumerate(zip(setting.steps, setting.targets(), strict=True)):
        loss, shares = _one(logs[:steps, at], target, setting.blank)
        losses.append(loss)
        if np.isfinite(loss):
            gradient[:steps, at] = np.exp(logs[:steps, at]) - shares
    return np.array(losses), gradient


def _one(logs: Array, target: Any, blank: int) -> tuple[float, Array]:
    """The loss of one sequence, and the expected number of each symbol at each step."""
    states = np.full(2 * len(target) + 1, blank)
    states[1::2] = target
    forward = _forward(logs, states, blank)
    backward = _forward(logs[::-1], states[::-1], blank)[::-1, ::-1]
    total = np.logaddexp.reduce(forward[-1, -2:])
    occupied = np.exp(forward + backward - logs[:, states] - total)
    shares = np.zeros_like(logs)
    for state, symbol in enumerate(states):
        shares[:, symbol] += occupied[:, state]
    return -float(total), shares


def _forward(logs: Array, states: Any, blank: int) -> Array:
    """The logarithm of the probability of being in each state after each step, (T, S)."""
    count = len(states)
    skips = np.zeros(count, bool)
    skips[2:] = (states[2:] != blank) & (states[2:] != states[:-2])
    alpha = np.full((len(logs), count), -np.inf)
    alpha[0, :2] = logs[0, states[:2]]
    for step in range(1, len(logs)):
        stay = alpha[step - 1]
        moved = np.concatenate([[-np.inf], stay[:-1]])
        skipped = np.where(skips, np.concatenate([[-np.inf] * 2, stay[:-2]])[:count], -np.inf)
        paths = np.logaddexp(np.logaddexp(stay, moved), skipped)
        alpha[step] = paths + logs[step, states]
    return alpha


def _call(
    setting: Setting, scores: torch.Tensor, reduction: str, *, zero_infinity: bool = False
) -> torch.Tensor:
    place = "cpu" if setting.host_targets else str(scores.device)
    kind = torch.int32 if setting.host_targets else torch.int64
    targets = setting.targets()
    flat = np.concatenate(targets)
    if not setting.joined:
        flat = np.zeros((len(targets), max(setting.lengths)), np.int64)
        for row, target in zip(flat, targets, strict=True):
            row[: len(target)] = target
    lengths: tuple[Any, Any] = (setting.steps, setting.lengths)
    if setting.in_tensors:
        lengths = tuple(torch.tensor(each, device=scores.device) for each in lengths)  # type: ignore[assignment]
    return functional.ctc_loss(
        scores.log_softmax(-1),
        torch.from_numpy(flat).to(place, kind),
        *lengths,
        blank=setting.blank,
        reduction=reduction,
        zero_infinity=zero_infinity,
    )


def _allowed(size: Array | float, setting: Setting, dtype: torch.dtype) -> Any:
    """Each step adds logarithms of sums, which are off by units of the loss so far."""
    steps = max(setting.steps)
    return FUNCTION_UNITS * steps * UNIT_ROUNDOFF[dtype] * (np.abs(size) + steps)


def _compare(
    setting: Setting, reduction: str, dtype: torch.dtype, device: str
) -> Iterator[Comparison]:
    label = f"ctc_loss ({setting}, {reduction}, {str(dtype).removeprefix('torch.')}"
    losses, gradient = expected(setting)
    scores = leaf(_scores(setting), device, dtype)
    found = _call(setting, scores, reduction)
    # The mean is of the losses by the lengths of their targets.
    divisors = np.ones(3)
    if reduction == "mean":
        divisors = 3.0 * np.maximum(setting.lengths, 1)
    shares = losses / divisors
    value = shares if reduction == "none" else np.asarray(shares.sum())
    largest = float(np.abs(losses).max())
    yield compare(f"{label})", host(found), value, _allowed(largest, setting, dtype))
    upstream = odd(value.shape, 333)
    (by_torch,) = torch.autograd.grad(root(found, tensor(upstream, device, dtype)), scores)
    factors = (upstream / divisors).reshape(1, -1, 1)
    allowed = _allowed(largest, setting, dtype) * np.abs(factors)
    yield compare(f"{label}, gradient)", host(by_torch), gradient * factors, allowed)


def _alone(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """One sequence without a batch."""
    setting = Setting()
    (steps, *_), (target, *_) = setting.steps, setting.targets()
    scores = tensor(_scores(setting)[:, 0], device, dtype)
    given = torch.from_numpy(target.copy()).to(device)
    call: Any = functional.ctc_loss
    found = call(scores.log_softmax(-1), given, (steps,), (target.size,))
    right = expected(setting)[0][0]
    label = f"ctc_loss alone ({str(dtype).removeprefix('torch.')})"
    allowed = _allowed(right, setting, dtype)
    yield compare(label, host(found), np.asarray(right / target.size), np.asarray(allowed))


def _impossible(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """The loss is infinite, or with zero_infinity 0 with a gradient of 0."""
    label = f"ctc_loss impossible ({str(dtype).removeprefix('torch.')}"
    losses, gradient = expected(_IMPOSSIBLE)
    scores = leaf(_scores(_IMPOSSIBLE), device, dtype)
    found = _call(_IMPOSSIBLE, scores, "none")
    allowed = _allowed(20.0, _IMPOSSIBLE, dtype)
    yield compare(f"{label})", host(found), losses, allowed)
    zeroed = np.where(np.isinf(losses), 0, losses)
    for reduction, right in (
        ("mean", np.asarray((zeroed / _IMPOSSIBLE.lengths).mean())),
        ("sum", np.asarray(zeroed.sum())),
        ("none", zeroed),
    ):
        finite = _call(_IMPOSSIBLE, scores, reduction, zero_infinity=True)
        yield compare(f"{label}, zero_infinity, {reduction})", host(finite), right, 3 * allowed)
    (by_torch,) = torch.autograd.grad(root(finite, tensor(np.ones(3), device, dtype)), scores)
    yield compare(f"{label}, gradient)", host(by_torch), gradient, allowed)
