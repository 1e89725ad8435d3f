"""Options that several commands share, and the settings that they make together with the file."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from probes.catalog import BY_NAME
from probes.contract import PROFILES
from validator import profiles
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError, say
from validator.cli.values import completing, known_probes, one_of, path_of, several
from validator.render.console import emit
from validator.service import startup
from validator.settings.loading import Further, load_in_time
from validator.settings.model import Settings
from validator.settings.values import SettingsError

#: What a command is once its arguments are understood; gives the exit code.
Action = Callable[[EarlyWorker], int]


def after_help(examples: Iterable[str], codes: Mapping[str, str]) -> str:
    """What stands below the options in a command's help: examples, and what its codes mean."""
    shown = [f"  gpu-validator {example}" for example in examples]
    listed = [f"  {code:<6} {meaning}" for code, meaning in codes.items()]
    return "\n".join(["\b\nExamples:", *shown, "\n\b\nExit codes:", *listed])


#: What the exit code of a verdict means.
VERDICT_CODES: Final = {
    "0": "Nothing failed, and something passed or warned.",
    "1": "A probe failed. With --strict, one warned or was skipped.",
    "2": "Nothing could be told, or the command line is wrong.",
    "128+n": "It was stopped by signal n: 130 by Ctrl-C, 143 by SIGTERM.",
}

#: What those of the other commands mean.
PLAIN_CODES: Final = {"0": "It was printed.", "2": "The command line is wrong, or it failed."}


# `parser`: of a path typer itself would ask the file system, which may never answer.
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config.file",
        metavar="FILE",
        parser=path_of("--config.file"),
        help="Read settings from this YAML file.",
    ),
]


ConfigCheck = Annotated[
    bool, typer.Option("--config.check", help="Check the configuration, run nothing and exit.")
]


LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log.level",
        metavar="LEVEL",
        help="Log from this level on: debug, info, warning or error.",
        autocompletion=completing(("debug", "info", "warning", "error")),
    ),
]


LogFormat = Annotated[
    str | None,
    typer.Option(
        "--log.format",
        metavar="FORM",
        help="Write the log in this form: text or json.",
        autocompletion=completing(("text", "json")),
    ),
]


Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="PROFILE",
        help="Run the set of probes of this cost: instant, quick (the default), standard or deep."
        + (f" Now: {profiles.notes()}." if profiles.notes() else ""),
        callback=one_of("--profile", PROFILES),
        autocompletion=completing(PROFILES),
    ),
]


ListenAddress = Annotated[
    list[str] | None,
    typer.Option(
        "--web.listen-address",
        metavar="ADDRESS",
        help="The daemon's address: host:port, :8790 or [::1]:8790. "
        "Give several with commas, or repeat the option.",
        callback=several("--web.listen-address"),
    ),
]


DaemonUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Ask this daemon: http://host:port or unix:/path. The default is what the settings "
        "say.",
    ),
]

Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Use these devices alone: cuda:N, a UUID, a PCI id or cpu. "
        "Give several with commas, or repeat the option.",
        callback=several("--device"),
    ),
]


Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        metavar="PROBE",
        help="Run these probes alone. Give several with commas, or repeat the option.",
        callback=known_probes("--probe"),
        autocompletion=completing(BY_NAME),
    ),
]


NoProbes = Annotated[
    list[str] | None,
    typer.Option(
        "--no-probe",
        metavar="PROBE",
        help="Leave these probes out. Give several with commas, or repeat the option.",
        callback=known_probes("--no-probe"),
        autocompletion=completing(BY_NAME),
    ),
]


ExitCodes = Annotated[
    str,
    typer.Option(
        "--exit-style",
        metavar="STYLE",
        help="The exit codes: default has those below; nagios has 0 pass, 1 warn, 2 fail, "
        "3 could not tell.",
        callback=one_of("--exit-style", ("default", "nagios")),
        show_default=False,
        autocompletion=completing(("default", "nagios")),
    ),
]


Strict = Annotated[
    bool, typer.Option("--strict", help="Let a warning or a skip fail too: exit code 1.")
]


FailOpen = Annotated[
    bool, typer.Option("--fail-open", help="Exit with 0, not 2, where nothing could be told.")
]


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Show no progress, and of the text only what is wrong and the verdict.",
    ),
]


Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="List each check of each probe in the text, not only how many."
    ),
]


OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output-file",
        metavar="FILE",
        parser=path_of("--output-file"),
        help="Write the output to this file, whole. Stdout then shows it as text.",
    ),
]


Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="End after this time, such as 90 (seconds), 500ms or 10m, and tell what was decided "
        "until then. The default is 5m for check, and none for selftest.",
    ),
]


def output_option(forms: tuple[str, ...]) -> Any:
    """The declaration of `--output` for a command that writes these forms."""

    def form(value: str) -> str:
        if value not in forms and ("." in value or "/" in value):
            raise UsageError(
                f"--output: {value!r} is no form; known: {', '.join(forms)}"
                + (f"; for a file: --output-file {value}" if "junit" in forms else "")
            )
        return str(one_of("--output", forms)(value))

    return typer.Option(
        "--output",
        "-o",
        metavar="FORM",
        help=f"Write the output in this form: {', '.join(forms[:-1])} or {forms[-1]}.",
        callback=form,
        autocompletion=completing(forms),
    )


#: Of a report; written out, since the module that makes them imports half of rich.
REPORT_FORMS: Final = ("text", "json", "junit", "prom")
ReportOutput = Annotated[str, output_option(REPORT_FORMS)]


def flags_of(**sections: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, nested as the settings are."""
    given = {
        section: {key: value for key, value in keys.items() if value not in (None, [])}
        for section, keys in sections.items()
    }
    return {section: keys for section, keys in given.items() if keys}


def settings_of(
    config_file: Path | None, flags: dict[str, Any], further: Further = startup.of_devices
) -> Settings:
    """The settings of flags, environment and file; what is wrong in them is wrong usage."""
    try:
        return load_in_time(config_file, flags, further)
    except SettingsError as error:
        of_the_file = f"{error}".startswith(f"{config_file}: ")  # as a whole: no line is named
        raise UsageError(f"{'--config.file ' if of_the_file else ''}{error}") from error


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
