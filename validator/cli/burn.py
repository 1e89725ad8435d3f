"""The command `burn`: its options; what they ask for is done by `one_burn`."""

from typing import Annotated, Any, Final, cast

import typer

from probes.catalog import BY_NAME
from validator.cli import one_burn, one_run
from validator.cli.early import EarlyWorker
from validator.cli.options import (
    Action,
    ConfigCheck,
    ConfigFile,
    Devices,
    LogFormat,
    LogLevel,
    OutputFile,
    completing,
    flags_of,
    known_probes,
    one_of,
    output_option,
    say_valid,
    seconds_of,
    settings_of,
)
from validator.engine.burning import Wishes

_FORMS: Final = ("text", "json", "junit", "prom")


def _probes(option: str, text: str) -> Any:
    return typer.Option(
        option,
        metavar="PROBE",
        help=text,
        callback=known_probes(option),
        autocompletion=completing(BY_NAME),
    )


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
    probe: Annotated[
        list[str] | None,
        _probes(
            "--probe",
            "Burn with this probe of a device. Repeatable. Default: the deep ones that compute "
            "from their first moment.",
        ),
    ] = None,
    no_probe: Annotated[
        list[str] | None, _probes("--no-probe", "Leave this probe out. Repeatable.")
    ] = None,
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
    exit_style: Annotated[
        str,
        typer.Option(
            "--exit-style",
            metavar="STYLE",
            help="default: 0 good, 1 fail, 2 could not tell. nagios: 0/1/2/3.",
            callback=one_of("--exit-style", ("default", "nagios")),
            autocompletion=completing(("default", "nagios")),
        ),
    ] = "default",
    strict: Annotated[bool, typer.Option("--strict", help="A warning or skip fails too.")] = False,
    fail_open: Annotated[
        bool, typer.Option("--fail-open", help="Exit with 0 when nothing could be told.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; text only of what is wrong, and verdict.")
    ] = False,
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
        settings = settings_of(config_file, flags)
        if config_check:
            return say_valid(settings)
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
        return one_burn.run(settings, options, wishes, early, gives_way=give_way)

    return action
