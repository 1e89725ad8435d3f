"""What a run is asked to do, and what it tells while it goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from probes.catalog import BY_NAME, CATALOG
from probes.contract import PROFILES, ProbeSpec, Profile, Result
from validator.engine.devices import may_be_accelerator
from validator.profiles import note
from validator.report import Device, Trigger
from validator.settings.limits import normal
from validator.settings.model import Settings
from validator.settings.values import SettingsError


@dataclass(frozen=True)
class Plan:
    """What one run is asked to do."""

    specs: tuple[ProbeSpec, ...]
    profile: Profile
    trigger: Trigger
    #: Whether a heavy probe leaves a device that others use, and one that they come to.
    gives_way: bool = True
    #: The moment on the clock of deadlines after which no probe of a device starts; None: any time.
    starts_until_s: float | None = None
    #: Probe -> names or UUIDs of the devices that it runs on; one that is not named runs on all.
    only_on: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def includes(self, probe: str, device: Device) -> bool:
        """Whether the probe is to run on that device."""
        names = self.only_on.get(probe)
        return names is None or bool(names & {device.name, device.uuid})


@dataclass(frozen=True)
class Event:
    """What a run tells while it goes on, for progress and logs."""

    kind: Literal[
        "round",  # of a burn: what came before is over
        "importing",
        "surveyed",
        "started",
        "finished",
        "held",
        "restarted",
        "sampled",
        "unwatched",
    ]
    probe: str = ""
    device: str = ""
    devices: tuple[Device, ...] = ()  # surveyed
    planned: tuple[tuple[str, str], ...] = ()  # surveyed: (probe, device), decided skips included
    result: Result | None = None  # finished
    text: str = ""  # held, restarted, unwatched: why
    numbers: Mapping[str, float] = field(default_factory=dict)  # sampled: what the board says


def make_plan(
    settings: Settings,
    trigger: Trigger,
    *,
    only: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> Plan:
    """The probes of the settings' profile, or those named, minus those refused.

    A schedule has a probe of profile deep only where the settings give it a timetable.

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
        and not (trigger == "schedule" and is_unscheduled(spec, settings))
    )
    return Plan(specs, settings.run.profile, trigger)


def is_unscheduled(spec: ProbeSpec, settings: Settings) -> bool:
    """Whether a schedule leaves a probe out: it takes a whole device, and nobody asked for it."""
    return spec.profile == "deep" and spec.name not in settings.schedule


def schedule_note(settings: Settings) -> str:
    """What a schedule leaves out of its profile, and how it is asked for; empty for nothing."""
    names = [spec.name for spec in CATALOG if is_unscheduled(spec, settings)]
    if settings.run.profile != "deep" or not names:
        return ""
    return (
        f"profile deep is for admission and drained nodes: {', '.join(names)} "
        f"{'are' if len(names) > 1 else 'is'} not scheduled without a timetable, as "
        f"schedule.{names[0]}.cron"
    )


def refuse_nothing(plan: Plan) -> None:
    """Refuse a schedule that would look at nothing.

    Raises:
        SettingsError: the plan is empty.
    """
    if not plan.specs:
        why = note(plan.profile) or "no probe is left to run"
        raise SettingsError(f"run.profile: {why}; a daemon of it would judge nothing")


def is_enabled(spec: ProbeSpec, settings: Settings) -> bool:
    """Whether the settings leave a probe switched on."""
    own = settings.probes.get(spec.name)
    return own is None or own.enabled


def timeout_s(spec: ProbeSpec, settings: Settings) -> float:
    """A probe's deadline on one device, in seconds."""
    own = settings.probes.get(spec.name)
    return own.timeout if own is not None and own.timeout is not None else spec.timeout_s


def limits(spec: ProbeSpec, settings: Settings) -> dict[str, Any]:
    """A probe's limits: what the node promises, then the probe's own settings."""
    promised: dict[str, dict[str, Any]] = {
        "cuda_available": {
            "gpus": settings.expect.gpus,
            "mig_instances": settings.expect.mig_instances,
            "asked": tuple(name for name in settings.run.devices if may_be_accelerator(name)),
        },
        "container": {"gpus": settings.expect.gpus},
        "telemetry": {"gpus": settings.expect.gpus},
        "torch_version": {"torch": settings.expect.torch, "gpus": settings.expect.gpus},
    }
    own = settings.probes.get(spec.name)
    set_here = normal(spec.name, own.limits) if own is not None else {}
    return {**promised.get(spec.name, {}), **set_here}
