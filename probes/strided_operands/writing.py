"""Operations that write: to `out=`, to their first operand, to lists; nothing else may change."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.references import compare
from probes.kit.tensors import bits
from probes.kit.trial import Custom, Trial, fact
from probes.strided_operands.copying import COPIES
from probes.strided_operands.elementwise import BROADCAST, ELEMENTWISE
from probes.strided_operands.gathering import READS
from probes.strided_operands.memory import Operand, Placed, place_values
from probes.strided_operands.operations import FLOATS, SINGLE, WHOLE, Operation, change, write
from probes.strided_operands.places import layouts_of
from probes.strided_operands.products import PRODUCTS
from probes.strided_operands.reducing import ORDERS, REDUCTIONS
from probes.strided_operands.rows import ROWS
from probes.strided_operands.scattering import WRITES

_SHAPE: Final = (4, 5, 33)
_X: Final = Operand(_SHAPE)
_ROW: Final = Operand((33,))
_MASK: Final = Operand((5, 33), 0, 1, torch.bool)
_ALL: Final = (*FLOATS, *WHOLE)

_SUMS: Final = tuple(each for each in BROADCAST if each.name == "add")
_TABLES: Final = (ELEMENTWISE, _SUMS, REDUCTIONS, ORDERS, PRODUCTS, ROWS, COPIES, READS, WRITES)


def out(device: str) -> Iterator[Trial]:
    """Each operation that takes `out=`, into outputs of every layout, and one without elements."""
    return write((each for table in _TABLES for each in table), device)


def _in_place(name: str, answer: Callable[..., Any], *others: Operand, **fields: Any) -> Operation:
    return Operation(f"Tensor.{name}", (_X, *others), answer, out=False, **fields)


def _rows_added(x: Any, rows: Any, y: Any) -> Any:
    total = x.copy()
    np.add.at(total, rows, y)
    return total


def _scattered(x: Any, at: Any) -> Any:
    written = x.copy()
    np.put_along_axis(written, at, 7, 1)
    return written


def _assigned(x: Any, y: Any) -> Any:
    """A slice with steps, of an array or a tensor, set to values that are broadcast."""
    x = x.copy() if isinstance(x, np.ndarray) else x
    x[1:, 1::2, ::2] = y
    return x


_CHANGES: Final[tuple[Operation, ...]] = (
    _in_place("neg_", np.negative, dtypes=_ALL),
    _in_place("abs_", np.abs),
    _in_place("relu_", lambda x: np.maximum(x, 0)),
    _in_place("clamp_", lambda x: np.clip(x, -3, 5), after=(-3, 5), dtypes=_ALL),
    _in_place("add_", lambda x, y: x + 2 * y, _X, options={"alpha": 2}, dtypes=_ALL),
    _in_place("add_", np.add, _ROW, dtypes=SINGLE),
    _in_place("add_", lambda x: x + 3, after=(3,), dtypes=_ALL),
    _in_place("sub_", np.subtract, _X, dtypes=_ALL),
    _in_place("mul_", np.multiply, _X, dtypes=_ALL),
    _in_place("mul_", np.multiply, Operand((5, 1)), dtypes=SINGLE),
    _in_place("div_", np.divide, Operand(_SHAPE, 1, 2)),
    _in_place("lerp_", lambda x, y: x + (y - x) / 2, _X, after=(0.5,), dtypes=SINGLE),
    _in_place("addcmul_", lambda x, y, z: x + y * z, _X, _X),
    _in_place("addcdiv_", lambda x, y, z: x + y / z, _X, Operand(_SHAPE, 1, 2), dtypes=SINGLE),
    _in_place("copy_", lambda _, y: y, _X, dtypes=(*_ALL, torch.uint8, torch.complex64)),
    _in_place("copy_", lambda x, y: y + 0 * x, _ROW, dtypes=SINGLE),
    _in_place("copy_", lambda x, y: y + 0 * x, Operand(_SHAPE, dtype=torch.int64), dtypes=FLOATS),
    _in_place("fill_", lambda x: 0 * x + 7, after=(7,), dtypes=(*_ALL, torch.uint8)),
    _in_place("fill_", lambda x, y: 0 * x + y, Operand(()), dtypes=SINGLE),
    _in_place("zero_", np.zeros_like, dtypes=(*_ALL, torch.complex64)),
    _in_place("masked_fill_", lambda x, m: np.where(m, 7, x), _MASK, after=(7,)),
    _in_place("cumsum_", lambda x: x.cumsum(1), after=(1,), dtypes=SINGLE),
    _in_place("tril_", np.tril, dtypes=SINGLE),
    _in_place("t_", lambda x: x, dtypes=SINGLE, call=lambda x: x.transpose_(0, 1).transpose_(0, 1)),
    _in_place(
        "index_add_",
        _rows_added,
        Operand((3,), 0, 3, torch.int64),
        Operand((3, 5, 33)),
        call=lambda x, rows, y: x.index_add_(0, rows, y),
        dtypes=_ALL,
    ),
    _in_place(
        "scatter_",
        _scattered,
        Operand((4, 2, 33), 0, 4, torch.int64),
        call=lambda x, at: x.scatter_(1, at, 7),
    ),
    _in_place(
        "__setitem__",
        _assigned,
        Operand((2, 17)),
        call=_assigned,
    ),
    _in_place(
        "baddbmm_",
        lambda x, y, z: x + y @ z,
        Operand((4, 5, 9), -2, 2),
        Operand((4, 9, 33), -2, 2),
    ),
)


def in_place(device: str) -> Iterator[Trial]:
    """Operations in place, on lists of views, and random fills, in every layout."""
    yield from change(_CHANGES, device)
    for dtype in FLOATS:
        if has_dtype(device, dtype):
            for name, answer in _LISTS.items():
                if hasattr(torch, name):
                    yield Custom(name, partial(_on_lists, name, answer, dtype), dtype)
    for name, draw in _DRAWS.items():
        yield Custom(f"Tensor.{name}", partial(_drawn, name, draw))


_LISTS: Final[dict[str, Callable[..., Any]]] = {
    "_foreach_add_": np.add,
    "_foreach_sub_": np.subtract,
    "_foreach_mul_": np.multiply,
    "_foreach_maximum_": np.maximum,
    "_foreach_copy_": lambda _, y: y,
}


def _on_lists(
    name: str, answer: Callable[..., Any], dtype: torch.dtype, device: str
) -> Iterator[Comparison]:
    """A list with one tensor of each layout, and another list with the layouts turned."""
    names = layouts_of(_SHAPE, writable=True)
    turned = (*layouts_of(_SHAPE)[4:], *layouts_of(_SHAPE)[:4])[: len(names)]

    def placed(layouts: tuple[str, ...], salt: int) -> list[Placed]:
        return [
            place_values(_X, layout, dtype, device, salt + at) for at, layout in enumerate(layouts)
        ]

    left, right = placed(names, 50), placed(turned, 80)
    getattr(torch, name)([one.tensor for one in left], [one.tensor for one in right])
    for layout, one, other in zip(names, left, right, strict=True):
        expected = answer(one.array, other.array).astype(_kind(dtype))
        yield from one.changed(f"{name} ({str(dtype)[6:]}; {layout}", expected)
        yield other.unchanged(f"{name} ({str(dtype)[6:]}; other list)")


def _kind(dtype: torch.dtype) -> Any:
    return {torch.float64: np.float64, torch.float16: np.float16}.get(dtype, np.float32)


_DRAWS: Final[dict[str, Callable[[torch.Tensor, torch.Generator], object]]] = {
    "uniform_": lambda x, source: x.uniform_(2, 3, generator=source),
    "normal_": lambda x, source: x.normal_(100, 1, generator=source),
    "bernoulli_": lambda x, source: x.bernoulli_(1.0, generator=source),
    "random_": lambda x, source: x.random_(5, 9, generator=source),
    "exponential_": lambda x, source: x.exponential_(generator=source),
}


def _drawn(
    name: str, draw: Callable[[torch.Tensor, torch.Generator], object], device: str
) -> Iterator[Comparison]:
    """Each element is drawn, those of a continuous distribution apart, and none around."""
    source = torch.Generator(device=device).manual_seed(1)
    for layout in layouts_of(_SHAPE, writable=True):
        one = place_values(Operand(_SHAPE, -9, -1), layout, torch.float32, device, 90)
        draw(one.tensor, source)
        after, around = bits(one.buffer), one.place.around()
        label = f"Tensor.{name} ({layout}"
        yield compare(f"{label}, around it)", after[around], one.before[around])
        values = one.tensor.cpu().numpy()
        yield fact(f"{label})", bool((values >= 0).all()), expected=True)
        if name in {"uniform_", "normal_"}:
            several = len(np.unique(values)) > values.size // 2
            yield fact(f"{label}, apart)", several, expected=True)
