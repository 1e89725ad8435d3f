"""Checks the limits of probes when the settings are read, before a run is spoilt by them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from probes.catalog import BY_NAME
from validator.nearest import closest, nearest
from validator.settings.model import ProbeSettings
from validator.settings.values import shown

_LARGEST: Final = 2**63

#: Of a probe's limits: they go to its process in one packet.
_MOST_CHARACTERS: Final = 8192


def normal(probe: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Limits that are right in the types of JSON, whatever YAML or the environment gave."""
    model = BY_NAME[probe].limits if limits else None
    if model is None:
        return {}
    return model.model_validate(limits).model_dump(mode="json", exclude_unset=True)


def of_all(probes: Mapping[str, ProbeSettings]) -> Iterator[tuple[list[str], str]]:
    """What is wrong with the limits of all probes."""
    for name, probe in probes.items():
        yield from complaints(name, probe.limits)


def complaints(probe: str, limits: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """What is wrong with limits that were set: the path of each key, and the text to it."""
    path = ["probes", probe, "limits"]
    model = BY_NAME[probe].limits
    if model is None:
        if limits:
            having = ", ".join(spec.name for spec in BY_NAME.values() if spec.limits)
            text = f"{'.'.join(path)}: {probe} has no limits (got {shown(dict(limits))})"
            yield path, f"{text}; probes that have some: {having}"
        return
    for name, value in limits.items():
        field = model.model_fields.get(name)
        if isinstance(value, bool) and field is not None and bool not in _texts(field.annotation):
            yield [*path, name], f"{'.'.join([*path, name])}: {value!r} is no number; write one"
    try:
        right = model.model_validate(limits).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        # A value may be wrong in each of the ways that its type allows: told once.
        wrong = {str(item["loc"][0]): item for item in error.errors()}
        for name, item in wrong.items():
            yield (
                [*path, name],
                _complaint(".".join([*path, name]), name, limits[name], item, model),
            )
        return
    for name, value in right.items():
        if isinstance(value, int) and value > _LARGEST:
            text = f"{'.'.join([*path, name])}: {shown(limits[name])} is more than 2^63"
            yield [*path, name], text
    if len(json.dumps(right)) > _MOST_CHARACTERS:
        yield path, f"{'.'.join(path)}: are longer than {_MOST_CHARACTERS} characters"


def _complaint(
    key: str, name: str, value: object, item: Mapping[str, Any], model: type[BaseModel]
) -> str:
    field = model.model_fields.get(name)
    if field is None:
        section = key.removesuffix(name)
        return f"unknown key {key[:300]!r}{nearest(name, model.model_fields, section)}"
    if item["type"] == "value_error":  # of a validator of the model's own
        return f"{key}: {item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "literal_error":
        choices = [text for text in _texts(field.annotation) if isinstance(text, str)]
        close = closest(str(value), choices)
        hint = f"; did you mean {close!r}?" if close else ""
        others = " or a number" if set(_texts(field.annotation)) - set(choices) else ""
        return f"{key}: {shown(value)} is not one of {', '.join(choices)}{others}{hint}"
    return f"{key}: {item['msg']} (got {shown(value)})"


def _texts(annotation: Any) -> list[Any]:
    """The literals of a type, and each other type that it allows, but None."""
    arguments = get_args(annotation)
    if not arguments:
        return [] if annotation is type(None) else [annotation]
    return [text for argument in arguments for text in _texts(argument)]
