"""Signals that the daemon gives no meaning to, and that would end a process which heeds none."""

import signal
from typing import Final

#: Those that end a process, stop it or tell it something; of a fault or limit of its own; and
#: those that end no Python.
_HEEDED: Final = frozenset(
    {
        *(signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD),
        *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT),
        *(signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
        *(signal.SIGSEGV, signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ),
        *(signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH),
    }
)
MEANINGLESS: Final = frozenset[int](signal.valid_signals() - _HEEDED)

#: Kept from the start of its process until the daemon heeds them.
KEPT: Final[frozenset[int]] = MEANINGLESS | {signal.SIGHUP}


def name_of(number: int) -> str:
    """How a signal is called; those without a name of their own by their distance from one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
