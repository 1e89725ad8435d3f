"""What the daemon keeps in files of the node: its verdict, and the fails that outlive it."""

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from probes.catalog import BY_NAME
from probes.contract import Result
from validator.service import failedfile, logs
from validator.service.entry import Pair
from validator.service.filekeeper import FileKeeper
from validator.service.latest import Latest
from validator.service.readyfile import LEASE_S
from validator.service.statusfiles import NodeState
from validator.service.waiting import key_of
from validator.settings.model import Files

#: The status files are written anew after this, long before they expire; after a failure sooner.
_RENEW_S: Final = LEASE_S / 5
_RETRY_S: Final = 5.0


class NodeFiles:
    """The files of the settings, as they follow from the latest results."""

    def __init__(
        self, files: Files, latest: Latest, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Create it; nothing is written yet."""
        self._settings = files
        self._shown: Files | None = files  # None: withdrawn
        self._latest, self._monotonic = latest, monotonic
        self._keeper = FileKeeper(monotonic)
        self._log = logs.log()
        self._problems: list[str] = []  # as said in the log
        self._renew_s = float("-inf")
        self._kept: tuple[Result, ...] = ()  # what is in the file of the standing fails
        self._found: dict[Pair, Result] = {}  # fails of the run that goes on

    @property
    def is_due(self) -> bool:
        """Whether they must be renewed, though nothing has changed."""
        return self._monotonic() >= self._renew_s

    def restore(self, kept: failedfile.Kept) -> None:
        """Have what failed before this start stand, where nothing has passed since."""
        for why in kept.refused:
            self._log.error("failed_file", error=why)
        self._latest.restore(kept.failed, kept.away)
        self._kept = (*kept.failed, *kept.away)

    def adopt(self, files: Files) -> Path | None:
        """Follow other settings; returns the path that the standing fails had, if they moved."""
        before, self._settings = self._settings, files
        if files != before and self._shown is not None:
            self._keeper.remove(self._shown)
            self._shown = files
        return before.failed if before.failed != files.failed else None

    def leave(self, path: Path) -> None:
        """Remove the standing fails' old file, once they are kept in the new one."""
        self._keeper.remove_failed(path, unless_lost_at=self._settings.failed)

    def note_fail(self, result: Result) -> None:
        """Keep a fail at once: the end of its run may be minutes away, and never come."""
        if result.status == "fail" and BY_NAME[result.probe].is_heavy:
            self._found[Pair(result.probe, result.device)] = result
            self._keep_failed()

    def run_ended(self) -> None:
        """What the run found is among the latest results now."""
        self._found.clear()

    def renew(self, lasts_s: float) -> None:
        """Write what holds now; `lasts_s`: for how long, seconds, where nothing more is heard."""
        self._keep_failed()
        self._renew_s = self._monotonic() + (_RETRY_S if self._problems else _RENEW_S)
        if self._shown is None or self._shown == Files():
            return
        report, readiness = self._latest.merged_report(), self._latest.readiness()
        at = datetime.now(timezone.utc) if report is None else report.finished_at
        status = None if report is None else report.status
        state = NodeState(readiness.ready, readiness.text, status, at, lasts_s)
        self._keeper.show(self._shown, state)

    def _keep_failed(self) -> None:
        """Write the standing fails where they have changed, or could not be written before."""
        path = self._settings.failed
        if path is None:
            return
        known = (*self._latest.kept(), *self._found.values())
        failed = tuple({(one.probe, key_of(one)): one for one in known}.values())
        if failed != self._kept or self._keeper.is_in_the_way(path):
            self._kept = failed
            self._keeper.keep_failed(path, failed)

    def tell_problems(self) -> None:
        """Say once what is in the way of the files, and that it no longer is."""
        before, self._problems = self._problems, self._keeper.problems()
        for problem in self._problems:
            if problem not in before:
                self._log.error("status_file", error=problem)
                self._renew_s = min(self._renew_s, self._monotonic() + _RETRY_S)
        if before and not self._problems:
            self._log.info("status_file_recovered")

    def withdraw(self) -> None:
        """Remove what vouches for the node; from now on nothing does."""
        if self._shown is not None:
            self._keeper.remove(self._shown)
        self._shown = None

    def settle(self, timeout_s: float) -> bool:
        """Wait for the files, and say what is in their way; whether they are written."""
        settled = self._keeper.settle(timeout_s)
        self.tell_problems()
        if not settled:
            self._log.error("status_file", error="not removed in time: it expires by itself")
        return settled
