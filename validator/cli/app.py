"""The parser: finds the command and imports it alone. Parsing gives a closure, run afterwards."""

import importlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, cast

import typer

from validator import __version__
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError
from validator.cli.options import Action, after_help
from validator.nearest import nearest
from validator.render.console import emit

COMMANDS: Final = (
    *("check", "burn", "serve", "list", "explain", "selftest", "schema", "healthcheck"),
    "condition",
)


#: What other tools have as commands, and ours as options.
_PLAIN: Final = {"help": "--help", "version": "--version", "completion": "--install-completion"}

_EPILOG: Final = after_help(
    (
        "check                # is my torch right?",
        "explain tensor_ops   # what a probe promises, and what to do",
        "check --help         # the options and examples of a command",
    ),
    {
        "0": "What was asked is so: nothing failed, it was printed, all is well.",
        "1": "It is not: a probe failed, a fault survived, a daemon is not well.",
        "2": "Nothing could be told, or the command line is wrong.",
        "128+n": "It was stopped by signal n: 130 by Ctrl-C, 143 by SIGTERM.",
    },
)


#: The parser's own class of usage errors; typer brings its own parser in some versions.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)


def parser(argv: Sequence[str]) -> typer.Typer:
    """The parser of one command where the line names one, which is imported alone; else of all."""
    made = typer.Typer(
        name="gpu-validator",
        help="Does the PyTorch in this image compute correctly on every GPU of this node?",
        epilog=_EPILOG,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_main)
    named = [name for name in COMMANDS if name in argv[:1]]
    for name in named or COMMANDS:
        module = importlib.import_module(f"validator.cli.{name}")
        first_line = (module.command.__doc__ or "").partition("\n")[0]
        made.command(name, short_help=first_line, epilog=module.EPILOG)(module.command)
    return made


def run(argv: Sequence[str], early: EarlyWorker) -> int:
    """Parse the command line and run the command."""
    for name in argv[:1]:
        if name in _PLAIN:
            raise UsageError(
                f"unknown command {name!r}; did you mean gpu-validator {_PLAIN[name]}?"
            )
        if name not in COMMANDS and not name.startswith("-"):
            raise UsageError(f"unknown command {name!r}{nearest(name, COMMANDS)}")
    try:
        parsed = parser(argv)(list(argv), prog_name="gpu-validator", standalone_mode=False)
    except _UsageError as error:
        raise UsageError(_explain(error, argv)) from error
    return cast("Action", parsed)(early) if callable(parsed) else int(parsed or 0)


def _explain(error: Exception, argv: Sequence[str]) -> str:
    """The parser's complaint in one line, with what is near."""
    from validator.cli import hints  # noqa: PLC0415 - for complaints alone

    context: Any = getattr(error, "ctx", None)
    unknown = getattr(error, "option_name", None)
    if context is not None and unknown is not None and type(error).__name__ == "NoSuchOption":
        return hints.of_an_option(unknown, context, argv)
    text = cast("Any", error).format_message().rstrip(".")
    if context is not None and (hint := hints.of_an_extra(text, context)):
        return hint
    command = " ".join(["gpu-validator", *(name for name in argv[:1] if name in COMMANDS)])
    return f"{text[:1].lower()}{text[1:]}; see {command} --help"


def _main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version and exit.")
    ] = False,
) -> Action | None:
    if version:
        emit(f"gpu-validator {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError(f"no command; use one of {', '.join(COMMANDS)}, or see --help")
    return None
