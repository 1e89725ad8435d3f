"""The command `burn`: its options; what they ask for is done by `one_burn`."""

from typing import Annotated, Any, Final, cast

import typer

from validator.cli import one_burn, one_run
from validator.cli.early import EarlyWorker
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
    Quiet,
    Strict,
    flags_of,
    output_option,
    say_valid,
    seconds_of,
    settings_of,
)
from validator.engine.burning import Wishes

_FORMS: Final = ("text", "json", "junit", "prom")


def command(  # noqa: PLR0913 - typer reads the options from the signature
    duration: Annotated[
        str,
        typer.Option(
            "--duration",
            metavar="TIME",
            help="How long: 90, 30s, 10m, 12h. No probe starts after it.",
        ),
    ] = "10m",
    device: Devices = None,
    probe: Probes = None,
    no_probe: NoProbes = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            help="Start each probe on all devices at a time: their power peaks together.",
        ),
    ] = False,
    give_way: Annotated[
        bool,
        typer.Option("--give-way", help="Leave a device that others use, or come to. Default: no."),
    ] = False,
    output: Annotated[str, output_option(_FORMS)] = "text",
    output_file: OutputFile = None,
    exit_style: ExitCodes = "default",
    strict: Strict = False,
    fail_open: FailOpen = False,
    quiet: Quiet = False,
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
        )
        if config_check:
            one_run.refuse_unwritable_files(options)
            return say_valid(config_file, flags)
        settings = settings_of(config_file, flags)
        return one_burn.run(settings, options, wishes, early, gives_way=give_way)

    return action
