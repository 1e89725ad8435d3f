"""The command `schema`: the JSON Schema of the report, or of a settings file."""

import json
from typing import Annotated, Final

import typer

from validator.cli.early import EarlyWorker
from validator.cli.options import PLAIN_CODES, Action, after_help
from validator.render.console import emit
from validator.render.settings_schema import settings_schema
from validator.report import json_schema

EPILOG: Final = after_help(
    ("schema > report.schema.json", "schema --settings > settings.schema.json"), PLAIN_CODES
)


def command(
    settings: Annotated[
        bool, typer.Option("--settings", help="Print that of a settings file, for editors.")
    ] = False,
) -> Action:
    """Print the JSON Schema of the report, or of a settings file."""

    def action(_: EarlyWorker) -> int:
        schema = settings_schema() if settings else json_schema()
        emit(json.dumps(schema, indent=2) + "\n")
        return 0

    return action
