"""Exceptions as data. Standard library only: the worker reports a failed import with it."""

import traceback
from typing import Final

#: Limit on an exception's text and on its traceback.
_TEXT_CHARACTERS: Final = 4096


def _encodable(text: str) -> str:
    """Text as it is, line by line, but for what no UTF-8 holds."""
    return text.encode(errors="backslashreplace").decode()


def describe(error: BaseException) -> dict[str, str]:
    """An exception as the fields of `contract.Failure`, cut to a bounded length."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {
        "type": type(error).__name__,
        "message": _encodable(str(error)[:_TEXT_CHARACTERS]),
        "traceback": _encodable("".join(lines)[-_TEXT_CHARACTERS:]),
    }
