"""Whether a probe watches while the others of its run go on, and until when.

The supervisor says that they have ended by a signal, which the worker blocks before it forks: one
that is sent early waits.
"""

import signal
from typing import Final

#: As in `validator.engine.job`.
_END: Final = signal.SIGUSR2

_wanted: list[bool] = []


def hold_signal() -> None:
    """Have the signal wait in this process and all that it forks."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {_END})


def begin() -> None:
    """Say that the probe of this process is to watch."""
    _wanted.append(True)


def is_wanted() -> bool:
    """Whether it is."""
    return bool(_wanted)


def goes_on() -> bool:
    """Whether the others still run."""
    return is_wanted() and _END not in signal.sigpending()
