"""Signals that end a run: after the first it reports what it has, after a second it just exits."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

from validator.engine import clock

#: For work that was cancelled to end, in seconds; its processes are killed afterwards.
_END_S: Final = 5.0

#: What a work gives.
Answer = TypeVar("Answer")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether a run is to stop. `asked` is set by the first signal, `at_once` by the second.

    `expire` sets `asked` as well: then `by` is None and `expired` is true.
    """

    def __init__(self) -> None:
        """Create a stop that nobody has asked for yet."""
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.by: signal.Signals | None = None  # the first signal
        self.expired = False

    def listen(self, signals: Iterable[signal.Signals] = SIGNALS) -> None:
        """Have the running event loop call `take` on these signals, except ignored ones (nohup)."""
        loop = asyncio.get_running_loop()
        for number in signals:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.take, number)

    def take(self, number: signal.Signals) -> None:
        """Record a signal: the first sets `asked`, the next one sets `at_once`."""
        if self.by is None:
            self.by = number
            self.asked.set()
        else:
            self.at_once.set()

    def expire(self) -> None:
        """Record that the time is over."""
        self.expired = True
        self.asked.set()

    @property
    def why(self) -> str:
        """What asked for the stop, in words; empty when nothing did."""
        if self.by is not None:
            return f"stopped by {self.by.name}"
        return "stopped by --timeout" if self.expired else ""


class StoppedError(Exception):
    """Somebody asked for the end before the work was done."""


async def until_stopped(work: Awaitable[Answer], stop: Stop) -> Answer:
    """Await the work and return what it gives.

    Raises:
        StoppedError: the stop came first; the work is cancelled and has ended.
    """
    going = asyncio.ensure_future(work)
    asked = asyncio.ensure_future(stop.asked.wait())
    try:
        await asyncio.wait({going, asked}, return_when=asyncio.FIRST_COMPLETED)
        if going.done():
            return going.result()
    finally:
        asked.cancel()
        if not going.done():
            going.cancel()
            await asyncio.wait({going}, timeout=_END_S)
            with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError):
                going.exception()  # looked at, or asyncio prints that nobody did
    raise StoppedError


async def first_of(future: "asyncio.Future[Any]", event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the future is done or the event is set, for that many running seconds at most."""
    waiting: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
    try:
        await clock.wait({future, waiting}, timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
