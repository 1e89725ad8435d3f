"""A burn: the same probes again and again on all devices, until the time is over."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Final

from probes.catalog import BY_NAME, CUDA_AVAILABLE
from probes.contract import ProbeSpec
from validator.burn import Burn
from validator.engine.clock import happens, now
from validator.engine.plan import Event, Plan, is_enabled, timeout_s
from validator.engine.roster import Roster
from validator.engine.runner import Runner
from validator.engine.stopping import Stop
from validator.engine.tally import BESIDE, TELEMETRY, Round, Tally
from validator.report import Report, make_report
from validator.settings.model import Settings

#: The name under which a burn stands among the profiles.
PROFILE: Final = "burn"

#: For the last look at the boards, in seconds.
_LAST_LOOK_S: Final = 10.0
#: How long a burn that gives way waits for a device that others use, before it looks again.
_BUSY_S: Final = 15.0


def burns(spec: ProbeSpec) -> bool:
    """Whether a burn runs it unasked: a probe of profile deep that computes from its first moment.

    One that needs modules imported first keeps the host busy and not the device.
    """
    return spec.needs == "device" and spec.profile == "deep" and not spec.preload


def _is_load(spec: ProbeSpec) -> bool:
    """Whether it is one of those that a burn is for, and not one beside them."""
    return spec.name not in BESIDE


@dataclass(frozen=True)
class Wishes:
    """What is asked of a burn beyond its plan."""

    duration_s: float
    together: bool = False  # each probe starts on all devices at a time


async def burn(
    plan: Plan,
    settings: Settings,
    wishes: Wishes,
    runner: Runner,
    on_event: Callable[[Event], None],
    on_round: Callable[[Round, float], None],
    stop: Stop,
) -> Report:
    """Run the plan in rounds, and report the worst of each probe, and what was counted.

    No probe starts after the duration, and a probe's own deadline ends it. A round starts while
    there is time for its shortest probe; one that could test nothing is the last, unless others
    use the devices. `on_round` hears of each round, and how many seconds are left.
    """
    burning = _Burning(plan, settings, wishes, runner, on_event, stop)
    try:
        return await burning.run(on_round)
    finally:
        runner.close()


class _Burning:
    """A burn that goes on."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        wishes: Wishes,
        runner: Runner,
        on_event: Callable[[Event], None],
        stop: Stop,
    ) -> None:
        self._plan = plan
        self._wishes = wishes
        self._runner = runner
        self._listener = on_event
        self._stop = stop
        self._tally = Tally(observations=settings.run.observations)
        self._roster = Roster(settings.run.devices)
        kept = settings.run.model_copy(update={"observations": True})  # those of telemetry
        self._settings = settings.model_copy(update={"run": kept})
        self._longest_s = max(timeout_s(spec, settings) for spec in plan.specs)
        self._began_s = now()
        self._until_s = self._began_s + wishes.duration_s

    async def run(self, on_round: Callable[[Round, float], None]) -> Report:
        """Run rounds, then look at the boards once more."""
        started_at, why = datetime.now(timezone.utc), ""
        while not why:
            await self._round()
            done = self._tally.round()
            on_round(done, max(0.0, self._left_s()))
            if not self._goes_on():
                break
            if not self._tally.tested() and self._tally.busy():
                await happens(self._stop.asked, min(_BUSY_S, self._left_s()))
            elif not self._tally.tested():
                why = "nothing could be tested"
        if self._tally.has_boards:
            await self._look_at_boards()
        return self._report(started_at, self._stop.why or why)

    def _left_s(self) -> float:
        return self._until_s - now()

    async def _round(self) -> None:
        """Each probe once on each device; what cannot start in time is left out."""
        self._tally.begin()
        steps = self._steps()
        for number, specs in enumerate(steps):
            if number and (self._stop.asked.is_set() or self._left_s() <= 0):
                return
            place = f"round {self._tally.rounds}"
            if len(steps) > 1:
                place = f"step {number + 1} of {len(steps)} of {place}"
            plan = replace(self._plan, specs=specs, starts_until_s=self._until_s)
            await self._run(plan, place)

    def _steps(self) -> list[tuple[ProbeSpec, ...]]:
        """What starts together: all, where each device goes on by itself; else probe by probe."""
        told = self._tally.has_told(CUDA_AVAILABLE.name)  # once: whether all GPUs are here
        specs = tuple(spec for spec in self._plan.specs if spec is not CUDA_AVAILABLE or not told)
        beside = tuple(spec for spec in specs if not _is_load(spec))
        loads = [spec for spec in specs if _is_load(spec)]
        if not self._wishes.together or len(loads) < 2:
            return [specs]
        return [(*beside, loads[0]), *((spec,) for spec in loads[1:])]

    async def _run(self, plan: Plan, place: str) -> None:
        left_s = max(0.0, self._left_s()) + self._longest_s
        changes = {"timeout": left_s, "devices": self._roster.wanted}
        run = self._settings.run.model_copy(update=changes)
        settings = self._settings.model_copy(update={"run": run})
        self._listener(Event("round", text=place))
        report = await self._runner.run(plan, settings, self._on_event, self._stop)
        teller = next(spec for spec in plan.specs if _is_load(spec))
        named = self._roster.renamed(report, teller, self._tally.rounds)
        self._tally.take(named, now() - self._began_s)

    def _on_event(self, event: Event) -> None:
        if event.kind == "surveyed":
            self._roster.see(event.devices)
        elif event.kind == "sampled":
            self._tally.sampled(replace(event, device=self._roster.name(event.device)))
        elif event.kind == "started" and event.probe not in BESIDE and self._goes_on():
            # The cores are free of the import now, which the next round needs as well.
            self._runner.prepare()
        self._listener(event)

    def _goes_on(self) -> bool:
        """Whether, as it looks, another round comes."""
        return self._left_s() > self._tally.shortest_s() and not self._stop.asked.is_set()

    async def _look_at_boards(self) -> None:
        """Read the counters after the last round; a second signal ends that too."""
        run = self._settings.run.model_copy(update={"timeout": _LAST_LOOK_S})
        settings = self._settings.model_copy(update={"run": run})
        plan = Plan((BY_NAME[TELEMETRY],), "instant", self._plan.trigger)
        look = asyncio.ensure_future(self._runner.run(plan, settings))
        at_once = asyncio.ensure_future(self._stop.at_once.wait())
        await asyncio.wait({look, at_once}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if look.done():
            self._tally.take(look.result(), now() - self._began_s)
        else:
            look.cancel()
            await asyncio.wait({look}, timeout=_LAST_LOOK_S)

    def _report(self, started_at: datetime, why: str) -> Report:
        tally = self._tally
        known = {} if tally.environment is None else {"environment": tally.environment}
        return make_report(
            run_id=uuid.uuid4().hex,
            trigger=self._plan.trigger,
            profile=PROFILE,
            results=tally.results(),
            not_run=tally.not_run(
                [spec.name for spec in self._plan.specs if _is_load(spec)],
                "cancelled" if self._stop.asked.is_set() else "run_timeout",
            ),
            started_at=started_at,
            finished_at=datetime.now(timezone.utc),
            duration_s=now() - self._began_s,
            devices=tally.devices,
            burn=Burn(
                wanted_s=self._wishes.duration_s,
                rounds=tally.rounds,
                stopped_by=why,
                counts=tally.counts(),
                devices=tally.by_device(),
            ),
            **known,
        )


def burn_plan(
    settings: Settings,
    only: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    *,
    gives_way: bool = False,
) -> Plan:
    """The probes of a burn: those named or those that burn unasked, and those beside them.

    Raises:
        ValueError: a name is no probe's, or a probe's that runs once a node.
    """
    for name in (*only, *without):
        if name not in BY_NAME:
            raise ValueError(f"unknown probe {name!r}; known: {', '.join(BY_NAME)}")
    for name in only:
        if BY_NAME[name].needs != "device" and name != TELEMETRY:
            raise ValueError(f"{name} loads no device, so that it cannot burn one")
    chosen = [
        spec
        for spec in BY_NAME.values()
        if (spec.name in only if only else burns(spec))
        and spec.name not in without
        and is_enabled(spec, settings)
    ]
    loads = tuple(filter(_is_load, chosen))
    beside = tuple(
        BY_NAME[name]
        for name in BESIDE
        if name not in without and is_enabled(BY_NAME[name], settings)
    )
    return Plan((*beside, *loads) if loads else (), "deep", "cli", gives_way=gives_way)
