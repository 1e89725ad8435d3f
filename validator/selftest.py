"""Does every check fail when it must? The probes under each fault, on this node's own devices.

First the healthy control: all probes, and what injects faults without one; nothing may trip. Then
each fault on each device it applies to, in a forked child of the one worker that imported torch.
No report is made of it: what ran under a fault says nothing about the node.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AwareDatetime

from probes.catalog import BY_NAME, CATALOG, ProbeSpec
from probes.contract import Frozen, Reason, Result, Status
from probes.faults import CONTROLS, FAULTS, Fault
from validator import cgroup, devices, orphans
from validator.job import HeldProcess, Job, Surroundings
from validator.plan import Event, Plan, timeout_s
from validator.report import CPU, Device, Report, Tool, host_name, revision
from validator.run import Run
from validator.settings import Expect, ProbeSettings, Settings
from validator.spawn import CannotStartError, WorkerProcess, start_worker
from validator.supervisor import WorkerLostError
from validator.workers import NoWorkerError, Workers

#: How a fault went: `elsewhere`, what it must trip does not apply on that device.
Verdict = Literal["caught", "survived", "elsewhere", "not_run"]

#: Names in the score of the rules of others; kinds of faults that they are scored on.
_RIVALS: Final = ProbeSpec(
    name="rivals",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=60,
    memory_bytes=0,
    checks={
        "finite": "no NaN and no infinity in the results",
        "allclose_1e-2": "results within 1 % of a reference",
        "gpu_burn": "gpu-burn: later results within 1e-3 of the first",
        "assert_close": "torch.testing.assert_close with its defaults",
        "gradcheck": "torch.autograd.gradcheck with its defaults (on gradients alone)",
    },
    module="probes.faults.rivals",
)
_SCORED: Final = ("operation", "transfer")
_OF_GRADIENTS: Final = "gradcheck"

#: What the worker imports before it forks, so that no child has to.
_INJECTORS: Final = (
    *("calls", "gradients", "installations", "node", "operations", "processes", "sharing"),
    *("training", "transfers"),
)
_PRELOAD_S: Final = 60.0


class CannotRunError(Exception):
    """There was no worker, or no device, to inject faults on; the text says why."""


class Trial(Frozen):
    """One fault on one device, and what came of it."""

    fault: str
    kind: str
    device: str
    verdict: Verdict
    expected: tuple[str, ...]  # check ids that had to trip
    missed: tuple[str, ...] = ()  # those of them that did not
    also: tuple[str, ...] = ()  # check ids that tripped beside them
    text: str = ""  # why it survived or was not run
    rivals: tuple[str, ...] | None = None  # rules of others that raised an alarm; None: not asked
    duration_s: float = 0.0


class Score(Frozen):
    """How many faults were caught, of how many."""

    name: str
    caught: int
    faults: int


class Selftest(Frozen):
    """All trials of one selftest, and the scores that follow from them."""

    schema_version: int = 1
    tool: Tool = Tool()
    host: str
    started_at: AwareDatetime
    duration_s: float
    passed: bool
    summary: str
    control: tuple[str, ...]  # what tripped without a fault; empty when healthy
    control_status: Status
    devices: tuple[str, ...]
    trials: tuple[Trial, ...]
    scores: tuple[Score, ...]  # a probe, and "all"
    rivals: tuple[Score, ...]


@dataclass(frozen=True)
class Options:
    """Which faults, and what hears of each trial: (trial, how many there are)."""

    probes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    on_trial: Callable[[Trial, int], None] = lambda _trial, _total: None


def chosen(options: Options, known: Iterable[Fault] = FAULTS) -> tuple[Fault, ...]:
    """The faults that are asked for: by name, by their probes, or all."""
    return tuple(
        fault
        for fault in known
        if (not options.faults or fault.name in options.faults)
        and (not options.probes or set(options.probes) & set(fault.probes))
    )


async def run(settings: Settings, options: Options, early: WorkerProcess | None) -> Selftest:
    """Run the control, then every chosen fault; leaves no process, also when cancelled.

    Raises:
        CannotRunError: torch cannot be imported, or nothing could be judged without a fault.
    """
    orphans.adopt()
    before = orphans.children()
    held: dict[str, HeldProcess] = {}
    control = Run(_plan(options), settings, lambda _: None, held, early=early, nice=0)
    selftest = _Selftest(settings, options, control.workers, held)
    try:
        await asyncio.wait_for(control.go(), settings.run.timeout)
        return await selftest.go(control.report())
    except asyncio.TimeoutError as error:
        raise CannotRunError(f"the control did not end in {settings.run.timeout:g} s") from error
    finally:
        await control.close()
        spare = frozenset(process.pid for process in held.values())
        await orphans.sweep(spare=before | spare)


def _plan(options: Options) -> Plan:
    """The control's probes: all, or those of the chosen faults."""
    faults = chosen(options)
    names = {probe for fault in faults for probe in fault.probes}
    everything = not (options.probes or options.faults)
    specs = tuple(spec for spec in CATALOG if everything or spec.name in names)
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
        self._slots: dict[str, asyncio.Semaphore] = {}
        #: (check, device) that does not apply without a fault either.
        self._inapplicable: set[tuple[str, str]] = set()
        self._total = 0

    async def go(self, control: Report) -> Selftest:
        """Judge the control, then run the trials."""
        if not any(result.status in {"pass", "warn", "fail"} for result in control.results):
            raise CannotRunError(control.summary)
        if any(result.reason == "import_failed" for result in control.results):
            raise CannotRunError(control.summary)
        self._note(control.results)
        await self._preload()
        tripped = [f"{check} on {result.device}" for result in control.results for check in _tripped([result])]
        places = [(fault, device) for fault in CONTROLS for device in _devices(fault, control)]
        wanted = {spec.name for spec in _plan(self._options).specs}
        places = [place for place in places if wanted & set(place[0].probes)]
        for fault, device, results in await asyncio.gather(*(self._control(*place) for place in places)):
            self._note(results)
            tripped += [f"{check} under {fault.name} on {device.name}" for check in _tripped(results)]
        faults = chosen(self._options)
        pairs = [(fault, device) for fault in faults for device in _devices(fault, control)]
        # Those that wait for a deadline first: they take no core.
        pairs.sort(key=lambda pair: not pair[0].timeout_s)
        self._total = len(pairs)
        trials = await asyncio.gather(*(self._trial(*pair) for pair in pairs))
        return self._result(control, tuple(dict.fromkeys(tripped)), trials)

    def _note(self, results: Iterable[Result]) -> None:
        self._inapplicable |= {
            (finding.id, result.device)
            for result in results
            for finding in result.findings
            if finding.status == "skip"
        }

    async def _preload(self) -> None:
        modules = [name for spec in CATALOG for name in (*spec.preload, spec.module)]
        modules += [f"probes.faults.inject.{name}" for name in _INJECTORS]
        try:
            worker = await self._workers.live()
            await worker.preload((*modules, _RIVALS.module), _PRELOAD_S)
        except (NoWorkerError, WorkerLostError) as error:
            raise CannotRunError(str(error)) from error

    async def _control(self, fault: Fault, device: Device) -> tuple[Fault, Device, list[Result]]:
        results, _ = await self._under(fault, device, [BY_NAME[name] for name in fault.probes])
        return fault, device, results

    async def _trial(self, fault: Fault, device: Device) -> Trial:
        """One fault on one device."""
        specs = [BY_NAME[name] for name in fault.probes]
        busy = [why for spec in specs if (why := devices.why_busy(spec, device))]
        expected = tuple(c for c in fault.trips if (c, device.name) not in self._inapplicable)
        base: dict[str, Any] = {"fault": fault.name, "kind": fault.kind, "device": device.name}
        if busy:
            trial = Trial(**base, verdict="not_run", expected=fault.trips, text=busy[0])
        elif fault.trips and not expected:
            text = "what it must trip does not apply here"
            trial = Trial(**base, verdict="elsewhere", expected=fault.trips, text=text)
        elif fault.kind == "import":
            result, took = await self._imported(fault)
            trial = judge(fault, device.name, expected, [result] if result else [], duration_s=took)
        else:
            results, took = await self._under(fault, device, specs)
            alarms = await self._alarms(fault, device)
            trial = judge(
                fault, device.name, expected, results, duration_s=took, rivals=alarms
            )
        self._options.on_trial(trial, self._total)
        return trial

    async def _alarms(self, fault: Fault, device: Device) -> tuple[str, ...] | None:
        """Which rules of others raise an alarm, in a child of their own under the same fault."""
        if fault.kind not in _SCORED:
            return None
        results, _ = await self._under(fault, device, [_RIVALS])
        of_gradients = "autograd" in fault.probes
        names = [check.partition(".")[2] for check in _tripped(results)]
        if "completes" in names:  # it raised: nobody can overlook that
            names = list(_RIVALS.checks)
        return tuple(name for name in names if of_gradients or name != _OF_GRADIENTS)

    async def _under(
        self, fault: Fault, device: Device, specs: Sequence[ProbeSpec]
    ) -> tuple[list[Result], float]:
        """The results of some probes under a fault, and how long they took."""
        around = Surroundings(
            self._expecting(fault), self._workers, self._held, _quiet, fault=fault.name
        )
        if fault.shared:
            device = device.model_copy(update={"process_count": 1})
        async with self._slot(fault, device):
            begun = time.monotonic()
            # A job a probe: none of them inherits what another one did.
            for spec in specs:
                await Job(device, [spec], 1, around).drive()
        return list(around.results.values()), time.monotonic() - begun

    def _expecting(self, fault: Fault) -> Settings:
        """Settings of the defaults, but for what the fault itself is about."""
        probes = {}
        if fault.timeout_s:
            probes = {name: ProbeSettings(timeout=fault.timeout_s) for name in fault.probes}
        gpus = "auto" if fault.promised_gpus is None else fault.promised_gpus
        return self._settings.model_copy(
            update={"probes": probes, "expect": Expect(gpus=gpus)}
        )

    def _slot(self, fault: Fault, device: Device) -> contextlib.AbstractAsyncContextManager[Any]:
        """A core, or the device for oneself; nothing for those that only wait."""
        if fault.timeout_s:
            return contextlib.nullcontext()
        alone = device.type != "cpu" and fault.where != "node"
        name, count = (device.name, 1) if alone else (CPU.name, cgroup.cores())
        return self._slots.setdefault(name, asyncio.Semaphore(count))

    async def _imported(self, fault: Fault) -> tuple[Result | None, float]:
        """What a worker of its own says that finds the fault's modules before the real ones."""
        begun = time.monotonic()
        deadline_s = fault.timeout_s or timeout_s(BY_NAME["torch_version"], self._settings)
        async with self._slot(fault, CPU):
            with _written(fault) as folder:
                try:
                    process = start_worker(before=folder)
                except CannotStartError as error:
                    raise CannotRunError(str(error)) from error
                workers = Workers(process, nice=0, import_s=deadline_s, on_event=_quiet)
                result = None
                try:
                    await workers.live()
                except NoWorkerError as error:
                    result = error.result
                finally:
                    await workers.close()
        if result is not None:
            result = result.model_copy(update={"fault": fault.name})
        return result, time.monotonic() - begun

    def _result(
        self, control: Report, tripped: tuple[str, ...], trials: Sequence[Trial]
    ) -> Selftest:
        judged = [trial for trial in trials if trial.verdict in {"caught", "survived"}]
        if not judged:
            raise CannotRunError("no fault applies here: see `gpu-validator selftest --list`")
        survived = [trial for trial in judged if trial.verdict == "survived"]
        return Selftest(
            tool=Tool(revision=revision()),
            host=host_name(),
            started_at=self._started_at,
            duration_s=time.monotonic() - self._began,
            passed=not survived and not tripped,
            summary=_summary(len(judged), len(survived), len(tripped)),
            control=tripped,
            control_status=control.status,
            devices=tuple(dict.fromkeys(trial.device for trial in judged)),
            trials=tuple(trials),
            scores=_scores(judged),
            rivals=_rivals(judged),
        )


def _quiet(_: Event) -> None:
    """Nothing is told of single results."""


@contextlib.contextmanager
def _written(fault: Fault) -> Iterator[Path]:
    """A folder with the fault's files, as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="gpu-validator-") as name:
        for path, content in fault.files.items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        yield Path(name)


def _devices(fault: Fault, control: Report) -> tuple[Device, ...]:
    """Where a fault is injected on this machine."""
    if fault.where == "node":
        return (_named_as(CPU, fault.device),)
    present = control.devices or (CPU,)
    if fault.where in {"host", "worker"}:
        return (CPU,)
    return tuple(
        device
        for device in present
        if fault.where == "any" or (device.type == "cpu") == (fault.where == "cpu")
    )


def _named_as(device: Device, name: str) -> Device:
    """A device that is not there, under the name of one that might be."""
    kind, _, index = name.partition(":")
    return device.model_copy(update={"name": name, "type": kind, "index": int(index or 0)})


def _tripped(results: Iterable[Result]) -> list[str]:
    """Ids of the checks that failed, warned or were errors."""
    return [
        finding.id
        for result in results
        for finding in result.findings
        if finding.status in {"fail", "warn", "error"}
    ]


def judge(
    fault: Fault,
    device: str,
    expected: tuple[str, ...],
    results: Sequence[Result],
    *,
    duration_s: float = 0.0,
    rivals: tuple[str, ...] | None = None,
) -> Trial:
    """Caught, when each check that must trip did, none that must not, for the right reason."""
    tripped = _tripped(results)
    missed = tuple(check for check in expected if check not in tripped)
    blamed = [check for check in fault.spares if check in tripped]
    reasons: list[Reason] = [result.reason for result in results]
    text = ""
    if missed:
        text = f"not tripped: {', '.join(missed)}"
    elif blamed:
        text = f"tripped, and must not: {', '.join(blamed)}"
    elif fault.reason and fault.reason not in reasons:
        text = f"reason {', '.join(reasons) or 'none'} where {fault.reason} is right"
    return Trial(
        fault=fault.name,
        kind=fault.kind,
        device=device,
        verdict="survived" if text else "caught",
        expected=expected,
        missed=missed,
        also=tuple(check for check in dict.fromkeys(tripped) if check not in expected),
        text=text,
        rivals=rivals,
        duration_s=duration_s,
    )


def _scores(judged: Sequence[Trial]) -> tuple[Score, ...]:
    """A probe's faults are those that name a check of it; then all."""
    scores = []
    for name in (*BY_NAME, "all"):
        own = [
            trial
            for trial in judged
            if name == "all" or any(check.startswith(f"{name}.") for check in _named(trial))
        ]
        if own:
            caught = sum(trial.verdict == "caught" for trial in own)
            scores.append(Score(name=name, caught=caught, faults=len(own)))
    return tuple(scores)


def _named(trial: Trial) -> tuple[str, ...]:
    """The checks that a trial is about."""
    fault = next(fault for fault in FAULTS if fault.name == trial.fault)
    return trial.expected or fault.spares


def _rivals(judged: Sequence[Trial]) -> tuple[Score, ...]:
    """Our checks and the rules of others on the same faults."""
    asked = [trial for trial in judged if trial.rivals is not None]
    if not asked:
        return ()
    ours = sum(trial.verdict == "caught" for trial in asked)
    scores = [Score(name="gpu-validator", caught=ours, faults=len(asked))]
    for rule in _RIVALS.checks:
        rows = asked
        if rule == _OF_GRADIENTS:
            rows = [t for t in asked if any(c.startswith("autograd.") for c in t.expected)]
        caught = sum(rule in (trial.rivals or ()) for trial in rows)
        if rows:
            scores.append(Score(name=rule, caught=caught, faults=len(rows)))
    return tuple(scores)


def _summary(faults: int, survived: int, tripped: int) -> str:
    """One line: how many were caught, and whether the control was quiet."""
    line = f"{faults - survived} of {faults} faults caught"
    if tripped:
        line += f"; the healthy control raised {tripped}"
    return line
