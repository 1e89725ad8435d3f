"""Processes as /proc tells of them: whose child each is, its name, and which may use a GPU."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from probes.contract import MIB
from validator.report import GpuProcess

#: The inode of the first namespace of process ids, that of the host (linux/proc_ns.h).
_OF_THE_HOST: Final = 0xEFFFFFFC

#: What a process that computes with CUDA has open.
_CUDA: Final = "/dev/nvidia-uvm"


def numbered_as_by_the_host() -> bool:
    """Whether process ids here are those of the host, which a driver tells."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _OF_THE_HOST
    except OSError:  # a filter, or a /proc of another kind
        return False


def name(pid: int) -> str:
    """The name of a process's program; "" where it cannot be told."""
    if not numbered_as_by_the_host():
        return ""
    try:
        text = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return "".join(letter for letter in text if letter.isprintable())


def describe(users: Iterable[GpuProcess]) -> str:
    """The processes in words: their program where it can be told, id, and memory on the GPU."""
    return ", ".join(_describe(user) for user in users)


def _describe(user: GpuProcess) -> str:
    program = name(user.pid)
    size = user.memory_bytes
    known = [f"pid {user.pid}"] if program else []
    known += [] if size is None else [f"{round(size / MIB)} MiB"]
    title = program or f"pid {user.pid}"
    return f"{title} ({', '.join(known)})" if known else title


def descendants(roots: Iterable[int]) -> frozenset[int]:
    """Those processes and all that came of them, as far as their parents live."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it is gone
            text = stat.read_text(encoding="utf-8", errors="replace")
            parent = int(text.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return frozenset(found)


def count_on_gpus(pids: Iterable[int]) -> int:
    """How many of these processes may have a context on a GPU: all, where that cannot be told."""
    known = Path(_CUDA).exists()
    return sum(not known or _has_open(pid, _CUDA) for pid in pids)


def _has_open(pid: int, file: str) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    try:
        descriptors = [each.name for each in folder.iterdir()]
    except FileNotFoundError:  # it is gone
        return False
    except OSError:
        return True
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            if str((folder / descriptor).readlink()) == file:
                return True
    return False
