"""What the kernel says of a process: a descriptor that reports its end, and whether it is stopped.

Standard library only: validator/ uses it too.

Ref: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
"""

import ctypes
import os
from pathlib import Path
from typing import Final

_PIDFD_OPEN: Final = 434  # on every architecture


def pidfd_open(pid: int) -> int:
    """A file descriptor that becomes readable when the process ends.

    Raises:
        OSError: the kernel lacks the call (ENOSYS) or a filter refuses it (EPERM as a rule).
    """
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    # Python built with the headers of an older kernel has no os.pidfd_open (some conda builds).
    library = ctypes.CDLL(None, use_errno=True)
    descriptor: int = library.syscall(_PIDFD_OPEN, pid, 0)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.set_inheritable(descriptor, False)
    return descriptor


def is_stopped(pid: int) -> bool:
    """Whether a process stands still by a signal or a debugger, and so does not hang of its own."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return False
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}
