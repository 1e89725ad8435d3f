"""Files that a command is asked to write: refused before the run, written whole after it."""

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from validator import whole_file
from validator.cli.errors import UsageError
from validator.in_time import in_time

#: What the reader of a pipe, or a file system, gets to take a report.
_DEADLINE_S: Final = 10.0

_POLL_S: Final = 0.05


def refuse_unwritable(path: Path, option: str = "--output-file") -> None:
    """Tell a wrong path before the run, not after it."""
    try:
        _in_time(lambda: _refuse(path, option), path)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from error


def _refuse(path: Path, option: str) -> None:
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a directory; write the path of a file")
    if not folder.is_dir():
        raise UsageError(f"{option} {path}: there is no directory {folder}")
    place = whole_file.target(path)
    if not os.access(place if _is_stream(place) else place.parent, os.W_OK):
        raise UsageError(f"{option} {path}: no permission to write there")


def write_whole(path: Path, content: str, mode: int | None = None) -> None:
    """Write a file so that a reader sees all of it or nothing; a pipe or device is written to.

    `mode` is for a file that was not there, in place of what the umask would leave.

    Raises:
        OSError: it could not be written, or not within 10 s.
    """
    whole = content.encode(errors="backslashreplace")
    _in_time(lambda: _write(path, whole, mode), path)


def _write(path: Path, content: bytes, mode: int | None) -> None:
    place = whole_file.target(path)
    if _is_stream(place):
        _send(place, content)
        return
    whole_file.sweep(place.parent)
    with whole_file.at(place) as there:
        there.write(content, mode=mode)


def _is_stream(path: Path) -> bool:
    """Whether it is written to and not replaced: a pipe, a device, what a process has open."""
    if whole_file.is_descriptor(path):
        return True
    with whole_file.at(path) as place:
        seen = place.status()
    return seen is not None and not (stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode))


def _send(path: Path, content: bytes) -> None:
    """Write to a pipe or device whose other end may be slow, or not there yet."""
    deadline_s = time.monotonic() + _DEADLINE_S
    descriptor = _open(path, deadline_s)
    try:
        left = memoryview(content)
        while left:
            _wait_for_room(descriptor, path, deadline_s)
            left = left[whole_file.write_some(descriptor, left) :]
    finally:
        os.close(descriptor)


def _open(path: Path, deadline_s: float) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    if not whole_file.is_descriptor(path):
        flags |= os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= deadline_s:
                raise OSError(errno.ENXIO, "nobody reads this pipe", str(path)) from error
        time.sleep(_POLL_S)


def _wait_for_room(descriptor: int, path: Path, deadline_s: float) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
        raise OSError(errno.ETIMEDOUT, "its reader takes nothing", str(path))


def _in_time(action: Callable[[], None], path: Path) -> None:
    """Do what a file system may never answer, such as one whose server is gone."""
    try:
        in_time(action, _DEADLINE_S + 2 * _POLL_S)
    except TimeoutError as error:
        if error.errno is not None:  # the file system's own
            raise
        text = f"the file system gave no answer in {_DEADLINE_S:g} s"
        raise OSError(errno.ETIMEDOUT, text, str(path)) from error
