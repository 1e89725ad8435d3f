"""How evidence is taken: memory is read through each library alone, never through the bridge."""

import ctypes
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.kit.tensors import refusal

#: More elements than this are read as raw memory: a list of them would cost milliseconds.
_PLAIN: Final = 4096

Buffer = torch.Tensor | npt.NDArray[Any]


def fact(what: str, observed: object, expected: object) -> Comparison:
    """One plain fact, held by equality."""
    problem = "" if observed == expected else f"{observed} where {expected} is right"
    return Comparison(operation=what, elements=1, problem=problem)


def together(operation: str, parts: Iterable[Comparison]) -> Comparison:
    """What is known of one operation as one comparison: the first part that fails, or all right.

    The parts may be a generator that raises; that is what the operation did then.
    """
    taken: list[Comparison] = []
    breadcrumb.operation(operation)
    raised = refusal(lambda: taken.extend(parts))
    wrong = next((part for part in taken if not part.holds), None)
    if wrong is not None:
        return wrong.model_copy(update={"operation": f"{operation}: {wrong.operation}"})
    if raised or not taken:
        problem = f"raised {raised}" if raised else "nothing was compared"
        return Comparison(operation=operation, problem=problem)
    return Comparison(operation=operation, elements=sum(part.elements for part in taken))


def address(buffer: Buffer) -> int:
    """Of the first element, as its own library tells it."""
    if isinstance(buffer, torch.Tensor):
        return buffer.data_ptr()
    return int(buffer.__array_interface__["data"][0])


def strides(buffer: Buffer) -> tuple[int, ...]:
    """Bytes from one element to the next, for each dimension."""
    if isinstance(buffer, torch.Tensor):
        return tuple(stride * buffer.element_size() for stride in buffer.stride())
    return buffer.strides


def dtype_name(buffer: Buffer) -> str:
    """`float32` for both libraries; a foreign byte order shows as `>f4`."""
    return str(buffer.dtype).removeprefix("torch.")


def values(buffer: Buffer) -> npt.NDArray[Any]:
    """A copy of what the buffer holds now: of a tensor by plain Python numbers, or raw memory."""
    if isinstance(buffer, torch.Tensor):
        if buffer.numel() > _PLAIN and buffer.is_contiguous() and buffer.device.type == "cpu":
            size = buffer.numel() * buffer.element_size()
            raw = (ctypes.c_char * size).from_address(buffer.data_ptr())
            return np.frombuffer(bytes(raw), dtype_name(buffer)).reshape(tuple(buffer.shape))
        plain = np.array(buffer.tolist(), dtype=dtype_name(buffer))
        return plain.reshape(tuple(buffer.shape))
    return np.array(buffer, copy=True)


def from_dlpack(array: npt.NDArray[Any]) -> torch.Tensor:
    """`torch.from_dlpack`, which torch's type hints do not export."""
    made: torch.Tensor = torch.from_dlpack(array)  # type: ignore[attr-defined]
    return made
