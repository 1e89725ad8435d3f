"""The command `schema`: the JSON Schema of the report, or of a settings file."""

import json
from typing import Annotated

import typer

from validator.cli.early import EarlyWorker
from validator.cli.options import (
    Action,
)
from validator.render.console import emit
from validator.render.settings_schema import settings_schema
from validator.report import json_schema


def command(
    settings: Annotated[
        bool, typer.Option("--settings", help="Of a settings file, for editors.")
    ] = False,
) -> Action:
    """Print the JSON Schema of the report."""

    def action(_: EarlyWorker) -> int:
        schema = settings_schema() if settings else json_schema()
        emit(json.dumps(schema, indent=2) + "\n")
        return 0

    return action
