"""Does every check fail when it must? The probes under each fault, on this node's own devices.

First the healthy control: all probes, and what injects faults without one; nothing may trip. Then
each fault on each device it applies to, in a forked child of the one worker that imported torch.
No report is made of it: what ran under a fault says nothing about the node.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from probes.catalog import AUTOGRAD, BY_NAME, CATALOG, TENSOR_OPS, TRAIN_EVAL
from probes.contract import COMPLETES, HEAVY, ProbeSpec, Result
from probes.faults.fault import Fault
from probes.faults.table import CONTROLS, FAULTS
from validator.engine import cgroup, devices, orphans
from validator.engine.job import Job, RunContext
from validator.engine.plan import Event, Plan, timeout_s
from validator.engine.run import Run
from validator.engine.spawn import CannotStartError, WorkerProcess, start_worker
from validator.engine.stopping import Stop, StoppedError, until_stopped
from validator.engine.supervisor import HeldProcess, WorkerLostError
from validator.engine.workers import NoWorkerError, Workers
from validator.report import CPU, Device, Report, Tool, host_name, revision
from validator.selftest.verdicts import (
    ABOUT_GRADIENTS,
    OF_GRADIENTS,
    RIVALS,
    SCORED,
    Selftest,
    Trial,
    make_trial,
    rivals,
    scores,
    summarize,
    tripped,
)
from validator.settings import Expect, ProbeSettings, Settings

#: Quick probes of many families.
_DEAR: Final = (TENSOR_OPS, TRAIN_EVAL, AUTOGRAD)

_PRELOAD_S: Final = 60.0
#: What a deadline on a GPU is longer: the start of a context, beside those of other trials.
_CONTEXT_S: Final = 10.0


class CannotRunError(Exception):
    """There was no worker, or no device, to inject faults on; the text says why."""


@dataclass(frozen=True)
class Options:
    """Which faults, and what hears of each trial: (trial, how many there are)."""

    probes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    on_trial: Callable[[Trial, int], None] = lambda _trial, _total: None
    timeout_s: float | None = None  # after which what was decided is all; None: no end


def fault_names() -> list[str]:
    """The names of all faults that can be injected."""
    return [fault.name for fault in FAULTS]


def choose(options: Options, known: Iterable[Fault] = FAULTS) -> tuple[Fault, ...]:
    """The faults that are asked for: by name, by their probes, or all but those of deep probes.

    What a deep probe does without a fault would take as long as all others together.
    """
    named = bool(options.probes or options.faults)
    return tuple(
        fault
        for fault in known
        if (named or not any(BY_NAME[name].profile == "deep" for name in fault.probes))
        and (not options.faults or fault.name in options.faults)
        and (not options.probes or set(options.probes) & set(fault.probes))
    )


async def run_selftest(
    settings: Settings, options: Options, early: WorkerProcess | None, stop: Stop
) -> Selftest:
    """Run the control, then every chosen fault; leaves no process, also when cancelled.

    Stopped, by `stop` or by the options' timeout, it keeps what was decided, and the other faults
    are `not_run`.

    Raises:
        CannotRunError: torch cannot be imported, nothing could be judged without a fault, or it
            was stopped before anything was decided.
    """
    orphans.adopt()
    before = orphans.children()
    held: dict[str, HeldProcess] = {}
    if options.timeout_s is not None:
        asyncio.get_running_loop().call_later(options.timeout_s, stop.expire)
    control = Run(_plan(options), settings, lambda _: None, held, early=early, nice=0)
    selftest = _Selftest(settings, options, control.workers, held)
    try:
        await until_stopped(asyncio.wait_for(control.execute(), settings.run.timeout), stop)
        return await selftest.run_trials(control.report(), stop)
    except StoppedError as error:
        raise CannotRunError(f"{stop.why or 'stopped'} before a fault was judged") from error
    except asyncio.TimeoutError as error:
        raise CannotRunError(f"the control did not end in {settings.run.timeout:g} s") from error
    finally:
        await control.close()
        spare = frozenset(process.pid for process in held.values())
        await orphans.sweep(spare=before | spare)


def _plan(options: Options) -> Plan:
    """The control's probes: all, or those of the chosen faults."""
    faults = choose(options)
    names = {probe for fault in faults for probe in fault.probes}
    everything = not (options.probes or options.faults)
    specs = tuple(
        spec for spec in CATALOG if spec.name in names or (everything and spec.profile != "deep")
    )
    return Plan(specs, "quick", "cli")


class _Selftest:
    """The trials of one selftest, side by side as far as cores and devices allow."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        workers: Workers,
        held: dict[str, HeldProcess],
    ) -> None:
        self._settings = settings
        self._options = options
        self._workers = workers
        self._held = held
        self._began = time.monotonic()
        self._started_at = datetime.now(timezone.utc)
        self._cores = asyncio.Semaphore(cgroup.cores())
        self._room: dict[str, asyncio.Semaphore] = {}  # for processes on an accelerator, by name
        #: (check, device) that does not apply without a fault either.
        self._inapplicable: set[tuple[str, str]] = set()
        self._total = 0
        #: Rules of others that raise an alarm without a fault: what they say counts for nothing.
        self._unfit: set[str] = set()

    async def run_trials(self, control: Report, stop: Stop) -> Selftest:
        """Judge the control, then run the trials, as many as there is time for."""
        elsewhere = all(fault.pretends for fault in choose(self._options))
        told = any(result.status in {"pass", "warn", "fail"} for result in control.results)
        if not told and not elsewhere:  # what faults of another machine trip is no matter of this
            raise CannotRunError(control.summary)
        if any(result.reason == "import_failed" for result in control.results):
            raise CannotRunError(control.summary)
        self._inapplicable = {
            (finding.id, result.device)
            for result in control.results
            for finding in result.findings
            if finding.status == "skip"
        }
        faults = choose(self._options)
        wanted = {spec.name for spec in _plan(self._options).specs}
        controls = [fault for fault in CONTROLS if wanted & set(fault.probes)]
        await until_stopped(self._preload((*controls, *faults)), stop)
        places = [(fault, device) for fault in controls for device in _devices(fault, control)]
        pairs = [(fault, device) for fault in faults for device in _devices(fault, control)]
        # Those that wait for a deadline first: they take no core.
        pairs.sort(key=lambda pair: not pair[0].timeout_s)
        self._total = len(pairs)
        injected = [asyncio.ensure_future(self._control(*place)) for place in places]
        work = [asyncio.ensure_future(self._trial(*pair)) for pair in pairs]
        stopped = False
        try:
            await until_stopped(asyncio.gather(*injected, *work), stop)
        except StoppedError:
            stopped = True
        alarms = [f"{check} on {one.device}" for one in control.results for check in tripped([one])]
        for one in injected:
            alarms += one.result() if _has_result(one) else []
        trials = [
            one.result() if _has_result(one) else _trial_without_chance(*pair)
            for one, pair in zip(work, pairs, strict=True)
        ]
        return self._result(control, tuple(dict.fromkeys(alarms)), trials, stopped=stopped)

    async def _preload(self, faults: Sequence[Fault]) -> None:
        """Have the worker import what the trials need, so that no child has to."""
        needed = [BY_NAME[name] for fault in faults for name in fault.probes]
        modules = [name for spec in needed for name in (*spec.preload, spec.module)]
        modules += [
            f"probes.faults.inject.{injection.function.partition('.')[0]}"
            for fault in faults
            for injection in fault.inject
        ]
        if any(fault.kind in (*SCORED, "control") for fault in faults):
            modules.append(RIVALS.module)
        try:
            worker = await self._workers.live()
            await worker.preload(tuple(dict.fromkeys(modules)), _PRELOAD_S)
        except (NoWorkerError, WorkerLostError) as error:
            raise CannotRunError(str(error)) from error

    async def _control(self, fault: Fault, device: Device) -> list[str]:
        """What tripped on a device under a fault that changes nothing."""
        specs = [BY_NAME[name] for name in fault.probes]
        results, _ = await self._under(
            fault, device, [*specs, *([RIVALS] if fault.where == "any" else [])]
        )
        self._unfit |= set(_alarms(fault, results))
        own = [result for result in results if result.probe != RIVALS.name]
        return [f"{check} under {fault.name} on {device.name}" for check in tripped(own)]

    async def _trial(self, fault: Fault, device: Device) -> Trial:
        """One fault on one device."""
        specs = [BY_NAME[name] for name in fault.probes]
        busy = [why for spec in specs if (why := devices.why_busy(spec, device))]
        expected = tuple(
            check
            for check in fault.trips
            if fault.pretends or (check, device.name) not in self._inapplicable
        )
        base: dict[str, Any] = {"fault": fault.name, "kind": fault.kind, "device": device.name}
        if busy:
            trial = Trial(**base, verdict="not_run", expected=fault.trips, text=busy[0])
        elif fault.trips and not expected:
            text = "what it must trip does not apply here"
            trial = Trial(**base, verdict="elsewhere", expected=fault.trips, text=text)
        elif fault.kind == "import":
            result, duration_s = await self._import_under_fault(fault)
            trial = make_trial(
                fault, device.name, expected, [result] if result else [], duration_s=duration_s
            )
        else:
            scored = [RIVALS] if fault.kind in SCORED else []
            results, duration_s = await self._under(fault, device, [*specs, *scored])
            alarms = _alarms(fault, results) if scored else None
            own = [result for result in results if result.probe != RIVALS.name]
            counts = _injection_counts(results)
            trial = make_trial(
                fault,
                device.name,
                expected,
                own,
                duration_s=duration_s,
                rivals=alarms,
                met=counts.get("met", 0) > 0,
                reached=not counts.get("operations") or counts["matched"] > 0,
            )
        self._options.on_trial(trial, self._total)
        return trial

    async def _under(
        self, fault: Fault, device: Device, specs: Sequence[ProbeSpec]
    ) -> tuple[list[Result], float]:
        """The results of some probes under a fault, and how long they took in seconds."""
        settings = self._expecting(fault, device)
        context = RunContext(
            settings,
            self._workers,
            self._held,
            _ignore_event,
            fault=fault.name,
            left_out=_left_out(fault, specs),
        )
        device = _as_used(device, fault)
        async with self._slot(fault, device):
            started_s = time.monotonic()
            await Job(device, list(specs), 1, context).run()
        return list(context.results.values()), time.monotonic() - started_s

    def _expecting(self, fault: Fault, device: Device) -> Settings:
        """Settings of the defaults, but for what the fault itself is about."""
        probes = {}
        if fault.timeout_s:
            deadline_s = fault.timeout_s + (0.0 if device.type == CPU.type else _CONTEXT_S)
            probes = {name: ProbeSettings(timeout=deadline_s) for name in fault.probes}
        gpus = "auto" if fault.promised_gpus is None else fault.promised_gpus
        # Devices that were asked for say where to inject; the pretended node is judged whole.
        run = self._settings.run.model_copy(update={"devices": ()})
        return self._settings.model_copy(
            update={"probes": probes, "expect": Expect(gpus=gpus), "run": run}
        )

    @contextlib.asynccontextmanager
    async def _slot(self, fault: Fault, device: Device) -> AsyncIterator[None]:
        """Room for one more trial: a core and memory of the device; faults that wait take none."""
        if fault.timeout_s:
            yield
            return
        async with contextlib.AsyncExitStack() as taken:
            if device.type != CPU.type and fault.where != "node":
                count = devices.side_by_side(CATALOG, device, cgroup.cores())
                room = self._room.setdefault(device.name, asyncio.Semaphore(count))
                await taken.enter_async_context(room)
            await taken.enter_async_context(self._cores)
            yield

    async def _import_under_fault(self, fault: Fault) -> tuple[Result | None, float]:
        """Import torch with the fault's files first; the result if that failed, and seconds."""
        deadline_s = fault.timeout_s or timeout_s(BY_NAME["torch_version"], self._settings)
        async with self._slot(fault, CPU):
            started_s = time.monotonic()
            with _fault_files(fault) as folder:
                try:
                    process = start_worker(before=folder)
                except CannotStartError as error:
                    raise CannotRunError(str(error)) from error
                workers = Workers(process, nice=0, import_s=deadline_s, on_event=_ignore_event)
                result = None
                try:
                    await workers.live()
                except NoWorkerError as error:
                    result = error.result
                finally:
                    await workers.close()
        if result is not None:
            result = result.model_copy(update={"fault": fault.name})
        return result, time.monotonic() - started_s

    def _result(
        self, control: Report, alarms: tuple[str, ...], trials: Sequence[Trial], *, stopped: bool
    ) -> Selftest:
        judged = [trial for trial in trials if trial.verdict in {"caught", "survived"}]
        if not judged and stopped:
            raise StoppedError
        if not judged:
            raise CannotRunError("no fault applies here: see `gpu-validator selftest --list`")
        survived = [trial for trial in judged if trial.verdict == "survived"]
        return Selftest(
            tool=Tool(revision=revision()),
            host=host_name(),
            started_at=self._started_at,
            duration_s=time.monotonic() - self._began,
            passed=not survived and not alarms and not stopped,
            complete=not stopped,
            summary=summarize(len(judged), len(survived), len(alarms))
            + (f"; stopped before {len(trials) - len(judged)} others" if stopped else ""),
            control=alarms,
            control_status=control.status,
            devices=tuple(dict.fromkeys(trial.device for trial in judged)),
            trials=tuple(trials),
            scores=scores(judged),
            rivals=rivals(judged, self._unfit),
        )


def _has_result(work: "asyncio.Future[Any]") -> bool:
    """Whether a work came to its end, and was not cut off."""
    return work.done() and not work.cancelled()


def _trial_without_chance(fault: Fault, device: Device) -> Trial:
    """A trial that got no chance."""
    return Trial(
        fault=fault.name,
        kind=fault.kind,
        device=device.name,
        verdict="not_run",
        expected=fault.trips,
        text="stopped before it was judged",
    )


def _ignore_event(_: Event) -> None:
    """Ignore an event: single results of a selftest are not shown."""


def _alarms(fault: Fault, results: Iterable[Result]) -> tuple[str, ...]:
    """Which rules of others raised an alarm under the same fault."""
    theirs = tripped(result for result in results if result.probe == RIVALS.name)
    names = [check.partition(".")[2] for check in theirs]
    if COMPLETES in names:  # what raises or hangs nobody overlooks
        names = list(RIVALS.checks)
    return tuple(name for name in names if _of_gradients(fault) or name != OF_GRADIENTS)


def _of_gradients(fault: Fault) -> bool:
    """Whether the rule for gradients is scored on it."""
    return not ABOUT_GRADIENTS.isdisjoint(fault.probes)


def _left_out(fault: Fault, specs: Iterable[ProbeSpec]) -> dict[str, list[str]]:
    """The checks of dear probes that the fault says nothing about: to make them takes seconds.

    And the rule for gradients, where it is not scored.
    """
    named = {*fault.trips, *fault.spares}
    left_out = {
        spec.name: [check for check in spec.checks if f"{spec.name}.{check}" not in named]
        for spec in specs
        if (spec.profile in HEAVY or spec in _DEAR) and named & set(spec.check_ids)
    }
    if not _of_gradients(fault):
        left_out[RIVALS.name] = [OF_GRADIENTS]
    return left_out


def _injection_counts(results: Iterable[Result]) -> dict[str, float]:
    """What the injection counted: operations seen, those it was about, those in others' work."""
    return {
        each.name: each.value
        for result in results
        for each in result.measurements
        if result.probe == RIVALS.name
    }


@contextlib.contextmanager
def _fault_files(fault: Fault) -> Iterator[Path]:
    """Write the fault's files into a temporary folder; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="gpu-validator-") as name:
        for path, content in fault.files.items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        yield Path(name)


def _devices(fault: Fault, control: Report) -> tuple[Device, ...]:
    """Where a fault is injected on this machine."""
    if fault.where == "node":
        return (_device_named(CPU, fault.device),)
    present = control.devices or (CPU,)
    if fault.where in {"host", "worker"}:
        return (CPU,)
    return tuple(
        device
        for device in present
        if fault.where == "any" or (device.type == "cpu") == (fault.where == "cpu")
    )


def _device_named(device: Device, name: str) -> Device:
    """A device that is not there, under the name of one that might be."""
    kind, _, index = name.partition(":")
    return device.model_copy(update={"name": name, "type": kind, "index": int(index or 0)})


def _as_used(device: Device, fault: Fault) -> Device:
    """A device with those whom the fault brings; nobody else, where nobody is known to be there."""
    count = 1 if fault.shared else device.process_count or 0
    return device.model_copy(update={"process_count": count})
