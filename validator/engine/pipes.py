"""Pipes that are read in the event loop, all the time."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

_CHUNK_BYTES: Final = 65536
#: Read from a pipe after its writer's end, at most: a grandchild may go on writing for ever.
_DRAIN_BYTES: Final = 1 << 20
TAIL_BYTES: Final = 4096
#: Of a log, so that a traceback of the 100 frames that faulthandler prints is in it whole.
_KEPT_BYTES: Final = 32768


class Pipe:
    """Reads a pipe's end in the event loop until closed, and hands each chunk on."""

    def __init__(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._take = take
        self._closed = False
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> int:
        try:
            chunk = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._take(chunk)
        return len(chunk)

    def drain(self) -> None:
        """Take what is there now; nothing once closed."""
        taken = 0
        while not self._closed and taken < _DRAIN_BYTES and (count := self._read()):
            taken += count

    def close(self) -> None:
        """Close it, once."""
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)


class Log(Pipe):
    """Drains a log pipe all the time and keeps its end: 4 KiB for reports, more for us."""

    def __init__(self, descriptor: int) -> None:
        self._kept = b""
        super().__init__(descriptor, self._keep)

    def _keep(self, chunk: bytes) -> None:
        self._kept = (self._kept + chunk)[-_KEPT_BYTES:]

    def tail(self) -> str:
        """The last that was printed, as text."""
        self.drain()
        return self._kept[-TAIL_BYTES:].decode(errors="replace")

    def end(self) -> str:
        """More of it, for a traceback that must be read whole."""
        self.drain()
        return self._kept.decode(errors="replace")
