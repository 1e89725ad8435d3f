"""Starts a program with one system call refused: `python refuse.py NUMBER ERRNO COMMAND...`.

As a container's filter (seccomp) does, or a kernel that lacks the call.
"""

import ctypes
import os
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_LOAD_NUMBER = (0x20, 0, 0, 0)  # BPF_LD | BPF_W | BPF_ABS, at seccomp_data.nr
_ALLOW = (0x06, 0, 0, 0x7FFF0000)
_ERRNO = 0x00050000


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("count", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> None:
    """Install the filter, and become the command."""
    number, error = int(sys.argv[1]), int(sys.argv[2])
    steps = (_LOAD_NUMBER, (0x15, 0, 1, number), (0x06, 0, 0, _ERRNO | error), _ALLOW)
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = _Program(len(steps), code)
    if library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls can be installed here")
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - the command is the test's own


if __name__ == "__main__":
    main()
