"""Burns: rounds until the time is over, the worst of each probe, counters, and an end in time."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probes.catalog import BY_NAME, CATALOG, CUDA_AVAILABLE, MEMORY_FULL, TELEMETRY
from probes.contract import ProbeSpec, Result
from tests.validator import reports
from tests.validator.engine.test_run import surveyed
from tests.validator.runs import marked, ran, spec, write
from validator.engine import burning, clock
from validator.engine.burning import Wishes, burn, burn_plan, burns
from validator.engine.plan import Event, Plan
from validator.engine.runner import Runner
from validator.engine.stopping import Stop
from validator.engine.tally import Round
from validator.report import Device, Environment, NotRun, Report, exit_code
from validator.settings.model import Settings

GPUS = tuple(
    Device(name=f"cuda:{index}", type="cuda", index=index, uuid=f"GPU-{index}") for index in (0, 1)
)
LOAD = replace(MEMORY_FULL, name="load", timeout_s=30)
MORE = replace(LOAD, name="more")


class Clock:
    """The clock of deadlines, set by whoever runs."""

    now_s = 0.0


@pytest.fixture
def time_is(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only runs take forward."""
    made = Clock()
    monkeypatch.setattr(burning, "now", lambda: made.now_s)
    return made


class Fake:
    """Stands for the runner: a run takes its seconds, and each probe has the next status."""

    def __init__(
        self, time_is: Clock, statuses: Iterator[str], *, takes_s: float = 10.0, devices: Any = GPUS
    ) -> None:
        self._clock = time_is
        self._statuses = statuses
        self._takes_s = takes_s
        self._devices = devices
        self.plans: list[Plan] = []
        self.timeouts: list[float] = []
        self.prepared = 0
        self.closed = 0
        self.boards: Callable[[int], dict[str, Any]] | None = None
        self.environments: dict[int, Environment] = {}  # of single runs

    def prepare(self) -> None:
        """Count it."""
        self.prepared += 1

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def _results(self, plan: Plan) -> Iterator[Result]:
        for one in plan.specs:
            if one is TELEMETRY:
                seen = None if self.boards is None else self.boards(len(self.plans))
                yield reports.result("telemetry", observation=seen)
                continue
            for device in self._devices:
                status = next(self._statuses)
                reason = {"skip": "gpu_busy", "pass": "ok"}.get(status, "check_failed")
                yield reports.result(
                    *(one.name, device.name, status),
                    reason=reason,
                    duration_s=self._takes_s,
                    summary=f"run {len(self.plans)}",
                    observation={"seen": 1},
                )

    async def run(
        self,
        plan: Plan,
        settings: Settings,
        on_event: Callable[[Event], None] = lambda _: None,
        stop: Stop | None = None,
    ) -> Report:
        """Run a plan."""
        self.plans.append(plan)
        self.timeouts.append(settings.run.timeout)
        on_event(Event("started", "load", "cuda:0"))
        on_event(
            Event("sampled", device="cuda:0", numbers={"temperature_c": 30.0 + len(self.plans)})
        )
        results = list(self._results(plan))
        self._clock.now_s += self._takes_s
        if stop is not None and stop.asked.is_set():
            missed = [NotRun(probe=r.probe, device=r.device, reason="cancelled") for r in results]
            return reports.report([], missed, devices=self._devices)
        environment = self.environments.get(len(self.plans))
        told: dict[str, Any] = {} if environment is None else {"environment": environment}
        return reports.report(results, devices=self._devices, **told)


def burned(
    fake: Fake,
    duration_s: float,
    *specs: ProbeSpec,
    together: bool = False,
    stop: Stop | None = None,
    on_round: Callable[[Round, float], None] = lambda *_: None,
) -> Report:
    """A burn with a fake runner."""
    plan = Plan(specs or (TELEMETRY, LOAD), "deep", "cli", gives_way=False)
    runner: Any = fake
    asked = Wishes(duration_s, together=together)
    return asyncio.run(
        burn(plan, Settings(), asked, runner, lambda _: None, on_round, stop or Stop())
    )


def always(status: str) -> Iterator[str]:
    """The same status for ever."""
    while True:
        yield status


def test_rounds_follow_until_there_is_no_time_for_another(time_is: Clock) -> None:
    """Of ten seconds each in 35: the fourth would start with five left, less than a probe takes."""
    heard: list[tuple[int, float]] = []
    fake = Fake(time_is, always("pass"))
    report = burned(fake, 35.0, on_round=lambda done, left_s: heard.append((done.number, left_s)))
    assert report.burn is not None

    assert heard == [(1, 25.0), (2, 15.0), (3, 5.0)]
    assert report.burn.rounds == 3
    assert (report.profile, report.status, report.duration_s) == ("burn", "pass", 30.0)
    assert [(count.probe, count.device, count.runs) for count in report.burn.counts] == [
        ("telemetry", "cpu", 3),
        ("load", "cuda:0", 3),
        ("load", "cuda:1", 3),
    ]
    assert [device.tested_s for device in report.burn.devices] == [30.0, 30.0]
    assert all(result.observation is None for result in report.results)
    assert report.results[1].summary == "run 3"  # of those that are as good, the newest


def test_no_probe_starts_after_the_end_and_its_deadline_ends_the_last(time_is: Clock) -> None:
    """Each run knows the end, and has so long as is left and one probe's own deadline."""
    fake = Fake(time_is, always("pass"))
    burned(fake, 35.0)

    assert [plan.starts_until_s for plan in fake.plans] == [35.0] * 3
    longest_s = max(TELEMETRY.timeout_s, LOAD.timeout_s)
    assert fake.timeouts == [left_s + longest_s for left_s in (35.0, 25.0, 15.0)]
    assert not any(plan.gives_way for plan in fake.plans)


def test_the_next_worker_imports_while_probes_run(time_is: Clock) -> None:
    """Not for a round that will not come; and what was started for nothing is ended."""
    fake = Fake(time_is, always("pass"))
    burned(fake, 35.0)

    assert fake.prepared == 3
    assert fake.closed == 1


@pytest.mark.parametrize("bad", ["fail", "error", "warn"])
def test_the_worst_of_all_rounds_is_kept_with_its_round(time_is: Clock, bad: str) -> None:
    """A failure that came once is one, whatever came after; the first of its kind is shown."""
    statuses = iter(["pass", "pass", bad, "pass", "pass", "pass", bad, "pass"])
    report = burned(Fake(time_is, statuses), 45.0)
    assert report.burn is not None
    counts = {count.device: count for count in report.burn.counts if count.probe == "load"}
    devices = {device.device: device for device in report.burn.devices}

    first = 4 if bad == "warn" else 2
    assert report.status == bad
    assert report.results[1].summary == f"run {first}"
    assert counts["cuda:0"].worst_round == first
    assert (counts["cuda:0"].worst, counts["cuda:1"].worst) == (bad, "pass")
    assert counts["cuda:0"].failures == devices["cuda:0"].failures == 2 * (bad == "fail")
    assert counts["cuda:0"].errors == 2 * (bad == "error")
    assert devices["cuda:0"].failures_per_hour == pytest.approx(180.0 * (bad == "fail"))
    assert devices["cuda:1"].failures_per_hour == 0.0
    assert exit_code(report) == {"fail": 1, "error": 2, "warn": 0}[bad]
    observed = [result.observation for result in report.results if result.status == bad]
    assert observed == [None if bad == "warn" else {"seen": 1}]


@pytest.mark.parametrize(
    ("places", "rounds", "status"),
    [
        ({50: "error"}, 200, "warn"),
        ({50: "error", 51: "error"}, 200, "warn"),
        ({50: "error", 51: "error", 52: "error"}, 200, "error"),
        ({2: "error"}, 99, "error"),
        ({199: "error"}, 200, "error"),  # it can not tell any more
        ({50: "error", 120: "fail"}, 200, "fail"),
        ({50: "fail", 120: "error"}, 200, "fail"),
    ],
)
def test_what_hundreds_of_verdicts_outweigh_is_a_warning(
    time_is: Clock, places: dict[int, str], rounds: int, status: str
) -> None:
    """One round in a hundred may end without a verdict; a fail stands whatever else there was."""
    statuses = [places.get(number, "pass") for number in range(rounds)]
    report = burned(Fake(time_is, iter(statuses), devices=GPUS[:1]), 10.0 * rounds + 5)
    assert report.burn is not None
    (load,) = [one for one in report.results if one.probe == "load"]
    (count,) = [one for one in report.burn.counts if one.probe == "load"]

    assert (report.status, load.status, count.worst) == (status,) * 3
    assert count.errors == list(places.values()).count("error")
    assert exit_code(report) == {"warn": 0, "fail": 1, "error": 2}[status]
    if status == "warn":
        first = min(place for place, bad in places.items() if bad == "error") + 1
        assert load.summary == (
            f"could not tell in {count.errors} of {count.runs} runs, first in round {first}: "
            f"run {first}"
        )
        assert load.findings[0].message == load.summary
        assert exit_code(report, strict=True) == 1


def test_whether_all_gpus_are_here_is_asked_until_it_is_told(time_is: Clock) -> None:
    """What could not be told at first does not spoil a day."""
    statuses = iter(["error", "pass", "pass", "pass", "pass", "pass"])
    fake = Fake(time_is, statuses, devices=GPUS[:1])
    report = burned(fake, 45.0, CUDA_AVAILABLE, LOAD)

    assert ["cuda_available" in [one.name for one in plan.specs] for plan in fake.plans] == [
        *(True, True, False, False)
    ]
    assert report.status == "warn"


def test_together_each_probe_starts_on_all_devices(time_is: Clock) -> None:
    """A step a probe; telemetry is in the first of each round."""
    fake = Fake(time_is, always("pass"))
    report = burned(fake, 45.0, TELEMETRY, LOAD, MORE, together=True)
    assert report.burn is not None

    assert [[one.name for one in plan.specs] for plan in fake.plans] == [
        ["telemetry", "load"],
        ["more"],
        ["telemetry", "load"],
        ["more"],
    ]
    assert report.burn.rounds == 2


def test_together_no_step_starts_after_the_end(time_is: Clock) -> None:
    """What had its turn in an earlier round is no loss; what never had one is not run."""
    short = burned(Fake(time_is, always("pass")), 8.0, LOAD, MORE, together=True)

    assert [result.probe for result in short.results] == ["load", "load"]
    assert [(one.probe, one.device, one.reason) for one in short.not_run] == [
        ("more", "cuda:0", "run_timeout"),
        ("more", "cuda:1", "run_timeout"),
    ]
    assert short.status == "error"


def test_a_signal_ends_it_with_what_was_found(time_is: Clock) -> None:
    """The probe that was cut has its earlier result; in the first round it is not run."""
    stop = Stop()

    def interrupt(done: Round, _: float) -> None:
        if done.number == 2:
            stop.take(signal.SIGTERM)

    report = burned(Fake(time_is, always("pass")), 1000.0, stop=stop, on_round=interrupt)
    early = Stop()
    early.take(signal.SIGINT)
    cut = burned(Fake(time_is, always("pass")), 1000.0, stop=early)
    assert report.burn is not None
    assert cut.burn is not None

    assert (report.burn.rounds, report.burn.stopped_by) == (2, "stopped by SIGTERM")
    assert (report.status, report.not_run) == ("pass", ())
    assert cut.burn.stopped_by == "stopped by SIGINT"
    assert {one.reason for one in cut.not_run} == {"cancelled"}
    assert (cut.burn.rounds, cut.status) == (1, "error")


def test_where_nothing_can_be_tested_it_ends(
    time_is: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once; but a device that others use is looked at again."""
    waits: list[float] = []

    async def wait(_: object, seconds: float) -> bool:
        waits.append(seconds)
        time_is.now_s += seconds
        return False

    monkeypatch.setattr(burning, "happens", wait)
    fake = Fake(time_is, always("skip"), takes_s=0.0)
    busy = burned(fake, 40.0)
    nothing = burned(Fake(time_is, always("skip"), takes_s=0.0, devices=()), 40.0)
    assert busy.burn is not None
    assert nothing.burn is not None

    assert waits == [15.0, 15.0, 10.0]
    assert (busy.burn.rounds, busy.status) == (4, "error")
    assert [(one.device, one.reason) for one in busy.results if one.status == "error"] == [
        ("cuda:0", "gpu_busy"),
        ("cuda:1", "gpu_busy"),
    ]
    assert exit_code(busy) == 2
    assert nothing.status == "error"
    assert busy.burn.devices[0].failures_per_hour is None
    assert (nothing.burn.rounds, nothing.burn.stopped_by) == (1, "nothing could be tested")


def test_what_boards_say_is_counted(time_is: Clock) -> None:
    """Ranges from watch and telemetry, counters against the first, error lines since the start."""

    def boards(run: int) -> dict[str, Any]:
        gpu = {
            "uuid": "GPU-0",
            "pci_bus_id": "0000:0f:00.0",
            "temperature_c": 70 if run == 2 else 40,
            "volatile_corrected": 100 + run,
            "rows_remapped": 1,
        }
        xids = [{"code": 13, "address": "0000:0f:00", "age_s": age_s} for age_s in (5.0, 9e9)]
        xids.append({"code": 13, "address": "0000:1f:00", "age_s": 5.0})
        return {"health": {"gpus": [gpu]}, "log": {"xids": xids if run == 3 else []}}

    fake = Fake(time_is, always("pass"))
    fake.boards = boards
    report = burned(fake, 30.0)
    assert report.burn is not None
    first, second = report.burn.devices
    assert first.temperature_c is not None

    assert [[one.name for one in plan.specs] for plan in fake.plans][-1] == ["telemetry"]
    assert (first.temperature_c.least, first.temperature_c.most) == (31.0, 70.0)
    assert first.counters == {"volatile_corrected": 2.0, "rows_remapped": 0.0}
    assert first.xids == 1
    assert (second.temperature_c, second.counters, second.xids) == (None, {}, None)


def test_counters_that_were_set_to_nothing_count_from_there(time_is: Clock) -> None:
    """A reset of the GPU or of its driver takes back no error that was counted before."""
    told = {1: 100, 2: 103, 3: 2, 4: 2}

    def boards(run: int) -> dict[str, Any]:
        return {"health": {"gpus": [{"uuid": "GPU-0", "volatile_corrected": told[run]}]}}

    fake = Fake(time_is, always("pass"))
    fake.boards = boards
    report = burned(fake, 30.0)
    assert report.burn is not None

    assert report.burn.devices[0].counters == {"volatile_corrected": 5.0}


def test_the_last_look_at_the_boards_does_not_know_torch(time_is: Clock) -> None:
    """The environment is that of the rounds, in which torch was tested."""
    fake = Fake(time_is, always("pass"))
    fake.boards = lambda _: {"health": {"gpus": [{"uuid": "GPU-0", "volatile_corrected": 0}]}}
    fake.environments = {2: Environment(python="3.11.7")}
    report = burned(fake, 10.0)

    assert len(fake.plans) == 2
    assert report.environment.torch == "2.13.0+cpu"


def test_a_round_that_was_cut_before_the_survey_misses_nothing(time_is: Clock) -> None:
    """All its probes were planned for the CPU, until the devices would be known."""
    stop = Stop()

    class Cut(Fake):
        async def run(self, *args: Any, **named: Any) -> Report:
            if not self.plans:
                return await super().run(*args, **named)
            stop.take(signal.SIGINT)
            missed = NotRun(probe="load", device="cpu", reason="cancelled")
            return reports.report([], [missed], devices=())

    report = burned(Cut(time_is, always("pass")), 100.0, stop=stop)
    assert report.burn is not None

    assert (report.burn.rounds, report.burn.stopped_by) == (2, "stopped by SIGINT")
    assert (report.status, report.not_run) == ("pass", ())


def test_whether_all_gpus_are_here_is_asked_in_the_first_round(time_is: Clock) -> None:
    """Once, and it is no test of a device."""
    fake = Fake(time_is, always("pass"))
    burned(fake, 25.0, TELEMETRY, CUDA_AVAILABLE, LOAD)
    untested = burned(
        Fake(time_is, iter(["pass", "pass", "skip", "skip"])), 8.0, CUDA_AVAILABLE, LOAD
    )
    assert untested.burn is not None

    assert [[one.name for one in plan.specs] for plan in fake.plans] == [
        ["telemetry", "cuda_available", "load"],
        ["telemetry", "load"],
    ]
    assert [device.runs for device in untested.burn.devices] == [0, 0]
    assert untested.status == "error"
    told = [one.summary for one in untested.results if one.status == "error"]
    assert told == ["nothing was tested here in any round: run 1"] * 2


def test_one_device_that_was_never_tested_is_no_pass(time_is: Clock) -> None:
    """The other one was; what is skipped in some rounds alone is none."""
    never = burned(Fake(time_is, iter(["pass", "skip"] * 3)), 25.0)
    now_and_then = burned(Fake(time_is, iter(["pass", "pass", "pass", "skip"])), 15.0)

    assert (never.status, exit_code(never), exit_code(never, fail_open=True)) == ("error", 2, 0)
    assert "load on cuda:1: nothing was tested here in any round" in never.summary
    assert now_and_then.status == "pass"


def test_a_gpu_that_goes_is_a_failure(time_is: Clock) -> None:
    """Those that are left go on, and what the lost one has done is kept."""
    fake = Fake(time_is, always("pass"))
    asked: list[tuple[str, ...]] = []

    class Losing(Fake):
        async def run(self, plan: Plan, settings: Settings, *rest: Any) -> Report:
            asked.append(settings.run.devices)
            self._devices = GPUS[: 1 if self.plans else 2]
            return await super().run(plan, settings, *rest)

    fake = Losing(time_is, always("pass"))
    report = burned(fake, 35.0)
    assert report.burn is not None
    first, second = report.burn.devices
    (bad,) = [one for one in report.results if one.status == "fail"]

    assert asked == [(), ("cuda:0", "cuda:1"), ("cuda:0", "cuda:1")]
    assert (report.status, exit_code(report)) == ("fail", 1)
    assert (bad.device, bad.gpu_uuid, bad.reason) == ("cuda:1", "GPU-1", "no_device")
    assert bad.summary == "it was here, and is gone in round 2"
    assert (first.runs, first.failures) == (3, 0)
    assert (second.runs, second.failures, second.tested_s) == (2, 1, 10.0)
    assert report.devices == GPUS


def test_what_burns_unasked_computes_from_its_first_moment() -> None:
    """Device probes of profile deep, but for those that import first; telemetry beside them."""
    plan = burn_plan(Settings())

    assert [one.name for one in plan.specs[:2]] == ["telemetry", "cuda_available"]
    assert list(plan.specs[2:]) == [one for one in CATALOG if burns(one)]
    assert MEMORY_FULL in plan.specs
    assert BY_NAME["compiled"] not in plan.specs
    assert not plan.gives_way


def test_probes_of_a_burn_can_be_chosen() -> None:
    """By name; a probe that loads no device cannot burn one."""
    settings = Settings(probes={"telemetry": {"enabled": False}})

    named = burn_plan(Settings(), ("memory_pattern",))
    assert [one.name for one in named.specs] == ["telemetry", "cuda_available", "memory_pattern"]
    assert burn_plan(Settings(), ("memory_full",), ("memory_full",)).specs == ()
    assert TELEMETRY not in burn_plan(settings).specs
    assert TELEMETRY not in burn_plan(Settings(), without=("telemetry",)).specs
    with pytest.raises(ValueError, match="companions loads no device"):
        burn_plan(Settings(), ("companions",))
    with pytest.raises(ValueError, match="unknown probe 'memory'"):
        burn_plan(Settings(), ("memory",))


# ---- with processes


def real(name: str) -> ProbeSpec:
    """A probe of the test's own that loads its device."""
    return replace(spec(name), profile="deep", timeout_s=3)


HERE = '{"name": "cpu:0", "type": "cpu", "index": 0}'


def burned_here(duration_s: float, stop: Stop, until_round: int = 0) -> tuple[Report, float]:
    """A burn of the probe `first` in real processes, and how long it took in seconds."""

    def tell(done: Round, _: float) -> None:
        if done.number == until_round:
            stop.take(signal.SIGINT)

    async def until_over() -> Report:
        plan = Plan((real("first"),), "deep", "cli", gives_way=False)
        wishes = Wishes(duration_s)
        return await burn(plan, Settings(), wishes, Runner(), lambda _: None, tell, stop)

    began_s = clock.now()
    return asyncio.run(until_over()), clock.now() - began_s


@pytest.mark.torch
@pytest.mark.slow
def test_a_failure_of_one_round_in_real_processes(folder: Path) -> None:
    """The second of three rounds fails; a signal ends them, and no worker is left that waits."""
    surveyed(folder, f"    return {{'devices': [{HERE}], 'hardware': []}}")
    write(
        folder,
        "first",
        f"    turn = open({str(folder / 'turns')!r}, 'a+')\n"
        "    turn.seek(0)\n"
        "    count = len(turn.read())\n"
        "    turn.write('x')\n"
        "    turn.close()\n"
        "    if count == 1: return Seen(total=1)",
    )
    report, _ = burned_here(200.0, Stop(), until_round=3)
    assert report.burn is not None
    (count,) = report.burn.counts

    assert (report.burn.rounds, report.burn.stopped_by) == (3, "stopped by SIGINT")
    assert (report.status, count.worst_round, count.worst) == ("fail", 2, "fail")
    assert (count.runs, count.failures) == (3, 1)
    assert marked() == []


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.long
def test_a_probe_that_hangs_keeps_a_burn_for_no_longer_than_its_deadline(folder: Path) -> None:
    """It started in time: its own deadline ends it, and the burn."""
    surveyed(folder, f"    return {{'devices': [{HERE}], 'hardware': []}}")
    write(folder, "first", "    time.sleep(600)")
    report, took_s = burned_here(12.0, Stop())

    assert (report.status, report.results[0].reason) == ("fail", "timeout")
    assert took_s < 12.0 + 3.0 + 5.0  # a deadline, and what killing takes
    assert marked() == []


@pytest.mark.torch
@pytest.mark.slow
def test_a_run_starts_no_probe_after_its_end(folder: Path) -> None:
    """What had no chance is said to be not run."""
    surveyed(folder, f"    return {{'devices': [{HERE}], 'hardware': []}}")
    write(folder, "first")
    over = Plan((real("first"),), "deep", "cli", starts_until_s=clock.now() - 1.0)

    assert [(one.probe, one.reason) for one in ran(over).report.not_run] == [
        ("first", "run_timeout")
    ]


@pytest.mark.torch
@pytest.mark.slow
def test_all_gpus_go_in_real_processes(
    folder: Path, emulator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The burn does not go on with the CPU in their place, nor without any."""
    write(folder, "first")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{emulator}")

    def lose(event: Event) -> None:
        if event.kind == "surveyed":  # the worker of the next round is started after this
            monkeypatch.setenv("EMULATOR_DEVICES", "0")

    async def until_over() -> Report:
        plan = Plan((real("first"),), "deep", "cli", gives_way=False)
        wishes = Wishes(200.0)
        return await burn(plan, Settings(), wishes, Runner(), lose, lambda *_: None, Stop())

    report = asyncio.run(until_over())
    assert report.burn is not None

    assert (report.burn.rounds, report.burn.stopped_by) == (2, "nothing could be tested")
    assert [(one.device, one.status, one.summary) for one in report.results] == [
        (name, "fail", "it was here, and is gone in round 2") for name in ("fake:0", "fake:1")
    ]
    assert [device.name for device in report.devices] == ["fake:0", "fake:1"]
    assert marked() == []
