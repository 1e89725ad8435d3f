"""What a run is asked to do, and what it tells while it goes on."""

from dataclasses import dataclass
from typing import Literal

from probes.catalog import BY_NAME, CATALOG, PROFILES, ProbeSpec
from probes.contract import Result
from validator.report import Device, Trigger
from validator.settings import Settings


@dataclass(frozen=True)
class Plan:
    """What one run is asked to do."""

    specs: tuple[ProbeSpec, ...]
    profile: str
    trigger: Trigger


@dataclass(frozen=True)
class Event:
    """What a run tells while it goes on, for progress and logs."""

    kind: Literal["importing", "surveyed", "started", "finished", "held", "restarted"]
    probe: str = ""
    device: str = ""
    devices: tuple[Device, ...] = ()  # surveyed
    planned: tuple[tuple[str, str], ...] = ()  # surveyed: (probe, device), decided skips included
    result: Result | None = None  # finished
    text: str = ""  # held, restarted: why


def make_plan(
    settings: Settings,
    trigger: Trigger,
    *,
    only: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> Plan:
    """The probes of the settings' profile, or those named, minus those refused.

    Raises:
        ValueError: a name is no probe's.
    """
    for name in (*only, *without):
        if name not in BY_NAME:
            raise ValueError(f"unknown probe {name!r}; known: {', '.join(BY_NAME)}")
    dearest = PROFILES.index(settings.run.profile)
    specs = tuple(
        spec
        for spec in CATALOG
        if (spec.name in only if only else PROFILES.index(spec.profile) <= dearest)
        and spec.name not in without
    )
    return Plan(specs, settings.run.profile, trigger)
