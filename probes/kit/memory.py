"""Memory of a device: what a probe takes beyond the context, and what it gives back."""

import contextlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch

from probes.contract import MIB
from probes.kit.symptoms import diagnose

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


#: Errors of torch's allocator: nothing is free, and the same where it cannot ask NVML why.
_NOTHING_FREE: Final = frozenset({"out_of_memory", "allocator_nvml_assert"})

#: Files of a control group's limit and use, by version.
_V1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes")
_V2: Final = ("memory.max", "memory.current")


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


def start(device: str) -> None:
    """Start the back-end, so that its context is none of what a probe takes."""
    with contextlib.suppress(*_NO_ANSWER):
        torch.zeros(1, device=device)


def give_back(device: str) -> None:
    """Return to the driver what torch's allocator keeps of freed memory, where that is much."""
    allocator = _allocator(device)
    if allocator is None:
        return
    where = torch.device(device)
    with contextlib.suppress(*_NO_ANSWER):
        if allocator.memory_reserved(where) - allocator.memory_allocated(where) > _KEPT_BYTES:
            allocator.empty_cache()


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that nothing more is free."""
    if isinstance(error, torch.cuda.OutOfMemoryError) or "allocate memory" in str(error):
        return True
    symptom = diagnose(str(error))
    return symptom is not None and symptom.name in _NOTHING_FREE


def free_bytes(device: str) -> int | None:
    """What a tensor may take on the device now; None where that cannot be told.

    On the CPU the least of what the kernel calls available and what the limits of the control
    groups leave; elsewhere what the driver has, and what torch's allocator keeps for later.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return _host_bytes()
    module: Any = getattr(torch, kind, None)
    try:
        free, _ = module.mem_get_info(torch.device(device))
        kept = module.memory_reserved(device) - module.memory_allocated(device)
    except _NO_ANSWER:
        return None
    return int(free + kept)


def _host_bytes(root: Path = Path("/")) -> int | None:
    """The free memory of the host, and of the control groups of this process, below `root`."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    free = [int(found[1]) * 1024] if found else []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # A container sees its own group at the mount's root, whatever path the kernel tells.
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = _V1 if controllers else _V2
        own = top / path.lstrip("/")
        for folder in {own, *own.parents, top}:
            limit, used = (_text(folder / name).strip() for name in names)
            if limit.isdigit() and used.isdigit():
                free.append(max(0, int(limit) - int(used)))
    return min(free, default=None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


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
