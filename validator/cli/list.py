"""The command `list`: the probes, as a table or JSON."""

import json
import sys
from typing import Annotated, Final

from probes.catalog import BY_NAME
from validator.cli.early import EarlyWorker
from validator.cli.options import (
    PLAIN_CODES,
    Action,
    after_help,
    output_option,
)
from validator.render import explain
from validator.render.catalogue import render_list
from validator.render.console import console_for, emit

EPILOG: Final = after_help(("list", "list -o json"), PLAIN_CODES)


def command(
    output: Annotated[str, output_option(("text", "json"))] = "text",
) -> Action:
    """List the probes, with what each promises.

    It runs nothing, and needs no torch.
    """

    def action(_: EarlyWorker) -> int:
        if output == "json":
            emit(
                json.dumps([explain.list_entry(spec) for spec in BY_NAME.values()], indent=2) + "\n"
            )
        else:
            emit(render_list(console_for(sys.stdout)))
        return 0

    return action
