"""What this process may use: memory, cores, limits of resources, file systems. Nothing is judged.

Files are read under `root`, so that a test can plant them.
"""

import contextlib
import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from probes.contract import Frozen
from probes.legible import legible

#: Limits of a process that jobs run into.
LIMITS: Final = ("NOFILE", "NPROC", "MEMLOCK", "AS", "STACK")

_UNLIMITED: Final = 1 << 62  # version 1 of control groups writes a number near 2^63

#: Variable -> the folder of a cache, below the home folder, where the variable is not set.
_CACHES: Final = {"TMPDIR": "", "XDG_CACHE_HOME": ".cache", "CUDA_CACHE_PATH": ".nv"}


class Space(Frozen):
    """A folder's file system. `size_bytes` None: it has none of its own. `problem`: no use."""

    folder: str
    size_bytes: int | None = None
    free_bytes: int | None = None
    free_files: int | None = None  # None: it does not count them
    problem: str = ""


def space(folder: str, *, made: bool = False) -> Space:
    """The file system of a folder, or of the nearest folder above it that this user can see.

    `made`: nobody makes the folder later, so that one which is missing is of no use.
    """
    if made and not os.path.lexists(folder):
        return Space(folder=folder, problem="it does not exist")
    place = Path(folder)
    # Path.exists raises where this user may not look, as at /root/.cache, or a name is too long.
    while not os.path.exists(place) and place != place.parent:  # noqa: PTH110
        place = place.parent
    try:
        seen = os.statvfs(place)
    except OSError as error:
        return Space(folder=legible(folder, 300), problem=str(error.strerror))
    problem = ""
    if seen.f_flag & os.ST_RDONLY:
        problem = "it is read-only"
    elif not os.access(place, os.W_OK | os.X_OK):
        problem = "this user may not write there"
    return Space(
        folder=legible(folder, 300),
        size_bytes=seen.f_blocks * seen.f_frsize or None,
        free_bytes=seen.f_bavail * seen.f_frsize if seen.f_blocks else None,
        free_files=seen.f_favail if seen.f_files else None,
        problem=problem,
    )


def caches(environment: Mapping[str, str]) -> tuple[Space, ...]:
    """The folders in which torch, CUDA and compilers keep what they have compiled."""
    home = environment.get("HOME", "/")
    folders = {
        variable: environment.get(variable) or (f"{home}/{below}" if below else "/tmp")  # noqa: S108 - the default
        for variable, below in _CACHES.items()
    }
    return tuple(space(folder) for folder in dict.fromkeys(folders.values()))


#: CAP_IPC_LOCK: RLIMIT_MEMLOCK does not count. Source: capabilities(7).
_LOCKS: Final = 1 << 14


def locks_without_limit(root: Path = Path("/")) -> bool:
    """Whether this process may lock memory whatever its limit is; not in a user namespace."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(root / "proc/self/status"), re.MULTILINE)
    mapped = _text(root / "proc/self/uid_map").split()
    return found is not None and mapped[:2] == ["0", "0"] and bool(int(found[1], 16) & _LOCKS)


def limits() -> dict[str, int | None]:
    """The soft limits of this process, by name; None is unlimited."""
    found: dict[str, int | None] = {}
    for name in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # refused by a filter
            value, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
            found[name] = None if value == resource.RLIM_INFINITY else value
    return found


class Group(Frozen):
    """What control groups allow: bytes of memory, and cores. None: no limit."""

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    cores: float | None = None


def group(root: Path = Path("/")) -> Group:
    """The tightest limits of the groups of this process, in both versions."""
    memory: list[tuple[int, int]] = []
    cores: list[float] = []
    for folder in _folders(root):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and most < _UNLIMITED:
                memory.append((most, now or 0))
        quota = _text(folder / "cpu.max").split()
        if not quota:
            quota = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(quota) == 2 and all(part.isdigit() for part in quota) and int(quota[1]):
            cores.append(int(quota[0]) / int(quota[1]))
    most, now = min(memory, default=(None, None))
    return Group(memory_bytes=most, memory_used_bytes=now, cores=min(cores, default=None))


def _folders(root: Path) -> Iterator[Path]:
    """The folders of this process's groups and those above them, of any controller."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, separator, rest = line.partition(":")
        controllers, also, path = rest.partition(":")
        if not (separator and also):  # no line of the kernel's
            continue
        names = controllers.split(",")
        for name in (
            {"memory", "cpu", "cpu,cpuacct"} & {*names, controllers} if controllers else {""}
        ):
            top = root / "sys/fs/cgroup" / name
            own = top / path.lstrip("/")
            yield from (each for each in (own, *own.parents) if each.is_relative_to(top))
            if not own.is_relative_to(top):
                yield top


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None
