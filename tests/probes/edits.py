"""Editing a recorded observation: one field of a deep model, by its path."""

from typing import Any, TypeVar

from probes.contract import Observation

Recorded = TypeVar("Recorded", bound=Observation)


def edited(recorded: Recorded, changes: dict[str, Any]) -> Recorded:
    """The observation with other values at some paths, as in `nvml.gpus.0.uuid`; validated again.

    A path that is not there is an error, so that a fault cannot miss its field.
    """
    raw = recorded.model_dump()
    for path, value in changes.items():
        *folders, last = path.split(".")
        place: Any = raw
        for folder in folders:
            place = _open(place, folder)
        if isinstance(place, list):
            place[int(last)] = value
        else:
            assert last in place or folders == ["variables"], path
            place[last] = value
    return type(recorded).model_validate(raw)


def _open(place: Any, name: str) -> Any:
    """What lies under a name or an index; tuples become lists, so that they can be written to."""
    key: Any = int(name) if isinstance(place, list) else name
    if isinstance(place[key], tuple):
        place[key] = list(place[key])
    return place[key]
