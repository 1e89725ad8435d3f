"""The JSON Schema of a settings file, by which editors complete keys and tell wrong ones."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from probes.catalog import CATALOG
from probes.contract import ProbeSpec
from validator.render import explain
from validator.settings.model import Settings


def settings_schema() -> dict[str, Any]:
    """The schema, with each probe by its name and with its own limits."""
    schema = Settings.model_json_schema()
    definitions = schema["$defs"]
    sections = schema["properties"]
    promises = {spec.name: explain.read(spec).promise for spec in CATALOG}
    sections["schedule"] |= _by_name(
        {
            name: {"$ref": "#/$defs/Timetable", "description": promise}
            for name, promise in promises.items()
        }
    )
    own = definitions.pop("ProbeSettings")
    sections["probes"] |= _by_name(
        {
            spec.name: {
                **own,
                "description": promises[spec.name],
                "properties": {**own["properties"], "limits": _limits(spec)},
            }
            for spec in CATALOG
        }
    )
    # A section whose every line is commented out is an empty one.
    schema["properties"] = {
        name: {"anyOf": [section, {"type": "null"}]} for name, section in sections.items()
    }
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "Settings of gpu-validator",
        **{name: part for name, part in schema.items() if name != "title"},
    }


def _by_name(probes: dict[str, Any]) -> dict[str, Any]:
    return {"properties": probes, "additionalProperties": False}


def _limits(spec: ProbeSpec) -> dict[str, Any]:
    """A probe's own limits, each with its comment in the source."""
    if spec.limits is None:
        return {"type": "object", "description": "none", "maxProperties": 0}
    schema = spec.limits.model_json_schema()
    for limit in explain.read(spec).limits:
        schema["properties"][limit.name]["description"] = limit.about
    return schema
