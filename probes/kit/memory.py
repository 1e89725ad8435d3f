"""Memory of a device: what a probe takes beyond the context, and what it gives back."""

import contextlib
from types import ModuleType
from typing import Any, Final

import torch

from probes.contract import MIB

#: Freed memory that a probe keeps for its next operations: giving back takes a system call each.
_KEPT_BYTES: Final = 64 * MIB


#: What is asked of a back-end's module.
_QUESTIONS: Final = (
    *("is_initialized", "mem_get_info", "memory_reserved", "memory_allocated"),
    *("max_memory_reserved", "reset_peak_memory_stats", "empty_cache"),
)

#: What a back-end raises that has a function and no answer, or that is sick. The next operation of
#: a sick device says so: measuring decides nothing.
_NO_ANSWER: Final = (RuntimeError, AttributeError, TypeError, ValueError)


def _allocator(device: str) -> ModuleType | None:
    """The module that counts the device's memory; None where nothing does, or nothing runs yet.

    Asking starts the back-end: before a probe has done that, there is nothing to ask.
    """
    kind = torch.device(device).type
    module: Any = getattr(torch, kind, None)
    if module is None or kind == "cpu" or not all(hasattr(module, name) for name in _QUESTIONS):
        return None
    allocator: ModuleType | None = module if module.is_initialized() else None
    return allocator


def give_back(device: str) -> None:
    """Return to the driver what torch's allocator keeps of freed memory, where that is much."""
    allocator = _allocator(device)
    if allocator is None:
        return
    where = torch.device(device)
    with contextlib.suppress(*_NO_ANSWER):
        if allocator.memory_reserved(where) - allocator.memory_allocated(where) > _KEPT_BYTES:
            allocator.empty_cache()


class MemoryWatch:
    """What is taken on a device from its creation on, by torch and by the libraries it starts."""

    def __init__(self, device: str) -> None:
        """Begin to watch; the peak that torch's allocator has counted until now is forgotten."""
        self._device = torch.device(device)
        self._torch = _allocator(device)
        self._free_bytes: int | None = None
        if self._torch is not None:
            with contextlib.suppress(*_NO_ANSWER):
                self._torch.reset_peak_memory_stats(self._device)
                self._free_bytes, _ = self._torch.mem_get_info(self._device)

    def taken_bytes(self) -> int | None:
        """The most that was taken at a time; None where it cannot be told.

        The device's free memory now, and what torch's allocator held at its peak and gave back
        since. What other processes take or give back meanwhile is counted too.
        """
        if self._torch is None or self._free_bytes is None:
            return None
        try:
            free_bytes, _ = self._torch.mem_get_info(self._device)
            held = self._torch.max_memory_reserved(self._device)
            given_back = held - self._torch.memory_reserved(self._device)
        except _NO_ANSWER:
            return None
        return max(0, int(self._free_bytes - free_bytes + given_back))
