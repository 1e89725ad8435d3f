"""The limits that this process and all that it starts are under, each as text with its value."""

import contextlib
import ctypes
import errno
import os
import resource
from pathlib import Path
from typing import Final

from probes.legible import legible
from validator.engine import cgroup

_MIB: Final = 1 << 20
#: Torch with CUDA maps some 10 GiB of libraries and arenas, and more on every core (a stack and an
#: arena a thread): below this a refused mapping is likely, far above it is not.
_ADDRESS_SPACE: Final = 16 << 30
#: Torch without CUDA maps under 1 GiB; below this many a library raises without saying why.
_LITTLE_ADDRESS_SPACE: Final = 2 << 30
_ADDRESS_SPACE_A_CORE: Final = 128 * _MIB
#: A stack of this size is reserved for every thread that is started (glibc takes RLIMIT_STACK).
_LARGE_STACK: Final = 1 << 30
#: Python and torch recurse deeper than this.
_SMALL_STACK: Final = 256 << 10
_LITTLE_MEMORY: Final = 256 * _MIB  # what the probes need at most
_LITTLE_SPACE: Final = 1 * _MIB
_CLONE3: Final = 435  # on every architecture
_STRICT_OVERCOMMIT: Final = "2"
_LITTLE_COMMIT: Final = 4 << 30


#: The resource limits that the newest worker was started under, and keeps.
_HANDED_ON: Final[dict[str, int]] = {}


def hand_on() -> None:
    """Remember what a worker that starts now inherits: ours may be raised while it runs."""
    now = {name: _own(name) for name in dir(resource) if name.startswith("RLIMIT_")}
    _HANDED_ON.clear()
    _HANDED_ON.update({name: value for name, value in now.items() if value is not None})


def _soft(name: str) -> int | None:
    """The value of a resource limit, ours or the worker's, whichever is less; None: no limit."""
    limits = [limit for limit in (_own(name), _HANDED_ON.get(name)) if limit is not None]
    return min(limits, default=None)


def _own(name: str) -> int | None:
    """The value of a limit of this process; None where there is none, or it cannot be read."""
    try:
        value, _ = resource.getrlimit(getattr(resource, name))
    except OSError:  # refused by a filter
        return None
    return None if value == resource.RLIM_INFINITY else value


def _text(file: str) -> str:
    with contextlib.suppress(OSError):
        return Path(file).read_text(encoding="utf-8").strip()
    return ""


def tasks() -> list[str]:
    """What may keep a thread or a process from starting."""
    found = []
    if refused := _clone3_refused():
        found.append(f"clone3 is refused with {refused}")
    group = cgroup.task_limit()
    if group is not None:
        found.append(f"{group.file} is {group.value}, {group.used} in use")
    processes = _soft("RLIMIT_NPROC")
    if processes is not None and (group is None or processes < group.value):
        found.append(f"RLIMIT_NPROC is {processes}")
    return found + _mappings(_ADDRESS_SPACE) + _stack()  # a stack is mapped for every thread


def _clone3_refused() -> str:
    """The error that a filter gives for clone3, by name; empty where threads may use it."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(_CLONE3, None, 0)  # arguments of no size: EINVAL, and nothing is started
    number = ctypes.get_errno()
    # Without the call, in an older kernel or a newer filter, the C library takes clone.
    return "" if number in {errno.EINVAL, errno.ENOSYS} else errno.errorcode.get(number, "success")


def _stack() -> list[str]:
    """A stack limit that keeps threads from starting, or code from recursing."""
    stack = _soft("RLIMIT_STACK")
    if stack is None or _SMALL_STACK <= stack <= _LARGE_STACK:
        return []
    return [f"RLIMIT_STACK is {stack} bytes"]


def descriptors() -> list[str]:
    """How many descriptors a process may open, and the whole system."""
    limit = _soft("RLIMIT_NOFILE")
    return [
        *([f"RLIMIT_NOFILE is {limit}"] if limit is not None else []),
        *([f"fs.file-max is {most}"] if (most := _text("/proc/sys/fs/file-max")) else []),
    ]


def space() -> list[str]:
    """The file systems for temporary files that are full, and a limit of a file's size."""
    found = []
    for folder in dict.fromkeys(("/dev/shm", os.environ.get("TMPDIR", "/tmp"), "/tmp")):  # noqa: S108 - to be named
        with contextlib.suppress(OSError):
            seen = os.statvfs(folder)
            free = seen.f_bavail * seen.f_frsize
            if free < _LITTLE_SPACE:
                found.append(f"{legible(folder, 300)} has {free} bytes free")
    size = _soft("RLIMIT_FSIZE")
    return found + ([f"RLIMIT_FSIZE is {size} bytes"] if size is not None else [])


def processor_time() -> list[str]:
    """How long a process may compute."""
    limit = _soft("RLIMIT_CPU")
    return [f"RLIMIT_CPU is {limit} s"] if limit is not None else []


def filters() -> list[str]:
    """Whether a filter of system calls is in force."""
    modes = [
        line.split()[1] for line in _text("/proc/self/status").splitlines() if "Seccomp:" in line
    ]
    return [f"seccomp mode is {mode}" for mode in modes if mode != "0"]


def _mappings(enough: int) -> list[str]:
    """Limits of what a process may map that are below what is enough, and some for every core."""
    enough += _ADDRESS_SPACE_A_CORE * (os.cpu_count() or 1)
    limits = {name: _soft(name) for name in ("RLIMIT_AS", "RLIMIT_DATA")}
    return [
        f"{name} is {limit} bytes"
        for name, limit in limits.items()
        if limit is not None and limit < enough
    ]


def little_address_space() -> list[str]:
    """Limits under which whatever raises may have raised for want of memory."""
    return _mappings(_LITTLE_ADDRESS_SPACE)


def address_space() -> list[str]:
    """What may keep memory from being mapped."""
    found = _mappings(_ADDRESS_SPACE)
    group = cgroup.memory_limit()
    if group is not None and group.value < _LITTLE_MEMORY:
        found.append(f"{group.file} is {group.value} bytes")
    memory = _meminfo()
    free = memory.get("MemAvailable")
    if free is not None and free < _LITTLE_MEMORY:
        found.append(f"{free} bytes of the host's memory are available")
    if _text("/proc/sys/vm/overcommit_memory") == _STRICT_OVERCOMMIT:
        left = memory.get("CommitLimit", 0) - memory.get("Committed_AS", 0)
        if left < _LITTLE_COMMIT:
            found.append(f"vm.overcommit_memory is 2, and leaves {left} bytes")
    return found + _stack()


def _meminfo() -> dict[str, int]:
    """The host's memory in bytes, by the kernel's names."""
    lines = (line.split() for line in _text("/proc/meminfo").splitlines())
    return {parts[0].rstrip(":"): int(parts[1]) * 1024 for parts in lines if len(parts) == 3}
