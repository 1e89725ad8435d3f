"""A terminal to redraw on that holds nobody up: what it has no room for is dropped.

One that nobody reads, as where a connection is lost or Ctrl-S was typed, takes nothing more; a run
that waited for it would keep none of its deadlines.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import IO, Final, cast

from rich.console import Console

_FLAGS: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Drawing(io.TextIOBase):
    """Writes to a terminal without waiting: a frame is finished later, or left out whole."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        """Write to this descriptor, which does not wait, and does not become ours."""
        self._descriptor = descriptor
        self._encoding = encoding
        self._left = b""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property in what is documented
        """That of the stream whose terminal it is."""
        return self._encoding

    def isatty(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor of the terminal."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Write what there is room for."""
        if not self._finish():
            return len(text)
        self._left = text.encode(self._encoding, "backslashreplace")
        self._finish()
        return len(text)

    def _finish(self) -> bool:
        """Whether nothing of a frame is left: half a sequence of control would garble the next."""
        try:
            while self._left:
                self._left = self._left[os.write(self._descriptor, self._left) :]
        except BlockingIOError:
            return False
        except OSError:  # the terminal is gone
            self._left = b""
        return True


@contextlib.contextmanager
def never_waiting(console: Console) -> Iterator[None]:
    """Have a console on a terminal drop what that does not take now.

    The terminal is opened anew: whoever shares the stream must not find that it does not wait.
    """
    stream = console.file
    try:
        descriptor = os.open(f"/proc/self/fd/{stream.fileno()}", _FLAGS)
    except OSError:  # no descriptor, or that of another user (su)
        yield
        return
    try:
        console.file = cast("IO[str]", Drawing(descriptor, console.encoding))
        yield
    finally:
        console.file = stream
        os.close(descriptor)
