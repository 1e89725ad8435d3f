"""A process that ends with its parent, and whether one was stopped.

Standard library only: used before torch is imported.
"""

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the parent ends; exit if it has ended already.

    The parent is the thread that forked: when that one ends the process is killed.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def is_stopped(pid: int) -> bool:
    """Whether a process stands still by a signal or a debugger, and so does not hang of its own."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return False
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}
