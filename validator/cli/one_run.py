"""The command `check`: one run, its document, and its verdict as the exit code."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from validator import profiles
from validator.cli import document as forms
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError, cannot_tell, say
from validator.cli.files import refuse_unwritable, write_whole
from validator.engine.plan import Event, Plan, make_plan
from validator.engine.runner import Runner
from validator.engine.stopping import Stop
from validator.render.console import console_for, emit, plain_console
from validator.render.recording import anonymous
from validator.report import ExitStyle, Report, exit_code
from validator.service import fresh
from validator.service.ask import NoAnswerError
from validator.service.trust import trust_of
from validator.settings.model import Settings
from validator.settings.values import SettingsError


@dataclass(frozen=True)
class Options:
    """What the command line asks for beyond the settings."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    output: forms.Output = "text"
    output_file: Path | None = None
    record: Path | None = None  # the report with its observations and without identities
    exit_style: ExitStyle = "default"
    strict: bool = False
    fail_open: bool = False
    quiet: bool = False
    verbose: bool = False
    max_age_s: float | None = None  # None: a daemon is not asked
    server: str | None = None  # None: where the settings say that it listens
    no_run: bool = False


def run(settings: Settings, options: Options, early: EarlyWorker) -> int:
    """Run the probes, write the report where it is wanted, and give the exit code."""
    plan = make_plan(settings, "cli", only=options.only, without=options.without)
    note = refuse_nothing(plan, settings, options)
    refuse_unwritable_files(options)
    report = daemon_report(plan, settings, options)
    stop = Stop()
    if report is None:
        if options.no_run:
            return cannot_tell(sys.argv[1:])
        report = _run(plan, settings, options, early, stop)
    elif early.signals.caught:
        stop.take(early.signals.caught[0])
    early.signals.resume(stop.by)
    if note:
        say(note)
    if stop.by is not None:
        _say_stopped(report, stop)
    delivered = stop.at_once.is_set() or deliver(report, options)
    if stop.by is not None:
        return 128 + stop.by
    if not delivered and report.status in {"pass", "warn"}:
        return cannot_tell(sys.argv[1:])
    return exit_code(
        report, style=options.exit_style, strict=options.strict, fail_open=options.fail_open
    )


def refuse_nothing(plan: Plan, settings: Settings, options: Options) -> str:
    """Refuse a plan without probes; what there is to say of the profile of another."""
    note = "" if options.only else profiles.note(settings.run.profile)
    if not plan.specs:
        why = note or "no probe is left to run"
        raise UsageError(f"{why}: see --profile, --probe, --no-probe and `gpu-validator list`")
    return note


def refuse_unwritable_files(options: Options) -> None:
    """Tell a path that cannot be written before the run, not after it."""
    for option, path in (("--output-file", options.output_file), ("--record", options.record)):
        if path is not None:
            refuse_unwritable(path, option)


def _say_stopped(report: Report, stop: Stop) -> None:
    """One line: by what, and how much was decided until then."""
    if stop.by is None:
        return
    if stop.at_once.is_set():
        say(f"stopped by {stop.by.name}, and by a second signal before the report was written")
        return
    decided, lost = len(report.results), len(report.not_run)
    say(f"stopped by {stop.by.name}: {decided} of {decided + lost} decided")


def daemon_report(plan: Plan, settings: Settings, options: Options) -> Report | None:
    """The daemon's report, where one is wanted and answers the plan."""
    if options.max_age_s is None:
        return None
    server = options.server or fresh.server_of(settings)
    try:
        report = fresh.fetch(server, trust_of(settings.web))
        asker = fresh.this_asker()
        part = fresh.select(report, plan, settings, max_age_s=options.max_age_s, asker=asker)
    except (NoAnswerError, SettingsError) as error:
        say(f"{error}: {'could not tell' if options.no_run else 'running the probes here'}")
        return None
    say(f"from the daemon at {server}, oldest result {fresh.oldest_s(part, asker.now):.0f} s old")
    return part


def _run(
    plan: Plan, settings: Settings, options: Options, early: EarlyWorker, stop: Stop
) -> Report:
    """A run of our own, whole or as far as it came until a signal stopped it."""
    runner = Runner(early.take())

    async def until_stopped() -> Report:
        stop.listen()
        for number in early.signals.caught:
            stop.take(number)
        return await runner.run(plan, settings, listener, stop)

    with listening(settings, options) as listener:
        return asyncio.run(until_stopped())


def listening(
    settings: Settings, options: Options
) -> contextlib.AbstractContextManager[Callable[[Event], None]]:
    """What hears of the run's events: a log when debugging, else what shows the progress."""
    if settings.log.level == "debug":
        from validator.service import logs  # noqa: PLC0415 - structlog is for debugging and the daemon

        logs.configure(settings.log.level, settings.log.format)
        return contextlib.nullcontext(_log)
    console = console_for(sys.stderr)
    if options.quiet:
        return contextlib.nullcontext(lambda _: None)
    from validator.cli import progress  # noqa: PLC0415 - half of rich, while the worker starts

    # FORCE_COLOR asks for colours in a log, not for a display that redraws itself there.
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        return progress.lines(say)
    return progress.live(console)


def _log(event: Event) -> None:
    from validator.service import logs  # noqa: PLC0415 - structlog is for debugging and the daemon

    if event.kind in {"sampled", "round"}:  # the first of them three times a second
        return
    known = {"probe": event.probe, "device": event.device, "text": event.text}
    if event.result is not None:
        known |= {"status": event.result.status, "reason": event.result.reason}
    logs.log().debug(event.kind, **{name: value for name, value in known.items() if value})


def text_on_stdout(report: Report, output: forms.Output, options: Options) -> str:
    """A report's document as stdout can take it."""
    console = console_for(sys.stdout)
    return forms.document(report, output, console, quiet=options.quiet, verbose=options.verbose)


def deliver(report: Report, options: Options) -> bool:
    """Write the document, and the text for whoever watches; False where that failed.

    The text is shown where a file could not be written, too: it is what is left of the run.
    """
    written = _write_files(report, options)
    shown = options.output if options.output_file is None else "text"
    try:
        emit(text_on_stdout(report, shown, options))
    except BrokenPipeError:
        return written  # the reader has left; the verdict stands
    except OSError as error:
        say(f"error: the report could not be written: {error}")
        return False
    return written


def _write_files(report: Report, options: Options) -> bool:
    """Write the files that were asked for; False where one could not be."""
    place = ""
    try:
        if options.output_file is not None:
            place = f" to --output-file {options.output_file}"
            content = forms.document(report, options.output, plain_console())
            write_whole(options.output_file, content, forms.FILE_MODES.get(options.output))
        if options.record is not None:
            place = f" to --record {options.record}"
            recorded = anonymous(report)
            write_whole(options.record, forms.document(recorded, "json", plain_console()))
    except BrokenPipeError:
        return True  # the reader has left; the verdict stands
    except OSError as error:
        say(f"error: the report could not be written{place}: {error}")
        return False
    return True
