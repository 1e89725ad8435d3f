"""Keys of which one takes the place of the other: who says `cron` has overruled an `interval`."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

#: In a section of `schedule`, each with the one that it takes the place of.
_OTHER: Final = {"interval": "cron", "cron": "interval"}


def in_place_of_each_other(
    settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource
) -> tuple[PydanticBaseSettingsSource, ...]:
    """The sources, the strongest first; each without the timetables that one before it replaces.

    One that gives both itself keeps them, for the model to refuse.
    """
    replaced: dict[str, set[str]] = {}
    found = []
    for source in sources:
        content = source()
        schedule = content.get("schedule")
        if isinstance(schedule, Mapping):
            content = {**content, "schedule": _without(schedule, replaced)}
            for probe, table in schedule.items():
                replaced.setdefault(probe, set()).update(_replaces(table))
        found.append(InitSettingsSource(settings_cls, init_kwargs=content))
    return tuple(found)


def _without(schedule: Mapping[str, Any], replaced: Mapping[str, set[str]]) -> dict[str, Any]:
    """The timetables without the keys that a stronger source has replaced."""
    return {
        probe: {key: value for key, value in table.items() if key not in replaced.get(probe, ())}
        if isinstance(table, Mapping)
        else table
        for probe, table in schedule.items()
    }


def _replaces(table: Any) -> set[str]:
    """The keys of weaker sources that a timetable takes the place of."""
    if not isinstance(table, Mapping):
        return set()
    return {other for key, other in _OTHER.items() if table.get(key) is not None}
