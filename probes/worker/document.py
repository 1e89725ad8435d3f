"""A model as JSON, whatever text a library, a path or the environment put into it."""

import json
import math
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from probes.legible import legible


def to_json(model: BaseModel) -> str:
    """The fields that are not at their defaults; text that is no Unicode has its bytes escaped."""
    try:
        return model.model_dump_json(exclude_defaults=True)
    except PydanticSerializationError:
        return json.dumps(_encodable(model.model_dump(exclude_defaults=True, mode="json")))


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encodable(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_encodable(below) for below in value]
    if isinstance(value, float) and not math.isfinite(value):  # as Frozen writes them
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        return legible(value, len(value))
    return value
