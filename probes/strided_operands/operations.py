"""Operations in a table, tried with operands and outputs of every layout."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import NUMPY_OF, TORCH_OF, Array
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact
from probes.strided_operands.memory import Operand, Placed, Stock, place_poison, place_values
from probes.strided_operands.places import combinations, layouts_of

FLOATS: Final = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SINGLE: Final = (torch.float32,)
WHOLE: Final = (torch.int64,)

#: How many layouts the second operand is ahead of the first: alike, and apart.
ALIKE: Final = 0
APART: Final = 3

#: The layout of an output that the operation itself gives its size.
_FROM_EMPTY: Final = "from empty"


@dataclass(frozen=True)
class Operation:
    """A call, its tensor operands and its answer; all values are integers unless it rounds."""

    name: str  # looked up below `torch` at the call
    operands: tuple[Operand, ...]
    #: (arrays) -> one answer or several; floating arrays are float64, and rounded to the type.
    answer: Callable[..., Any]
    after: tuple[Any, ...] = ()  # arguments behind the operands
    options: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[torch.dtype, ...] = FLOATS
    out: bool = True  # takes out=
    #: (arrays) -> the absolute error that rounding explains; None: bits are equal.
    allowed: Callable[..., Any] | None = None
    #: (operands, out=...) -> the result, where it is no call with them one by one.
    call: Callable[..., Any] | None = None

    def run(self, *tensors: torch.Tensor, **out: Any) -> tuple[torch.Tensor, ...]:
        """The results; all that torch raises."""
        if self.call is not None:
            found = self.call(*tensors, *self.after, **self.options, **out)
        else:
            found = attrgetter(self.name)(torch)(*tensors, *self.after, **self.options, **out)
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)

    def answers(self, arrays: Iterable[Array], dtype: torch.dtype) -> tuple[Array, ...]:
        """The right results in their types."""
        found = self.answer(*arrays)
        kind = NUMPY_OF[dtype] if dtype.is_floating_point or dtype.is_complex else np.float32
        return tuple(
            np.asarray(each, kind if np.asarray(each).dtype.kind in "fc" else None)
            for each in (found if isinstance(found, tuple) else (found,))
        )

    def label(self, dtype: torch.dtype, layouts: Iterable[str]) -> str:
        """The operation with its type, options and the layouts of its operands; not closed."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        options += [str(value) for value in self.after]
        return f"{self.name} ({', '.join([str(dtype)[6:], *options])}; {', '.join(layouts)}"


def read(operations: Iterable[Operation], device: str) -> Iterator[Trial]:
    """Each operation with operands of every layout, alike and apart; the operands stay."""
    stock = Stock(device)
    for each, dtype in _in_types(operations, device):
        yield Custom(each.name, partial(_read, stock, each, dtype), dtype)
    yield Custom("operands", stock.unchanged)


def write(operations: Iterable[Operation], device: str) -> Iterator[Trial]:
    """Each operation that takes `out=` with an output of every layout, and none around it."""
    stock = Stock(device)
    written = [each for each in operations if each.out]
    for turn, (each, dtype) in enumerate(_in_types(written, device)):
        yield Custom(each.name, partial(_write, stock, each, dtype, turn), dtype)
    yield Custom("operands", stock.unchanged)


def change(operations: Iterable[Operation], device: str) -> Iterator[Trial]:
    """Each operation that changes its first operand, in every layout, and nothing around it."""
    stock = Stock(device)
    for each, dtype in _in_types(operations, device):
        yield Custom(each.name, partial(_change, stock, each, dtype), dtype)
    yield Custom("operands", stock.unchanged)


def _in_types(
    operations: Iterable[Operation], device: str
) -> Iterator[tuple[Operation, torch.dtype]]:
    for each in operations:
        for dtype in each.dtypes:
            if has_dtype(device, dtype):
                yield each, dtype


def _placed(
    stock: Stock, each: Operation, dtype: torch.dtype, layouts: tuple[str, ...]
) -> list[Placed]:
    pairs = zip(each.operands, layouts, strict=True)
    return [stock.get(*pair, dtype, salt) for salt, pair in enumerate(pairs)]


def _read(stock: Stock, each: Operation, dtype: torch.dtype, _device: str) -> Iterator[Comparison]:
    for layouts in _turns(each.operands, each.dtypes.index(dtype)):
        placed = _placed(stock, each, dtype, layouts)
        found = each.run(*(one.tensor for one in placed))
        yield from _results(each, dtype, layouts, placed, found)


def _turns(operands: tuple[Operand, ...], place: int) -> tuple[tuple[str, ...], ...]:
    """Layouts of the operands: all that there are in the first type, every second in others."""
    shapes = tuple(operand.shape for operand in operands)
    if place == 0:
        return combinations(shapes, ALIKE, APART)
    return combinations(shapes, APART)[place % 2 :: 2]


def _results(
    each: Operation,
    dtype: torch.dtype,
    layouts: tuple[str, ...],
    placed: list[Placed],
    found: tuple[torch.Tensor, ...],
) -> Iterator[Comparison]:
    label, arrays = f"{each.label(dtype, layouts)})", [one.array for one in placed]
    allowed = None if each.allowed is None else each.allowed(*arrays)
    right = each.answers(arrays, dtype)
    if len(found) != len(right):
        yield fact(label, len(found), len(right))
    for output, expected in zip(found, right, strict=False):
        if output.dtype != _dtype_of(expected, dtype):
            yield fact(label, output.dtype, _dtype_of(expected, dtype))
        yield compare(label, output, expected, allowed)


def _write(
    stock: Stock, each: Operation, dtype: torch.dtype, start: int, device: str
) -> Iterator[Comparison]:
    """The layouts of the output are shared among the types, and among operations that are next."""
    turns = combinations(tuple(operand.shape for operand in each.operands), APART)
    arrays = [one.array for one in _placed(stock, each, dtype, turns[0])]
    outs = [*layouts_of(each.answers(arrays, dtype)[0].shape, writable=True), _FROM_EMPTY]
    shares = max(2, len(each.dtypes))
    for turn, out in list(enumerate(outs))[start % shares :: shares]:
        layouts = turns[turn % len(turns)]
        placed = _placed(stock, each, dtype, layouts)
        arrays, tensors = [one.array for one in placed], [one.tensor for one in placed]
        right = each.answers(arrays, dtype)
        kinds = [_dtype_of(answer, dtype) for answer in right]
        if out == _FROM_EMPTY:
            empty = [torch.empty(0, dtype=kind, device=device) for kind in kinds]
            each.run(*tensors, **_as_out(empty))
            yield from _results(each, dtype, (*layouts, f"out= {out}"), placed, tuple(empty))
            continue
        targets = [
            place_poison(answer.shape, out, kind, device)
            for answer, kind in zip(right, kinds, strict=True)
        ]
        each.run(*tensors, **_as_out([one.tensor for one in targets]))
        label = each.label(dtype, (*layouts, f"out= {out}"))
        allowed = None if each.allowed is None else each.allowed(*arrays)
        for target, answer in zip(targets, right, strict=True):
            yield from target.changed(label, answer, allowed)


def _as_out(tensors: list[torch.Tensor]) -> dict[str, Any]:
    return {"out": tensors[0] if len(tensors) == 1 else tuple(tensors)}


def _dtype_of(answer: Array, dtype: torch.dtype) -> torch.dtype:
    """The type of an output: bfloat16's answers are in float32."""
    return dtype if answer.dtype == NUMPY_OF[dtype] else TORCH_OF[answer.dtype]


def _change(stock: Stock, each: Operation, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    first, *others = each.operands
    place = each.dtypes.index(dtype)
    turns = combinations(tuple(operand.shape for operand in others), APART)
    written = layouts_of(first.shape, writable=True)
    count = max(len(written), len(turns))
    for turn in range(place, count, 1 if place == 0 else 2):
        target = place_values(first, written[turn % len(written)], dtype, device, 10)
        layouts = turns[turn % len(turns)]
        pairs = zip(others, layouts, strict=True)
        placed = [stock.get(*pair, dtype, salt) for salt, pair in enumerate(pairs)]
        each.run(target.tensor, *(one.tensor for one in placed))
        (right,) = each.answers((target.array, *(one.array for one in placed)), dtype)
        label = each.label(dtype, (written[turn % len(written)], *layouts))
        yield from target.changed(label, right)
