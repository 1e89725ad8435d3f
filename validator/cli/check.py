"""The command `check`: its options; what they ask for is done by `one_run`."""

from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from validator.cli import one_run
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError
from validator.cli.options import (
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
    Strict,
    Timeout,
    flags_of,
    output_option,
    refuse_server,
    say_valid,
    seconds_of,
    settings_of,
)

#: Forms of a report; written out, since the module that makes them imports half of rich.
_FORMS: Final = ("text", "json", "junit", "prom")


def command(  # noqa: PLR0913 - typer reads the options from the signature
    profile: Profile = None,
    device: Devices = None,
    probe: Probes = None,
    no_probe: NoProbes = None,
    output: Annotated[str, output_option(_FORMS)] = "text",
    output_file: OutputFile = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE",
            parser=Path,
            help="Write the report with all observations there, what identifies the node replaced.",
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
    max_age: Annotated[
        str | None,
        typer.Option(
            "--max-age",
            metavar="TIME",
            help="Answer from the daemon's report where no result is older: 10m. Else run.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="Daemon of --max-age, http://host:port or unix:/path. Default: from settings.",
        ),
    ] = None,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Without an answer of --max-age: could not tell.")
    ] = False,
    config_file: ConfigFile = None,
    config_check: ConfigCheck = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> Action:
    """Check this machine once; the exit code is the verdict."""
    flags = flags_of(
        run={
            "profile": profile,
            "timeout": timeout,
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
            max_age_s=seconds_of("--max-age", max_age),
            server=server,
            no_run=no_run,
        )
        if config_check:
            one_run.refuse_unwritable_files(options)
            return say_valid(config_file, flags)
        return one_run.run(settings_of(config_file, flags), options, early)

    return action
