"""What tests of the daemon share: results and reports made by hand, a runner that runs nothing."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any

from probes.contract import Reason, Result, Status
from tests.validator.reports import QUICK
from validator.engine.runner import Event, Plan
from validator.report import CPU, Device, NotRun, Report, make_report
from validator.service.daemon import Daemon
from validator.settings.model import Settings

NOON = datetime(2030, 1, 2, 12, tzinfo=timezone.utc)


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Seconds, as set."""
        return self.now_s


def reload(daemon: Daemon, seconds: float = 10) -> None:
    """Have a daemon read its settings again, and take them over."""
    daemon.reload()
    deadline = time.monotonic() + seconds
    while daemon.take_settings():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def gpus(count: int) -> tuple[Device, ...]:
    """GPUs 0 to count-1, each with its UUID."""
    return tuple(gpu(index) for index in range(count))


def gpu(index: int, uuid: str = "") -> Device:
    """One GPU, by default with a UUID of its index."""
    return Device(
        name=f"cuda:{index}",
        type="cuda",
        index=index,
        uuid=uuid or f"GPU-{index}",
        pci_bus_id=f"00000000:{index:02X}:00.0",
        model_name="NVIDIA H100 80GB HBM3",
    )


def result(
    probe: str,
    device: str = "cpu",
    status: Status = "pass",
    reason: Reason = "ok",
    **fields: Any,
) -> Result:
    """A result of one probe on one device, at noon, after half a second."""
    return Result(
        **{
            "probe": probe,
            "device": device,
            "status": status,
            "reason": reason,
            "summary": f"{status} of {probe}",
            "started_at": NOON,
            "duration_s": 0.5,
            **fields,
        }
    )


def report(
    results: Iterable[Result],
    devices: tuple[Device, ...] = (CPU,),
    not_run: Iterable[NotRun] = (),
    **fields: Any,
) -> Report:
    """A report over some results; every result on a known GPU carries its UUID."""
    uuid_of = {device.name: device.uuid for device in devices}
    known = [
        one if one.gpu_uuid else one.model_copy(update={"gpu_uuid": uuid_of.get(one.device)})
        for one in results
    ]
    return make_report(
        **{
            "run_id": "run-1",
            "trigger": "schedule",
            "profile": "quick",
            "results": known,
            "not_run": tuple(not_run),
            "devices": devices,
            "started_at": NOON,
            "finished_at": NOON,
            "duration_s": 1.0,
            **fields,
        }
    )


def everything(devices: tuple[Device, ...] = (CPU,), **fields: Any) -> list[Result]:
    """A result of every quick probe on each device that it needs."""
    return [
        result(spec.name, device, **fields)
        for spec in QUICK
        for device in (["cpu"] if spec.needs == "host" else [one.name for one in devices])
    ]


class FakeRunner:
    """Hands out reports; can hang, raise, or refuse to be cancelled, as told."""

    def __init__(self, devices: tuple[Device, ...] = (CPU,)) -> None:
        self.devices = devices
        self.restarts: Counter[str] = Counter()
        self.plans: list[tuple[str, ...]] = []
        self.only_on: list[dict[str, frozenset[str]]] = []
        self.timeouts: list[float] = []
        self.active = self.most_active = 0
        self.cancelled = 0
        self.hang = self.stubborn = False
        self.released = asyncio.Event()  # ends a hang
        self.events: tuple[Event, ...] = ()
        self.error: Exception | None = None
        self.status: Status = "pass"
        self.summary = ""  # of every result, in place of its own
        self.busy: frozenset[str] = frozenset()  # probes that find their devices in use
        self.busy_devices: frozenset[str] = frozenset()  # where they do; empty: on all
        self.verdicts: dict[str, tuple[Status, Reason]] = {}  # of probes that are not quick

    async def run(
        self, plan: Plan, settings: Settings, on_event: Callable[[Event], None] = lambda _: None
    ) -> Report:
        """One run, as told."""
        self.timeouts.append(settings.run.timeout)
        self.plans.append(tuple(spec.name for spec in plan.specs))
        self.only_on.append(dict(plan.only_on))
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            return await self._run(plan, on_event)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1

    async def _run(self, plan: Plan, on_event: Callable[[Event], None]) -> Report:
        names = {spec.name for spec in plan.specs}
        own = {"summary": self.summary} if self.summary else {}
        reason: Reason = "ok" if self.status == "pass" else "check_failed"
        results = [
            one
            for one in everything(self.devices, status=self.status, reason=reason, **own)
            if one.probe in names - self.busy
        ]
        results += [
            result(name, device.name, "skip", "gpu_busy")
            if device.name in (self.busy_devices or {device.name})
            else result(name, device.name)
            for name in sorted(names & self.busy)
            for device in self.devices
        ]
        results += [
            result(name, device.name, *verdict)
            for name, verdict in self.verdicts.items()
            if name in names
            for device in self.devices
        ]
        known = {device.name: device for device in (*self.devices, CPU)}
        results = [one for one in results if plan.includes(one.probe, known[one.device])]
        on_event(Event("importing"))
        for event in self.events:
            on_event(event)
        planned = tuple((one.probe, one.device) for one in results)
        on_event(Event("surveyed", devices=self.devices, planned=planned))
        if self.error is not None:
            raise self.error
        if self.hang:
            await self.released.wait()
        while self.stubborn:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.sleep(0)
        for one in results:
            on_event(Event("finished", one.probe, one.device, result=one))
        return report(results, self.devices)
