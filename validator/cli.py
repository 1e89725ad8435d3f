"""The command `gpu-validator`: starts the worker before anything slow, and owns the exit code.

Only the standard library is imported here: `check` has its worker importing torch while typer,
pydantic and rich are imported for the command itself.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final

from validator.spawn import (
    CannotStartError,
    WorkerProcess,
    refuse_without_calls,
    start_worker,
)

#: Holds the checked arguments of `serve` over the exec that sheds the command line's libraries.
SERVE: Final = "_GPU_VALIDATOR_SERVE"

#: Options after which no run follows, or only where the daemon does not answer.
_NO_RUN: Final = frozenset({"--help", "-h", "--config.check", "--max-age", "--list"})


class UsageError(Exception):
    """The command line or the configuration is wrong; the text says where, and what is near."""


class EarlySignals:
    """Signals that come before a run can heed them: the first is kept for it, a second ends us."""

    def __init__(self) -> None:
        self.caught: list[signal.Signals] = []
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Keep the signals that are not ignored (nohup), from now on."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._keep)

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        if self.caught:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.caught.append(signal.Signals(number))

    def close(self) -> None:
        """Leave the signals as they were found."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class EarlyWorker:
    """The worker started ahead of its run, until somebody takes it."""

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None
        self.signals = EarlySignals()

    def start(self, argv: Sequence[str]) -> None:
        """Start it where the command line is that of a run."""
        given = {item.partition("=")[0] for item in argv}
        if argv[:1] == ["check"]:
            self.signals.listen()
        if argv[:1] in (["check"], ["selftest"]) and not _NO_RUN.intersection(given):
            refuse_without_calls()
            # One that cannot start is tried again by the run, which reports it.
            with contextlib.suppress(CannotStartError):
                self._worker = start_worker()

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


def main() -> int:
    """Run one command and give its exit code."""
    _open_streams()
    checked = os.environ.pop(SERVE, None)
    argv = sys.argv[1:]
    early = EarlyWorker()
    try:
        early.start(argv)
        return _serve(checked) if checked is not None else _command(argv, early)
    except UsageError as error:
        say(f"error: {error}")
        return cannot_tell(argv)
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT
    except BrokenPipeError:
        return 141  # 128 + SIGPIPE
    except Exception as error:  # noqa: BLE001 - the interpreter's own 1 would mean a sick node
        if _debugging(argv):
            traceback.print_exc()
        say(_explained(error))
        return cannot_tell(argv)
    finally:
        early.close()


def _explained(error: Exception) -> str:
    """An exception in one line, with the limit or the missing system call that it comes from."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    with contextlib.suppress(MemoryError, OSError, ImportError):  # of what explains it
        from validator.host_limits import refusal  # noqa: PLC0415 - only when something is wrong

        call = traceback.extract_tb(error.__traceback__)[-1]
        if refused := refusal(text):
            return f"error: {text}, in `{call.line}`: {refused}; {refused.hint}"
    if isinstance(error, OSError):  # a full disk, a file that is gone
        return f"error: {error}"
    return f"internal error: {text} (a bug of gpu-validator; `--log.level debug` shows where)"


def cannot_tell(argv: Sequence[str]) -> int:
    """The exit code for "could not tell", before, or without, a report."""
    if argv[:1] != ["check"]:
        return 2
    if "--fail-open" in argv:
        return 0
    return 3 if "nagios" in _values(argv, "--exit-style") else 2


def _command(argv: Sequence[str], early: EarlyWorker) -> int:
    from validator import commands  # noqa: PLC0415 - slow, and imported while the worker starts

    return commands.run(argv, early)


def _serve(checked: str) -> int:
    """Become the daemon, in a process that never imported typer or rich."""
    from validator.daemon import serve  # noqa: PLC0415 - this command alone needs it
    from validator.settings import SettingsError, load  # noqa: PLC0415 - same

    given = json.loads(checked)
    config_file = Path(given["config_file"]) if given["config_file"] is not None else None
    try:
        settings = load(config_file, given["flags"])
    except SettingsError as error:  # the file has changed since it was checked
        raise UsageError(str(error)) from error
    return serve(settings, config_file, given["flags"])


def _values(argv: Sequence[str], option: str) -> set[str]:
    """What an option was given as, seen without a parser."""
    after = {value for name, value in pairwise(argv) if name == option}
    joined = {item.partition("=")[2] for item in argv if item.startswith(f"{option}=")}
    return after | joined


def _debugging(argv: Sequence[str]) -> bool:
    variable = os.environ.get("GPU_VALIDATOR_LOG__LEVEL")
    return "debug" in _values(argv, "--log.level") | {variable}


def _open_streams() -> None:
    """Put /dev/null where the caller closed a stream, or a socket of ours would take its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")


def say(line: str) -> None:
    """One line of ours on stderr."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    # Python's stderr escapes what its encoding lacks. A full disk must not change the exit code.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"gpu-validator: {flat}\n")
        sys.stderr.flush()
