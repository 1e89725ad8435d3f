"""The command `schema`: the JSON Schema of the report."""

import json

from validator.cli.early import EarlyWorker
from validator.cli.options import (
    Action,
)
from validator.render.console import emit
from validator.report import json_schema


def command() -> Action:
    """Print the JSON Schema of the report."""

    def action(_: EarlyWorker) -> int:

        emit(json.dumps(json_schema(), indent=2) + "\n")
        return 0

    return action
