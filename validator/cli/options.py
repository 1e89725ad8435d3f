"""Options that several commands share, and the settings that they make together with the file."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from probes.catalog import BY_NAME
from probes.contract import PROFILES
from validator import profiles
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError, say
from validator.loading import Further, load_in_time
from validator.nearest import nearest
from validator.render.console import emit
from validator.service import startup
from validator.service.ask import usable
from validator.settings import LONGEST_S, Settings, SettingsError, seconds

#: What a command is once its arguments are understood; gives the exit code.
Action = Callable[[EarlyWorker], int]


def one_of(option: str, known: Iterable[str]) -> Callable[[str | None], str | None]:
    """A check that names the nearest right value."""
    names = tuple(known)

    def checked(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise UsageError(f"{option}: unknown value {value!r}{nearest(value, names)}")
        return value

    return checked


def known_probes(option: str) -> Callable[[list[str] | None], list[str]]:
    """A check that every name is a probe's; without the option there is none."""

    def checked(names: list[str] | None) -> list[str]:
        names = names or []
        for name in names:
            if name not in BY_NAME:
                raise UsageError(f"{option}: unknown probe {name!r}{nearest(name, BY_NAME)}")
        return names

    return checked


def completing(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Completions in a shell."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return complete


# `parser`: of a path typer itself would ask the file system, which may never answer.
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config.file", metavar="FILE", parser=Path, help="Settings, in YAML."),
]


ConfigCheck = Annotated[
    bool, typer.Option("--config.check", help="Check the configuration and exit.")
]


LogLevel = Annotated[
    str | None,
    typer.Option("--log.level", metavar="LEVEL", help="debug, info, warning or error."),
]


LogFormat = Annotated[
    str | None, typer.Option("--log.format", metavar="FORM", help="text or json.")
]


Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="PROFILE",
        help="Set of probes by cost: instant, quick, standard or deep. Default: quick."
        + (f" Now: {profiles.notes()}." if profiles.notes() else ""),
        callback=one_of("--profile", PROFILES),
        autocompletion=completing(PROFILES),
    ),
]


ListenAddress = Annotated[
    list[str] | None,
    typer.Option(
        "--web.listen-address", metavar="ADDRESS", help="host:port to listen on. Repeatable."
    ),
]


DaemonUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The daemon, http://host:port or unix:/path. Default: from settings.",
    ),
]

Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Only this device: cuda:N, a UUID, a PCI id, cpu. Repeatable.",
    ),
]


Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        metavar="PROBE",
        help="Only this probe. Repeatable.",
        callback=known_probes("--probe"),
        autocompletion=completing(BY_NAME),
    ),
]


NoProbes = Annotated[
    list[str] | None,
    typer.Option(
        "--no-probe",
        metavar="PROBE",
        help="Leave this probe out. Repeatable.",
        callback=known_probes("--no-probe"),
        autocompletion=completing(BY_NAME),
    ),
]


ExitCodes = Annotated[
    str,
    typer.Option(
        "--exit-style",
        metavar="STYLE",
        help="default: 0 good, 1 fail, 2 could not tell. nagios: 0/1/2/3.",
        callback=one_of("--exit-style", ("default", "nagios")),
        autocompletion=completing(("default", "nagios")),
    ),
]


Strict = Annotated[bool, typer.Option("--strict", help="A warning or skip fails too.")]


FailOpen = Annotated[
    bool, typer.Option("--fail-open", help="Exit with 0 when nothing could be told.")
]


Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress; text only of what is wrong, and verdict.")
]


OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output-file",
        metavar="FILE",
        parser=Path,
        help="Write the output there, whole; stdout then shows it as text.",
    ),
]


Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="Deadline of the whole: 90, 500ms, 10m; what was decided until then is told. "
        "Default: 5m for check, none for selftest.",
    ),
]


def output_option(forms: tuple[str, ...]) -> Any:
    """The declaration of `--output` for a command that writes these forms."""
    return typer.Option(
        "--output",
        metavar="FORM",
        help=f"Form of the output: {', '.join(forms[:-1])} or {forms[-1]}.",
        callback=one_of("--output", forms),
        autocompletion=completing(forms),
    )


def seconds_of(option: str, text: str | None) -> float | None:
    """The seconds that an option gives, above 0; None where it is not given.

    Raises:
        UsageError: it is no such time.
    """
    try:
        given_s = cast("float | None", seconds(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if given_s is not None and not 0 < given_s <= LONGEST_S:
        raise UsageError(f"{option}: {text!r} is no time above 0, and of a year at most")
    return given_s


def flags_of(**sections: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, nested as the settings are."""
    given = {
        section: {key: value for key, value in keys.items() if value not in (None, [])}
        for section, keys in sections.items()
    }
    return {section: keys for section, keys in given.items() if keys}


def settings_of(
    config_file: Path | None, flags: dict[str, Any], further: Further = lambda _: ()
) -> Settings:
    """The settings of flags, environment and file; what is wrong in them is wrong usage."""
    try:
        return load_in_time(config_file, flags, further)
    except SettingsError as error:
        raise UsageError(str(error)) from error


def say_valid(
    config_file: Path | None,
    flags: dict[str, Any],
    needs: Further = startup.of_a_run,
    note_of: Callable[[Settings], str] = lambda _: "",
) -> int:
    """Say that the configuration is valid, and has what a start and a first run need.

    `note_of` tells what else there is to say of it.
    """
    settings = settings_of(config_file, flags, needs)
    for note in (profiles.note(settings.run.profile), note_of(settings)):
        if note:
            say(note)
    emit("the configuration is valid\n")
    return 0


def refuse_server(option: str, server: str | None) -> None:
    """Refuse what is no address of a daemon."""
    if server is not None and not usable(server):
        raise UsageError(
            f"{option}: {server!r} is no address such as http://127.0.0.1:8790 or unix:/path"
        )
