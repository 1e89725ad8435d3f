"""Exceptions as data. Standard library only: the worker reports a failed import with it."""

import traceback
from typing import Final

#: Limit on an exception's text and on its traceback.
_TEXT_CHARACTERS: Final = 4096


def describe(error: BaseException) -> dict[str, str]:
    """An exception as the fields of `contract.Failure`, cut to a bounded length."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {
        "type": type(error).__name__,
        "message": str(error)[:_TEXT_CHARACTERS],
        "traceback": "".join(lines)[-_TEXT_CHARACTERS:],
    }
