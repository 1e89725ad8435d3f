"""The check and operation that a probe is at, recorded so that a crash or hang names the last one.

So is whether something was wrong until then; who must end the probe then asks it to tell.

The record is a page of memory shared with the supervisor, which can read it when this process is
dead or blocked in a driver. Recording copies 254 bytes and makes no system call.
"""

import mmap
import time
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

PAGE_BYTES: Final = 256
#: Places of two bytes that are 1 or 0: the supervisor writes whether the device is to be left, and
#: this process whether something was wrong.
LEAVE: Final = 254
WRONG: Final = 255

T = TypeVar("T")


class _Breadcrumb:
    """The current check, the page that it is recorded in, and the checks to leave out."""

    def __init__(self) -> None:
        self.page: mmap.mmap | None = None
        self.left_out: frozenset[str] = frozenset()
        self.check = ""
        #: What is timed: the check, or the operation where it belongs to none.
        self.part = ""
        self.began_s = time.monotonic()
        self.parts: list[tuple[str, float, float]] = []  # name, began_s, ended_s

    def write(self, check: str, operation: str = "") -> None:
        self.check = check
        if (check or operation) != self.part:
            self._end_part(check or operation)
        if self.page is not None:
            # Two texts, each ended by a zero byte, then zeros. Written in one copy, so that no
            # reader sees half of a record.
            text = f"{check}\0{operation}".encode()[: LEAVE - 1]
            self.page[:LEAVE] = text.ljust(LEAVE, b"\0")

    def _end_part(self, following: str) -> None:
        """Keep when the last part began and ended; the one that follows begins now."""
        now_s = time.monotonic()
        if self.part:
            self.parts.append((self.part, self.began_s, now_s))
        self.part, self.began_s = following, now_s


_CURRENT: Final = _Breadcrumb()


def use_page(descriptor: int) -> None:
    """Record from now on in the memory behind a file descriptor, PAGE_BYTES long."""
    _CURRENT.page = mmap.mmap(descriptor, PAGE_BYTES)


def begin(left_out: frozenset[str] = frozenset()) -> None:
    """Start a probe: no check yet. `left_out`: checks that are not made in this process."""
    _CURRENT.left_out = left_out
    if _CURRENT.page is not None:
        _CURRENT.page[WRONG] = 0
    _CURRENT.write("")
    _CURRENT.parts = []


def families(table: Mapping[str, T]) -> Iterator[tuple[str, T]]:
    """Iterate over a table by check, recording each check before it is yielded.

    Checks that are left out are not yielded. After the last one no check is recorded.
    """
    for check, value in table.items():
        if check in _CURRENT.left_out:
            continue
        _CURRENT.write(check)
        yield check, value
    _CURRENT.write("")


def parts() -> list[tuple[str, float, float]]:
    """Return the parts that this probe went through: name, start and end in monotonic seconds.

    A part is a check, or an operation that belongs to no check.
    """
    _CURRENT.write("")
    return _CURRENT.parts


def check(name: str) -> None:
    """Record the current check, where `families` does not do it."""
    _CURRENT.write(name)


def operation(name: str) -> None:
    """Record the next operation of the current check."""
    _CURRENT.write(_CURRENT.check, name)


def record_wrong() -> None:
    """Record that something was wrong since the probe began."""
    if _CURRENT.page is not None:
        _CURRENT.page[WRONG] = 1


def others() -> str:
    """Who came to the device, so that the probe is to tell what it has seen; "" for nobody."""
    asked = _CURRENT.page is not None and _CURRENT.page[LEAVE]
    return "others came to it" if asked else ""
