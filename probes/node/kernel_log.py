"""NVIDIA's error lines (Xid) in the kernel's log, where this process may read it."""

import ctypes
import errno
import os
import re
import time
from collections import Counter
from typing import Final

from probes.contract import Frozen

#: Actions of syslog(2): read all that is in the ring buffer, and the buffer's size.
_READ_ALL, _SIZE = 3, 10
_MOST_BYTES: Final = 16 * 1024 * 1024

#: Before a message: its priority, the time since the start of the system and who wrote it; or what
#: syslog writes there.
_PREFIX: Final = (
    r"^(?:<(?P<priority>\d{1,5})>)?(?:\[ *(?P<at>\d+\.\d+)\])?(?:\[ *[TC]\d+\])? *"
    r"(?:[\w:. -]* kernel: )?"
)
#: `NVRM: Xid (PCI:0000:0f:00): 79, pid=1234, ...`.
_LINE: Final = re.compile(
    _PREFIX + r"NVRM: Xid \((?:PCI:)?(?P<address>[0-9a-fA-F:.]+)[^)]*\): "
    r"(?P<code>\d{1,6})(?!\d),? ?(?P<text>.*)$",
    re.MULTILINE,
)
#: The driver starts: what it said before is of one that is gone.
_START: Final = re.compile(_PREFIX + r"NVRM: loading NVIDIA UNIX", re.MULTILINE)
#: Priorities from here on are those of messages that programs have written into the log.
_OF_PROGRAMS: Final = 8
_TEXT_CHARACTERS: Final = 160
#: Kinds of lines that are kept: codes times GPUs are fewer, where the lines are the driver's.
_MOST: Final = 256


class Xid(Frozen):
    """The newest line of a code and GPU, and how many such lines there are.

    `address` is domain:bus:device of the GPU; `age_s` None: the line has no time.
    """

    code: int
    address: str
    text: str = ""
    age_s: float | None = None
    count: int = 1


class KernelLog(Frozen):
    """The lines, oldest first; `error` says why the log could not be read."""

    error: str = ""
    xids: tuple[Xid, ...] = ()


def parse(text: str, now_s: float) -> tuple[Xid, ...]:
    """The driver's Xid lines since it was loaded, one of each code and GPU, the newest last.

    Args:
        text: the log; lines that programs have written into it do not count.
        now_s: the time since the start of the system, in seconds.
    """
    starts = [found.end() for found in _START.finditer(text) if _is_of_kernel(found)]
    newest: dict[tuple[int, str], re.Match[str]] = {}
    counts: Counter[tuple[int, str]] = Counter()
    for found in _LINE.finditer(text, starts[-1] if starts else 0):
        if _is_of_kernel(found):
            key = (int(found["code"]), _address(found["address"]))
            newest.pop(key, None)
            newest[key] = found
            counts[key] += 1
    return tuple(
        Xid(
            code=code,
            address=address,
            text=found["text"].strip()[:_TEXT_CHARACTERS],
            age_s=None if found["at"] is None else max(0.0, now_s - float(found["at"])),
            count=counts[code, address],
        )
        for (code, address), found in [*newest.items()][-_MOST:]
    )


def _is_of_kernel(found: re.Match[str]) -> bool:
    return found["priority"] is None or int(found["priority"]) < _OF_PROGRAMS


def _address(text: str) -> str:
    """Domain, bus and device as sysfs spells them, without the function: 0000:0f:00."""
    domain, *rest = text.lower().partition(".")[0].split(":")
    return ":".join((f"{domain.lstrip('0'):0>4}", *rest))


def read() -> KernelLog:
    """Read the ring buffer in one call; a container may do so seldom."""
    call = ctypes.CDLL(None, use_errno=True).klogctl
    size = min(int(call(_SIZE, None, 0)), _MOST_BYTES)
    count = -1
    if size > 0:
        buffer = ctypes.create_string_buffer(size)
        count = int(call(_READ_ALL, buffer, size))
    if count < 0:
        number = ctypes.get_errno()
        name = errno.errorcode.get(number, str(number))
        return KernelLog(error=f"{name}: {os.strerror(number)}")
    text = buffer.raw[:count].decode(errors="replace")
    return KernelLog(xids=parse(text, time.clock_gettime(time.CLOCK_MONOTONIC)))
