"""Checks the limits of probes when the settings are read, before a run is spoilt by them."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from probes.catalog import BY_NAME
from validator.nearest import closest, nearest


def normal(probe: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Limits that are right in the types of JSON, whatever YAML or the environment gave."""
    model = BY_NAME[probe].limits if limits else None
    if model is None:
        return {}
    return model.model_validate(limits).model_dump(mode="json", exclude_unset=True)


def complaints(probe: str, limits: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """What is wrong with limits that were set: the path of each key, and the text to it."""
    path = ["probes", probe, "limits"]
    model = BY_NAME[probe].limits
    if model is None:
        if limits:
            having = ", ".join(spec.name for spec in BY_NAME.values() if spec.limits)
            text = f"{'.'.join(path)}: {probe} has no limits (got {dict(limits)!r})"
            yield path, f"{text}; probes that have some: {having}"
        return
    try:
        model.model_validate(limits)
    except ValidationError as error:
        # A value may be wrong in each of the ways that its type allows: told once.
        wrong = {str(item["loc"][0]): item for item in error.errors()}
        for name, item in wrong.items():
            yield (
                [*path, name],
                _complaint(".".join([*path, name]), name, limits[name], item, model),
            )


def _complaint(
    key: str, name: str, value: object, item: Mapping[str, Any], model: type[BaseModel]
) -> str:
    field = model.model_fields.get(name)
    if field is None:
        section = key.removesuffix(name)
        return f"unknown key {key!r}{nearest(name, model.model_fields, section)}"
    if item["type"] == "value_error":  # of a validator of the model's own
        return f"{key}: {item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "literal_error":
        choices = [text for text in _texts(field.annotation) if isinstance(text, str)]
        close = closest(str(value), choices)
        hint = f"; did you mean {close!r}?" if close else ""
        others = " or a number" if set(_texts(field.annotation)) - set(choices) else ""
        return f"{key}: {value!r} is not one of {', '.join(choices)}{others}{hint}"
    return f"{key}: {item['msg']} (got {value!r})"


def _texts(annotation: Any) -> list[Any]:
    """The literals of a type, and each other type that it allows, but None."""
    arguments = get_args(annotation)
    if not arguments:
        return [] if annotation is type(None) else [annotation]
    return [text for argument in arguments for text in _texts(argument)]
