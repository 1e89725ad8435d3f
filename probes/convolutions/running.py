"""Trials of problems: the output, and the gradients, in each type and memory format."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.convolutions import problems
from probes.convolutions.problems import Problem
from probes.kit.case import NUMPY_OF, Array
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.references import compare
from probes.kit.tensors import poisoned
from probes.kit.trial import Custom, Trial, fact

#: Memory formats of input and weight: as they are made, or channels last.
Format = tuple[bool, bool]
PLAIN: Final[Format] = (False, False)
LAST: Final[Format] = (True, True)

_CHANNELS_LAST: Final = {4: torch.channels_last, 5: torch.channels_last_3d}


def outputs(
    table: Iterable[Problem],
    device: str,
    *,
    formats: tuple[Format, ...] = (PLAIN,),
    dtypes: tuple[torch.dtype, ...] | None = None,
) -> Iterator[Trial]:
    """The output of each problem in each type."""
    for problem in table:
        for dtype in dtypes or problem.dtypes(device):
            for form in formats:
                yield Custom(problem.name, partial(_output, problem, dtype, form), dtype)


def gradients(
    table: Iterable[Problem],
    device: str,
    *,
    formats: tuple[Format, ...] = (PLAIN,),
    dtypes: tuple[torch.dtype, ...] | None = None,
    wanted: str = "xwb",
) -> Iterator[Trial]:
    """The gradients of each problem in each type; `wanted`: of input, weight and bias."""
    for problem in table:
        for dtype in dtypes or problem.dtypes(device):
            for form in formats:
                body = partial(_gradients, problem, dtype, form, wanted)
                yield Custom(f"gradients of {problem.name}", body, dtype)


def call(problem: Problem, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> Any:
    """The call of torch's function."""
    return getattr(torch.nn.functional, problem.name)(x, w, b, *problem.arguments())


def formatted(x: torch.Tensor, *, last: bool) -> torch.Tensor:
    """The tensor with channels last, where it has such a format and that is asked for."""
    if not last or x.dim() not in _CHANNELS_LAST:
        return x
    return x.contiguous(memory_format=_CHANNELS_LAST[x.dim()])


def label(problem: Problem, dtype: torch.dtype, form: Format, what: str = "") -> str:
    """The function, and in parentheses type, shapes, formats and what is compared."""
    last = [name for name, is_last in zip(("input", "weight"), form, strict=True) if is_last]
    parts = [str(dtype).removeprefix("torch."), str(problem)]
    parts += [f"channels_last {' and '.join(last)}"] if last else []
    parts += [what] if what else []
    return f"{problem.name} ({', '.join(parts)})"


def _output(
    problem: Problem, dtype: torch.dtype, form: Format, device: str
) -> Iterator[Comparison]:
    size = problems.largest(dtype)
    each, right = problems.operands(problem, size), problems.output(problem, size)
    x = formatted(tensor(each.x, device, dtype), last=form[0])
    w = formatted(tensor(each.w, device, dtype), last=form[1])
    b = tensor(each.b, device, dtype) if problem.bias else None
    poisoned(right.shape, dtype, device)  # freed at once, so the output probably gets its memory
    found = call(problem, x, w, b)
    allowed = problems.allowed(problem, dtype, size, device)[0]
    yield from compared(label(problem, dtype, form), found, right, allowed, dtype)


def _gradients(
    problem: Problem, dtype: torch.dtype, form: Format, wanted: str, device: str
) -> Iterator[Comparison]:
    size = problems.largest(dtype)
    each = problems.operands(problem, size)
    values = {"x": each.x, "w": each.w, "b": each.b}
    made = {
        name: (leaf if name in wanted else tensor)(array, device, dtype)
        for name, array in values.items()
    }
    x, w = formatted(made["x"], last=form[0]), formatted(made["w"], last=form[1])
    output = call(problem, x, w, made["b"])
    upstream = formatted(tensor(each.upstream, device, dtype), last=form[0])
    scalar = root(output, upstream)
    # Freed before the backward, so that a gradient that is never written has poisoned memory.
    freed = [poisoned(values[name].shape, dtype, device) for name in wanted]
    freed.clear()
    found = torch.autograd.grad(scalar, [made[name] for name in wanted])
    right = dict(zip("xwb", problems.gradients(problem, size), strict=True))
    allowed = dict(zip("xwb", problems.allowed(problem, dtype, size, device)[1:], strict=True))
    names = {"x": "input", "w": "weight", "b": "bias"}
    for name, gradient in zip(wanted, found, strict=True):
        what = f"gradient of {names[name]}"
        text = f"gradients of {label(problem, dtype, form, what)}"
        yield from compared(text, gradient, right[name], allowed[name], dtype)


def compared(
    text: str, found: torch.Tensor, right: Array, allowed: float, dtype: torch.dtype
) -> Iterator[Comparison]:
    """The comparison of a result, and of its type where that is another."""
    if found.dtype != dtype:
        yield fact(text, found.dtype, dtype)
    yield compare(text, host(found), np.asarray(right, NUMPY_OF[dtype]), allowed)
