"""Operations on lists of tensors, which optimizers are made of: each element is exact.

A GPU puts a list into launches of 110 tensors at most, and each tensor into chunks of 65536
elements; tensors with other strides take a slow path.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.gradients import integers
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import ROUNDINGS, Array
from probes.kit.tensors import poisoned
from probes.kit.trial import Custom, Trial, fact
from probes.optimizer.parameters import Layout, flat

_CHUNK: Final = 65536
_MANY: Final = Layout(tuple(((i % 5 + 1,), "") for i in range(120)))
#: Around one and two chunks.
_LARGE: Final = Layout(
    tuple(((count,), "") for count in (1, _CHUNK - 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK + 3, 3))
)
_STRIDED: Final = Layout((((), ""), ((4, 6), "transposed"), ((0,), ""), ((5,), "gaps"), ((2,), "")))
#: The launches and chunks are the same in all types; an empty tensor is not the last.
_DTYPES: Final = {
    "many": (torch.float32, torch.bfloat16),
    "large": (torch.float32,),
    "strided": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
}
_LISTS: Final = {"many": _MANY, "large": _LARGE, "strided": _STRIDED}


@dataclass(frozen=True)
class _Kernel:
    """An operation: its arguments after the first list, and its answer; a, b, c are the lists."""

    name: str
    arguments: Callable[[Any, Any, Any], tuple[Any, ...]]
    answer: Callable[[Array, Array, Array], Array]
    options: tuple[tuple[str, float], ...] = ()
    in_place_only: bool = False


#: The lists hold integers, c powers of two: no result needs more than 8 bits, and all are exact.
_KERNELS: Final = (
    _Kernel("add", lambda _a, b, _c: (b,), lambda a, b, _: a + 2 * b, (("alpha", 2),)),
    _Kernel("add", lambda _a, _b, _c: (3.0,), lambda a, _b, _c: a + 3),
    _Kernel("sub", lambda _a, b, _c: (b,), lambda a, b, _: a - b),
    _Kernel("mul", lambda _a, b, _c: (b,), lambda a, b, _: a * b),
    _Kernel("mul", lambda _a, _b, _c: (0.5,), lambda a, _b, _c: a / 2),
    _Kernel("div", lambda _a, _b, c: (c,), lambda a, _, c: a / c),
    _Kernel("addcmul", lambda _a, b, c: (b, c, 2.0), lambda a, b, c: a + 2 * b * c),
    _Kernel("addcdiv", lambda _a, b, c: (b, c, 2.0), lambda a, b, c: a + 2 * b / c),
    _Kernel("lerp", lambda _a, b, _c: (b, 0.25), lambda a, b, _: a + (b - a) / 4),
    _Kernel("neg", lambda _a, _b, _c: (), lambda a, _b, _c: -a),
    _Kernel("abs", lambda _a, _b, _c: (), lambda a, _b, _c: np.abs(a)),
    _Kernel("maximum", lambda _a, b, _c: (b,), lambda a, b, _: np.maximum(a, b)),
    _Kernel("clamp_min", lambda _a, _b, _c: (-2.0,), lambda a, _b, _c: np.maximum(a, -2)),
    _Kernel("clamp_max", lambda _a, _b, _c: (2.0,), lambda a, _b, _c: np.minimum(a, 2)),
    _Kernel("copy", lambda _a, b, _c: (b,), lambda _a, b, _c: b, in_place_only=True),
    _Kernel("zero", lambda _a, _b, _c: (), lambda a, _b, _c: np.zeros_like(a), in_place_only=True),
)


def foreach_kernels(device: str) -> Iterator[Trial]:
    """Each operation with a new result and in place, on many, large and strided tensors."""
    for place, dtypes in _DTYPES.items():
        for dtype in dtypes:
            if not has_dtype(device, dtype):
                continue
            # The second and third list, which no operation changes.
            others = [_LISTS[place].tensors(each, device, dtype) for each in _operands(place)[1:]]
            for kernel in _KERNELS:
                yield from _trials(kernel, place, dtype, others)
            yield Custom("_foreach_sqrt", partial(_roots, place, dtype), dtype)
            yield Custom("_foreach_norm", partial(_norms, place, dtype), dtype)


def _trials(
    kernel: _Kernel, place: str, dtype: torch.dtype, others: list[list[torch.Tensor]]
) -> Iterator[Trial]:
    """With a new result and in place, where this torch has them."""
    for in_place in (True,) if kernel.in_place_only else (False, True):
        name = f"_foreach_{kernel.name}" + ("_" if in_place else "")
        if hasattr(torch, name):
            yield Custom(name, partial(_one, kernel, name, place, others), dtype)


@cache
def _operands(place: str) -> tuple[Array, Array, Array]:
    size = _LISTS[place].size
    return integers((size,), 41), integers((size,), 42), 2.0 ** (np.abs(integers((size,), 43)) // 3)


def _one(
    kernel: _Kernel, name: str, place: str, others: list[list[torch.Tensor]], device: str
) -> Iterator[Comparison]:
    layout, values = _LISTS[place], _operands(place)
    dtype = others[0][0].dtype
    a = layout.tensors(values[0], device, dtype)
    if place == "large":
        held = [poisoned(each.shape, dtype, device) for each in a]
        del held  # the results probably get its memory
    found = getattr(torch, name)(a, *kernel.arguments(a, *others), **dict(kernel.options))
    label = f"{name} ({str(dtype)[6:]}, {place}"
    outputs = a if name.endswith("_") else found
    yield fact(f"{label}, length)", len(outputs), len(layout.places))
    yield compare(f"{label})", flat(outputs), _as(kernel.answer(*values), dtype))
    if not name.endswith("_"):
        yield compare(f"{label}, operand)", flat(a), _as(values[0], dtype))


def _as(values: Array, dtype: torch.dtype) -> Any:
    """The values in the type in which `flat` returns them."""
    kinds = {torch.float64: np.float64, torch.float16: np.float16}
    return values.astype(kinds.get(dtype, np.float32))


def _roots(place: str, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Roots of squares; not every back-end promises that they are correctly rounded."""
    layout, (a, _, _) = _LISTS[place], _operands(place)
    found = torch._foreach_sqrt(layout.tensors(a * a, device, dtype))
    allowed = ROUNDINGS * UNIT_ROUNDOFF[dtype] * np.abs(a)
    yield compare(f"_foreach_sqrt ({str(dtype)[6:]}, {place})", flat(found), np.abs(a), allowed)


def _norms(place: str, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """The norm of each tensor: sums of integers and maxima are exact, roots are not.

    Half types are summed in float32; no sum of theirs has more than 8 bits.
    """
    layout, (a, _, _) = _LISTS[place], _operands(place)
    parts = np.split(a, np.cumsum([math.prod(shape) for shape, _ in layout.places])[:-1])
    tensors = layout.tensors(a, device, dtype)
    kept = [i for i, part in enumerate(parts) if part.size]  # an empty tensor has no largest
    for order in (1, 2, float("inf")):
        right = np.array([np.linalg.norm(parts[i], order) for i in kept])
        allowed = ROUNDINGS * UNIT_ROUNDOFF[dtype] * right if order == 2 else None
        found = torch._foreach_norm([tensors[i] for i in kept], order)
        label = f"_foreach_norm ({str(dtype)[6:]}, {place}, ord={order})"
        yield compare(label, flat(found), _as(right, dtype), allowed)
