"""Copies of device tensors to the host that can be made a second time.

Where a copy holds wrong values, the second one tells whether they are wrong on the device or were
spoilt on the way.
"""

import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy.typing as npt
import torch

Array = npt.NDArray[Any]


class _Source(NamedTuple):
    """The tensor that an array was copied from. References are weak: nothing lives longer."""

    array: "weakref.ref[Array]"
    tensor: "weakref.ref[torch.Tensor]"
    version: int  # of the tensor's memory, counted by torch
    read: Callable[[torch.Tensor], Array]


_SOURCES: Final[dict[int, _Source]] = {}  # id of the array -> its source


def copied(tensor: torch.Tensor, read: Callable[[torch.Tensor], Array]) -> Array:
    """`read(tensor)`, an array on the host, which `again` can make anew.

    Of a tensor on the CPU there is no second copy: its memory is the host's own.
    """
    array = read(tensor)
    if not tensor.is_cpu and not tensor.is_inference():
        key, sources = id(array), _SOURCES  # the module's names are gone when Python ends
        held = weakref.ref(array, lambda _: sources.pop(key, None))
        sources[key] = _Source(held, weakref.ref(tensor), tensor._version, read)
    return array


def again(array: Array) -> Array | None:
    """Copy the tensor of an array from `copied` once more.

    None where nobody keeps the tensor, or it was written since, or it can no longer be read.
    """
    source = _SOURCES.get(id(array))
    tensor = None if source is None else source.tensor()
    if source is None or tensor is None or tensor._version != source.version:
        return None
    try:
        return source.read(tensor)
    except RuntimeError:  # the device is broken, as its next use will tell
        return None
