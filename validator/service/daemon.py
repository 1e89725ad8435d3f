"""The daemon: one asyncio loop that holds schedule, runs and HTTP server.

It never touches a driver and never waits without a bound, so `/metrics` answers while a run hangs.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

from probes.catalog import BY_NAME, TELEMETRY
from probes.contract import Result
from validator import profiles
from validator.engine import clock
from validator.engine.plan import (
    Event,
    Plan,
    is_enabled,
    make_plan,
    refuse_nothing,
    schedule_note,
)
from validator.engine.runner import Runner
from validator.in_time import ANSWER_S
from validator.piecewise import in_pieces
from validator.report import CPU, Report, Tool, full_summary, in_json, revision
from validator.service import failedfile, logs
from validator.service.api import ProbeState
from validator.service.bad import bad_findings
from validator.service.document import Document
from validator.service.latest import Latest, Readiness, slimmed
from validator.service.metrics import Exposition, Form, Shown, families
from validator.service.nodefiles import NodeFiles
from validator.service.probestates import probe_states, timeout_s
from validator.service.rereading import Rereading
from validator.service.schedule import Schedule, Timing, timings
from validator.service.token import token_in_time, token_of
from validator.settings.model import Settings
from validator.settings.values import SettingsError

#: What a run may take beyond its own deadline before the daemon is called stuck.
_RUN_GRACE_S: Final = 30.0

#: A probe this late, with no run going on, was forgotten.
_LATE_S: Final = 60.0


#: A daemon's probes yield to the node's own work.
_NICE: Final = 5


#: Settings of the server that need no restart.
_READ_AGAIN: Final = frozenset({"token_file", "socket_owner"})


class Runs(Protocol):
    """What the daemon asks of a runner."""

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often a worker was started again, by reason."""

    async def run(
        self, plan: Plan, settings: Settings, on_event: Callable[[Event], None] = ...
    ) -> Report:
        """Run a plan; cancelled, leave no process."""


class _Read(NamedTuple):
    """Settings that were read again, and what follows from them."""

    settings: Settings
    table: dict[str, Timing]
    token: bytes | None
    kept: failedfile.Kept  # what is at the path of the standing fails, where that is new


class Daemon:
    """Holds settings, schedule and latest results; answers the HTTP interface; runs what is due."""

    def __init__(
        self,
        settings: Settings,
        *,
        runner: Runs | None = None,
        plan: Callable[..., Plan] = make_plan,
        monotonic: Callable[[], float] | None = None,
        reload: Callable[[], Settings] | None = None,
    ) -> None:
        """Create it from settings that are right; `reload` reads them again.

        `monotonic` counts all seconds; without it ages and due times count a suspension as well,
        and what a run takes does not.

        Raises:
            SettingsError: a timetable or a selection that cannot be.
        """
        self._runner: Runs = Runner(nice=_NICE) if runner is None else runner
        self._plan, self._monotonic = plan, monotonic or time.monotonic
        lasting = monotonic or clock.boottime
        self._rereading = (
            None if reload is None else Rereading(lambda: self._read(reload()), self._monotonic)
        )
        self._log = logs.log()
        self._settings = settings
        self._token = token_in_time(settings.web)
        self._latest = Latest(lasting)
        self._schedule = Schedule(self._table(settings), monotonic=lasting)
        self._exposition = Exposition(self._families, monotonic=self._monotonic)
        self._merged = Document(in_json)
        self._bad = Document(bad_findings)
        self._version = -1
        self._files = NodeFiles(settings.files, self._latest, self._monotonic)
        self._dropped = 0  # lines of the log
        self._run_started_s: float | None = None
        self._run_limit_s = 0.0
        self._running: tuple[str, ...] = ()
        self._partly: frozenset[str] = frozenset()  # of them those that run on some devices alone
        self._work = asyncio.Event()
        self._limit()
        if (path := settings.files.failed) is not None:
            self._files.restore(failedfile.read(path, ANSWER_S))
        self._tell_fails()
        self._refresh()

    # -- settings ---------------------------------------------------------------------------

    def _table(self, settings: Settings) -> dict[str, Timing]:
        plan = self._plan(settings, "schedule")
        refuse_nothing(plan)
        return timings(settings, plan.specs)

    def _limit(self) -> None:
        oldest = self._settings.ready.max_age
        limits = {
            name: _stale_after_s(name, timing, oldest)
            for name, timing in self._schedule.timings.items()
        }
        self._lasts_s = min(limits.values(), default=0.0)
        self._latest.limit(limits, filter(self._is_on, limits))

    def _tell_fails(self) -> None:
        """Say which fails of before stand, and which have lost their device."""
        while self._latest.stood:
            one = self._latest.stood.pop(0)
            since = one.started_at.isoformat()
            self._log.warning("fail_stands", probe=one.probe, device=one.device, since=since)
        while self._latest.gone:
            one = self._latest.gone.pop(0)
            known = {"probe": one.probe, "device": one.device, "gpu_uuid": one.gpu_uuid}
            if one.gpu_uuid is None:
                self._log.warning("fail_ended", **known, why="this device is not there any more")
            else:
                why = "no run lists this GPU now; the fail stands again when one does"
                self._log.warning("fail_waits", **known, why=why)

    def _is_on(self, probe: str) -> bool:
        return is_enabled(BY_NAME[probe], self._settings)

    def _read(self, settings: Settings) -> _Read:
        path, is_new = settings.files.failed, settings.files.failed != self._settings.files.failed
        kept = failedfile.read(path, ANSWER_S) if path is not None and is_new else failedfile.Kept()
        return _Read(settings, self._table(settings), token_of(settings.web), kept)

    def reload(self) -> None:
        """Read the settings again, in a thread; a later `tick` takes them over."""
        if self._rereading is not None:
            self._rereading.ask()

    def take_settings(self) -> bool:
        """Take over what was read again; bad settings are refused, and the old ones stay.

        Returns whether there is more to come.
        """
        if self._rereading is None:
            return False
        try:
            read = self._rereading.take()
        except TimeoutError as error:
            self._log.error("config_unread", error=f"{error}: the old settings stay until it comes")
        except SettingsError as error:
            self._log.error("config_refused", error=str(error))
        except Exception as error:  # noqa: BLE001 - of no memory, or ours: the old ones still hold
            self._log.error("config_refused", error=f"{type(error).__name__}: {error}")
        else:
            if read is not None:
                self._adopt(*read)
        return self._rereading.is_pending

    def _adopt(
        self,
        settings: Settings,
        table: dict[str, Timing],
        token: bytes | None,
        kept: failedfile.Kept,
    ) -> None:
        logs.configure(settings.log.level, settings.log.format)
        tell_profile(settings)
        moved = [
            key
            for key in type(settings.web).model_fields
            if key not in _READ_AGAIN
            and getattr(settings.web, key) != getattr(self._settings.web, key)
        ]
        is_elsewhere = settings.files.failed != self._settings.files.failed
        moved_from = self._files.adopt(settings.files)
        self._settings, self._token = settings, token
        self._schedule.replace(table)
        self._limit()
        if is_elsewhere:
            self._files.restore(kept)
        self._tell_fails()
        self._refresh()
        if moved_from is not None:
            self._files.leave(moved_from)
        self._log.info("config_reloaded")
        for key in moved:
            self._log.warning("restart_needed", key=f"web.{key}")

    # -- runs -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: wake the scheduler when something is due, notice what grew old."""
        self.take_settings()
        if self._schedule.due():
            self._work.set()
        self._latest.has_aged()
        self._tell_fails()
        if self._dropped != (dropped := logs.dropped()):
            self._dropped = dropped
            self._exposition.invalidate()
        self._refresh()
        self._files.tell_problems()
        logs.tick()

    async def keep_running(self) -> None:
        """Run what is due, one run at a time, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            names = self._schedule.due()
            if names:
                await self._run(self._with_boards(names))

    def _with_boards(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The probes of a run; beside those that load a device the boards are watched as well."""
        watched = TELEMETRY.name in self._schedule.timings and TELEMETRY.name not in names
        if watched and any(BY_NAME[name].is_heavy for name in names):
            return (*names, TELEMETRY.name)
        return names

    async def _run(self, names: tuple[str, ...]) -> None:
        settings = self._settings
        only_on = self._schedule.narrowed(names)
        plan = replace(self._plan(settings, "schedule", only=names), only_on=only_on)
        self._run_started_s = self._monotonic()
        self._run_limit_s = settings.run.timeout + _RUN_GRACE_S
        self._running, self._partly = names, frozenset(only_on)
        self._schedule.record_start(names, only_on)
        self._exposition.invalidate()
        self._log.info("run_started", probes=names, profile=plan.profile)
        try:
            report = await self._runner.run(plan, settings, self._on_event)
            report = await in_pieces(slimmed(report))
            self._latest.accept(report, partly=self._partly)
            self._files.run_ended()
            self._schedule.try_again(_waiting(report.results))
        finally:
            self._run_started_s, self._running, self._partly = None, (), frozenset()
            self._exposition.invalidate()
        self._log.info(
            "run_finished",
            run_id=report.run_id,
            status=report.status,
            duration_s=round(report.duration_s, 3),
            summary=full_summary(report.results, report.not_run),
        )
        self._refresh()
        del report, plan
        gc.collect()  # a report is many small objects; between runs the daemon stays small

    def _on_event(self, event: Event) -> None:
        if event.kind == "surveyed":
            self._latest.plan(event.planned, event.devices, partly=self._partly)
            self._refresh()
        elif event.kind == "finished" and event.result is not None:
            self._tell(event.result)
            self._files.note_fail(event.result)
        elif event.kind == "restarted":
            self._log.warning("worker_restarted", why=event.text)
            self._exposition.invalidate()
        elif event.kind == "held":
            self._log.error("device_held", device=event.device, why=event.text)
        elif event.kind == "unwatched":
            self._log.warning("device_unwatched", device=event.device, why=event.text)

    def _tell(self, result: Result) -> None:
        level = {"fail": "error", "error": "error", "warn": "warning"}.get(result.status, "info")
        getattr(self._log, level)(
            "result",
            probe=result.probe,
            device=result.device,
            status=result.status,
            reason=result.reason,
            duration_s=round(result.duration_s, 3),
            summary=result.summary,
        )

    # -- what the HTTP interface asks ---------------------------------------------------------

    def alive(self) -> str:
        """Empty while runs end in their time and nothing due is forgotten."""
        if self._run_started_s is not None:
            took = self._monotonic() - self._run_started_s
            if took > self._run_limit_s:
                return f"stuck: a run has not ended after {took:.0f} s"
            return ""
        late = self._schedule.late_s()
        return f"stuck: a probe is {late:.0f} s overdue" if late > _LATE_S else ""

    def readiness(self) -> Readiness:
        """Whether work may come to this node."""
        return self._latest.readiness()

    async def report(self) -> bytes | None:
        """The merged report, made once a change."""
        return await self._merged.content(self._latest)

    async def bad_findings(self) -> bytes | None:
        """What is wrong in the merged report, made once a change."""
        return await self._bad.content(self._latest)

    def token(self) -> bytes | None:
        """The secret shared with those who want a report proved, if there is one."""
        return self._token

    def metrics(self, form: Form) -> bytes | None:
        """The exposition in a form; None where it must be made anew."""
        return self._exposition.made(form)

    async def new_metrics(self, form: Form) -> bytes:
        """The same, made anew where it must be."""
        return await self._exposition.renewed(form)

    def probes(self) -> list[ProbeState]:
        """The catalogue, with due times and what counts now."""
        return probe_states(
            self._settings,
            self._latest,
            self._schedule.timings,
            self._schedule.due_at(),
            self._running,
        )

    def _families(self) -> Iterator[Any]:
        timings_now = self._schedule.timings
        shown = Shown(
            timeout_s={name: timeout_s(name, self._settings) for name in timings_now},
            interval_s={name: timing.interval_s for name, timing in timings_now.items()},
            restarts=self._runner.restarts,
            run_in_progress=self._run_started_s is not None,
            log_lines_dropped=self._dropped,
        )
        return families(self._latest, shown, Tool(revision=revision()))

    def _refresh(self) -> None:
        changed = self._version != self._latest.version
        if changed:
            self._version = self._latest.version
            self._exposition.invalidate()
        if changed or self._files.is_due:
            self._files.renew(self._lasts_s)

    def withdraw(self) -> None:
        """Remove the status files; from now on none is kept."""
        self._files.withdraw()

    def settle(self, timeout_s: float) -> bool:
        """Wait for the status files, and say what is in their way; whether they are written."""
        return self._files.settle(timeout_s)


def _waiting(results: Iterable[Result]) -> dict[str, frozenset[str] | None]:
    """Probe -> the devices on which it is tried again before its next turn; None: on all.

    What could not tell in the CPU's place may not have had a list of the devices.
    """
    found: dict[str, set[str]] = {}
    for one in filter(_waits_again, results):
        found.setdefault(one.probe, set()).add(one.gpu_uuid or one.device)
    return {
        probe: None if CPU.name in devices else frozenset(devices)
        for probe, devices in found.items()
    }


def _waits_again(result: Result) -> bool:
    """Whether a probe that loads a device found it in use, or could not tell."""
    told = result.reason != "gpu_busy" and result.status != "error"
    return not told and BY_NAME[result.probe].is_heavy


def _stale_after_s(name: str, timing: Timing, oldest_s: float | None) -> float:
    """Age at which a result says nothing: `ready.max_age`, or three intervals.

    The longer of both for what loads a device: that runs seldom, and waits while others use it.
    """
    if oldest_s is None:
        return timing.stale_after_s
    return max(oldest_s, timing.stale_after_s) if BY_NAME[name].is_heavy else oldest_s


def tell_profile(settings: Settings) -> None:
    """Say in the log that a profile holds nothing of its own, or what is not scheduled of it."""
    for note in (profiles.note(settings.run.profile), schedule_note(settings)):
        if note:
            logs.log().warning("profile", note=note)
