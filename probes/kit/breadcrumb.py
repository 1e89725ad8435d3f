"""Where a probe is: told before each operation, so that a death or a hang names what ran last.

The page is memory shared with the supervisor: it still can be read when this process is dead, or
sits in a driver. Telling is a copy of 256 bytes, without a system call.
"""

import mmap
import time
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

PAGE_BYTES: Final = 256

T = TypeVar("T")


class _Breadcrumb:
    """The check and the operation that this process is at, and the checks it must not begin."""

    def __init__(self) -> None:
        self.page: mmap.mmap | None = None
        self.left_out: frozenset[str] = frozenset()
        self.check = ""
        #: What is timed: the check, or the operation where it belongs to none.
        self.part = ""
        self.began_s = time.monotonic()
        self.parts: list[tuple[str, float, float]] = []  # name, began_s, ended_s

    def tell(self, check: str, operation: str = "") -> None:
        self.check = check
        if (check or operation) != self.part:
            self._end_part(check or operation)
        if self.page is not None:
            # Two texts, each ended by a zero byte, and zeros to the end. One copy, so that no
            # reader finds half of it.
            told = f"{check}\0{operation}".encode()[: PAGE_BYTES - 1]
            self.page[:] = told.ljust(PAGE_BYTES, b"\0")

    def _end_part(self, following: str) -> None:
        """Keep when the last part began and ended; the one that follows begins now."""
        now_s = time.monotonic()
        if self.part:
            self.parts.append((self.part, self.began_s, now_s))
        self.part, self.began_s = following, now_s


_LAST: Final = _Breadcrumb()


def show_on(descriptor: int) -> None:
    """Tell every place from now on in the memory behind a descriptor, PAGE_BYTES long."""
    _LAST.page = mmap.mmap(descriptor, PAGE_BYTES)


def begin(left_out: frozenset[str] = frozenset()) -> None:
    """Begin a probe: at no check yet. `left_out` are checks that killed a process before."""
    _LAST.left_out = left_out
    _LAST.tell("")
    _LAST.parts = []


def families(table: Mapping[str, T]) -> Iterator[tuple[str, T]]:
    """Go through a table by check, telling each check before it is handed out.

    Checks that are left out are not handed out. After the last one no check is told.
    """
    for check, value in table.items():
        if check in _LAST.left_out:
            continue
        _LAST.tell(check)
        yield check, value
    _LAST.tell("")


def parts() -> list[tuple[str, float, float]]:
    """The parts that this probe came through, each with its begin and end in monotonic seconds.

    A part is a check, or an operation that belongs to no check.
    """
    _LAST.tell("")
    return _LAST.parts


def check(name: str) -> None:
    """Tell a check that is begun outside its table."""
    _LAST.tell(name)


def operation(name: str) -> None:
    """Tell the operation that comes next in the check that was told last."""
    _LAST.tell(_LAST.check, name)
