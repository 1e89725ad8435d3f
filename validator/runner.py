"""From a plan to a report: which probes on which devices, what is skipped and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from probes.catalog import ProbeSpec
from probes.contract import Result
from validator.report import Device, Report, Trigger
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

    kind: Literal["importing", "surveyed", "started", "finished"]
    probe: str = ""
    device: str = ""
    devices: tuple[Device, ...] = ()  # surveyed
    planned: tuple[tuple[str, str], ...] = ()  # surveyed: (probe, device), decided skips included
    result: Result | None = None  # finished


def make_plan(
    settings: Settings,
    trigger: Trigger,
    *,
    only: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> Plan:
    """The probes of the settings' profile, or those named, minus those refused."""
    raise NotImplementedError


async def execute(
    plan: Plan, settings: Settings, on_event: Callable[[Event], None] = lambda _event: None
) -> Report:
    """Run a plan in a worker of its own. Cancelled, it leaves no process and raises in turn."""
    raise NotImplementedError
