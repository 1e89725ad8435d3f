"""Makes the process die, exit or print without end, mostly at its first operation of torch."""

import ctypes
import os
import signal
from typing import Final

from probes.faults.inject.operations import act_before

#: Many times what is kept of a log. Each 64 KiB wait for their reader, on a busy host tens of ms,
#: and a child has ten seconds until its first probe.
_FLOOD_BYTES: Final = 5_000_000
_LINE: Final = b"W the driver has something to say\n"


def dies(name: str) -> None:
    """Die by a signal, as native code does, without Python's handlers."""
    number = signal.Signals[name]
    act_before((), lambda: os.kill(os.getpid(), number))


def crashes() -> None:
    """Crash by reading an invalid address."""
    act_before((), lambda: ctypes.string_at(0))


def leaves() -> None:
    """Exit with code 0 and without a result."""
    act_before((), lambda: os._exit(0))


def floods() -> None:
    """Print 5 MB past Python's buffers, and continue."""
    for _ in range(_FLOOD_BYTES // (1000 * len(_LINE))):
        os.write(1, _LINE * 1000)
