"""Where a child is: what it told last, in memory that is shared with it and outlives it."""

import contextlib
import os
from typing import Final, NamedTuple

#: As in `probes.kit.breadcrumb`: two texts, each ended by a zero byte, and two bytes at the end.
_PAGE_BYTES: Final = 256
_LEAVE: Final = 254
_WRONG: Final = 255
#: Without it a kernel from 6.3 on may refuse; older ones do not know it.
_NOEXEC_SEAL: Final = 0x8


class Breadcrumb(NamedTuple):
    """The check and the operation that ran last; empty where a probe tells none."""

    check: str = ""
    operation: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


def shared_page() -> int | None:
    """A descriptor of memory to share with a child; None where none is to be had.

    Without it a death names no operation, and nothing else is lost.
    """
    for flags in (os.MFD_CLOEXEC | _NOEXEC_SEAL, os.MFD_CLOEXEC):
        with contextlib.suppress(OSError):  # an old kernel, or a filter that refuses the call
            page = os.memfd_create("gpu-validator-breadcrumb", flags)
            os.ftruncate(page, _PAGE_BYTES)
            return page
    return None


def read_breadcrumb(page: int | None) -> Breadcrumb:
    """What was told last on a page."""
    if page is None:
        return Breadcrumb()
    check, operation, *_ = os.pread(page, _LEAVE, 0).split(b"\0", 2)
    return Breadcrumb(check.decode(errors="replace"), operation.decode(errors="replace"))


def is_wrong(page: int | None) -> bool:
    """Whether something that was seen until now was wrong; False where that is not told."""
    return page is not None and os.pread(page, 1, _WRONG) == b"\1"


def ask_to_tell(page: int | None) -> None:
    """Ask a probe to try nothing more, and tell what it has seen: it must leave its device."""
    if page is not None:
        os.pwrite(page, b"\1", _LEAVE)
