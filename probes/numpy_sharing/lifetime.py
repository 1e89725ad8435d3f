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
from probes.numpy_sharing.evidence import Buffer, fact, together, values
from probes.numpy_sharing.sharing import to_numpy, to_torch

_ELEMENTS = 1021  # 4084 bytes: a block that malloc hands out again at once


def _array() -> npt.NDArray[Any]:
    return np.arange(_ELEMENTS, dtype=np.float32) + 0.5


def _reuse() -> list[Buffer]:
    """Take blocks of the same size, so that one given back too early is overwritten."""
    arrays: list[Buffer] = [np.full(_ELEMENTS, -1, dtype=np.float32) for _ in range(4)]
    tensors = [torch.full((_ELEMENTS,), -1.0, device=torch.device("cpu")) for _ in range(4)]
    return [*arrays, *tensors]


def _held(reference: weakref.ref[Any], survivor: Buffer) -> Iterator[Comparison]:
    """The array's memory is still there for the one who shares it."""
    alive = reference() is not None
    yield fact("the array while its memory is shared", "alive" if alive else "gone", "alive")
    if alive:  # else the survivor points at freed memory: reading it could end the process
        blocks = _reuse()
        yield compare(f"values beside {len(blocks)} new blocks", values(survivor), _array())


def _gone(reference: weakref.ref[Any]) -> Comparison:
    if reference() is not None:
        gc.collect()  # slow (tens of milliseconds), and needed only where a cycle holds it
    state = "gone" if reference() is None else "still held"
    return fact("the array after the last one who shares it", state, "gone")


def _imported(call: Callable[[npt.NDArray[Any]], torch.Tensor]) -> Iterator[Comparison]:
    array = _array()
    reference = weakref.ref(array)
    tensor = call(array)
    del array
    yield from _held(reference, tensor)
    del tensor
    yield _gone(reference)


def _exported(export: Callable[[torch.Tensor], npt.NDArray[Any]]) -> Iterator[Comparison]:
    """An array under a tensor under an array: the first must outlive the tensor."""
    array = _array()
    reference = weakref.ref(array)
    tensor = torch.from_numpy(array)
    view = export(tensor)
    del array, tensor
    yield from _held(reference, view)
    del view
    yield _gone(reference)


def _dropped(call: Callable[[npt.NDArray[Any]], torch.Tensor]) -> Iterator[Comparison]:
    """The tensor goes first: the array keeps its values."""
    array = _array()
    tensor = call(array)
    del tensor
    blocks = _reuse()
    yield compare(f"the array beside {len(blocks)} new blocks", array, _array())


def lived() -> tuple[Comparison, ...]:
    """Every call that shares, each with either side going first."""
    imports = {name: call for calls in to_torch().values() for name, call in calls.items()}
    exports = {name: call for calls in to_numpy().values() for name, call in calls.items()}
    return (
        *(together(f"{name}, array first", _imported(call)) for name, call in imports.items()),
        *(together(f"{name}, tensor first", _dropped(call)) for name, call in imports.items()),
        *(together(name, _exported(export)) for name, export in exports.items()),
    )
