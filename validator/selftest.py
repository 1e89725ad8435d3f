"""The command `selftest`: the faults, their matrix, and the verdict as the exit code."""

import asyncio
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from validator import render_selftest, trials
from validator.check import refuse_unwritable, write_whole
from validator.cli import EarlyWorker, UsageError, say
from validator.console import console_for, emit, plain_console
from validator.render import Output
from validator.settings import Settings
from validator.stopping import Stop
from validator.trials import CannotRunError, Options
from validator.verdicts import Selftest

_LOG_CHARACTERS: Final = 160


def show_list(options: Options, output: Output) -> int:
    """Print the faults that would be injected."""
    if output == "junit":
        raise UsageError("--list: its forms are text and json")
    emit(render_selftest.listed(trials.chosen(options), output, _wide()))
    return 0


def run(
    settings: Settings,
    options: Options,
    output: Output,
    output_file: Path | None,
    early: EarlyWorker,
) -> int:
    """Inject the faults, write the matrix where it is wanted: 0 all caught, 1 not, 2 not run."""
    if not trials.chosen(options):
        raise UsageError("no fault is left: see `gpu-validator selftest --list`")
    if output_file is not None:
        refuse_unwritable(output_file)
    stop = Stop()
    try:
        ended = _shown(settings, options, early, stop)
    except CannotRunError as error:
        say(f"error: the selftest could not run: {error}")
        return 2 if stop.by is None else 128 + stop.by
    if stop.by is not None:
        say(f"stopped by {stop.by.name}: {ended.summary}")
    if output_file is not None:
        write_whole(output_file, render_selftest.document(ended, output, plain_console()))
    form = output if output_file is None else "text"
    with contextlib.suppress(BrokenPipeError):  # the reader has left; the verdict stands
        emit(render_selftest.document(ended, form, _wide()))
    if stop.by is not None:
        return 128 + stop.by
    return 0 if ended.passed else 1


def _wide() -> Console:
    """The terminal as it is; in a pipe or log a line is as long as the longest names need."""
    return console_for(sys.stdout, width=None if sys.stdout.isatty() else _LOG_CHARACTERS)


def _shown(settings: Settings, options: Options, early: EarlyWorker, stop: Stop) -> Selftest:
    """The selftest, whole or as far as it came, with its progress on a terminal."""
    console = console_for(sys.stderr)
    shows = sys.stderr.isatty() and not console.is_dumb_terminal
    with render_selftest.live(console) if shows else contextlib.nullcontext() as on_trial:
        if on_trial is not None:
            options = dataclasses.replace(options, on_trial=on_trial)

        async def listening() -> Selftest:
            stop.listen()
            return await trials.run(settings, options, early.take(), stop)

        return asyncio.run(listening())
