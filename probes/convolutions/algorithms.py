"""Algorithms by choice, and the precision of float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.convolutions import problems, running, tables
from probes.convolutions.problems import Problem
from probes.kit.convolutions import moving
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.operands import F32, integers
from probes.kit.precision import full_precision_convolutions
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial

_CHOSEN: Final = (tables.GRADIENTS[1], tables.GRADIENTS[2], tables.GRADIENTS[10])


@contextmanager
def _cudnn(*, benchmark: bool, deterministic: bool) -> Iterator[None]:
    """How cuDNN picks an algorithm; restored at the end. MIOpen follows the same switches."""
    switches: Any = torch.backends.cudnn
    before = switches.benchmark, switches.deterministic
    try:
        switches.benchmark, switches.deterministic = benchmark, deterministic
        yield
    finally:
        switches.benchmark, switches.deterministic = before


def algorithms(device: str) -> Iterator[Trial]:
    """By trying all that there are, by rule, and deterministic ones, which repeat their bits."""
    for name, benchmark, deterministic in (
        ("benchmark", True, False),
        ("by rule", False, False),
        ("deterministic", False, True),
    ):
        trials = (
            *running.outputs(_CHOSEN, device, dtypes=(torch.float32,)),
            *running.outputs(_CHOSEN, device, dtypes=(torch.float16,)),
            *running.gradients(_CHOSEN, device, dtypes=(torch.float32,)),
        )
        for trial in trials:
            body = partial(_chosen, trial, name, (benchmark, deterministic))
            yield Custom(f"{trial.operation} {name}", body, trial.dtype)
    yield Custom("repeated", _repeated)


def _chosen(
    trial: Trial, name: str, switches: tuple[bool, bool], device: str
) -> Iterator[Comparison]:
    with _cudnn(benchmark=switches[0], deterministic=switches[1]):
        for each in trial.run(device):
            kind, _, variant = each.operation.partition(" (")
            yield each.model_copy(update={"operation": f"{kind} {name} ({variant}"})


def _repeated(device: str) -> Iterator[Comparison]:
    """Sums of numbers that round: a deterministic algorithm gives the same bits each time."""
    problem = tables.GRADIENTS[1]
    each = problems.operands(problem, 5)
    with _cudnn(benchmark=False, deterministic=True):
        found = []
        for _ in range(3):
            x, w = (leaf(array / 3, device) for array in (each.x, each.w))
            output = running.call(problem, x, w, None)
            upstream = tensor(each.upstream / 7, device)
            gradients = torch.autograd.grad(root(output, upstream), [x, w])
            found.append([host(each) for each in (output, *gradients)])
    for again in found[1:]:
        for what, first, second in zip(("output", "input", "weight"), found[0], again, strict=True):
            yield compare(f"repeated ({problem}, {what})", second, first)


#: Numbers next to 1 whose last bits TF32 drops: its error is 2^-12 or more.
_DROPPED: Final = 2.0**-14


def precision(_device: str) -> Iterator[Trial]:
    """With TF32 switched off all 24 bits are kept, forward and backward."""
    for axes in (1, 2, 3):
        for transposed in (False, True):
            yield Custom("float32", partial(_full, axes, 1, transposed=transposed))
    yield Custom("float32", partial(_full, 2, 4))
    yield Custom("float32", partial(_full, 2, 16))


def _full(axes: int, groups: int, device: str, *, transposed: bool = False) -> Iterator[Comparison]:
    """A filter that takes each channel as it is, so that outputs and gradients are operands."""
    near = (1 + 2.0**-12 * integers((2, 16, *(6, 5, 7)[:axes]), 1, 9, 14)).astype(F32)
    up = (1 + 2.0**-12 * integers(near.shape, 1, 9, 15)).astype(F32)
    each = np.arange(16)
    taps = np.zeros((16, 16 // groups, *(3,) * axes))
    center: tuple[Any, ...] = (each, each % (16 // groups), *(1,) * axes)
    taps[center] = 1
    # One upstream number in each channel: the weight's gradient is a piece of the input.
    one = np.zeros(near.shape)
    place: tuple[Any, ...] = (0, slice(None), *(2,) * axes)
    one[place] = 1
    problem = Problem(near.shape, taps.shape, moving(axes, 1, 1, groups=groups), False, transposed)
    with full_precision_convolutions():
        x, w = leaf(near, device), leaf(taps, device)
        output = running.call(problem, x, w, None)
        (of_x,) = torch.autograd.grad(root(output, tensor(up, device)), [x])
        output = running.call(problem, x, w, None)
        (of_w,) = torch.autograd.grad(root(output, tensor(one, device)), [w])
    text = f"float32 ({problem.name}, {problem}"
    yield compare(f"{text})", host(output), near, _DROPPED)
    yield compare(f"{text}, gradient of input)", host(of_x), up, _DROPPED)
    wide = near.astype(np.float64)
    upstream, operand = (wide, one) if transposed else (one, wide)
    right = problem.steps.weight_gradient(upstream, operand, problem.w[2:])
    yield compare(f"{text}, gradient of weight)", host(of_w), right.astype(F32), _DROPPED)
