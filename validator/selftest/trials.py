"""Does every check fail when it must? The probes under each fault, on this node's own devices.

First the healthy control: all probes, and what injects faults without one; nothing may trip. Then
each fault on each device it applies to, in a forked child of the one worker that imported torch.
No report is made of it: what ran under a fault says nothing about the node.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Final

from probes.catalog import BY_NAME
from probes.faults.fault import Fault
from probes.faults.table import CONTROLS
from validator.engine import devices, orphans
from validator.engine.ends import HeldProcess, WorkerLostError
from validator.engine.run import Run
from validator.engine.spawn import CannotStartError, WorkerProcess
from validator.engine.stopping import Stop, StoppedError, until_stopped
from validator.engine.workers import NoWorkerError, Workers
from validator.report import Device, Report, Tool, host_name, revision
from validator.selftest.choice import Options, choose, devices_for, plan, why_too_old
from validator.selftest.injecting import Injecting
from validator.selftest.verdicts import (
    RIVALS,
    SCORED,
    Selftest,
    Trial,
    injection_counts,
    make_trial,
    rival_alarms,
    rivals,
    scores,
    summarize,
    tripped,
)
from validator.settings.model import Settings

_PRELOAD_S: Final = 60.0


class CannotRunError(Exception):
    """There was no worker, or no device, to inject faults on; the text says why."""


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
    control = Run(plan(options), settings, lambda _: None, held, early=early, nice=0)
    selftest = _Selftest(settings, options, control.workers, held)
    try:
        await until_stopped(asyncio.wait_for(control.execute(), settings.run.timeout), stop)
        return await selftest.run_trials(await control.report(), stop)
    except StoppedError as error:
        raise CannotRunError(f"{stop.why or 'stopped'} before a fault was judged") from error
    except asyncio.TimeoutError as error:
        raise CannotRunError(f"the control did not end in {settings.run.timeout:g} s") from error
    except CannotStartError as error:
        raise CannotRunError(str(error)) from error
    finally:
        await control.close()
        spare = frozenset(process.pid for process in held.values())
        await orphans.sweep(spare=before | spare)


class _Selftest:
    """The trials of one selftest."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        workers: Workers,
        held: dict[str, HeldProcess],
    ) -> None:
        self._options = options
        self._workers = workers
        self._injecting = Injecting(settings, workers, held)
        self._began = time.monotonic()
        self._started_at = datetime.now(timezone.utc)
        #: (check, device) that does not apply without a fault either.
        self._inapplicable: set[tuple[str, str]] = set()
        self._total = 0
        self._torch = ""  # its version
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
        self._torch = control.environment.torch or ""
        faults = choose(self._options)
        wanted = {spec.name for spec in plan(self._options).specs}
        controls = [fault for fault in CONTROLS if wanted & set(fault.probes)]
        await until_stopped(self._preload((*controls, *faults)), stop)
        places = [(fault, device) for fault in controls for device in devices_for(fault, control)]
        pairs = [(fault, device) for fault in faults for device in devices_for(fault, control)]
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
        results, _ = await self._injecting.under(
            fault, device, [*specs, *([RIVALS] if fault.where == "any" else [])]
        )
        self._unfit |= set(rival_alarms(fault, results))
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
        too_old = why_too_old(self._torch, fault)
        base: dict[str, Any] = {"fault": fault.name, "kind": fault.kind, "device": device.name}
        if busy:
            trial = Trial(**base, verdict="not_run", expected=fault.trips, text=busy[0])
        elif too_old:
            trial = Trial(**base, verdict="elsewhere", expected=fault.trips, text=too_old)
        elif fault.trips and not expected:
            text = "what it must trip does not apply here"
            trial = Trial(**base, verdict="elsewhere", expected=fault.trips, text=text)
        elif fault.kind == "import":
            result, duration_s = await self._injecting.import_torch_under(fault)
            trial = make_trial(
                fault, device.name, expected, [result] if result else [], duration_s=duration_s
            )
        else:
            scored = [RIVALS] if fault.kind in SCORED else []
            results, duration_s = await self._injecting.under(fault, device, [*specs, *scored])
            alarms = rival_alarms(fault, results) if scored else None
            own = [result for result in results if result.probe != RIVALS.name]
            counts = injection_counts(results)
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
