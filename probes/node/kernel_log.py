"""NVIDIA's error lines (Xid) in the kernel's log, where this process may read it."""

import ctypes
import errno
import os
import re
import time
from typing import Final

from probes.contract import Frozen

#: Actions of syslog(2): read all that is in the ring buffer, and the buffer's size.
_READ_ALL, _SIZE = 3, 10
_MOST_BYTES: Final = 16 * 1024 * 1024

#: `NVRM: Xid (PCI:0000:0f:00): 79, pid=1234, ...`, after the time since the start of the system.
_LINE: Final = re.compile(
    r"^(?:<\d+>)?(?:\[\s*(?P<at>\d+\.\d+)\])?.*?NVRM: Xid \((?:PCI:)?(?P<address>[0-9a-fA-F:.]+)"
    r"[^)]*\): (?P<code>\d+),? ?(?P<text>.*)$",
    re.MULTILINE,
)
_TEXT_CHARACTERS: Final = 160


class Xid(Frozen):
    """One line. `address` is domain:bus:device of the GPU; `age_s` None: the line has no time."""

    code: int
    address: str
    text: str = ""
    age_s: float | None = None


class KernelLog(Frozen):
    """The lines, oldest first; `error` says why the log could not be read."""

    error: str = ""
    xids: tuple[Xid, ...] = ()


def parse(text: str, now_s: float) -> tuple[Xid, ...]:
    """The Xid lines of a log; `now_s` is the time since the start of the system, in seconds."""
    return tuple(
        Xid(
            code=int(found["code"]),
            address=_address(found["address"]),
            text=found["text"].strip()[:_TEXT_CHARACTERS],
            age_s=None if found["at"] is None else max(0.0, now_s - float(found["at"])),
        )
        for found in _LINE.finditer(text)
    )


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
