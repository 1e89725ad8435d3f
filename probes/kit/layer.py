"""Layers: a call of torch, forward and backward, held against its formula in NumPy float64.

A reference is a function of operands with bounds (`probes.kit.rounding`). It returns the output and
a function from the output's gradient to the operands' gradients. Where a bound is 0 everywhere the
answer is exact in every order of summation, and bits are compared.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.operands import odd
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import FUNCTION_UNITS, Array, Rounded, exact
from probes.kit.tensors import poisoned
from probes.kit.trial import Custom, Trial

Backward = Callable[[Rounded], tuple[Rounded, ...]]
Reference = Callable[..., tuple[Rounded, Backward]]

HALVES: Final = (torch.float16, torch.bfloat16)
SINGLES: Final = (torch.float32, torch.float64)
FLOATS: Final = (*SINGLES, *HALVES)

#: Half types are computed in float32.
_INNER_UNIT: Final = UNIT_ROUNDOFF[torch.float32]

#: Roundings to nearest of many elements have no common direction, so that their sum grows with the
#: root of their number (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis,
#: 2019). So many elements are enough for their mean; in it a half type may be off by four units.
_FOR_A_MEAN: Final = 16
_MEAN_UNITS: Final = 4

_CHANNELS_LAST: Final = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Layer:
    """A call, its operands that get gradients, and its formula."""

    operation: str
    call: Callable[..., torch.Tensor]
    operands: tuple[Array, ...]
    reference: Reference
    variant: str = ""  # of the operation, in the label
    dtypes: tuple[torch.dtype, ...] = FLOATS
    #: Also with the first operand in channels_last, where it has 4 or 5 axes.
    channels_last: bool = False
    #: Roundings to a half type between the float32 arithmetic of a kernel and its result.
    stored: int = 2
    #: The upstream gradient; by default odd integers from -3 to 3.
    upstream: Array | None = None
    #: The unit roundoff of float32 on a device, where its libraries compute in less.
    float32_unit: float = UNIT_ROUNDOFF[torch.float32]


def trials(layers: Iterable[Layer], device: str) -> Iterator[Trial]:
    """Each layer in each of its types that the device has."""
    have = floats(device)
    for each in layers:
        for dtype in each.dtypes:
            if dtype in have:
                body = partial(comparisons, each, dtype)
                yield Custom(each.operation, body, dtype, optional_kernel=dtype in HALVES)


def units(each: Layer, dtype: torch.dtype) -> tuple[float, float]:
    """The unit roundoffs of the arithmetic and of the storage (0: the same) in that type."""
    if dtype in HALVES:
        return max(_INNER_UNIT, each.float32_unit), UNIT_ROUNDOFF[dtype]
    return (each.float32_unit if dtype == torch.float32 else UNIT_ROUNDOFF[dtype]), 0.0


def comparisons(each: Layer, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """The output and the gradients of one layer in one type, in each memory format."""
    unit, storage = units(each, dtype)
    output, backward = each.reference(*(exact(array, unit, storage) for array in each.operands))
    upstream = odd(output.value.shape, 3) if each.upstream is None else each.upstream
    gradients = backward(exact(upstream, unit, storage))
    formats = [None, *([_CHANNELS_LAST[each.operands[0].ndim]] if each.channels_last else ())]
    for memory_format in formats:
        label = _label(each, dtype, "channels_last" if memory_format else "")
        leaves = [leaf(array, device, dtype) for array in each.operands]
        if memory_format is not None:
            leaves[0] = leaves[0].detach().to(memory_format=memory_format).requires_grad_()
        poisoned(output.value.shape, dtype, device)  # freed: the output may get its memory
        found = each.call(*leaves)
        yield from compared(f"{label})", found, output, dtype, each.stored)
        if tuple(found.shape) != output.value.shape:
            return
        scalar = root(found, _in_format(tensor(upstream, device, dtype), memory_format))
        freed = [poisoned(array.shape, dtype, device) for array in (*each.operands, np.zeros(()))]
        freed.clear()
        by_torch = torch.autograd.grad(scalar, leaves)
        for place, (gradient, right) in enumerate(zip(by_torch, gradients, strict=True)):
            name = f"{label}, gradient {place})"
            yield from compared(name, gradient, right, dtype, each.stored)


def compared(
    label: str, found: torch.Tensor, right: Rounded, dtype: torch.dtype, stored: int = 2
) -> Iterator[Comparison]:
    """Compare type, bits or errors, and in half types the mean over all elements."""
    if found.dtype != dtype:
        yield Comparison(operation=label, problem=f"{found.dtype} where {dtype} is right")
        return
    array = host(found)
    if not right.error.any():
        yield compare(label, array, (right.value + 0.0).astype(array.dtype))
        return
    allowed = right.stored(stored).error
    yield compare(label, array, right.value, allowed)
    total = float((right.value**2).sum())
    if dtype in HALVES and array.shape == right.value.shape and array.size >= _FOR_A_MEAN and total:
        weight = right.value / total
        mean = float((array.astype(np.float64) * weight).sum())
        noise = float(np.sqrt(((allowed * weight) ** 2).sum()))
        within = _MEAN_UNITS * right.storage + noise
        yield compare(f"{label[:-1]}, mean)", np.array(mean), np.ones(()), within)


def linear(
    forward: Callable[[Array], Array],
    axes: int,
    *,
    weights_off: float = 0.0,
    in_halves: bool = False,
) -> Reference:
    """The reference of an affine map of the last axes, from the same map in NumPy.

    `forward` takes (B, *shape of those axes). Sums that every order computes exactly have no error.
    `weights_off`: units that each weight may be off by, where torch computes them. `in_halves`:
    sums of half types may be stored in between; those of gradients may, as GPUs add atomically.
    """
    kept: dict[tuple[int, ...], tuple[Array, Array]] = {}

    def weights(shape: tuple[int, ...]) -> tuple[Array, Array]:
        """The map as (inputs, outputs), and what it adds, in the shape of the outputs."""
        if shape not in kept:
            count = int(np.prod(shape))
            constant = forward(np.zeros((1, *shape)))[0]
            images = forward(np.eye(count).reshape(count, *shape)) - constant
            kept[shape] = images.reshape(count, -1), constant
        return kept[shape]

    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        lead, inner = x.value.shape[:-axes], x.value.shape[-axes:]
        matrix, constant = weights(inner)

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            rows = g.moved(lambda array: array.reshape(-1, matrix.shape[1]))
            found = mapped(rows, matrix.T, weights_off, in_halves=True)
            return (found.moved(lambda array: array.reshape(*lead, *inner)),)

        rows = x.moved(lambda array: array.reshape(-1, matrix.shape[0]))
        found = mapped(rows, matrix, weights_off, constant.ravel(), in_halves=in_halves)
        return found.moved(lambda array: array.reshape(*lead, *constant.shape)), backward

    return reference


def mapped(
    rows: Rounded,
    weights: Array,
    weights_off: float = 0.0,
    constant: Array | None = None,
    *,
    in_halves: bool = False,
) -> Rounded:
    """Rows times a matrix of weights, in any order; exact where each partial sum is.

    Shapes: rows (B, K), weights (K, N), constant (N,).
    """
    unit = max(rows.unit, rows.storage) if in_halves else rows.unit
    added = np.zeros(weights.shape[1]) if constant is None else constant
    value = rows.value @ weights + added
    sizes = np.abs(rows.value) @ np.abs(weights) + np.abs(added)
    quantum = min(_quantum(weights) * _quantum(rows.value), _quantum(added))
    exactly = not weights_off and not rows.error.any() and quantum > 0
    if exactly and sizes.max(initial=0.0) * max(rows.unit, rows.storage) <= quantum:
        return replace(rows, value=value, error=np.zeros_like(value))
    terms = float((weights != 0).sum(0).max()) + 2
    largest = np.abs(rows.value).max(1, keepdims=True)
    error = terms * (unit * sizes + weights_off * rows.unit * largest)
    return replace(rows, value=value, error=error + rows.error @ np.abs(weights))


def _quantum(values: Array) -> float:
    """The largest power of 2, from 2^-24 to 1, of which all values are multiples; else 0."""
    scaled = values * 2.0**24
    if (scaled != np.round(scaled)).any():
        return 0.0
    whole = np.bitwise_or.reduce(np.abs(scaled).astype(np.int64), axis=None)
    return min(1.0, float(whole & -whole) * 2.0**-24) if whole else 1.0


def _label(each: Layer, dtype: torch.dtype, *more: str) -> str:
    """The operation with its variants, without the closing bracket."""
    kind = str(dtype).removeprefix("torch.")
    parts = [each.variant, kind, *more]
    return f"{each.operation} ({', '.join(part for part in parts if part)}"


def _in_format(upstream: torch.Tensor, memory_format: Any) -> torch.Tensor:
    """The gradient in the format that the next layer would give it in."""
    if memory_format is None or upstream.ndim not in _CHANNELS_LAST:
        return upstream
    return upstream.to(memory_format=_CHANNELS_LAST[upstream.ndim])


def function(name: str, *arguments: Any, **options: Any) -> Callable[..., torch.Tensor]:
    """The call of a function of torch.nn.functional, looked up when it is called."""

    def call(*operands: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = getattr(functional, name)(*operands, *arguments, **options)
        return out

    return call


def pointwise(
    value: Callable[[Array], Any],
    slope: Callable[[Array], Any],
    *,
    by_result: Callable[[Array], Any] | None = None,
    size: float = 0.0,
    exact_in_all: bool = False,
) -> Reference:
    """The reference of a function of each element, with its derivative.

    The functions inside are off by `FUNCTION_UNITS`, in units of the result, of the operand, and of
    `size`, the largest constant or second operand.
    `by_result`: the derivative of the slope by the result, where the backward takes up the result,
    which was stored.
    """
    roundings = 0.0 if exact_in_all else float(FUNCTION_UNITS)

    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        y, dy = value(x.value), slope(x.value)
        error = roundings * x.unit * (np.abs(y) + np.abs(x.value) + size)

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            sizes = np.abs(dy) + np.abs(x.value) + 1 + size
            off = roundings * x.unit * np.abs(g.value) * sizes
            if by_result is not None:
                off = off + x.storage * np.abs(g.value * by_result(y) * y)
            return (replace(x, value=g.value * dy, error=off),)

        return replace(x, value=y, error=error), backward

    return reference
