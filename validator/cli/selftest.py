"""The command `selftest`: the faults, their matrix, and the verdict as the exit code."""

import asyncio
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer
from rich.console import Console

from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError, say
from validator.cli.files import refuse_unwritable, write_whole
from validator.cli.options import (
    Action,
    Devices,
    OutputFile,
    Probes,
    Quiet,
    Timeout,
    after_help,
    flags_of,
    output_option,
    settings_of,
)
from validator.cli.values import members, seconds_of
from validator.engine.stopping import Stop
from validator.nearest import closest
from validator.render.console import console_for, emit, plain_console
from validator.selftest import choice, rendering, trials
from validator.selftest.choice import Options
from validator.selftest.trials import CannotRunError
from validator.selftest.verdicts import Selftest
from validator.settings.model import Settings


def _complete_fault(incomplete: str) -> list[str]:
    """Completions in a shell; the table is read only for them."""
    return [name for name in choice.fault_names() if name.startswith(incomplete)]


def _faults(names: list[str]) -> list[str]:
    """A check that names the nearest fault."""
    known = choice.fault_names() if names else []
    for name in names:
        if name not in known:
            close = closest(name, known)
            hint = f"; did you mean {close!r}?" if close else "; see gpu-validator selftest --list"
            raise UsageError(f"--fault: unknown fault {name!r}{hint}")
    return names


EPILOG: Final = after_help(
    (
        "selftest",
        "selftest --probe autograd,matmul",
        "selftest --fault zeros.garbage",
        "selftest --list",
    ),
    {
        "0": "Every fault that applies here was caught.",
        "1": "A fault survived, or a check tripped without one.",
        "2": "It could not run, was stopped, or was called wrongly.",
    },
)


def command(
    probe: Probes = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="FAULT",
            help="Inject these faults alone. Give several with commas, or repeat the option.",
            callback=lambda names: _faults(members("--fault", names)),
            autocompletion=_complete_fault,
        ),
    ] = None,
    device: Devices = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List the faults, and inject none.")
    ] = False,
    output: Annotated[str, output_option(("text", "json", "junit"))] = "text",
    output_file: OutputFile = None,
    timeout: Timeout = None,
    quiet: Quiet = False,
) -> Action:
    """Break torch on purpose, and show that each check sees it.

    Each fault is injected in a process of its own, and the probes run under it. Nothing of the
    machine is broken, and nothing stays.
    """

    def action(early: EarlyWorker) -> int:
        options = Options(
            probes=tuple(probe or ()),
            faults=tuple(fault or ()),
            timeout_s=seconds_of("--timeout", timeout),
        )
        form = cast("Any", output)
        if list_only:
            return show_list(options, form)
        settings = settings_of(None, flags_of(run={"devices": device}))
        return run(settings, options, form, output_file, early, quiet=quiet)

    return action


_LOG_CHARACTERS: Final = 160


def show_list(options: Options, output: rendering.Form) -> int:
    """Print the faults that would be injected."""
    if output == "junit":
        raise UsageError("--list: its forms are text and json")
    emit(rendering.fault_list(choice.choose(options), output, _wide()))
    return 0


def run(
    settings: Settings,
    options: Options,
    output: rendering.Form,
    output_file: Path | None,
    early: EarlyWorker,
    *,
    quiet: bool = False,
) -> int:
    """Inject the faults, write the matrix where it is wanted: 0 all caught, 1 not, 2 not run."""
    if not choice.choose(options):
        raise UsageError("no fault is left: see `gpu-validator selftest --list`")
    if output_file is not None:
        refuse_unwritable(output_file)
    stop = Stop()
    try:
        selftest = _run_with_progress(settings, options, early, stop, quiet=quiet)
    except CannotRunError as error:
        say(f"error: the selftest could not run: {error}")
        return 2
    if stop.why:
        say(f"{stop.why}: {selftest.summary}")
    if output_file is not None:
        write_whole(output_file, rendering.document(selftest, output, plain_console()))
    form = output if output_file is None else "text"
    with contextlib.suppress(BrokenPipeError):  # the reader has left; the verdict stands
        emit(rendering.document(selftest, form, _wide(), quiet=quiet))
    if stop.why:
        return 2
    return 0 if selftest.passed else 1


def _wide() -> Console:
    """The terminal as it is; in a pipe or log a line is as long as the longest names need."""
    return console_for(sys.stdout, width=None if sys.stdout.isatty() else _LOG_CHARACTERS)


def _run_with_progress(
    settings: Settings, options: Options, early: EarlyWorker, stop: Stop, *, quiet: bool
) -> Selftest:
    """The selftest, whole or as far as it came, with its progress on a terminal."""
    console = console_for(sys.stderr)
    on_terminal = sys.stderr.isatty() and not console.is_dumb_terminal and not quiet
    with rendering.live(console) if on_terminal else contextlib.nullcontext() as on_trial:
        if on_trial is not None:
            options = dataclasses.replace(options, on_trial=on_trial)

        async def run_until_stopped() -> Selftest:
            stop.listen()
            return await trials.run_selftest(settings, options, early.take(), stop)

        return asyncio.run(run_until_stopped())
