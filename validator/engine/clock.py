"""A clock for deadlines that stands still while this process is stopped, and waits on it.

A frozen container, a stopped process group and a paused virtual machine stop the probes and whoever
times them alike. What was stopped is not late.
"""

import asyncio
import time
from typing import Any, Final

#: How often a wait looks at the clock, in seconds.
_TICK_S: Final = 0.25
#: A wait that took longer than it should by less than this was merely scheduled late.
_LATE_S: Final = 0.5


class _Clock:
    """Monotonic seconds, less those in which nothing ran here."""

    def __init__(self) -> None:
        self._looked_at = time.monotonic()
        self._stopped_s = 0.0

    def now(self) -> float:
        """Seconds since an arbitrary moment. Right only if asked every tick while waiting."""
        now = time.monotonic()
        gap = now - self._looked_at - _TICK_S
        if gap > _LATE_S:
            self._stopped_s += gap
        self._looked_at = now
        return now - self._stopped_s


_CLOCK: Final = _Clock()


def boottime() -> float:
    """Monotonic seconds that count while the machine is suspended: a result ages then, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now() -> float:
    """Seconds on the clock that deadlines count on; only differences mean anything."""
    return _CLOCK.now()


async def wait(
    awaited: "set[asyncio.Future[Any]]", seconds: float, *, return_when: str = asyncio.ALL_COMPLETED
) -> bool:
    """Whether some futures were done, all or the first, before that many running seconds passed.

    None of them is cancelled.
    """
    deadline = now() + seconds
    while True:
        left = deadline - now()
        done, pending = await asyncio.wait(
            awaited, timeout=max(0.0, min(left, _TICK_S)), return_when=return_when
        )
        if not pending or (done and return_when == asyncio.FIRST_COMPLETED):
            return True
        if left <= 0.0:
            return False


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event is set before that many running seconds have passed."""
    if event.is_set():
        return True
    waiting = asyncio.ensure_future(event.wait())
    try:
        return await wait({waiting}, seconds)
    finally:
        waiting.cancel()
