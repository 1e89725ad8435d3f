"""The clients' connections: how many there may be, and how long each may keep us waiting.

A run needs descriptors too, and so does whoever asks whether we live: neither may go without them
for the sake of clients that say nothing.
"""

import ctypes
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from probes.contract import MIB

#: Bytes of answers that are over from which on the allocator is asked to give them back.
_GIVEN_BACK_BYTES: Final = 4 * MIB


@dataclass(frozen=True)
class Limits:
    """What the clients may take, all of them together and each of them."""

    most: int = 512  # connections that may ask for every page
    local: int = 32  # the same, of those over the unix socket, whom no network keeps out
    beyond: int = 32  # more of them, that may ask for health alone
    at_once: int = 128  # that are let in, before any of them is told apart
    head_s: float = 10.0  # for a request to be sent whole
    beyond_s: float = 2.0  # the same, of those beyond
    idle_s: float = 75.0  # between requests: more than a usual scrape interval
    answer_s: float = 30.0  # for an answer to be read
    unread_bytes: int = 32 * MIB  # of answers that nobody reads, before pages are refused


def limits_here() -> Limits:
    """The limits where this process may have few descriptors: half are the runs'."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return Limits()
    return Limits(
        most=min(Limits.most, descriptors * 11 // 32),
        local=max(1, min(Limits.local, descriptors // 32)),
        beyond=max(1, min(Limits.beyond, descriptors // 16)),
        at_once=max(1, min(Limits.at_once, descriptors // 16)),
    )


class Connection(Protocol):
    """What the table asks of a connection."""

    def is_overdue(self, now_s: float) -> bool:
        """Whether its client has kept us waiting for too long."""

    def unread_bytes(self) -> int:
        """How much of its answers is not sent, since its client does not read."""

    def drop(self) -> None:
        """End it at once, unsent answers included."""


class Connections:
    """All connections of the server."""

    def __init__(
        self, limits: Limits | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Create it without any; the limits are by default those that fit this process."""
        self.limits = limits_here() if limits is None else limits
        self.monotonic = monotonic
        #: How many came when there were too many for them to be answered whatever they ask.
        self.refused = 0
        self._ordinary: set[Connection] = set()
        self._local: set[Connection] = set()
        self._beyond: dict[Connection, None] = {}  # in the order in which they came
        self._unread: set[Connection] = set()
        self._held_bytes = 0  # by unread answers, the most since memory was given back

    def join(self, one: Connection, *, is_local: bool = False) -> bool:
        """Take a new one in; whether it may ask for more than health.

        Beyond the most, the newest are the first to go, so that a client that is asked to wait
        never costs another its place; of those beyond, the oldest goes: it has had its time.
        """
        if is_local and len(self._local) < self.limits.local:
            self._local.add(one)
            return True
        if len(self._ordinary) < self.limits.most:
            self._ordinary.add(one)
            return True
        self.refused += 1
        while len(self._beyond) >= self.limits.beyond:
            next(iter(self._beyond)).drop()
            del self._beyond[next(iter(self._beyond))]
        self._beyond[one] = None
        return False

    def leave(self, one: Connection) -> None:
        """Forget one that is over."""
        self._ordinary.discard(one)
        self._local.discard(one)
        self._beyond.pop(one, None)
        self._unread.discard(one)

    def record_unread(self, one: Connection) -> None:
        """Count what one does not read, from now on."""
        self._unread.add(one)

    def owes_too_much(self) -> bool:
        """Whether so much is unread, by all together, that only small answers may follow."""
        return self._owed_bytes() > self.limits.unread_bytes

    def _owed_bytes(self) -> int:
        return sum(each.unread_bytes() for each in self._unread)

    def sweep(self) -> None:
        """End those that have kept us waiting for too long; call it once a second."""
        now_s = self.monotonic()
        self._unread = {each for each in self._unread if each.unread_bytes()}
        self._held_bytes = max(self._held_bytes, self._owed_bytes())
        for each in (*self._ordinary, *self._local, *self._beyond):
            if each.is_overdue(now_s):
                each.drop()
        # By those who were dropped, who left, and who have read it in the end.
        if self._held_bytes - (owed := self._owed_bytes()) > _GIVEN_BACK_BYTES:
            self._held_bytes = owed
            _trim()


def _trim() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
