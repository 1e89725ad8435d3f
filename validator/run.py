"""One pass over a plan: one worker, a child a device, a result for every probe whatever happens."""

import asyncio
import json
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from pydantic import ValidationError

from probes.catalog import TORCH_VERSION, ProbeSpec
from probes.contract import Result
from validator import cgroup, devices, outcomes
from validator.plan import Event, Plan
from validator.report import CPU, Device, Environment, NotRun, Report, make_report
from validator.settings import Settings
from validator.spawn import WorkerProcess
from validator.supervisor import Child, Ended, Worker, WorkerLostError
from validator.workers import NoWorkerError, Workers

_START_S: Final = 10.0  # of a child, until it starts a probe or ends
_SURVEY_S: Final = 60.0  # cuInit of a node without persistence mode takes tens of seconds
_PRELOAD_S: Final = 60.0
_SHOWN_BYTES: Final = 80  # of a line that is no result
#: The name under which a survey that cannot be killed is remembered, in place of a device's.
SURVEY: Final = "survey"


@dataclass(frozen=True)
class HeldProcess:
    """A process that SIGKILL does not end, so that nothing is started on its device."""

    pid: int
    pidfd: int


#: One of `outcomes`: what became of a probe on a device, in a text.
_Outcome = Callable[..., Result]


class _Attempted:
    """A probe that a child has started: when, and what it told before its end."""

    def __init__(self, spec: ProbeSpec, device: Device) -> None:
        self.spec = spec
        self.device = device
        self.preliminary: Result | None = None
        self._began = time.monotonic()
        self._started_at = datetime.now(timezone.utc)

    def clock(self) -> dict[str, Any]:
        """The fields of a result that say when and how long."""
        return {
            "started_at": self._started_at,
            "duration_s": time.monotonic() - self._began,
        }


class Run:
    """One run. `go` once; `close` whatever became of it; then `report`."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        on_event: Callable[[Event], None],
        held: dict[str, HeldProcess],
        *,
        early: WorkerProcess | None,
        nice: int,
    ) -> None:
        """Prepare; `held` is the runner's own and is added to when a process cannot be killed."""
        self._plan = plan
        self._settings = settings
        self._on_event = on_event
        self._held = held
        import_s = self._timeout_s(TORCH_VERSION)
        self._workers = Workers(early, nice=nice, import_s=import_s, on_event=on_event)
        self._began = time.monotonic()
        self._started_at = datetime.now(timezone.utc)
        self._memory_kills = cgroup.memory_kills()
        self._cores = cgroup.cores()
        self._slots = asyncio.Semaphore(self._cores)  # children side by side
        self._environment: Environment | None = None
        self._devices: tuple[Device, ...] = ()
        self._planned = [(spec, CPU) for spec in plan.specs]  # until the devices are known
        self._results: dict[tuple[str, str], Result] = {}

    @property
    def restarts(self) -> Counter[str]:
        """How often the worker was started again, by reason."""
        return self._workers.restarts

    async def close(self) -> None:
        """End the worker and everything below it."""
        await self._workers.close()

    # ---- the flow

    async def go(self) -> None:
        """Run everything that is planned."""
        try:
            await self._workers.live()
        except NoWorkerError as error:
            self._nothing_runs(error)
            return
        host = [spec for spec in self._enabled() if spec.needs == "host"]
        on_host = asyncio.ensure_future(self._drive(CPU, host, threads=1))
        tasks: list[asyncio.Future[None]] = [on_host]
        try:
            await self._survey()
            tasks += self._start_devices()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _enabled(self) -> list[ProbeSpec]:
        return [spec for spec in self._plan.specs if self._is_enabled(spec)]

    def _is_enabled(self, spec: ProbeSpec) -> bool:
        own = self._settings.probes.get(spec.name)
        return own is None or own.enabled

    def _start_devices(self) -> list["asyncio.Future[None]"]:
        """One task a device, and the import of what some of their probes need."""
        specs = [spec for spec in self._enabled() if spec.needs == "device"]
        modules = tuple(dict.fromkeys(name for spec in specs for name in spec.preload))
        side_by_side = min(self._cores, len(self._devices) + 1)
        threads = self._settings.run.threads or max(1, self._cores // side_by_side)
        preload: asyncio.Future[None] = asyncio.ensure_future(self._preload(modules))
        return [
            preload,
            *(
                asyncio.ensure_future(self._run_device(device, specs, preload, threads))
                for device in self._devices
            ),
        ]

    async def _run_device(
        self,
        device: Device,
        specs: list[ProbeSpec],
        preload: "asyncio.Future[None]",
        threads: int,
    ) -> None:
        """The probes of one device in order, those that need a preload last."""
        if device.name in self._held:
            return
        runnable = []
        for spec in specs:
            if (spec.name, device.name) in self._results:  # decided already
                continue
            if why := devices.why_busy(spec, device):
                self._record(outcomes.busy(spec, device, why))
            else:
                runnable.append(spec)
        await self._drive(device, [spec for spec in runnable if not spec.preload], threads)
        later = [spec for spec in runnable if spec.preload]
        if later:
            await asyncio.wait({preload})
            await self._drive(device, later, threads)

    async def _preload(self, modules: tuple[str, ...]) -> None:
        if not modules:
            return
        try:
            worker = await self._workers.live()
            await worker.preload(modules, _PRELOAD_S)
        except WorkerLostError as lost:
            await self._workers.lose(worker, lost)  # its children import what they need themselves
        except NoWorkerError:
            return  # told by those who wanted to run

    def _nothing_runs(self, error: NoWorkerError) -> None:
        """Every planned probe's result when there is no worker."""
        if error.result is not None:
            self._planned = [(TORCH_VERSION, CPU)] + [
                (spec, device) for spec, device in self._planned if spec is not TORCH_VERSION
            ]
            self._record(error.result)
        for spec, device in self._planned:
            if (spec.name, device.name) in self._results:
                continue
            self._record(
                outcomes.dependency(spec, device)
                if error.result is not None
                else outcomes.broken(spec, device, str(error), log_tail=error.log_tail)
            )

    # ---- the devices

    async def _survey(self) -> None:
        """Find the devices in a child, and plan for them."""
        found: tuple[Device, ...] = ()
        if SURVEY not in self._held:
            answer = await self._take_survey()
            found = tuple(Device.model_validate(each) for each in answer.get("devices", ()))
            if "environment" in answer:
                self._environment = Environment.model_validate(answer["environment"])
        chosen, missing = devices.choose(self._settings.run.devices, found)
        strangers = tuple(Device(name=name, type=name.partition(":")[0]) for name in missing)
        planned = []
        for spec in self._plan.specs:
            on = (CPU,) if spec.needs == "host" else (*chosen, *strangers)
            planned += [(spec, device) for device in on]
        self._devices = chosen
        self._planned = planned
        pairs = tuple((spec.name, device.name) for spec, device in planned)
        self._on_event(Event("surveyed", devices=chosen, planned=pairs))
        present = ", ".join(device.name for device in (*found, CPU))
        for spec, device in planned:
            if not self._is_enabled(spec):
                self._record(outcomes.disabled(spec, device))
            elif device in strangers and spec.needs == "device":
                self._record(outcomes.no_such_device(spec, device, present))
            elif SURVEY in self._held and spec.name == "cuda_available":
                text = f"no list of the devices within {_SURVEY_S:g} s"
                self._record(outcomes.unkillable(spec, device, text))

    async def _take_survey(self) -> dict[str, Any]:
        """What `probes.survey` says; empty when it hung or died, as `cuda_available` then will."""
        try:
            worker = await self._workers.live()
        except NoWorkerError:
            return {}
        try:
            child = await worker.fork({"survey": True, "threads": 1})
            message = await child.next(time.monotonic() + _SURVEY_S)
            answer = json.loads(message)["survey"] if isinstance(message, bytes) else {}
            await self._end(worker, child, Device(name=SURVEY, type=SURVEY))
        except WorkerLostError as lost:
            await self._workers.lose(worker, lost)
            return {}
        found: dict[str, Any] = answer
        return found

    async def _end(self, worker: Worker, child: Child, device: Device) -> None:
        """Wait for a child that has said all; kill it if it lingers."""
        over = isinstance(await child.next(time.monotonic() + _START_S), Ended)
        if not over and not await worker.kill(child):
            self._abandon(worker, child, device)
            return
        await worker.reap(child)
        worker.forget(child)

    def _abandon(self, worker: Worker, child: Child, device: Device) -> None:
        pidfd = worker.abandon(child)
        self._held[device.name] = HeldProcess(child.pid, pidfd)
        text = f"process {child.pid} cannot be killed"
        self._on_event(Event("held", device=device.name, text=text))

    # ---- probes in children

    def _timeout_s(self, spec: ProbeSpec) -> float:
        own = self._settings.probes.get(spec.name)
        return own.timeout if own is not None and own.timeout is not None else spec.timeout_s

    def _limits(self, spec: ProbeSpec) -> dict[str, Any]:
        """A probe's limits: what the node promises, then the probe's own settings."""
        expect = self._settings.expect
        promised: dict[str, dict[str, Any]] = {
            "cuda_available": {"gpus": expect.gpus},
            "torch_version": {"torch": expect.torch},
        }
        own = self._settings.probes.get(spec.name)
        return {**promised.get(spec.name, {}), **(own.limits if own is not None else {})}

    async def _drive(self, device: Device, specs: list[ProbeSpec], threads: int) -> None:
        """Run probes on a device, in as many children as it takes."""
        remaining = list(specs)
        while remaining and device.name not in self._held:
            try:
                worker = await self._workers.live()
            except NoWorkerError as error:
                for spec in remaining:
                    self._record(outcomes.broken(spec, device, str(error), log_tail=error.log_tail))
                return
            request = {
                "probes": [
                    {
                        "name": spec.name,
                        "module": spec.module,
                        "timeout_s": self._timeout_s(spec),
                        "limits": self._limits(spec),
                    }
                    for spec in remaining
                ],
                "device": device.name,
                "gpu_uuid": device.uuid,
                "shared": bool(device.process_count),
                "threads": threads,
            }
            async with self._slots:
                try:
                    child = await worker.fork(request)
                    await self._watch(worker, child, device, remaining)
                except WorkerLostError as lost:
                    await self._workers.lose(worker, lost)

    async def _watch(
        self, worker: Worker, child: Child, device: Device, remaining: list[ProbeSpec]
    ) -> None:
        """Take a child's results until it ends or must be ended; what it ran leaves `remaining`."""
        before = len(remaining)
        attempted: _Attempted | None = None
        deadline = time.monotonic() + _START_S
        while isinstance(message := await child.next(deadline), bytes):
            told = _parsed(message)
            if attempted is None and remaining and told.get("start") == remaining[0].name:
                attempted = _Attempted(remaining[0], device)
                deadline = time.monotonic() + self._timeout_s(attempted.spec)
                self._on_event(Event("started", probe=attempted.spec.name, device=device.name))
                continue
            result = _result(told, attempted)
            if attempted is None or result is None:
                break
            if "preliminary" in told:
                attempted.preliminary = result
                continue
            self._record(_with_log(result, child))
            del remaining[0]
            attempted = None
            deadline = time.monotonic() + _START_S
        progressed = isinstance(message, Ended) and len(remaining) < before
        if attempted is None and remaining and not progressed:
            attempted = _Attempted(remaining[0], device)  # it must be told of something
        if isinstance(message, Ended):
            outcome, text = await self._ended(worker, child, message.partial)
        else:
            outcome, text = await self._put_down(worker, child, attempted, message)
        if attempted is not None:
            tail = child.log_tail(attempted.spec.name)
            result = outcome(attempted.spec, device, text, log_tail=tail, **attempted.clock())
            self._record(attempted.preliminary or result)
            del remaining[0]
        if outcome is outcomes.unkillable:
            self._abandon(worker, child, device)
        else:
            worker.forget(child)

    async def _ended(self, worker: Worker, child: Child, partial: bytes) -> tuple[_Outcome, str]:
        """What the end of a child means for the probe that it was at."""
        try:
            how = await worker.reap(child)
        except WorkerLostError as lost:
            await self._workers.lose(worker, lost)
            return outcomes.broken, str(lost)
        if how.signal == signal.SIGKILL and cgroup.memory_kills() > self._memory_kills:
            return outcomes.out_of_memory, str(how)
        if how.signal is not None:
            return outcomes.crashed, str(how)
        return outcomes.broken, f"{how} and left {'half a' if partial else 'no'} result"

    async def _put_down(
        self, worker: Worker, child: Child, attempted: _Attempted | None, message: bytes | None
    ) -> tuple[_Outcome, str]:
        """Kill a child that is late, or that talks nonsense; what that means for its probe."""
        killed = await worker.kill(child)
        if killed:
            try:
                await worker.reap(child)
            except WorkerLostError as lost:
                await self._workers.lose(worker, lost)
        if message is not None:
            shown = message[:_SHOWN_BYTES].decode(errors="replace")
            return outcomes.broken, f"wrote what is no result of this probe: {shown}"
        text = f"no result within {self._timeout_s(attempted.spec) if attempted else _START_S:g} s"
        return (outcomes.timed_out if killed else outcomes.unkillable), text

    # ---- what came of it

    def _record(self, result: Result) -> None:
        self._results[result.probe, result.device] = result
        event = Event("finished", probe=result.probe, device=result.device, result=result)
        self._on_event(event)

    def report(self) -> Report:
        """The report; a planned probe without a result got no chance."""
        keys = [(spec.name, device.name) for spec, device in self._planned]
        not_run = [
            NotRun(
                probe=probe,
                device=device,
                reason="device_held" if device in self._held else "run_timeout",
            )
            for probe, device in keys
            if (probe, device) not in self._results
        ]
        return make_report(
            run_id=uuid.uuid4().hex,
            trigger=self._plan.trigger,
            profile=self._plan.profile,
            results=[self._results[key] for key in keys if key in self._results],
            not_run=not_run,
            started_at=self._started_at,
            finished_at=datetime.now(timezone.utc),
            duration_s=time.monotonic() - self._began,
            environment=self._environment or self._workers.environment,
            devices=self._devices,
        )


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _result(told: dict[str, Any], attempted: _Attempted | None) -> Result | None:
    """The result in a message, if it is one of the probe that was started."""
    text = told.get("result", told.get("preliminary"))
    if attempted is None or not isinstance(text, str):
        return None
    try:
        result = Result.model_validate_json(text)
    except ValidationError:
        return None
    mine = (attempted.spec.name, attempted.device.name)
    return result if (result.probe, result.device) == mine else None


def _with_log(result: Result, child: Child) -> Result:
    """What was printed belongs to a result that is not good."""
    if result.status not in {"fail", "error"}:
        return result
    return result.model_copy(update={"log_tail": child.log_tail(result.probe)})
