"""One pass over a plan: a child a device, a result for every probe whatever happens.

One worker imports torch. What needs no torch runs in one that does not, beside that import.
"""

import asyncio
import json
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from probes.catalog import CUDA_AVAILABLE, TELEMETRY, TORCH_VERSION
from probes.contract import ProbeSpec, Result
from validator.engine import devices, outcomes
from validator.engine.causes import leaving_out_consequences
from validator.engine.child import Child
from validator.engine.clock import now
from validator.engine.context import RunContext
from validator.engine.ends import ChildEnded, HeldProcess, WorkerLostError
from validator.engine.held_up import Progress
from validator.engine.job import START_S, Job
from validator.engine.plan import Event, Plan, is_enabled, timeout_s
from validator.engine.siblings import comparing
from validator.engine.spawn import WorkerProcess
from validator.engine.supervisor import Worker
from validator.engine.tenants import Tenants
from validator.engine.timeline import Timeline
from validator.engine.watch import BoardWatch
from validator.engine.workers import NoWorkerError, Workers
from validator.piecewise import in_pieces
from validator.report import CPU, Device, Environment, NotRun, NotRunReason, Report, make_report
from validator.settings.model import Settings

_SURVEY_S: Final = 60.0  # cuInit of a node without persistence mode takes tens of seconds
_PRELOAD_S: Final = 60.0
#: The name under which a survey that cannot be killed is remembered, in place of a device's.
_SURVEY: Final = "survey"

#: Of a watch, until it can tell that somebody is there.
_ANSWERS: Final = 2

#: Heavy probes side by side on one device: with more, each takes longer by as much.
_ROWS: Final = 4


class Run:
    """One run: call `execute` once, `close` in any case, then `report`."""

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
        """Create it; a device whose process cannot be killed goes into `held`, the runner's own."""
        import_s = timeout_s(TORCH_VERSION, settings)
        self._plan = plan
        self._settings = settings
        #: From the start of the worker, which the command does before its other work.
        timeline = Timeline(time.monotonic() if early is None else early.started_s)
        bare = early is not None and early.bare
        self._workers = Workers(
            None if bare else early,
            nice=nice,
            import_s=import_s,
            on_event=on_event,
            timeline=timeline,
        )
        self._bare_workers = Workers(
            early if bare else None,
            nice=nice,
            on_event=on_event,
            bare=True,
            timeline=timeline,
        )
        self._tenants = Tenants(self._bare_workers, held, on_event, gives_way=plan.gives_way)
        self._context = RunContext(
            settings,
            self._workers,
            held,
            on_event,
            tenants=self._tenants,
            starts_until_s=plan.starts_until_s,
        )
        #: Of each probe without torch its own: what hangs there says nothing about the others.
        self._bare = {
            spec.name: RunContext(
                settings,
                self._bare_workers,
                held,
                on_event,
                results=self._context.results,
                place=f" of {spec.name}",
                tenants=self._tenants,
            )
            for spec in plan.specs
            if not spec.needs_torch
        }
        self._began = timeline.began_s
        before_s = time.monotonic() - self._began
        self._started_at = datetime.now(timezone.utc) - timedelta(seconds=before_s)
        self._environment: Environment | None = None
        self._devices: tuple[Device, ...] = ()
        #: For devices that were asked for and are not listed, of which cuda_available tells.
        self._cpu_stands_in = False
        self._planned = [(spec, CPU) for spec in plan.specs]  # until the devices are known

    @property
    def workers(self) -> Workers:
        """The run's worker with torch, for whoever goes on with it before `close`."""
        return self._workers

    @property
    def restarts(self) -> Counter[str]:
        """How often the worker was started again, by reason."""
        return self._workers.restarts + self._bare_workers.restarts

    async def close(self) -> None:
        """End the worker and everything below it."""
        await asyncio.gather(self._workers.close(), self._bare_workers.close())

    async def execute(self) -> None:
        """Run everything that is planned."""
        tasks = [
            asyncio.ensure_future(Job(CPU, [spec], 1, self._bare[spec.name]).run())
            for spec in self._enabled_specs()
            if not spec.needs_torch
        ]
        watch = self._start_watch()
        try:
            if self._needs_torch:
                await self._execute_with_torch()
            else:
                await self._workers.close()  # one that imports torch for nothing
                self._announce()
                self._record_disabled()
            await asyncio.gather(*tasks)
            if watch is not None:
                await watch.end(self._context)
        finally:
            for task in tasks:
                task.cancel()
            if watch is not None:
                watch.cancel()

    def _start_watch(self) -> BoardWatch | None:
        """Look at the boards while heavy probes run, beside the look before them."""
        specs = self._enabled_specs()
        if TELEMETRY not in specs or not any(spec.is_heavy for spec in specs):
            return None
        return BoardWatch(self._settings, self._bare_workers, self._context.held)

    async def _execute_with_torch(self) -> None:
        """Run what needs torch."""
        try:
            await self._workers.live()
        except NoWorkerError as error:
            self._nothing_runs(error)
            return
        host = [spec for spec in self._enabled_specs() if spec.needs == "host" and spec.needs_torch]
        # First: what is planned on the devices waits for it.
        survey = asyncio.ensure_future(self._survey())
        tasks: list[asyncio.Future[Any]] = [survey]
        tasks.append(asyncio.ensure_future(Job(CPU, host, 1, self._context).run()))
        try:
            self._plan_devices(await survey)
            tasks += self._start_devices()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def report(self, cut_off: NotRunReason = "run_timeout") -> Report:
        """The report; a planned probe without a result got no chance, for the reason given."""
        results = self._context.results
        keys = [(spec.name, device.name) for spec, device in self._planned]
        not_run = [
            NotRun(probe=probe, device=device, reason=self._why_not(probe, device) or cut_off)
            for probe, device in keys
            if (probe, device) not in results
        ]
        found = [results[key] for key in keys if key in results]
        found = await in_pieces(comparing(found, self._devices))
        found = await in_pieces(leaving_out_consequences(found))
        return make_report(
            run_id=uuid.uuid4().hex,
            trigger=self._plan.trigger,
            profile=self._plan.profile,
            results=found,
            not_run=not_run,
            started_at=self._started_at,
            finished_at=datetime.now(timezone.utc),
            duration_s=time.monotonic() - self._began,
            environment=self._environment
            or (self._workers if self._needs_torch else self._bare_workers).environment,
            devices=self._devices,
            timings=self._workers.timeline.steps if self._settings.run.timings else (),
        )

    def _why_not(self, probe: str, device: str) -> NotRunReason | None:
        """What is known of a device on which nothing more of a probe was started."""
        context = self._bare.get(probe, self._context)
        if context.is_held(device):
            return "device_held"
        return "device_hangs" if context.hangs.is_given_up(device) else None

    # ---- the probes

    @property
    def _needs_torch(self) -> bool:
        """Whether anything that is to run needs torch."""
        return any(spec.needs_torch for spec in self._enabled_specs())

    def _record_disabled(self) -> None:
        """Record every planned probe that is switched off."""
        for spec, device in self._planned:
            if not is_enabled(spec, self._settings):
                self._context.record(outcomes.disabled(spec, device))

    def _enabled_specs(self) -> list[ProbeSpec]:
        return [spec for spec in self._plan.specs if is_enabled(spec, self._settings)]

    def _nothing_runs(self, error: NoWorkerError) -> None:
        """Every planned probe's result when there is no worker."""
        if error.result is not None:
            self._planned = [(TORCH_VERSION, CPU)] + [
                (spec, device) for spec, device in self._planned if spec is not TORCH_VERSION
            ]
            self._context.record(error.result)
        self._record_disabled()
        for spec, device in self._planned:
            if not spec.needs_torch or (spec.name, device.name) in self._context.results:
                continue
            self._context.record(
                outcomes.dependency(spec, device, error.result)
                if error.result is not None
                else outcomes.broken(spec, device, str(error), log_tail=error.log_tail)
            )

    def _start_devices(self) -> list["asyncio.Future[None]"]:
        """One task a device, and the import of what some of their probes need."""
        specs = [spec for spec in self._enabled_specs() if spec.needs == "device"]
        children = 1  # the host's
        for device in self._devices:
            children += max(len(self._parts(device, specs)), self._rows(device, specs))
        side_by_side = min(self._context.cores, children)
        threads = self._settings.run.threads or max(1, self._context.cores // side_by_side)
        ready = asyncio.Event()
        tasks: list[asyncio.Future[None]] = []
        for device in self._devices:
            tasks += self._start_device(device, specs, ready, threads)
        if self._cpu_stands_in and CPU not in self._devices:
            tasks += self._start_device(CPU, [CUDA_AVAILABLE], ready, threads)
        modules = tuple(dict.fromkeys(name for spec in specs for name in spec.preload))
        # The import comes last: the worker forks nothing while it imports.
        return [*tasks, asyncio.ensure_future(self._preload(modules, ready))]

    def _start_device(
        self, device: Device, specs: list[ProbeSpec], ready: asyncio.Event, threads: int
    ) -> list["asyncio.Future[None]"]:
        """The probes of one device: the light ones at once, and after them the heavy ones."""
        runnable, waiting = [], {}
        for spec in specs:
            decided = (spec.name, device.name) in self._context.results
            if decided or not self._plan.includes(spec.name, device):
                continue
            why = devices.why_busy(spec, device, gives_way=self._plan.gives_way)
            if why and not (self._may_be_left(device) and spec.is_heavy):
                self._context.record(outcomes.busy(spec, device, why))
                continue
            runnable.append(spec)
            if why:
                waiting[spec.name] = why
        light = [
            asyncio.ensure_future(Job(device, part, threads, self._context).run())
            for part in self._parts(device, runnable)
        ]
        heavy = self._run_heavy(device, runnable, waiting, light, ready, threads)
        return [*light, asyncio.ensure_future(heavy)]

    def _may_be_left(self, device: Device) -> bool:
        """Whether those who were on a device before the run may be seen to leave it."""
        seen = bool(device.process_count) and self._tenants.can_watch(device)
        return seen and self._plan.gives_way

    async def _run_heavy(
        self,
        device: Device,
        specs: list[ProbeSpec],
        waiting: Mapping[str, str],
        light: Sequence["asyncio.Future[None]"],
        ready: asyncio.Event,
        threads: int,
    ) -> None:
        """The heavy probes of one device when the light ones are over, in rows side by side.

        In a row one follows another, each in a process of its own; those that need the preload
        wait for it. Those that leave no memory for others follow, one at a time. What waits for
        others to leave the device, by name with who they are, is busy where they stay.
        """
        await asyncio.gather(*light)
        heavy = [spec for spec in specs if spec.is_heavy]
        if heavy:
            async with self._tenants.watching(device):
                if waiting and await self._tenants.wait_until_left(device, after=_ANSWERS):
                    for spec in heavy:
                        if why := waiting.get(spec.name):
                            self._context.record(outcomes.busy(spec, device, why))
                    heavy = [spec for spec in heavy if spec.name not in waiting]
                await self._run_in_rows(device, heavy, ready, threads)

    async def _run_in_rows(
        self, device: Device, heavy: list[ProbeSpec], ready: asyncio.Event, threads: int
    ) -> None:
        """Run the heavy probes of one device."""
        beside = [spec for spec in heavy if not spec.alone]
        waiting = deque(sorted(beside, key=lambda spec: bool(spec.preload)))
        rows = self._rows(device, beside)

        async def row(name: str) -> None:
            while waiting:
                spec = waiting.popleft()
                if spec.preload:
                    await ready.wait()
                job = Job(device, [spec], threads, self._context, row=name, alone=rows == 1)
                await job.run()

        tasks = [asyncio.ensure_future(row(f"row {number}")) for number in range(rows)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        waiting.extend(spec for spec in heavy if spec.alone)
        rows = 1
        await row("alone")

    def _parts(self, device: Device, specs: Sequence[ProbeSpec]) -> list[list[ProbeSpec]]:
        """The light probes in their order, as they run side by side on a device.

        One process on a GPU; on the CPU a part a core of about as many probes each.
        """
        light = [spec for spec in specs if not spec.is_heavy]
        count = min(self._context.cores, len(light)) if device.type == CPU.type else 1
        size = -(-len(light) // (count or 1)) or 1
        return [light[start : start + size] for start in range(0, len(light), size)]

    def _rows(self, device: Device, specs: Sequence[ProbeSpec]) -> int:
        """How many heavy probes run side by side on a device, at least 1.

        No more than its share of the cores, and than its free memory has room for.
        """
        heavy = [spec for spec in specs if spec.is_heavy]
        cores = max(1, self._context.cores // max(1, len(self._devices)))
        fitting = devices.side_by_side(heavy, device, cores)
        return max(1, min(fitting, len(heavy), _ROWS))

    async def _preload(self, modules: tuple[str, ...], ready: asyncio.Event) -> None:
        try:
            if modules:
                worker = await self._workers.live()
                with self._workers.timeline.step("import for later probes"):
                    await worker.preload(modules, _PRELOAD_S)
        except WorkerLostError as lost:
            await self._workers.lose(worker, lost)  # its children import what they need themselves
        except NoWorkerError:
            return  # told by those who want to run
        finally:
            ready.set()

    # ---- the devices

    def _announce(self) -> None:
        """Tell what is planned where, now that this is known."""
        pairs = tuple((spec.name, device.name) for spec, device in self._planned)
        self._context.on_event(Event("surveyed", devices=self._devices, planned=pairs))

    def _plan_devices(self, answer: dict[str, Any]) -> None:
        """Plan for the devices that were found, and decide what must not run."""
        found = tuple(Device.model_validate(each) for each in answer.get("devices", ()))
        if "environment" in answer:
            self._environment = Environment.model_validate(answer["environment"])
        chosen, missing = devices.choose(self._settings.run.devices, found)
        absent_devices = tuple(devices.absent(name) for name in missing)
        self._devices = chosen
        # Where no device is listed, cuda_available looks for the cause in the CPU's place.
        self._cpu_stands_in = (
            bool(absent_devices) and not found and CUDA_AVAILABLE in self._enabled_specs()
        )
        self._planned = [
            pair for spec in self._plan.specs for pair in self._planned_pairs(spec, absent_devices)
        ]
        self._announce()
        self._record_disabled()
        listed = "devices" in answer
        for spec, device in self._planned:
            if not is_enabled(spec, self._settings):
                continue
            if device in absent_devices:
                self._context.record(self._result_of_absent(spec, device, found, listed=listed))
            elif _SURVEY in self._context.held and spec.name == "cuda_available":
                text = f"no list of the devices within {_SURVEY_S:g} s"
                obstacle = self._context.held[_SURVEY].obstacle
                told = outcomes.unkillable(spec, device, text)
                if obstacle:
                    told = outcomes.not_ended(spec, device, f"{text}: {obstacle}")
                self._context.record(told)

    def _planned_pairs(
        self, spec: ProbeSpec, absent_devices: tuple[Device, ...]
    ) -> list[tuple[ProbeSpec, Device]]:
        """Where a probe is planned: on the host, on each chosen device and each that is missing."""
        if spec.needs == "host":
            return [(spec, CPU)]
        if spec is CUDA_AVAILABLE and self._cpu_stands_in:
            absent_devices = () if CPU in self._devices else (CPU,)
        return [
            (spec, device)
            for device in (*self._devices, *absent_devices)
            if self._plan.includes(spec.name, device)
        ]

    def _result_of_absent(
        self, spec: ProbeSpec, device: Device, found: tuple[Device, ...], *, listed: bool
    ) -> Result:
        """What is said of a device that was asked for and is not among those found.

        Told once: by `cuda_available` where that is planned, else by the first probe on a device.
        """
        reporter = next(each for each in self._enabled_specs() if each.needs == "device")
        if CUDA_AVAILABLE in self._enabled_specs():
            reporter = CUDA_AVAILABLE
        present = ", ".join(each.name for each in (*found, CPU))
        unclear = devices.is_ambiguous(device.name, found)
        if unclear or not devices.may_be_accelerator(device.name):
            return outcomes.no_name_of_a_device(spec, device, present)
        if not listed:
            return outcomes.not_listed(spec, device)
        if self._cpu_stands_in or spec is not reporter:
            return outcomes.not_here(spec, device, reporter.name)
        return outcomes.no_such_device(spec, device, present)

    async def _survey(self) -> dict[str, Any]:
        """What `probes.node.survey` says in a child of its own.

        Empty when that hung or died; then `cuda_available` will do the same, and be told of.
        """
        if _SURVEY in self._context.held:
            return {}
        answer: dict[str, Any] = {}
        with self._workers.timeline.step("survey of the devices"):
            try:
                worker = await self._workers.live()
                child = await worker.fork({"survey": True, "threads": 1})
                progress = Progress(child.pid)
                message = await child.next(now() + _SURVEY_S)
                over = isinstance(message, ChildEnded)
                if isinstance(message, bytes):
                    answer = json.loads(message)["survey"]
                    over = isinstance(await child.next(now() + START_S), ChildEnded)
                await self._end(worker, child, progress, over=over)
            except WorkerLostError as lost:
                await self._workers.lose(worker, lost)
            except NoWorkerError:
                return {}  # told by those who want to run
        return answer

    async def _end(self, worker: Worker, child: Child, progress: Progress, *, over: bool) -> None:
        """Reap the survey's child; kill it before if it lingers or hangs."""
        obstacle = "" if over else progress.obstacle()
        if over or await worker.kill(child):
            await worker.reap(child)
            worker.forget(child)
        else:
            self._context.abandon(worker, child, _SURVEY, obstacle)
