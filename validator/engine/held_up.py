"""Whether a process was held up by what it shares: processors, its group's memory, its files.

One that is late for that reason hangs not of its own, and tells nothing of torch or of a GPU. A
process that sleeps, as one does that waits for a driver, or that computes all the time, is not
held up. What it has started, such as a compiler, holds it up where that is held up itself.
"""

import math
import os
import time
from pathlib import Path
from typing import Final

from validator.engine import cgroup, processes
from validator.engine.stall import is_in_driver, kernel_activity

HINT: Final = (
    "raise the limit of the validator's container or unit (`--cpus` and `--memory` of docker run, "
    "`resources.limits` of the pod, CPUQuota= and MemoryHigh= of the unit), or look at what else "
    "keeps the processors (`uptime`) or the disk (`cat /proc/pressure/io`) busy, and run the check "
    "again"
)

_NS: Final = 1e9
#: Of so short a time nothing is said.
_SHORT_S: Final = 5.0
#: With as much of a processor as this every probe has come to its end on a sound machine.
_ENOUGH_S: Final = 10.0
_SHARE: Final = 0.5
#: Functions of the kernel in which a process waits for memory that its group may not have: `oom`
#: where version 1 has its killer switched off, `high` where version 2 slows a group down.
_WAITS_FOR_MEMORY: Final = "mem_cgroup_"
#: Those in which one waits for a file: of a disk, of NFS, of a file system in user space.
_WAITS_FOR_A_FILE: Final = (
    *("folio_wait", "__folio_lock", "wait_on_page", "__lock_page", "io_schedule", "wait_on_buffer"),
    *("rpc_wait", "nfs", "request_wait_answer", "fuse_", "p9_client", "ceph_"),
    *("cifs_", "ptlrpc_", "ldlm_", "cl_sync_io_wait", "osc_", "cxiWait"),
)
_LOOKS: Final = 3
_BETWEEN_S: Final = 0.01
#: For who looks on to hear of a beginning.
_EARLIER_S: Final = 1.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second, in which /proc tells the start of a process


class Progress:
    """What the threads of a process have computed, and waited for a processor, from now on."""

    def __init__(self, pid: int, since_s: float | None = None) -> None:
        """Begin; with the monotonic time at which the process started, count its whole life."""
        self._pid = pid
        self._began_s = time.monotonic() if since_s is None else since_s
        self._before = _threads(pid) if since_s is None else {}

    def obstacle(self) -> str:
        """What has kept it from its end, as text; empty where nothing did, or nobody tells."""
        return self._wait() or self._processor()

    def _wait(self) -> str:
        """What it waits for: any thread for memory, or at each look a main one for a file."""
        files = dict.fromkeys(self._pids(), "")
        for look in range(_LOOKS):
            if look:
                time.sleep(_BETWEEN_S)
            for pid in tuple(files):
                waits = {thread.name: _read(thread / "wchan") for thread in _folders(pid)}
                if any(where.startswith(_WAITS_FOR_MEMORY) for where in waits.values()):
                    limit = cgroup.memory_limit()
                    named = f" ({limit.file} is {limit.value} bytes)" if limit else ""
                    return f"it waits for memory that its control group may not have{named}"
                files[pid] = waits.get(str(pid), "")
                if not files[pid].startswith(_WAITS_FOR_A_FILE):
                    del files[pid]
        for where in files.values():
            return f"it waits for a file, in the kernel's {where}"
        return ""

    def _pids(self) -> tuple[int, ...]:
        """Itself, and what has come of it since the beginning."""
        lasted_s = time.monotonic() - self._began_s
        after_s = time.clock_gettime(time.CLOCK_BOOTTIME) - lasted_s - _EARLIER_S
        others = processes.descendants([self._pid]) - {self._pid}
        return (self._pid, *(pid for pid in others if _start_s(pid) >= after_s))

    def _processor(self) -> str:
        lasted_s = time.monotonic() - self._began_s
        spent = {
            thread: (ran_s - before_s, waited_s - waited_before_s)
            for pid in self._pids()
            for thread, (ran_s, waited_s) in _threads(pid).items()
            for before_s, waited_before_s in [self._before.get(thread, (0.0, 0.0))]
        }
        ran_s = sum(ran for ran, _ in spent.values())
        waiting = [name for name, (_, waited) in spent.items() if waited >= _SHARE * lasted_s]
        if lasted_s < _SHORT_S or ran_s >= _ENOUGH_S or not waiting:
            return ""
        # Beside a call that a driver does not end, threads that look on wait for a processor too.
        if str(self._pid) not in waiting and is_in_driver(kernel_activity(self._pid)):
            return ""
        quota = cgroup.cpu_quota()
        why = f"the CPU quota is {quota:g} cores" if quota < math.inf else "others keep them busy"
        return f"in {lasted_s:.0f} s it had {ran_s:.1f} s of the processors: {why}"


def _start_s(pid: int) -> float:
    """When a process started, in seconds since boot (proc(5), field 22 of `stat`); 0: it is gone.

    Early by a tick at most.
    """
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[19]) / _TICKS if len(fields) > 19 else 0.0


def _folders(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended
        return []


def _threads(pid: int) -> dict[str, tuple[float, float]]:
    """Seconds that each thread ran, and waited while it could run (proc(5), `schedstat`)."""
    found = {}
    for folder in _folders(pid):
        numbers = _read(folder / "schedstat").split()
        if len(numbers) == 3:  # none in a kernel without scheduler statistics
            found[folder.name] = (int(numbers[0]) / _NS, int(numbers[1]) / _NS)
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
