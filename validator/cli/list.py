"""The command `list`: the probes, as a table or JSON."""

import json
import sys
from typing import Annotated

from probes.catalog import BY_NAME
from validator.cli.early import EarlyWorker
from validator.cli.options import (
    Action,
    output_option,
)
from validator.render import explain
from validator.render.catalogue import render_list
from validator.render.console import console_for, emit


def command(
    output: Annotated[str, output_option(("text", "json"))] = "text",
) -> Action:
    """List the probes."""

    def action(_: EarlyWorker) -> int:

        if output == "json":
            emit(
                json.dumps([explain.list_entry(spec) for spec in BY_NAME.values()], indent=2) + "\n"
            )
        else:
            emit(render_list(console_for(sys.stdout)))
        return 0

    return action
