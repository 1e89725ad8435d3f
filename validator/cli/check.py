"""The command `check`: its options; what they ask for is done by `one_run`."""

from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from validator.cli import one_run
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError
from validator.cli.options import (
    VERDICT_CODES,
    Action,
    ConfigCheck,
    ConfigFile,
    Devices,
    ExitCodes,
    FailOpen,
    LogFormat,
    LogLevel,
    NoProbes,
    OutputFile,
    Probes,
    Profile,
    Quiet,
    ReportOutput,
    Strict,
    Timeout,
    Verbose,
    after_help,
    flags_of,
    say_valid,
    settings_of,
)
from validator.cli.values import path_of, refuse_both, refuse_server, seconds_of

EPILOG: Final = after_help(
    (
        "check",
        "check --profile standard -v",
        "check --probe matmul,memory_pattern --device cuda:0,cuda:1",
        "check -o json --output-file report.json",
        "check -q --timeout 30s --fail-open",
        "check --max-age 10m   # the daemon's report, if it is fresh",
        "check --watch 30s     # until Ctrl-C",
    ),
    VERDICT_CODES,
)


def command(  # noqa: PLR0913 - typer reads the options from the signature
    profile: Profile = None,
    device: Devices = None,
    probe: Probes = None,
    no_probe: NoProbes = None,
    output: ReportOutput = "text",
    output_file: OutputFile = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE",
            parser=path_of("--record"),
            help="Write the report with all observations to this file; what identifies the node "
            "is replaced.",
        ),
    ] = None,
    timings: Annotated[
        bool,
        typer.Option(
            "--timings", help="Show how long each step took, and the memory taken on a device."
        ),
    ] = False,
    timeout: Timeout = None,
    exit_style: ExitCodes = "default",
    strict: Strict = False,
    fail_open: FailOpen = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch",
            metavar="TIME",
            help="Check again this long after the end of each run, such as 30s, and show what "
            "changed. Ctrl-C ends it; the exit code is that of the worst run.",
        ),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option(
            "--max-age",
            metavar="TIME",
            help="Answer from the daemon's report where no result is older than this, such as 10m. "
            "Else run the probes.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="Ask this daemon for --max-age: http://host:port or unix:/path. The default is "
            "what the settings say.",
        ),
    ] = None,
    no_run: Annotated[
        bool,
        typer.Option(
            "--no-run", help="Run nothing where --max-age has no answer: nothing could be told."
        ),
    ] = False,
    config_file: ConfigFile = None,
    config_check: ConfigCheck = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> Action:
    """Check this machine once; the exit code is the verdict.

    Each probe runs torch on each device and compares every result with a reference that does not
    come from torch. The quick profile takes some seconds, and spares a GPU that others use.
    """
    flags = flags_of(
        run={
            "profile": profile,
            "timeout": seconds_of("--timeout", timeout),
            "devices": device,
            "observations": True if record is not None else None,
            "timings": True if timings or record is not None else None,
        },
        log={"level": log_level, "format": log_format},
    )
    if max_age is not None and record is not None:
        raise UsageError("--record is for a run of its own: it cannot go with --max-age")
    if max_age is not None and timings:
        raise UsageError("--timings is for a run of its own: it cannot go with --max-age")
    if max_age is None and (server is not None or no_run):
        option = "--no-run" if server is None else "--server"
        raise UsageError(f"{option} is for --max-age: without it no daemon is asked")
    refuse_server("--server", server)
    refuse_both(quiet=quiet, verbose=verbose)
    every_s = seconds_of("--watch", watch)

    def action(early: EarlyWorker) -> int:
        options = one_run.Options(
            only=tuple(probe or ()),
            without=tuple(no_probe or ()),
            output=cast("Any", output),
            output_file=output_file,
            record=record,
            exit_style=cast("Any", exit_style),
            strict=strict,
            fail_open=fail_open,
            quiet=quiet,
            verbose=verbose,
            max_age_s=seconds_of("--max-age", max_age),
            server=server,
            no_run=no_run,
        )
        if every_s is not None:
            from validator.cli import watching  # noqa: PLC0415 - for this option alone

            watching.refuse(options, every_s)
        if config_check:
            one_run.refuse_unwritable_files(options)
            return say_valid(config_file, flags)
        settings = settings_of(config_file, flags)
        if every_s is None:
            return one_run.run(settings, options, early)
        return watching.run(settings, options, every_s, early)

    return action
