"""Shared memory lives as long as either side does, and no longer."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit.references import compare
from probes.numpy_sharing.evidence import Buffer, combined, fact, values
from probes.numpy_sharing.sharing import export_calls, import_calls

_ELEMENTS = 1021  # 4084 bytes: malloc reuses such a block at once


def _array() -> npt.NDArray[Any]:
    return np.arange(_ELEMENTS, dtype=np.float32) + 0.5


def _allocate_same_size() -> list[Buffer]:
    """Allocate blocks of the same size, so that one freed too early is overwritten."""
    arrays: list[Buffer] = [np.full(_ELEMENTS, -1, dtype=np.float32) for _ in range(4)]
    tensors = [torch.full((_ELEMENTS,), -1.0, device=torch.device("cpu")) for _ in range(4)]
    return [*arrays, *tensors]


def _kept_alive(reference: weakref.ref[Any], survivor: Buffer) -> Iterator[Comparison]:
    """Verify that the array lives, with its values, while `survivor` shares its memory."""
    alive = reference() is not None
    yield fact("the array while its memory is shared", "alive" if alive else "gone", "alive")
    if alive:  # else the memory is freed, and reading it could end the process
        blocks = _allocate_same_size()
        yield compare(f"values beside {len(blocks)} new blocks", values(survivor), _array())


def _released(reference: weakref.ref[Any]) -> Comparison:
    if reference() is not None:
        gc.collect()  # takes tens of milliseconds; needed only for a cycle
    state = "gone" if reference() is None else "still held"
    return fact("the array after the last one who shares it", state, "gone")


def _array_first(call: Callable[[npt.NDArray[Any]], torch.Tensor]) -> Iterator[Comparison]:
    array = _array()
    reference = weakref.ref(array)
    tensor = call(array)
    del array
    yield from _kept_alive(reference, tensor)
    del tensor
    yield _released(reference)


def _tensor_between(export: Callable[[torch.Tensor], npt.NDArray[Any]]) -> Iterator[Comparison]:
    """An array, a tensor over it, an array over that: the first must outlive the tensor."""
    array = _array()
    reference = weakref.ref(array)
    tensor = torch.from_numpy(array)
    view = export(tensor)
    del array, tensor
    yield from _kept_alive(reference, view)
    del view
    yield _released(reference)


def _tensor_first(call: Callable[[npt.NDArray[Any]], torch.Tensor]) -> Iterator[Comparison]:
    """The tensor is released first: the array keeps its values."""
    array = _array()
    tensor = call(array)
    del tensor
    blocks = _allocate_same_size()
    yield compare(f"the array beside {len(blocks)} new blocks", array, _array())


def lifetimes() -> tuple[Comparison, ...]:
    """Compare every sharing call, with either side released first."""
    imports = {name: call for calls in import_calls().values() for name, call in calls.items()}
    exports = {name: call for calls in export_calls().values() for name, call in calls.items()}
    return (
        *(combined(f"{name}, array first", _array_first(call)) for name, call in imports.items()),
        *(combined(f"{name}, tensor first", _tensor_first(call)) for name, call in imports.items()),
        *(combined(name, _tensor_between(export)) for name, export in exports.items()),
    )
