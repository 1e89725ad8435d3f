"""A child of a worker, as the process that supervises it sees it."""

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from probes.pidfd import is_stopped
from validator.engine import clock
from validator.engine.breadcrumb import Breadcrumb, ask_to_tell, is_wrong, read_breadcrumb
from validator.engine.ends import ChildEnded, GiveWay
from validator.engine.pipes import Log, Pipe

#: What a worker's child prints before each probe.
_HEADING: Final = re.compile(r"^--- \w+\n", re.MULTILINE)


class Child:
    """A forked child: its result lines and its end, in order, and its log."""

    def __init__(
        self, job: int, pid: int, pidfd: int, result_fd: int, log_fd: int, page: int | None = None
    ) -> None:
        """Own the descriptors from `Worker.fork`; `page` is the memory with the child's place."""
        self.job = job
        self.pid = pid
        self.pidfd = pidfd
        self._messages: deque[bytes | ChildEnded | GiveWay] = deque()
        self._arrived = asyncio.Event()
        self._partial = b""
        self._page = page
        self.over = asyncio.Event()
        self._closed = False
        self._results = Pipe(result_fd, self._take)
        self._log = Log(log_fd)
        asyncio.get_running_loop().add_reader(pidfd, self._end)

    def _take(self, chunk: bytes) -> None:
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        self._messages.extend(lines)
        self._arrived.set()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self.pidfd)
        self._results.drain()
        self._messages.append(ChildEnded(self._partial))
        self.over.set()
        self._arrived.set()

    def ask_to_leave(self, who: str) -> None:
        """Have whoever reads its lines be told that it must leave its device."""
        self._messages.append(GiveWay(who))
        self._arrived.set()

    async def next(self, deadline: float) -> bytes | ChildEnded | GiveWay | None:
        """The next line, the end, or that it must leave.

        None when `clock.now()` reached the deadline first.
        """
        while not self._messages:
            self._arrived.clear()
            if not await clock.happens(self._arrived, deadline - clock.now()):
                return None
        return self._messages.popleft()

    def log_tail(self, probe: str = "") -> str:
        """The last it printed; of one probe, where its heading is still in it."""
        tail = self._log.tail()
        _, heading, own = tail.rpartition(f"--- {probe}\n")
        # The child may have gone on, and have printed the next one's heading.
        return _HEADING.split(own, maxsplit=1)[0] if heading else tail

    def breadcrumb(self) -> Breadcrumb:
        """The check and operation that it told last, before its end or until now."""
        return read_breadcrumb(self._page)

    def has_seen_wrong(self) -> bool:
        """Whether something that its probe saw until now was wrong, which it has not told yet."""
        return is_wrong(self._page)

    def ask_to_tell(self) -> None:
        """Have its probe try nothing more, and tell what it has seen."""
        ask_to_tell(self._page)

    def is_stopped(self) -> bool:
        """Whether one of its processes was stopped, so that it does not hang of its own."""
        return any(map(is_stopped, _group(self.pid)))

    def signal(self, number: int) -> None:
        """Send a signal to its process group; none of it left is fine."""
        signal_group(self.pid, number)

    def close(self) -> None:
        """Close what is ours of it, once; what it said can still be read."""
        if not self._closed:
            self._closed = True
            self._log.drain()
            asyncio.get_running_loop().remove_reader(self.pidfd)
            os.close(self.pidfd)
            self._results.close()
            self._log.close()
            if self._page is not None:
                os.close(self._page)
                self._page = None


def _group(pid: int) -> Iterator[int]:
    """The processes of a process group."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            if os.getpgid(int(process.name)) == pid:
                yield int(process.name)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
