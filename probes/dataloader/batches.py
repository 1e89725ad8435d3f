"""Batches: which samples they hold, how these are collated, and in which order they come."""

from collections import namedtuple
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.dataloader.datasets import Calls, Flag, Rows, Table
from probes.dataloader.running import WAIT_S, gathered
from probes.kit.references import compare
from probes.kit.tensors import bits
from probes.kit.trial import Custom, Trial, fact

_ROWS: Final = 11
_SIZE: Final = 4
_IN_ORDER: Final = ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10])
_CHOSEN: Final = ([3, 1], [10], [0, 5, 7])
#: Tensors of one sample, each of which takes a file descriptor on its way from a worker.
_MANY: Final = 64

#: Of all types that a loader may hand over.
_DTYPES: Final = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)

_Pair = namedtuple("_Pair", ["left", "right"])  # noqa: PYI024 - collate asks for `_fields`


def batches(_device: str) -> Iterator[Trial]:
    """Whole and last batches, with and without workers, of every way to ask for them."""
    rows = partial(_rows, _IN_ORDER, 0, batch_size=_SIZE)
    yield Custom("no worker", rows)
    yield Custom("two workers", partial(_rows, _IN_ORDER, 2, batch_size=_SIZE))
    yield Custom("drop_last", partial(_rows, _IN_ORDER[:2], 0, batch_size=_SIZE, drop_last=True))
    yield Custom("batch_sampler", partial(_rows, _CHOSEN, 2, batch_sampler=_CHOSEN))
    yield Custom("single samples", _single)
    yield Custom("collate", _collated)
    yield Custom("types", _types)


def compare_rows(
    label: str, found: Sequence[Any], indices: Sequence[Sequence[int]], table: Table
) -> Iterator[Comparison]:
    """Compare batches of `Rows` with the rows of the table, bit for bit."""
    yield fact(f"{label} (batches)", len(found), len(indices))
    for number, ((rows, given), right) in enumerate(zip(found, indices, strict=False)):
        name = f"{label} (batch {number})"
        yield compare(name, given, np.array(right, np.int64))
        yield compare(name, rows, table[list(right)])


def _rows(
    indices: Sequence[Sequence[int]], workers: int, _device: str, **options: Any
) -> Iterator[Comparison]:
    dataset = Rows(_ROWS)
    label = next((name for name in ("drop_last", "batch_sampler") if name in options), "")
    label = label or ("two workers" if workers else "no worker")
    yield from compare_rows(label, gathered(dataset, workers, **options), indices, dataset.table)


def _single(_device: str) -> Iterator[Comparison]:
    """Without a batch size samples come as they are."""
    dataset = Rows(3)
    found = gathered(dataset, 1, batch_size=None)
    yield fact("single samples (indices)", [index for _, index in found], [0, 1, 2])
    for index, (row, _) in enumerate(found):
        yield compare("single samples", row, dataset.table[index])


def _nested(index: int) -> dict[str, Any]:
    """One value of each kind that torch documents how to collate."""
    return {
        "tensor": torch.full((2, 3), float(index)),
        "array": np.full((2,), index, np.int16),
        "scalar": np.float32(index),
        "float": index / 4,
        "int": index,
        "bool": index > 0,
        "text": f"sample {index}",
        "tuple": (index, index * 0.5),
        "pair": _Pair(index, [index, -index]),
    }


def _collated(_device: str) -> Iterator[Comparison]:
    (found,) = gathered(Calls(2, _nested), 1, batch_size=2)
    whole, half = found["tuple"]
    rows: list[tuple[str, Any, Any, type[np.generic]]] = [
        ("tensor", found["tensor"], [[[0] * 3] * 2, [[1] * 3] * 2], np.float32),
        ("array", found["array"], [[0, 0], [1, 1]], np.int16),
        ("scalar", found["scalar"], [0, 1], np.float32),
        ("float", found["float"], [0, 0.25], np.float64),
        ("int", found["int"], [0, 1], np.int64),
        ("bool", found["bool"], [False, True], np.bool_),
        ("tuple", whole, [0, 1], np.int64),
        ("tuple", half, [0, 0.5], np.float64),
        ("named tuple", found["pair"].left, [0, 1], np.int64),
        ("list", found["pair"].right[1], [0, -1], np.int64),
    ]
    for name, tensor, right, kind in rows:
        yield compare(f"collate ({name})", tensor, np.array(right, kind))
    yield fact("collate (text)", found["text"], ["sample 0", "sample 1"])
    yield fact("collate (keys)", list(found), list(_nested(0)))
    yield fact("collate (named tuple)", type(found["pair"]).__name__, "_Pair")


def _of_each_type(_index: int) -> dict[str, torch.Tensor]:
    """0, 1, ..., 11 in each type, one transposed, one empty, one without dimensions, and more."""
    numbers = torch.arange(12).reshape(3, 4)
    found = {str(dtype): numbers.to(dtype) for dtype in _DTYPES}
    extra = {"transposed": numbers.t(), "empty": numbers[:0], "scalar": numbers[2, 3]}
    return {**found, **extra, **{f"tensor {i}": torch.full((3,), i) for i in range(_MANY)}}


def _types(_device: str) -> Iterator[Comparison]:
    """A worker's tensors, many in one sample, arrive in their type, shape and bits."""
    (found,) = gathered(Calls(1, _of_each_type), 1, batch_size=None)
    for name, right in _of_each_type(0).items():
        label = f"types ({name})"
        yield fact(label, _kind(found[name]), _kind(right))
        yield compare(label, bits(found[name]), bits(right))


def _kind(tensor: torch.Tensor) -> list[Any]:
    return [str(tensor.dtype), [*tensor.shape]]


class _Late(Rows):
    """Sample 0 is made only after another one was asked for, of another worker."""

    def __init__(self, rows: int, later: int) -> None:
        super().__init__(rows)
        self._later = later
        self._asked = Flag()

    def __getitem__(self, index: int) -> Any:
        if index == 0:
            self._asked.wait(WAIT_S / 2)
        elif index == self._later:
            self._asked.set()
        return super().__getitem__(index)


def order(_device: str) -> Iterator[Trial]:
    """The first batch is the last one to be ready."""
    yield Custom("a late batch", _late)


def _late(_device: str) -> Iterator[Comparison]:
    dataset = _Late(_ROWS, later=_IN_ORDER[1][0])
    found = gathered(dataset, 2, batch_size=_SIZE)
    yield from compare_rows("a late batch", found, _IN_ORDER, dataset.table)
