"""Gradients of operands of every layout, from upstream gradients of every layout."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import NUMPY_OF
from probes.kit.gradients import host, root
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact
from probes.strided_operands.memory import Operand, Stock
from probes.strided_operands.operations import SINGLE
from probes.strided_operands.places import Shape, combinations

#: How many layouts the second operand is ahead of the first: apart; and alike, which is another
#: path for images in channels_last.
_APART, _ALIKE = 5, 0
_IMAGE_AXES: Final = 4


@dataclass(frozen=True)
class Derivative:
    """A call and its gradients."""

    name: str
    operands: tuple[Operand, ...]
    shape: Shape  # of the output
    #: None: the function of that name.
    call: Callable[..., torch.Tensor] | None
    #: (upstream, *arrays) -> the gradients.
    answer: Callable[..., tuple[Any, ...]]
    dtypes: tuple[torch.dtype, ...] = SINGLE
    #: (upstream, *arrays) -> the error that rounding explains, of each; None: bits are equal.
    allowed: Callable[..., tuple[Any, ...]] | None = None
    upstream: int = 3  # the largest number in it
    count: int | None = None  # how many floating operands get a gradient; None: all of them


def derive(table: Iterable[Derivative], device: str) -> Iterator[Trial]:
    """Each gradient with operands and upstream gradients of every layout; they stay as they are."""
    stock = Stock(device)
    for each in table:
        for dtype in each.dtypes:
            if has_dtype(device, dtype):
                yield Custom(each.name, partial(_derive, stock, each, dtype), dtype)
    yield Custom("operands", stock.unchanged)


def _derive(
    stock: Stock, each: Derivative, dtype: torch.dtype, _device: str
) -> Iterator[Comparison]:
    upstream = Operand(each.shape, -each.upstream, each.upstream)
    operands = (*each.operands, upstream)
    shapes = tuple(operand.shape for operand in operands)
    images = len(each.shape) >= _IMAGE_AXES
    turns = combinations(shapes, _APART, _ALIKE) if images else combinations(shapes, _APART)
    for layouts in turns if dtype == each.dtypes[0] else turns[1::3]:
        pairs = zip(operands, layouts, strict=True)
        *placed, above = (stock.get(*pair, dtype, salt) for salt, pair in enumerate(pairs))
        tensors = [one.tensor.detach() for one in placed]
        wanted = [one for one in tensors if one.is_floating_point()][: each.count]
        leaves = [one.requires_grad_() for one in wanted]
        output = (each.call or attrgetter(each.name)(torch))(*tensors)
        found = torch.autograd.grad(root(output, above.tensor), leaves)
        label = f"{each.name} ({str(dtype)[6:]}; {', '.join(layouts[:-1])}; from {layouts[-1]})"
        yield fact(label, tuple(output.shape), each.shape)
        arrays = (above.array, *(one.array for one in placed))
        right = each.answer(*arrays)
        bounds = each.allowed(*arrays) if each.allowed else (None,) * len(right)
        for gradient, expected, bound in zip(found, right, bounds, strict=True):
            yield _compared(label, gradient, expected, bound, dtype)


def _compared(
    label: str, gradient: torch.Tensor, expected: Any, bound: Any, dtype: torch.dtype
) -> Comparison:
    if gradient.dtype != dtype:
        return fact(label, gradient.dtype, dtype)
    right = np.add(np.asarray(expected, NUMPY_OF[dtype]), 0, dtype=NUMPY_OF[dtype])
    return compare(label, host(gradient), right, bound)
