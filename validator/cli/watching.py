"""`check --watch`: run after run for somebody at a terminal, until a signal.

Each run is one of `check` in processes of its own, so that between two of them no memory of a
device is held.
"""

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from probes.contract import RANKING, Status
from validator.cli import one_run
from validator.cli.early import EarlySignals, EarlyWorker
from validator.cli.errors import UsageError, cannot_tell, say
from validator.engine.plan import Plan, make_plan
from validator.engine.runner import Runner
from validator.engine.stopping import Stop
from validator.render import changes
from validator.render.console import console_for, emit, text_of
from validator.report import Report, exit_code
from validator.settings.model import Settings

#: Shorter is a benchmark of starting processes.
_LEAST_S: Final = 1.0

#: To the top left, and clear what is below: what scrolled out of sight before stays.
_CLEAR: Final = "\x1b[H\x1b[J"

#: In which the loop has heeded the signals that came before, in seconds.
_SIGNALS_S: Final = 0.01

#: Beside a line a device: the one of all, the one of the import, and the cursor's.
_MORE_PROGRESS: Final = 3


def run(settings: Settings, options: one_run.Options, every_s: float, early: EarlyWorker) -> int:
    """Check again and again, and give the exit code of the worst run.

    SIGINT ends it; so do SIGTERM and SIGHUP, whose exit code is 128 + n as that of one run is.
    """
    plan = make_plan(settings, "cli", only=options.only, without=options.without)
    if note := one_run.refuse_nothing(plan, settings, options):
        say(note)
    stop = Stop()
    watch = _Watch(plan, settings, options, every_s)
    with contextlib.suppress(BrokenPipeError):  # the reader has left: the verdict stands
        asyncio.run(watch.until_stopped(stop, early))
    with _endable(stop.by):
        watch.end()
    if stop.by is not None and (stop.by != signal.SIGINT or not watch.worst):
        return 128 + stop.by
    return watch.worst[1] if watch.worst else cannot_tell(sys.argv[1:])


def refuse(options: one_run.Options, every_s: float) -> None:
    """Refuse what makes no sense for somebody who looks on.

    Raises:
        UsageError: what is asked for beside it is for one report, or it is to be too often.
    """
    if every_s < _LEAST_S:
        raise UsageError(f"--watch: {every_s:g} s is less than {_LEAST_S:g} s; write 10s, 5m or 1h")
    given = {
        f"--output {options.output}": options.output != "text",
        "--output-file": options.output_file is not None,
        "--record": options.record is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                f"--watch is for somebody at a terminal: it cannot go with {option}; "
                "for reports again and again there is gpu-validator serve, or a timer"
            )


@contextlib.contextmanager
def _endable(first: signal.Signals | None = None) -> Iterator[EarlySignals]:
    """Write, and be ended by a signal where nobody reads: the loop heeds none meanwhile."""
    signals = EarlySignals()
    signals.resume(first)
    try:
        yield signals
    finally:
        signals.close()


class _Watch:
    """The runs until now: the newest report, and how all of them ended."""

    def __init__(
        self, plan: Plan, settings: Settings, options: one_run.Options, every_s: float
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._options = options
        self._every_s = every_s
        console = console_for(sys.stdout)
        self._redraws = sys.stdout.isatty() and not console.is_dumb_terminal
        self._report: Report | None = None
        self._before: Report | None = None
        self._resized = asyncio.Event()
        self._ended: Counter[Status] = Counter()
        #: How bad the worst run was, and its exit code; () before the first is over.
        self.worst: tuple[int, int] | tuple[()] = ()

    async def until_stopped(self, stop: Stop, early: EarlyWorker) -> None:
        """Run, show, wait, and again."""
        stop.listen()
        for number in early.signals.caught:
            stop.take(number)
        if self._redraws:  # the handlers end with the loop
            asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._resized.set)
        while not stop.asked.is_set():
            report = await self._next(stop, early)
            if stop.asked.is_set() and (report is None or report.status != "fail"):
                return  # it was not whole
            self._count(report)
            if report is not None:
                self._before, self._report = self._report, report
                await self._draw(stop)
            await self._pause(stop)

    async def _pause(self, stop: Stop) -> None:
        """Until the next run, or a signal; what is shown is drawn anew at another size."""
        end_s = time.monotonic() + self._every_s
        while not stop.asked.is_set() and (left_s := end_s - time.monotonic()) > 0:
            waits = [asyncio.ensure_future(one.wait()) for one in (stop.asked, self._resized)]
            await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self._resized.is_set():
                await self._draw(stop)

    async def _draw(self, stop: Stop) -> None:
        """Show the newest report; a signal is heeded, whether it came before or comes meanwhile."""
        self._resized.clear()
        with _endable() as signals:
            await asyncio.sleep(_SIGNALS_S)
            signals.resume(stop.by)
            self._show()

    async def _next(self, stop: Stop, early: EarlyWorker) -> Report | None:
        """The daemon's report where it is asked for, else that of a run; None without either."""
        report = one_run.daemon_report(self._plan, self._settings, self._options)
        if report is not None or self._options.no_run:
            return report
        with one_run.listening(self._settings, self._options) as listener:
            return await Runner(early.take()).run(self._plan, self._settings, listener, stop)

    def _count(self, report: Report | None) -> None:
        status: Status = "error" if report is None else report.status
        code = cannot_tell(sys.argv[1:])
        if report is not None:
            options = self._options
            code = exit_code(
                report, style=options.exit_style, strict=options.strict, fail_open=options.fail_open
            )
        self._ended[status] += 1
        self.worst = max(self.worst, (-RANKING.index(status), code))

    def _show(self) -> None:
        """The newest report, what changed, and when it goes on; on a terminal as much as fits."""
        if self._report is None:
            return
        following = "" if not self._redraws else f"the next in {self._every_s:g} s; Ctrl-C ends"
        text = self._text(self._report, following)
        if not self._redraws:
            emit(f"{text}\n")
            return
        lines = text.splitlines()
        room = shutil.get_terminal_size().lines - len(self._report.devices) - _MORE_PROGRESS
        if len(lines) > room > 1:
            hidden = len(lines) - room + 1
            lines = [f"({hidden} lines above do not fit; Ctrl-C shows all)", *lines[hidden:]]
        emit(_CLEAR + "".join(f"{line}\n" for line in lines))

    def _text(self, report: Report, following: str) -> str:
        console = console_for(sys.stdout)
        count = self._ended.total()
        parts: list[RenderableType] = []
        if self._before is not None:
            changed = changes.lines(self._before, report)
            what = "changed" if changed else "nothing changed"
            parts += [Text(f"{what} since run {count - 1}{':' if changed else ''}"), *changed]
        if following:
            parts.append(Text(f"run {count} is over; {following}"))
        shown = one_run.text_on_stdout(report, "text", self._options)
        return shown + text_of(console, *parts).rstrip("\n")

    def end(self) -> None:
        """Leave the newest report whole, and say how the runs ended."""
        with contextlib.suppress(OSError):  # the terminal is gone
            if self._redraws and self._report is not None:
                emit(f"{_CLEAR}{self._text(self._report, '')}\n")
            if count := self._ended.total():
                counted = ", ".join(f"{number} {status}" for status, number in self._ended.items())
                say(f"watched {count} run{'s' if count > 1 else ''}: {counted}")
