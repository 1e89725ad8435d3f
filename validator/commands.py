"""The commands and their options. Parsing gives a closure; it runs when the parser is gone."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, cast

import typer

from probes.catalog import BY_NAME, PROFILES
from validator import __version__, profiles
from validator.cli import SERVE, EarlyWorker, UsageError, say
from validator.nearest import closest, nearest

#: What a command is once its arguments are understood; gives the exit code.
Action = Callable[[EarlyWorker], int]

COMMANDS: Final = ("check", "serve", "list", "explain", "selftest", "schema", "healthcheck")

#: Forms of a report; written out, since the module that makes them imports half of rich.
_FORMS: Final = ("text", "json", "junit", "prom")

#: The parser's own class of usage errors; typer brings its own parser in some versions.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)

app = typer.Typer(
    name="gpu-validator",
    help="Does the PyTorch in this image compute correctly on every GPU of this node?",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(argv: Sequence[str], early: EarlyWorker) -> int:
    """Parse the command line and run the command."""
    for item in argv:
        if not item.startswith("-"):
            if item not in COMMANDS:
                raise UsageError(f"unknown command {item!r}{nearest(item, COMMANDS)}")
            break
    try:
        parsed = app(list(argv), prog_name="gpu-validator", standalone_mode=False)
    except _UsageError as error:
        raise UsageError(_explain(error, f"gpu-validator {argv[0]}")) from error
    return cast("Action", parsed)(early) if callable(parsed) else int(parsed or 0)


def _explain(error: Exception, command: str) -> str:
    """The parser's complaint in one line, with the nearest option where one is unknown."""
    context = getattr(error, "ctx", None)
    unknown = getattr(error, "option_name", None)
    if unknown is not None and context is not None and type(error).__name__ == "NoSuchOption":
        known = [name for option in context.command.params for name in option.opts]
        close = closest(unknown.lstrip("-"), [name.lstrip("-") for name in known])
        hint = f"; did you mean --{close}?" if close else f"; see {command} --help"
        return f"unknown option {unknown}{hint}"
    text = cast("Any", error).format_message().rstrip(".")
    return f"{text[:1].lower()}{text[1:]}; see {command} --help"


def _choice(option: str, known: Iterable[str]) -> Callable[[str | None], str | None]:
    """A check that names the nearest right value."""
    names = tuple(known)

    def checked(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise UsageError(f"{option}: unknown value {value!r}{nearest(value, names)}")
        return value

    return checked


def _probes(option: str) -> Callable[[list[str]], list[str]]:
    def checked(names: list[str]) -> list[str]:
        for name in names:
            if name not in BY_NAME:
                raise UsageError(f"{option}: unknown probe {name!r}{nearest(name, BY_NAME)}")
        return names

    return checked


def _starting(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Completions in a shell."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return complete


ConfigFile = Annotated[
    Path | None, typer.Option("--config.file", metavar="FILE", help="Settings, in YAML.")
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
        callback=_choice("--profile", PROFILES),
        autocompletion=_starting(PROFILES),
    ),
]
ListenAddress = Annotated[
    list[str] | None,
    typer.Option(
        "--web.listen-address", metavar="ADDRESS", help="host:port to listen on. Repeatable."
    ),
]


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> Action | None:
    if version:
        from validator.console import emit

        emit(f"gpu-validator {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError(f"no command; use one of {', '.join(COMMANDS)}, or see --help")
    return None


@app.command()
def check(  # noqa: PLR0913 - typer reads the options from the signature
    profile: Profile = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="Device to check: cuda:N, a UUID, a PCI id, cpu. Repeatable.",
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe",
            metavar="PROBE",
            help="Run this probe alone. Repeatable.",
            callback=lambda names: _probes("--probe")(names or []),
            autocompletion=_starting(BY_NAME),
        ),
    ] = None,
    no_probe: Annotated[
        list[str] | None,
        typer.Option(
            "--no-probe",
            metavar="PROBE",
            help="Leave this probe out. Repeatable.",
            callback=lambda names: _probes("--no-probe")(names or []),
            autocompletion=_starting(BY_NAME),
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="FORM",
            help="Form of the report: text, json, junit or prom.",
            callback=_choice("--output", _FORMS),
            autocompletion=_starting(_FORMS),
        ),
    ] = "text",
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output-file",
            metavar="FILE",
            help="Write the report there, whole; stdout then shows it as text.",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE",
            help="Write the report with all observations there, what identifies the node replaced.",
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            help="Deadline of the whole run: 90, 500ms, 10m. Default: 5m.",
        ),
    ] = None,
    exit_style: Annotated[
        str,
        typer.Option(
            "--exit-style",
            metavar="STYLE",
            help="default: 0 good, 1 fail, 2 could not tell. nagios: 0/1/2/3.",
            callback=_choice("--exit-style", ("default", "nagios")),
            autocompletion=_starting(("default", "nagios")),
        ),
    ] = "default",
    strict: Annotated[bool, typer.Option("--strict", help="A warning or skip fails too.")] = False,
    fail_open: Annotated[
        bool, typer.Option("--fail-open", help="Exit with 0 when nothing could be told.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; text only of what is wrong, and verdict.")
    ] = False,
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
    flags = _flags(
        run={
            "profile": profile,
            "timeout": timeout,
            "devices": device,
            "observations": True if record is not None else None,
        },
        log={"level": log_level, "format": log_format},
    )
    if max_age is not None and record is not None:
        raise UsageError("--record is for a run of its own: it cannot go with --max-age")
    if max_age is None and (server is not None or no_run):
        option = "--no-run" if server is None else "--server"
        raise UsageError(f"{option} is for --max-age: without it no daemon is asked")
    _check_server("--server", server)

    def action(early: EarlyWorker) -> int:
        settings = _settings(config_file, flags)
        if config_check:
            return _check_config(settings)
        from validator import check as checking

        options = checking.Options(
            only=tuple(probe or ()),
            without=tuple(no_probe or ()),
            output=cast("Any", output),
            output_file=output_file,
            record=record,
            exit_style=cast("Any", exit_style),
            strict=strict,
            fail_open=fail_open,
            quiet=quiet,
            max_age_s=_age(max_age),
            server=server,
            no_run=no_run,
        )
        return checking.run(settings, options, early)

    return action


@app.command()
def serve(
    profile: Profile = None,
    listen_address: ListenAddress = None,
    config_file: ConfigFile = None,
    config_check: ConfigCheck = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> Action:
    """Check this machine on a schedule, and serve metrics and reports over HTTP."""
    flags = _flags(
        run={"profile": profile},
        web={"listen_address": listen_address},
        log={"level": log_level, "format": log_format},
    )

    def action(_: EarlyWorker) -> int:
        settings = _settings(config_file, flags)
        if config_check:
            return _check_config(settings)
        return _become_daemon(config_file, flags)

    return action


def _check_server(option: str, server: str | None) -> None:
    from validator.ask import usable

    if server is not None and not usable(server):
        raise UsageError(
            f"{option}: {server!r} is no address such as http://127.0.0.1:8790 or unix:/path"
        )


def _age(text: str | None) -> float | None:
    """An age from the command line, in seconds."""
    from validator.settings import seconds

    try:
        age_s = seconds(text)
    except ValueError as error:
        raise UsageError(f"--max-age: {error}") from error
    if age_s is not None and not 0 < cast("float", age_s) < math.inf:
        raise UsageError(f"--max-age: {text!r} is no age above 0")
    return cast("float | None", age_s)


def _become_daemon(config_file: Path | None, flags: dict[str, Any]) -> NoReturn:
    """Run the same command again: the daemon keeps nothing of what parsed its arguments."""
    name = str(config_file) if config_file is not None else None
    os.environ[SERVE] = json.dumps({"config_file": name, "flags": flags})
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command line, no shell


@app.command("list")
def list_(
    output: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="FORM",
            help="text or json.",
            callback=_choice("--output", ("text", "json")),
        ),
    ] = "text",
) -> Action:
    """List the probes."""

    def action(_: EarlyWorker) -> int:
        from validator import explain
        from validator.console import console_for, emit
        from validator.render_catalog import render_list

        if output == "json":
            emit(json.dumps([explain.listed(spec) for spec in BY_NAME.values()], indent=2) + "\n")
        else:
            emit(render_list(console_for(sys.stdout)))
        return 0

    return action


@app.command("explain")
def explain_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PROBE|CHECK",
            help="A probe such as autograd, or a check such as autograd.detach.",
            autocompletion=_starting(
                [*BY_NAME, *(f"{s.name}.{check}" for s in BY_NAME.values() for check in s.promises)]
            ),
        ),
    ],
) -> Action:
    """Explain a probe or a check: what it promises, why it matters, what to do."""

    def action(_: EarlyWorker) -> int:
        from validator import explain
        from validator.console import console_for, emit
        from validator.render_catalog import render_explanation

        try:
            spec, check = explain.find(name)
        except explain.UnknownNameError as error:
            raise UsageError(str(error)) from error
        emit(render_explanation(spec, check, console_for(sys.stdout)))
        return 0

    return action


def _fault_names() -> list[str]:
    from probes.faults import FAULTS

    return [fault.name for fault in FAULTS]


def _complete_fault(incomplete: str) -> list[str]:
    """Completions in a shell; the table is read only for them."""
    return [name for name in _fault_names() if name.startswith(incomplete)]


def _faults(names: list[str]) -> list[str]:
    """A check that names the nearest fault."""
    known = _fault_names() if names else []
    for name in names:
        if name not in known:
            close = closest(name, known)
            hint = f"; did you mean {close!r}?" if close else "; see gpu-validator selftest --list"
            raise UsageError(f"--fault: unknown fault {name!r}{hint}")
    return names


@app.command()
def selftest(
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe",
            metavar="PROBE",
            help="Inject the faults that this probe must catch. Repeatable.",
            callback=lambda names: _probes("--probe")(names or []),
            autocompletion=_starting(BY_NAME),
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="FAULT",
            help="Inject this fault alone. Repeatable.",
            callback=lambda names: _faults(names or []),
            autocompletion=_complete_fault,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="Device to inject on: cuda:N, a UUID, a PCI id, cpu. Repeatable.",
        ),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List the faults; inject nothing.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="FORM",
            help="Form of the matrix: text, json or junit.",
            callback=_choice("--output", ("text", "json", "junit")),
            autocompletion=_starting(("text", "json", "junit")),
        ),
    ] = "text",
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output-file",
            metavar="FILE",
            help="Write the matrix there, whole; stdout then shows it as text.",
        ),
    ] = None,
) -> Action:
    """Break torch on purpose, and show that each check sees it: 0 all caught, 1 one survived."""

    def action(early: EarlyWorker) -> int:
        from validator import selftest as command
        from validator.trials import Options

        options = Options(probes=tuple(probe or ()), faults=tuple(fault or ()))
        form = cast("Any", output)
        if list_only:
            return command.show_list(options, form)
        settings = _settings(None, _flags(run={"devices": device}))
        return command.run(settings, options, form, output_file, early)

    return action


@app.command()
def schema() -> Action:
    """Print the JSON Schema of the report."""

    def action(_: EarlyWorker) -> int:
        from validator.console import emit
        from validator.report import json_schema

        emit(json.dumps(json_schema(), indent=2) + "\n")
        return 0

    return action


@app.command()
def healthcheck(
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="The daemon, http://host:port or unix:/path. Default: from settings.",
        ),
    ] = None,
    listen_address: ListenAddress = None,
    config_file: ConfigFile = None,
) -> Action:
    """Ask the running daemon whether it is well: exit code 0 or 1."""

    def action(_: EarlyWorker) -> int:
        from validator.healthcheck import ask

        _check_server("--url", url)
        if url is None:
            from validator.ask import url_of
            from validator.settings import host_port

            settings = _settings(config_file, _flags(web={"listen_address": listen_address}))
            wrong = ask(url_of(*host_port(settings.web.listen_address[0])))
        else:
            wrong = ask(url)
        if wrong:
            say(wrong)
        return 1 if wrong else 0

    return action


def _flags(**sections: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, nested as the settings are."""
    given = {
        section: {key: value for key, value in keys.items() if value not in (None, [])}
        for section, keys in sections.items()
    }
    return {section: keys for section, keys in given.items() if keys}


def _settings(config_file: Path | None, flags: dict[str, Any]) -> Any:
    from validator.settings import SettingsError, load

    try:
        return load(config_file, flags)
    except SettingsError as error:
        raise UsageError(str(error)) from error


def _check_config(settings: Any) -> int:
    """Say that the configuration is valid; what only a schedule can tell is looked at too."""
    from validator.console import emit
    from validator.plan import make_plan, refuse_nothing
    from validator.schedule import timings
    from validator.settings import SettingsError

    note = profiles.note(settings.run.profile)
    try:
        timings(settings, BY_NAME.values())
        refuse_nothing(make_plan(settings, "schedule"))
    except SettingsError as error:
        raise UsageError(str(error)) from error
    if note:
        say(note)
    emit("the configuration is valid\n")
    return 0
