"""Forked children that each compute one text, a few at a time, with a deadline."""

import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any


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

    def start(self, key: Hashable, work: Callable[[], str]) -> None:
        """Fork a child for some work; its text comes with the key, empty if it died or hung."""
        while len(self._running) >= self._count:
            self._take()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(read)
                os.write(write, work().encode())
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
                self._end(pipes[pipe])
        for key, child in list(self._running.items()):
            if time.monotonic() >= child.deadline_s:
                os.kill(child.pid, signal.SIGKILL)
                child.text = b""
                self._end(key)

    def _end(self, key: Any) -> None:
        child = self._running.pop(key)
        os.waitpid(child.pid, 0)
        os.close(child.pipe)
        self._over.append((key, child.text.decode()))
