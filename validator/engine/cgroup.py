"""What the control group of this process allows and has done: cores, limits, kills for memory.

Both hierarchies, v1 and v2; the folders of a container are those at the mount's own root.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_UNLIMITED: Final = 1 << 62  # version 1 writes the largest number of pages that it can count


def _own(controller: str) -> Iterator[Path]:
    """Folders that may hold a controller's files for this process, nearest first."""
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = _ROOT / controller if names else _ROOT
        folder = root / path.lstrip("/")
        yield folder
        yield from (each for each in folder.parents if each.is_relative_to(root))


def _read(controller: str, name: str) -> str:
    """The first such file that can be read; empty where there is none."""
    for folder in _own(controller):
        with contextlib.suppress(OSError):
            return (folder / name).read_text(encoding="utf-8")
    return ""


def quota(cpu_max: str, quota_us: str, period_us: str) -> float:
    """Cores that a quota allows, from `cpu.max` (v2) or `cpu.cfs_*_us` (v1); no quota is inf."""
    parts = cpu_max.split() or [quota_us.strip(), period_us.strip()]
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or parts[1] == "0":
        return math.inf  # "max", -1 and an empty text are no quota
    return int(parts[0]) / int(parts[1])


def cpu_quota() -> float:
    """Cores that the quota of this group allows; without one inf."""
    return quota(
        _read("cpu", "cpu.max"),
        _read("cpu", "cpu.cfs_quota_us"),
        _read("cpu", "cpu.cfs_period_us"),
    )


def cores() -> int:
    """Cores this process may use: the least of affinity and quota, one at least."""
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), cpu_quota())))


class Limit(NamedTuple):
    """A limit of a control group: its file, its value, and how much of it is in use."""

    file: Path
    value: int
    used: int

    @property
    def available(self) -> int:
        """How much more may be used."""
        return self.value - self.used


def _number(file: Path) -> int | None:
    """What a file of one number holds; None where it is missing, or says that there is no limit."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


def _tightest(controller: str, *names: tuple[str, str]) -> Limit | None:
    """The limit that leaves least, of this group and those above it that can be seen."""
    limits = []
    for folder in _own(controller):
        for limit, usage in names:
            value, used = _number(folder / limit), _number(folder / usage)
            if value is not None and used is not None:
                limits.append(Limit(folder / limit, value, used))
    return min(limits, key=lambda limit: limit.available, default=None)


def task_limit() -> Limit | None:
    """How many processes and threads this group may have; None: as many as it likes."""
    return _tightest("pids", ("pids.max", "pids.current"))


def memory_limit() -> Limit | None:
    """How many bytes this group may use; None: as many as there are."""
    return _tightest(
        "memory",
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    )


def describe_memory_limit() -> str:
    """Who killed for memory, in words: the limit with its value, or the host."""
    limit = memory_limit()
    if limit is None:
        return "by the kernel, since the host had no memory left"
    return f"by the memory limit of this container ({limit.file} is {limit.value} bytes)"


def memory_kills() -> int:
    """How many processes of this group the kernel has killed for memory so far."""
    text = _read("memory", "memory.events") or _read("memory", "memory.oom_control")
    counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    return int(counts.get("oom_kill", 0))
