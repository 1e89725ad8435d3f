"""Forked children that each compute one text, a few at a time, with a deadline.

A child that raises, dies or is late has no text; of those that a crash in native code ended it is
known.
"""

import contextlib
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

#: Ends a text: processes that a child has left may keep its pipe open.
_END: Final = b"\0"

#: Signals by which a fault in native code ends a process; others come from outside.
_CRASHES: Final = (
    *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS),
    *(signal.SIGFPE, signal.SIGILL),
)


@dataclass
class _Child:
    pid: int
    pipe: int
    deadline_s: float
    text: bytes = field(default=b"")


class Children:
    """Starts children, waits for room where too many are under way, and hands out their texts."""

    def __init__(self, count: int, deadline_s: float) -> None:
        """Create it for so many side by side; each is killed after its deadline."""
        self._count = count
        self._deadline_s = deadline_s
        self._running: dict[Any, _Child] = {}
        self._over: list[tuple[Any, str]] = []
        #: Keys of those that crashed in native code.
        self.crashed: set[Any] = set()

    def close(self) -> None:
        """Kill and reap what is left, with all that it has started."""
        for key in list(self._running):
            self._end(key)

    def start(self, key: Hashable, work: Callable[[], str]) -> None:
        """Fork a child for some work; its text comes with the key, empty if it has none."""
        while len(self._running) >= self._count:
            self._take()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)  # so that what it starts is killed with it
                os.close(read)
                os.write(write, work().encode() + _END)
            except BaseException:  # noqa: BLE001 - told here; the process must not go on
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(write)
        self._running[key] = _Child(pid, read, time.monotonic() + self._deadline_s)

    def ended(self) -> Iterator[tuple[Any, str]]:
        """The texts of those that have ended until now."""
        while self._over:
            yield self._over.pop(0)

    def results(self) -> Iterator[tuple[Any, str]]:
        """The texts of all that are left, as they end."""
        yield from self.ended()
        while self._running:
            self._take()
            yield from self.ended()

    def _take(self) -> None:
        """Wait until at least one child writes, ends or is late."""
        pipes = {child.pipe: key for key, child in self._running.items()}
        first_s = min(child.deadline_s for child in self._running.values())
        ready, _, _ = select.select(list(pipes), [], [], max(0.0, first_s - time.monotonic()))
        for pipe in ready:
            child = self._running[pipes[pipe]]
            part = os.read(pipe, 65536)
            child.text += part
            if not part:
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            if not part or child.text.endswith(_END):
                self._end(pipes[pipe])
        for key, child in list(self._running.items()):
            if time.monotonic() >= child.deadline_s:
                self._end(key)

    def _end(self, key: Any) -> None:
        """Kill what is left of a child, reap it, and keep its text if that is whole."""
        child = self._running.pop(key)
        died = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if died is not None and died.si_code != os.CLD_EXITED and died.si_status in _CRASHES:
            self.crashed.add(key)
        for kill in (os.killpg, os.kill):  # it may not have a group yet
            with contextlib.suppress(ProcessLookupError):
                kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(child.pipe)
        whole = child.text.endswith(_END)
        self._over.append((key, child.text.removesuffix(_END).decode() if whole else ""))
