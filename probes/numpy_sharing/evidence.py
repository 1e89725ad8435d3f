"""Reading memory through one library alone, never through the conversions under test."""

import ctypes
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.kit.tensors import refusal

#: Tensors with more elements are read as raw memory, since a list would cost milliseconds.
_PLAIN: Final = 4096

Buffer = torch.Tensor | npt.NDArray[Any]


def fact(what: str, observed: object, expected: object) -> Comparison:
    """A comparison of one value, by equality."""
    problem = "" if observed == expected else f"{observed} where {expected} is right"
    return Comparison(operation=what, elements=1, problem=problem)


def combined(operation: str, parts: Iterable[Comparison]) -> Comparison:
    """One comparison of an operation: its first wrong part, or the sum of all right ones.

    The parts may be a generator that raises; the operation is then wrong by what it raised.
    """
    done: list[Comparison] = []
    breadcrumb.operation(operation)
    raised = refusal(lambda: done.extend(parts))
    wrong = next((part for part in done if not part.holds), None)
    if wrong is not None:
        return wrong.model_copy(update={"operation": f"{operation}: {wrong.operation}"})
    if raised or not done:
        problem = f"raised {raised}" if raised else "nothing was compared"
        return Comparison(operation=operation, problem=problem)
    return Comparison(operation=operation, elements=sum(part.elements for part in done))


def address(buffer: Buffer) -> int:
    """The address of the first element, from the buffer's own library."""
    if isinstance(buffer, torch.Tensor):
        return buffer.data_ptr()
    return int(buffer.__array_interface__["data"][0])


def strides(buffer: Buffer) -> tuple[int, ...]:
    """Bytes from one element to the next, for each dimension."""
    if isinstance(buffer, torch.Tensor):
        return tuple(stride * buffer.element_size() for stride in buffer.stride())
    return buffer.strides


def dtype_name(buffer: Buffer) -> str:
    """The dtype's name, `float32` for both libraries; with a foreign byte order `>f4`."""
    return str(buffer.dtype).removeprefix("torch.")


def values(buffer: Buffer) -> npt.NDArray[Any]:
    """A copy of the buffer's values now; a tensor is read as Python numbers or as raw memory."""
    if isinstance(buffer, torch.Tensor):
        if buffer.numel() > _PLAIN and buffer.is_contiguous() and buffer.device.type == "cpu":
            size = buffer.numel() * buffer.element_size()
            raw = (ctypes.c_char * size).from_address(buffer.data_ptr())
            return np.frombuffer(bytes(raw), dtype_name(buffer)).reshape(tuple(buffer.shape))
        numbers = np.array(buffer.tolist(), dtype=dtype_name(buffer))
        return numbers.reshape(tuple(buffer.shape))
    return np.array(buffer, copy=True)


def from_dlpack(array: npt.NDArray[Any]) -> torch.Tensor:
    """`torch.from_dlpack`, which torch's type hints do not export."""
    made: torch.Tensor = torch.from_dlpack(array)  # type: ignore[attr-defined]
    return made
