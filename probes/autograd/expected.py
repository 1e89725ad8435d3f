"""What each fact must be. A text that begins with `refused: ` must occur in the refusal seen."""

from typing import Final

from pydantic import JsonValue

REFUSED: Final = "refused: "

EXPECTED: Final[dict[str, dict[str, JsonValue]]] = {}
