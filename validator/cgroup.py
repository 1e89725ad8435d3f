"""What the control group of this process allows and has done: cores, and kills for memory.

Both hierarchies, v1 and v2; the folders of a container are those at the mount's own root.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def _own(controller: str) -> Iterator[Path]:
    """Folders that may hold a controller's files for this process, nearest first."""
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names == "":
            yield _ROOT / path.lstrip("/")
            yield _ROOT
        elif controller in names.split(","):
            yield _ROOT / controller / path.lstrip("/")
            yield _ROOT / controller


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


def cores() -> int:
    """Cores this process may use: the least of affinity and quota, one at least."""
    allowed = quota(
        _read("cpu", "cpu.max"),
        _read("cpu", "cpu.cfs_quota_us"),
        _read("cpu", "cpu.cfs_period_us"),
    )
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), allowed)))


def memory_kills() -> int:
    """How many processes of this group the kernel has killed for memory so far."""
    text = _read("memory", "memory.events") or _read("memory", "memory.oom_control")
    counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    return int(counts.get("oom_kill", 0))
