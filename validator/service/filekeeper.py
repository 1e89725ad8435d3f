"""Keeps the daemon's files in a thread: a file system that does not answer holds nobody up."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from probes.contract import Result
from validator.service import failedfile
from validator.service.statusfiles import NodeState, StatusFiles
from validator.settings.model import Files

#: A write that takes longer is said to hang.
_SLOW_S: Final = 10.0

_Write = Callable[[], list[str]]  # returns what went wrong


class FileKeeper:
    """Writes one thing at a time, of each set of files the newest state only."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Create it; its thread starts with the first thing to write."""
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._waiting: dict[Files | Path, _Write] = {}
        self._problems: dict[Files | Path, list[str]] = {}
        self._began_s: float | None = None
        self._thread: threading.Thread | None = None
        self._bug: BaseException | None = None

    def show(self, files: Files, state: NodeState) -> None:
        """Write the files that hold now, soon."""
        kept = StatusFiles(files)
        if kept.wanted:
            self._put(files, lambda: kept.show(state))

    def remove(self, files: Files) -> None:
        """Remove the files, soon."""
        kept = StatusFiles(files)
        if kept.wanted:
            self._put(files, kept.remove)

    def keep_failed(self, path: Path, failed: Sequence[Result]) -> None:
        """Write the standing fails, soon; without any their file is removed."""
        self._put(path, lambda: failedfile.keep(path, failed))

    def remove_failed(self, path: Path, *, unless_lost_at: Path | None) -> None:
        """Remove that file, once what it held is kept where it is kept now."""

        def write() -> list[str]:
            lost = unless_lost_at is not None and self.is_in_the_way(unless_lost_at)
            return [] if lost else failedfile.keep(path, ())

        self._put(path, write)

    def is_in_the_way(self, path: Path) -> bool:
        """Whether the newest try to keep that file went wrong."""
        with self._changed:
            return path in self._problems

    def _put(self, files: Files | Path, write: _Write) -> None:
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="status files", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # a limit; the next state is another try
                    self._problems[files] = [str(error)]
                    return
                self._thread = thread
            self._waiting.pop(files, None)  # what is newest comes last: two sets may share a path
            self._waiting[files] = write
            self._changed.notify_all()

    def problems(self) -> list[str]:
        """What stands in the way of the files now.

        Raises:
            Exception: a bug of ours ended the thread.
        """
        with self._changed:
            if self._bug is not None:
                raise self._bug
            found = [one for several in self._problems.values() for one in several]
            if self._began_s is not None and self._monotonic() - self._began_s > _SLOW_S:
                found.append("the file system does not answer")
        return found

    def settle(self, timeout_s: float) -> bool:
        """Wait until all is written; whether it is."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and self._began_s is None, timeout_s
            )

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: bool(self._waiting))
                    files = next(iter(self._waiting))
                    write = self._waiting.pop(files)
                    self._began_s = self._monotonic()
                problems = write()
                with self._changed:
                    self._began_s = None
                    self._problems.pop(files, None)
                    if problems:
                        self._problems[files] = problems
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised where it is asked for
            with self._changed:
                self._bug, self._began_s = error, None
                self._waiting.clear()
                self._changed.notify_all()
