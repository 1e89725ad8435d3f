"""The command `burn`: its options; what they ask for is done by `one_burn`."""

from typing import Annotated, Any, Final, cast

import typer

from validator.cli import one_burn, one_run
from validator.cli.early import EarlyWorker
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
    Quiet,
    ReportOutput,
    Strict,
    Verbose,
    after_help,
    flags_of,
    say_valid,
    settings_of,
)
from validator.cli.values import refuse_both, seconds_of
from validator.engine.burning import Wishes

EPILOG: Final = after_help(
    (
        "burn --duration 10m",
        "burn --duration 12h --together --output-file burn.txt",
        "burn --duration 5m --device cuda:3 --probe memory_full",
    ),
    VERDICT_CODES,
)


def command(  # noqa: PLR0913 - typer reads the options from the signature
    duration: Annotated[
        str,
        typer.Option(
            "--duration",
            metavar="TIME",
            help="Burn for this long, such as 90 (seconds), 10m or 12h. No probe starts after it.",
        ),
    ] = "10m",
    device: Devices = None,
    probe: Probes = None,
    no_probe: NoProbes = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            help="Start each probe on all devices at once, so that their power peaks together.",
        ),
    ] = False,
    give_way: Annotated[
        bool,
        typer.Option("--give-way", help="Leave a device that others use, or come to."),
    ] = False,
    output: ReportOutput = "text",
    output_file: OutputFile = None,
    exit_style: ExitCodes = "default",
    strict: Strict = False,
    fail_open: FailOpen = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config_file: ConfigFile = None,
    config_check: ConfigCheck = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> Action:
    """Load the devices for a while, and count what goes wrong; the exit code is the verdict.

    Stopped by a signal it tells what was found until then.
    """
    flags = flags_of(run={"devices": device}, log={"level": log_level, "format": log_format})
    wishes = Wishes(duration_s=seconds_of("--duration", duration) or 0.0, together=together)

    refuse_both(quiet=quiet, verbose=verbose)

    def action(early: EarlyWorker) -> int:
        options = one_run.Options(
            only=tuple(probe or ()),
            without=tuple(no_probe or ()),
            output=cast("Any", output),
            output_file=output_file,
            exit_style=cast("Any", exit_style),
            strict=strict,
            fail_open=fail_open,
            quiet=quiet,
            verbose=verbose,
        )
        if config_check:
            one_run.refuse_unwritable_files(options)
            return say_valid(config_file, flags)
        settings = settings_of(config_file, flags)
        return one_burn.run(settings, options, wishes, early, gives_way=give_way)

    return action
