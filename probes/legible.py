"""Text from outside, as every report, log and exposition can hold it. Standard library only."""

import os
from collections.abc import Iterable
from typing import Final

#: Longer than any list of devices or folders; a whole environment has 2 MiB at most.
_MOST_CHARACTERS: Final = 4096


def legible(text: str, most: int = _MOST_CHARACTERS) -> str:
    """The text on one line: bytes that are no UTF-8, line ends and control characters as escapes.

    What is longer than `most` characters is cut, and says so.
    """
    cut = text[:most]
    shown = "".join(c if c.isprintable() else _escaped(c) for c in cut)
    return shown if len(text) <= most else f"{shown}... ({len(text) - most} more characters)"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte, as Python reads the environment
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def variables(names: Iterable[str]) -> dict[str, str]:
    """Those of these variables of the environment that are set, empty ones too, to be shown."""
    return {name: legible(os.environ[name].strip("\r\n")) for name in names if name in os.environ}
