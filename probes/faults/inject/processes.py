"""Processes that hang, die, leave, or print without end, at their first operation of torch."""

import ctypes
import os
import signal
from typing import Final

from probes.faults.inject.operations import does

_FLOOD_BYTES: Final = 50_000_000
_LINE: Final = b"W the driver has something to say\n"


def dies(name: str) -> None:
    """By a signal, as native code does: not even Python's own handlers run."""
    number = signal.Signals[name]
    does((), lambda: os.kill(os.getpid(), number))


def crashes() -> None:
    """By reading where there is no memory."""
    does((), lambda: ctypes.string_at(0))


def leaves() -> None:
    """With exit code 0 and no result."""
    does((), lambda: os._exit(0))


def floods() -> None:
    """Print 50 MB from native code, and go on."""
    for _ in range(_FLOOD_BYTES // (1000 * len(_LINE))):
        os.write(1, _LINE * 1000)
