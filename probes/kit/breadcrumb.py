"""The check and operation that a probe is at, recorded so that a crash or hang names the last one.

The record is a page of memory shared with the supervisor, which can read it when this process is
dead or blocked in a driver. Recording copies 256 bytes and makes no system call.
"""

import mmap
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

PAGE_BYTES: Final = 256

T = TypeVar("T")


class _Breadcrumb:
    """The current check, the page that it is recorded in, and the checks to leave out."""

    def __init__(self) -> None:
        self.page: mmap.mmap | None = None
        self.left_out: frozenset[str] = frozenset()
        self.check = ""

    def write(self, check: str, operation: str = "") -> None:
        self.check = check
        if self.page is not None:
            # Two texts, each ended by a zero byte, then zeros. Written in one copy, so that no
            # reader sees half of a record.
            text = f"{check}\0{operation}".encode()[: PAGE_BYTES - 1]
            self.page[:] = text.ljust(PAGE_BYTES, b"\0")


_CURRENT: Final = _Breadcrumb()


def use_page(descriptor: int) -> None:
    """Record from now on in the memory behind a file descriptor, PAGE_BYTES long."""
    _CURRENT.page = mmap.mmap(descriptor, PAGE_BYTES)


def begin(left_out: frozenset[str] = frozenset()) -> None:
    """Start a probe: no check yet. `left_out`: checks that killed an earlier process."""
    _CURRENT.left_out = left_out
    _CURRENT.write("")


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


def check(name: str) -> None:
    """Record the current check, where `families` does not do it."""
    _CURRENT.write(name)


def operation(name: str) -> None:
    """Record the next operation of the current check."""
    _CURRENT.write(_CURRENT.check, name)
