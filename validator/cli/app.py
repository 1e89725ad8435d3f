"""The parser: finds the command and imports it alone. Parsing gives a closure, run afterwards."""

import importlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, cast

import typer

from validator import __version__
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError
from validator.cli.options import Action
from validator.nearest import closest, nearest
from validator.render.console import emit

COMMANDS: Final = (
    *("check", "burn", "serve", "list", "explain", "selftest", "schema", "healthcheck"),
    "condition",
)


#: The parser's own class of usage errors; typer brings its own parser in some versions.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)


def parser(argv: Sequence[str]) -> typer.Typer:
    """The parser of one command where the line names one, which is imported alone; else of all."""
    made = typer.Typer(
        name="gpu-validator",
        help="Does the PyTorch in this image compute correctly on every GPU of this node?",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_main)
    named = [name for name in COMMANDS if name in argv[:1]]
    for name in named or COMMANDS:
        made.command(name)(importlib.import_module(f"validator.cli.{name}").command)
    return made


def run(argv: Sequence[str], early: EarlyWorker) -> int:
    """Parse the command line and run the command."""
    for item in argv:
        if not item.startswith("-"):
            if item not in COMMANDS:
                raise UsageError(f"unknown command {item!r}{nearest(item, COMMANDS)}")
            break
    try:
        parsed = parser(argv)(list(argv), prog_name="gpu-validator", standalone_mode=False)
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


def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> Action | None:
    if version:
        emit(f"gpu-validator {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError(f"no command; use one of {', '.join(COMMANDS)}, or see --help")
    return None
