"""What is there before a command is parsed: the worker that imports torch, and signals kept."""

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, Final

from validator.cli.errors import values_of
from validator.engine.spawn import (
    CannotStartError,
    WorkerProcess,
    refuse_without_calls,
    start_worker,
)

#: Holds the checked arguments of `serve` over the exec that sheds the command line's libraries.
SERVE: Final = "_GPU_VALIDATOR_SERVE"


#: Options after which no run follows, or only where the daemon does not answer.
_NO_RUN: Final = frozenset({"--help", "-h", "--config.check", "--max-age", "--list"})


#: The probes that need no torch, by name: the catalogue is slow to import.
WITHOUT_TORCH: Final = frozenset({"container", "telemetry"})


def needs_torch(argv: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the run of a command line needs torch, as far as can be told without a parser.

    A settings file is not read: what it says may make the early worker one that the run replaces.
    """
    listed = values_of(argv, "--probe")
    probes = {name.strip() for names in listed for name in names.split(",")}
    if argv[:1] != ["check"] or probes:
        return argv[:1] != ["check"] or not probes <= WITHOUT_TORCH
    profiles = values_of(argv, "--profile") or [environment.get("GPU_VALIDATOR_RUN__PROFILE", "")]
    return profiles[-1] != "instant"  # the last is the parser's


def _name(item: str) -> str:
    """The option that an item of the command line is; `-h` among flags of one letter too."""
    if item[:1] == "-" != item[1:2] and "h" in item.partition("o")[0]:  # -o takes what follows
        return "-h"
    return item.partition("=")[0]


#: For a report to be written once a signal has asked for the end, in seconds.
_WRITE_S: Final = 5
#: The same where the signal ended the run: its files are still to be written, each in 10 s.
_WRITE_ALL_S: Final = 25


class EarlySignals:
    """Signals that come when no run heeds them: the first is kept for it, a second ends us."""

    def __init__(self) -> None:
        self.caught: list[signal.Signals] = []
        self._is_over = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Keep the signals that are not ignored (nohup), from now on."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before.setdefault(number, signal.signal(number, self._keep))

    def resume(self, first: signal.Signals | None) -> None:
        """Keep them again once a run is over, while its report is written: for 5 s from the first.

        Args:
            first: the signal that ended the run, 25 s ago at most; after it the next one ends us.
        """
        self._is_over = True
        if first is not None and not self.caught:
            self.caught.append(first)
        self.listen()
        if first is not None:
            self._end_in(_WRITE_ALL_S, first)

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        if self.caught:
            self._end(number)
        self.caught.append(signal.Signals(number))
        if self._is_over:
            self._end_in(_WRITE_S, number)

    def _end_in(self, seconds: int, number: int) -> None:
        """End as a signal does, some time from now: nobody may ever read what is written."""
        ends = signal.signal(signal.SIGALRM, lambda *_: self._end(number))
        self._before.setdefault(signal.SIGALRM, ends)
        signal.alarm(seconds)

    def _end(self, number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def close(self) -> None:
        """Leave the signals as they were found."""
        if signal.SIGALRM in self._before:
            signal.alarm(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)


class EarlyWorker:
    """The worker started ahead of its run, until somebody takes it."""

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None
        self.signals = EarlySignals()

    def start(self, argv: Sequence[str]) -> None:
        """Start it where the command line is that of a run."""
        given = {_name(item) for item in argv}
        if argv[:1] in (["check"], ["burn"]):
            self.signals.listen()
        if argv[:1] in (["check"], ["burn"], ["selftest"]) and not _NO_RUN.intersection(given):
            refuse_without_calls()
            # One that cannot start is tried again by the run, which reports it.
            with contextlib.suppress(CannotStartError):
                self._worker = start_worker(bare=not needs_torch(argv, os.environ))

    def take(self) -> WorkerProcess | None:
        """Hand the worker over: the taker ends it."""
        worker, self._worker = self._worker, None
        return worker

    def close(self) -> None:
        """End the worker if nobody took it, and leave the signals as they were."""
        self.signals.close()
        worker = self.take()
        if worker is not None:
            worker.kill()
