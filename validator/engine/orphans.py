"""What outlives a worker: processes that hid from its group are adopted here, killed and reaped."""

import asyncio
import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

from validator.engine.spawn import MARKER

_SWEEPS: Final = 25
#: Between two sweeps: what was killed is mostly gone in a millisecond.
_FIRST_SWEEP_S: Final = 0.001
_SWEEP_S: Final = 0.05  # at most
_PR_SET_CHILD_SUBREAPER: Final = 36
_PF_EXITING: Final = 0x4  # of /proc/PID/stat's flags; linux/sched.h


def adopt() -> None:
    """Become the parent of whatever a worker leaves behind, in place of PID 1."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> frozenset[int]:
    """Process ids of our direct children, adopted ones too; none where no file can be opened."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # no descriptor is left
        for listed in Path("/proc/self/task").glob("*/children"):
            with contextlib.suppress(OSError):  # a thread that ended meanwhile
                found.update(map(int, listed.read_text(encoding="utf-8").split()))
    return frozenset(found)


def _left_behind(pid: int) -> bool:
    """Whether a new child came from a worker: by its mark, or since it is dead or dying by now.

    One whose environment was cleared is a worker's too, but for PID 1, who inherits from anybody.
    """
    mark = f"{MARKER}={os.getpid()}".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        cleared = not environment and os.getpid() != 1
        return cleared or mark in environment.split(b"\0") or _is_ending(pid)
    except PermissionError:  # of one that is ending, or of one that is not ours to kill
        return _is_ending(pid)
    except OSError:  # dying: to be looked at again
        return True


class Reaper:
    """Reaps what this process inherits and nobody waits for, as PID 1 must; looked at now and then.

    A worker is waited for by its supervisor at once: what is dead at two looks is nobody's.
    """

    def __init__(self) -> None:
        self._dead: frozenset[int] = frozenset()

    def look(self) -> None:
        """Reap what was dead already when this was called last."""
        dead = frozenset(pid for pid in children() if _is_dead(pid))
        for pid in dead & self._dead:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._dead = dead - self._dead


def _is_dead(pid: int) -> bool:
    """Whether a process waits to be reaped."""
    return _stat(pid)[:1] == ["Z"]


def _stat(pid: int) -> list[str]:
    """What /proc/PID/stat tells after the name, which may hold anything; empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()


def _is_ending(pid: int) -> bool:
    """Whether a process is a zombie or about to be: then its environment is gone, or root's."""
    fields = _stat(pid)
    if not fields:  # reaped meanwhile
        return False
    state, *numbers = fields
    return state == "Z" or bool(int(numbers[5]) & _PF_EXITING)


async def sweep(spare: frozenset[int]) -> None:
    """Kill and reap what workers left behind, also what hid in a session of its own.

    Args:
        spare: process ids to leave alone: what was there before, and what cannot be killed.
    """
    pause_s = _FIRST_SWEEP_S
    for _ in range(_SWEEPS):
        left = [pid for pid in children() - spare if _left_behind(pid)]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - never blocks
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _SWEEP_S)
