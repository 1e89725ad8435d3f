"""From a plan to a report: which probes on which devices, what is skipped and why."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from probes.catalog import ProbeSpec
from probes.contract import Result
from validator.report import Device, Report, Trigger
from validator.settings import Settings
from validator.spawn import WorkerProcess


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


class Runner:
    """Runs plans, one at a time; remembers the devices that an unkillable process holds."""

    def __init__(self, worker: WorkerProcess | None = None, *, nice: int = 0) -> None:
        """Take a worker that was started early, if any; `nice` is given to those started later."""
        self.restarts: Counter[str] = Counter()  # of workers, by reason

    @property
    def held(self) -> frozenset[str]:
        """Names of the devices on which nothing is started, since a process there cannot die."""
        raise NotImplementedError

    async def run(
        self, plan: Plan, settings: Settings, on_event: Callable[[Event], None] = lambda _: None
    ) -> Report:
        """Run a plan in a worker of its own.

        Cancelled, it leaves no process and raises `asyncio.CancelledError`; the results so far
        are lost. The run's own deadline is `settings.run.timeout`; what it cuts off is `not_run`.
        """
        raise NotImplementedError
