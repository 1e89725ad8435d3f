"""Padding by name and by mode, and images without a batch."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.convolutions import problems, running
from probes.convolutions.problems import Problem
from probes.kit.convolutions import moving
from probes.kit.gradients import leaf, root, tensor
from probes.kit.operands import integers
from probes.kit.trial import Custom, Trial

#: torch's padding mode -> NumPy's.
_MODES: Final = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

#: With stride or dilation 2: no padding mode changes what algorithms there are.
_SAME: Final = (
    Problem((2, 4, 23), (6, 4, 5), moving(1, dilation=2, padding=4)),
    Problem((2, 4, 9, 11), (6, 4, 3, 3), moving(2, dilation=2, padding=2)),
    Problem((2, 4, 9, 11), (4, 1, 4, 4), moving(2, dilation=2, padding=3, groups=4)),
    Problem((1, 3, 5, 6, 7), (4, 3, 3, 3, 3), moving(3, dilation=2, padding=2)),
)
_VALID: Final = Problem((2, 4, 9, 11), (6, 4, 3, 2), moving(2, 2))


def padding(device: str) -> Iterator[Trial]:
    """`same`, `valid`, and what layers put around an image."""
    for problem in _SAME:
        for dtype in problem.dtypes(device):
            yield Custom(problem.name, partial(_named, problem, dtype, "same"), dtype)
    yield Custom(_VALID.name, partial(_named, _VALID, torch.float32, "valid"))
    for mode in _MODES:
        for axes in (1, 2, 3):
            yield Custom(f"Conv{axes}d", partial(_layer, mode, axes))
    for axes in (1, 2, 3):
        yield Custom(f"conv{axes}d", partial(_without_batch, axes))


def _named(problem: Problem, dtype: torch.dtype, how: str, device: str) -> Iterator[Comparison]:
    """Padding by name, whose output has the input's size, or fewer."""
    size = problems.largest(dtype)
    each, steps = problems.operands(problem, size), problem.steps
    x, w, b = (tensor(array, device, dtype) for array in (each.x, each.w, each.b))
    function = getattr(torch.nn.functional, problem.name)
    found = function(x, w, b, steps.stride, how, steps.dilation, steps.groups)
    text = running.label(problem, dtype, running.PLAIN, f"padding={how!r}")
    allowed = problems.allowed(problem, dtype, size, device)[0]
    yield from running.compared(text, found, problems.output(problem, size), allowed, dtype)


def _layer(mode: str, axes: int, device: str) -> Iterator[Comparison]:
    """A layer that pads with more than zeros: its output and the gradient of its input."""
    x = integers((2, 3, *(7, 6, 8)[:axes]), -5, 5, 11).astype(np.float64)
    w = integers((4, 3, *(3,) * axes), -5, 5, 12).astype(np.float64)
    steps, pads = moving(axes, 2), ((0, 0), (0, 0), *((2, 2),) * axes)
    layer = getattr(torch.nn, f"Conv{axes}d")(
        3, 4, 3, stride=2, padding=2, padding_mode=mode, bias=False, device="meta"
    )
    layer.weight = torch.nn.Parameter(tensor(w, device))
    operand = leaf(x, device)
    output = layer(operand)
    padded = np.pad(x, pads, mode=_MODES[mode])  # type: ignore[call-overload]
    right = steps.forward(padded, w)
    up = integers(right.shape, -5, 5, 13).astype(np.float64)
    (gradient,) = torch.autograd.grad(root(output, tensor(up, device)), [operand])
    # Each number of the padded image goes back to where it came from.
    source = np.pad(np.arange(x.size).reshape(x.shape) + 1, pads, mode=_MODES[mode])  # type: ignore[call-overload]
    shares = steps.input_gradient(up, w, padded.shape)
    of_x = np.bincount(source.reshape(-1), shares.reshape(-1), x.size + 1)[1:].reshape(x.shape)
    allowed = problems.allowed(_VALID, torch.float32, 2, device)
    text = f"Conv{axes}d (padding_mode={mode!r}"
    yield from running.compared(f"{text})", output, right, allowed[0], torch.float32)
    name = f"{text}, gradient of input)"
    yield from running.compared(name, gradient, of_x, allowed[1], torch.float32)


def _without_batch(axes: int, device: str) -> Iterator[Comparison]:
    """An image alone gives what it gives in a batch of one."""
    problem = Problem((1, 4, *(7, 6, 5)[:axes]), (6, 4, *(2,) * axes), moving(axes, 2))
    each, right = problems.operands(problem, 5), problems.output(problem, 5)
    x, w, b = (tensor(array, device) for array in (each.x[0], each.w, each.b))
    found = running.call(problem, x, w, b)
    text = running.label(problem, torch.float32, running.PLAIN, "no batch")
    allowed = problems.allowed(problem, torch.float32, 5, device)[0]
    yield from running.compared(text, found, right[0], allowed, torch.float32)
