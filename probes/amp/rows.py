"""Rows of torch's tables: an operation, its operands, and the type and values of its output."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.amp.regions import Array, autocast, compare_typed, kind, lower_types, name_of
from probes.contract import Comparison
from probes.kit.case import on_device
from probes.kit.gradients import tensor
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.tensors import poisoned
from probes.kit.trial import Custom, Trial

_FLOAT32: Final = UNIT_ROUNDOFF[torch.float32]


@dataclass(frozen=True)
class Row:
    """An operation and its answer. Operands are exact in every lower type, if not said otherwise.

    Arrays of float64 are operands in a type that the table decides; others keep their own type.
    """

    name: str  # as the table has it
    call: Callable[..., Any]  # looked up in torch at the call
    operands: tuple[npt.NDArray[Any], ...]
    expected: Array
    on: tuple[str, ...]  # the types of device whose table has it
    #: Roundings of float32 that the answer may be off by, relative to `scale`; 0: bits are equal.
    units: float = 0.0
    scale: Array | None = None  # absolute values that roundings are relative to; None: the answer's


#: The types of the floating operands, in their order; the last one stands for all that follow.
Given = tuple[torch.dtype, ...]


def trials(
    rows: Iterable[Row],
    device: str,
    types: Callable[[torch.dtype], Sequence[tuple[Given, torch.dtype]]],
) -> Iterator[Trial]:
    """Each row of the device's table in each lower type of the device.

    Args:
        rows: the tables of all types of device.
        device: where they run.
        types: lower type -> the types of operands to give, each with the right type of the output.
    """
    for row in rows:
        if kind(device) not in row.on:
            continue
        for lower in lower_types(device):
            body = partial(_compared, row, lower, types(lower))
            yield Custom(f"{row.name} {name_of(lower)}", body, lower)


def _compared(
    row: Row, lower: torch.dtype, types: Sequence[tuple[Given, torch.dtype]], device: str
) -> Iterator[Comparison]:
    for given, right in types:
        operands = list(_operands(row, given, device))
        poisoned(row.expected.shape, right, device)  # the output probably gets its memory
        with autocast(device, lower):
            found = row.call(*operands)
        names = ", ".join(name_of(each) for each in given)
        label = f"{row.name} {name_of(lower)} (given {names})"
        yield compare_typed(label, found, right, row.expected, _allowed(row, right))


def _operands(row: Row, given: Given, device: str) -> Iterator[torch.Tensor]:
    count = 0
    for operand in row.operands:
        if operand.dtype == np.float64:
            yield tensor(operand, device, given[min(count, len(given) - 1)])
            count += 1
        else:
            yield on_device(operand, device)


def _allowed(row: Row, dtype: torch.dtype) -> Array | None:
    if not row.units:
        return None
    scale = np.abs(row.expected) if row.scale is None else row.scale
    stored = UNIT_ROUNDOFF[dtype] * np.abs(row.expected) if dtype != torch.float32 else 0.0
    return np.asarray(row.units * _FLOAT32 * scale + stored)
