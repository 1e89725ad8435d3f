"""The command `explain`: what a probe or a check promises, and what to do."""

import sys
from typing import Annotated, Final

import typer

from probes.catalog import BY_NAME
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError
from validator.cli.options import PLAIN_CODES, Action, after_help
from validator.cli.values import completing
from validator.render import explain
from validator.render.catalogue import render_explanation
from validator.render.console import console_for, emit

EPILOG: Final = after_help(("explain tensor_ops", "explain autograd.detach"), PLAIN_CODES)


def command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PROBE|CHECK",
            help="A probe such as autograd, or a check such as autograd.detach.",
            autocompletion=completing(
                [*BY_NAME, *(f"{s.name}.{check}" for s in BY_NAME.values() for check in s.promises)]
            ),
        ),
    ],
) -> Action:
    """Explain a probe or a check: what it promises, why it matters, what to do.

    It runs nothing, and needs no torch.
    """

    def action(_: EarlyWorker) -> int:
        try:
            spec, check = explain.find(name)
        except explain.UnknownNameError as error:
            raise UsageError(str(error)) from error
        emit(render_explanation(spec, check, console_for(sys.stdout)))
        return 0

    return action
