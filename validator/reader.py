"""Reads a report that another version may have written.

Writers are strict, readers are not: within a schema version a report may gain fields and words.
An unknown field is left out, and an unknown word is read as the one that says "could not tell".
"""

import json
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from validator.report import Report

#: What an unknown word is read as: the first of these that the field knows.
_INSTEAD: Final = (
    "error",  # of a status
    "internal_error",  # of a result's reason
    "investigate",  # of an action
    "cancelled",  # of a reason for not being run
    "merged",  # of what a run was started by
    "other",  # of a way of being wrong
    "unknown",  # of what a retry or a second read told
)


def read_report(text: str | bytes) -> Report:
    """A report from JSON, whichever version of the same schema wrote it.

    Raises:
        ValueError: it is no JSON, or lacks what every report has (pydantic's own error is one).
    """
    content = json.loads(text)
    return Report.model_validate_json(json.dumps(_without_unknown(content, Report)))


def _without_unknown(value: Any, kind: Any) -> Any:
    """A value without what its type does not know."""
    arguments = get_args(kind)
    origin = get_origin(kind)
    # A generic such as `tuple[int, ...]` is a `type` on Python 3.10, and no class.
    if origin is None and isinstance(kind, type) and issubclass(kind, BaseModel):
        return _fields(value, kind)
    if origin is Literal:
        return value if value in arguments else _instead(arguments)
    if origin is tuple and isinstance(value, list):
        return [_without_unknown(item, arguments[0]) for item in value]
    if origin is dict and isinstance(value, Mapping):
        return {key: _without_unknown(item, arguments[1]) for key, item in value.items()}
    if origin in {Union, types.UnionType} and value is not None:
        (only, *others) = [each for each in arguments if each is not type(None)]
        return value if others else _without_unknown(value, only)
    return value


def _fields(value: Any, model: type[BaseModel]) -> Any:
    if not isinstance(value, Mapping):
        return value  # for the model to refuse
    return {
        name: _without_unknown(value[name], field.annotation)
        for name, field in model.model_fields.items()
        if name in value
    }


def _instead(words: tuple[Any, ...]) -> str:
    """The word that an unknown one is read as."""
    return next(word for word in _INSTEAD if word in words)
