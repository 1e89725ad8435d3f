"""Vectors that start at odd elements and end within a block, in types of each width.

Kernels load several elements at once where an address allows it, and treat the ends apart: element
offsets 1 and 3 leave no alignment but the element's own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import NUMPY_OF, Array
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.strided_operands.memory import Operand, Placed, place_poison, place_values

#: Around a vector register, a warp and a block; in narrow types more elements fill those.
_COUNTS: Final = (1, 31, 33, 1023, 1025)
_DTYPES: Final = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.uint8, torch.bool, torch.complex64, torch.complex128),
)
#: Layouts of two operands and the output.
_STARTS: Final = (
    ("offset 1", "offset 1", "offset 1"),
    ("offset 3", "contiguous", "offset 1"),
    ("contiguous", "offset 1", "offset 3"),
)


def alignment(device: str) -> Iterator[Trial]:
    """Copies, fills, sums and arithmetic at each start and length."""
    for dtype in _DTYPES:
        if has_dtype(device, dtype):
            yield Custom("copy_", partial(_vectors, dtype), dtype)


def _vectors(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """In bool the numbers are 0 and 1; sums of a thousand numbers of 0 and 1 at most elsewhere."""
    low, high = (0, 1) if dtype in {torch.bool, torch.uint8} else (-3, 3)
    for count in _COUNTS:
        operand = Operand((count,), low, high)
        placed: dict[str, tuple[Placed, Placed]] = {
            layout: (
                place_values(operand, layout, dtype, device, 60),
                place_values(operand, layout, dtype, device, 62),
            )
            for layout in ("contiguous", "offset 1", "offset 3")
        }
        for left, right, out in _STARTS:
            x, y = placed[left][0], placed[right][1]
            label = f"({str(dtype)[6:]}, {count}; {left}, {right}, out= {out}"
            yield from _written(label, x, y, out, dtype, device)
            yield x.unchanged(f"copy_ {label}, operand)")
            yield y.unchanged(f"copy_ {label}, operand)")


def _written(
    label: str, x: Placed, y: Placed, out: str, dtype: torch.dtype, device: str
) -> Iterator[Comparison]:
    kind = NUMPY_OF[dtype]
    shape = x.place.shape
    for name, call, answer in _CALLS:
        if dtype == torch.bool and name == "mul":
            continue
        target = place_poison(shape, out, dtype, device)
        call(x.tensor, y.tensor, target.tensor)
        right: Array = np.asarray(answer(x.array, y.array), kind)
        yield from target.changed(f"{name} {label}", right)
    found = x.tensor == y.tensor
    yield compare(f"eq {label})", found, x.array == y.array)
    if dtype.is_floating_point:  # partial sums of at most 256: exact in bfloat16 too
        part = x.tensor[-85:]
        yield compare(f"sum {label})", part.sum(), np.asarray(x.array[-85:].sum(), kind))
        yield compare(f"amax {label})", x.tensor.amax(), np.asarray(x.array.max(), kind))


_Call = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]
_Answer = Callable[[Any, Any], Any]

_CALLS: Final[tuple[tuple[str, _Call, _Answer], ...]] = (
    ("copy_", lambda x, _, out: out.copy_(x), lambda x, _: x),
    ("fill_", lambda _x, _y, out: out.fill_(1), lambda x, _: np.ones_like(x)),
    ("add", lambda x, y, out: torch.add(x, y, out=out), lambda x, y: x + y),
    ("mul", lambda x, y, out: torch.mul(x, y, out=out), lambda x, y: x * y),
    (
        "cat",
        lambda x, y, out: torch.cat((x[: len(x) // 3], y[len(x) // 3 :]), out=out),
        lambda x, y: np.concatenate((x[: len(x) // 3], y[len(x) // 3 :])),
    ),
)
