"""A file descriptor that reports the end of a process.

Standard library only: validator/ uses it too.

Ref: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
"""

import ctypes
import os
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
