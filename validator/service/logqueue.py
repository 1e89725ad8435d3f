"""Log lines on their way to stderr: a thread writes them, so that a stalled reader stops nobody."""

import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from validator import whole_file

#: What waits for a reader that does not read; what is more is dropped and counted.
_MOST_BYTES: Final = 1024 * 1024


class LogQueue:
    """A bounded queue of lines, and the thread that writes them."""

    def __init__(
        self, descriptor: int, on_dropped: Callable[[int], None], most_bytes: int = _MOST_BYTES
    ) -> None:
        """Start it; `on_dropped` hears how many lines were dropped, when the reader reads again.

        Raises:
            RuntimeError: a limit refuses the thread.
        """
        self._descriptor, self._on_dropped, self._most_bytes = descriptor, on_dropped, most_bytes
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._told = 0  # of the dropped ones
        self._closed = self._writing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Write a line soon, or drop it where too much waits already."""
        with self._changed:
            if self._lines and self._bytes + len(line) > self._most_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all lines are written; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._lines or self._writing), timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Write what waits within a time, and take no more; whether all was written."""
        written = self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        return written

    def _work(self) -> None:
        torn = False
        while (line := self._next()) is not None:
            # What is left of a line that was begun would have the next one on its own.
            whole = b"\n" + line if torn else line
            left = write(self._descriptor, whole)
            written, torn = left == 0, 0 < left < len(whole) or (torn and left > 0)
            with self._changed:
                self._writing = False
                self.dropped += not written
                lost = self.dropped - self._told
                tell = written and lost > 0 and self._bytes <= self._most_bytes // 2
                if tell:
                    self._told = self.dropped
                self._changed.notify_all()
            if tell:
                self._on_dropped(lost)

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._lines) or self._closed)
            if not self._lines:
                return None
            line = self._lines.popleft()
            self._bytes -= len(line)
            self._writing = True
            return line


def write(descriptor: int, line: bytes) -> int:
    """Write a line whole, waiting for the reader; how many bytes found none, or no room.

    Whoever shares the descriptor may have made it non-blocking.
    """
    left = memoryview(line)
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    try:
        while left:
            poll.poll()
            left = left[whole_file.write_some(descriptor, left) :]
    except OSError:
        pass
    return len(left)
