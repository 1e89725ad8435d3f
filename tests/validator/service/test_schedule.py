"""Probes come due at their times, once, together, and whatever the clocks do."""

from datetime import datetime, timedelta, timezone

import pytest

from probes.catalog import AUTOGRAD, CATALOG, LINALG
from tests.validator.service.fake_runner import Clock
from validator.engine.plan import make_plan
from validator.service.schedule import SHARED_S, Cron, Schedule, Timing, timings
from validator.settings.loading import load
from validator.settings.values import SettingsError

#: A Wednesday.
START = datetime(2030, 1, 2, 12, 0, tzinfo=timezone.utc)


class Wall:
    """A wall clock that moves when told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """The time, as set."""
        return self.now


class Both:
    """A schedule under clocks that move together, or apart when a test says so."""

    def __init__(self, shift: float = 0.0, /, **table: Timing) -> None:
        self.clock, self.wall, self.shifts = Clock(), Wall(), [shift]
        self.schedule = Schedule(
            table, monotonic=self.clock, now=self.wall, shift=lambda: self.shifts[-1]
        )

    def pass_s(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.now_s += seconds
        self.wall.now += timedelta(seconds=seconds)

    def run(self) -> tuple[str, ...]:
        """Start what is due."""
        names = self.schedule.due()
        self.schedule.record_start(names)
        return names


def test_everything_is_due_at_once() -> None:
    """The first run comes at the start, for cron expressions as well."""
    both = Both(a=Timing(60), b=Timing(86400, cron="0 3 * * *"))

    assert both.run() == ("a", "b")
    assert both.run() == ()


def test_an_interval_counts_from_the_start_of_a_run() -> None:
    """Not due one second before its time, due at it."""
    both = Both(a=Timing(60))
    both.run()
    both.pass_s(59)
    early = both.run()
    both.pass_s(1)

    assert (early, both.run()) == ((), ("a",))


def test_an_overrun_is_caught_up_once() -> None:
    """Five intervals missed are one run, and the next comes an interval after that."""
    both = Both(a=Timing(60))
    both.run()
    both.pass_s(320)
    late = both.schedule.late_s()
    caught_up = both.run()

    assert (late, caught_up, both.run()) == (260, ("a",), ())
    both.pass_s(59)
    assert both.run() == ()
    both.pass_s(1)
    assert both.run() == ("a",)


@pytest.mark.parametrize(("apart_s", "together"), [(10, ("a", "b")), (10.5, ("a",))])
def test_probes_due_within_ten_seconds_share_a_run(apart_s: float, together: tuple[str]) -> None:
    """The second is taken along when it is due within 10 s, and not a moment later."""
    both = Both(a=Timing(60), b=Timing(60 + apart_s))
    both.run()
    both.pass_s(60)

    assert both.run() == together


def test_jitter_moves_probes_of_one_run_together() -> None:
    """One draw a run: seven probes of one interval stay one run, whatever is drawn."""
    names = [f"p{number}" for number in range(7)]
    both = Both(**{name: Timing(300, jitter_s=30) for name in names})
    for shift in (1.0, -1.0, 0.25):
        both.shifts.append(shift)
        assert both.run() == tuple(names)
        both.pass_s(300 + 30 * shift - 1)
        assert both.run() == ()
        both.pass_s(1)


def test_jitter_is_drawn_anew_within_its_bounds() -> None:
    """The real draw stays within the tenth, and is not the same each time."""
    clock = Clock()
    schedule = Schedule({"a": Timing(300, jitter_s=30)}, monotonic=clock)
    waits = set()
    for _ in range(50):
        schedule.record_start(["a"])
        waits.add(-schedule.late_s() + schedule._wait_s("a"))

    assert all(270 <= wait <= 330 for wait in waits)
    assert len(waits) > 40


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_a_clock_that_is_set_moves_no_interval(jump_s: float) -> None:
    """The wall clock jumps a day; the interval goes on as it was."""
    both = Both(a=Timing(60))
    both.run()
    both.wall.now += timedelta(seconds=jump_s)
    both.pass_s(59)
    early = both.run()
    both.pass_s(1)

    assert (early, both.run()) == ((), ("a",))


def test_cron_fires_at_its_time_and_once() -> None:
    """03:00 UTC comes once a day, also when the clock is looked at hours late."""
    both = Both(a=Timing(86400, cron="0 3 * * *"))
    both.run()
    both.pass_s(15 * 3600 - 1)
    early = both.run()
    both.pass_s(1)
    on_time = both.run()
    both.pass_s(86400 * 3 + 7200)

    assert (early, on_time, both.run(), both.run()) == ((), ("a",), ("a",), ())


def test_cron_survives_a_clock_set_back() -> None:
    """A clock a month ahead, then put right: the job is not silent for a month."""
    both = Both(a=Timing(86400, cron="0 3 * * *"))
    both.wall.now += timedelta(days=31)
    both.run()
    both.wall.now = START
    both.schedule.due()
    both.pass_s(15 * 3600)

    assert both.run() == ("a",)


def test_cron_jitter_is_never_early() -> None:
    """A draw of -1 delays as much as one of +1."""
    both = Both(-1.0, a=Timing(86400, jitter_s=600, cron="0 3 * * *"))
    both.run()

    assert both.schedule.due_at()["a"] == datetime(2030, 1, 3, 3, 10, tzinfo=timezone.utc)


def test_due_times_are_on_the_wall_clock() -> None:
    """What the HTTP interface shows: now plus the wait, never a time that is past."""
    both = Both(a=Timing(60))
    both.run()
    at = both.schedule.due_at()["a"]
    both.pass_s(100)

    assert at == START + timedelta(seconds=60)
    assert both.schedule.due_at()["a"] == both.wall.now


def test_replaced_timings_keep_what_did_not_change() -> None:
    """A new interval counts from the last run; an equal timing keeps its due time; new is now."""
    both = Both(a=Timing(60, jitter_s=6), b=Timing(600))
    both.run()
    both.pass_s(30)
    both.shifts.append(1.0)
    both.schedule.replace({"a": Timing(60, jitter_s=6), "b": Timing(100), "c": Timing(60)})

    due = both.schedule.due_at()
    assert due == {
        "a": START + timedelta(seconds=60),
        "b": START + timedelta(seconds=100),
        "c": both.wall.now,
    }


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 3 * * *", "2030-01-02 12:00", "2030-01-03 03:00"),
        ("*/15 * * * *", "2030-01-02 12:00", "2030-01-02 12:15"),
        ("0 0 * * 0", "2030-01-02 12:00", "2030-01-06 00:00"),  # Sunday is 0,
        ("0 0 * * 7", "2030-01-02 12:00", "2030-01-06 00:00"),  # and 7,
        ("0 0 * * 1", "2030-01-02 12:00", "2030-01-07 00:00"),  # Monday is 1
        ("0 0 * * sat,sun", "2030-01-02 12:00", "2030-01-05 00:00"),
        ("0 0 * * 1-5", "2030-01-04 12:00", "2030-01-07 00:00"),
        ("0 0 * * 5-7", "2030-01-02 12:00", "2030-01-04 00:00"),
        ("0 0 * * */3", "2030-01-02 12:00", "2030-01-05 00:00"),  # Sunday, Wednesday, Saturday
        ("0 0 * * 0-7", "2030-01-02 12:00", "2030-01-03 00:00"),
        ("0 0 13 * 5", "2030-01-02 12:00", "2030-01-04 00:00"),  # the 13th or a Friday
        ("0 0 13 * 5", "2030-01-11 12:00", "2030-01-13 00:00"),
        ("30 2 29 2 *", "2030-01-02 12:00", "2032-02-29 02:30"),
    ],
)
def test_cron_reads_as_cron_does(expression: str, after: str, expected: str) -> None:
    """Times known from crontab(5), weekdays above all."""
    moment, wanted = (
        datetime.fromisoformat(text).replace(tzinfo=timezone.utc) for text in (after, expected)
    )

    assert Cron(expression).after(moment) == wanted


def test_the_interval_of_a_cron_expression_is_its_longest_gap() -> None:
    """Working days at noon: from Friday to Monday it is 72 h."""
    assert Cron("0 12 * * 1-5").longest_gap_s(START) == 72 * 3600


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"cron": "0 3 * *"}, "has 4 fields"),
        ({"cron": "61 * * * *"}, "61"),
        ({"cron": "* * * * 8"}, "no day of the week"),
        ({"cron": "* * * * xyz"}, "no day of the week"),
        ({"cron": "0 0 30 2 *"}, "names no time that will come"),
        ({"interval": 60, "jitter": 61}, "longer than the interval"),
    ],
)
def test_a_wrong_timetable_is_refused_by_its_key(table: dict[str, object], complaint: str) -> None:
    """The error names the key, and what is wrong with its value."""
    settings = load(flags={"schedule": {"autograd": table}})

    with pytest.raises(SettingsError, match=r"schedule\.autograd\.(cron|jitter): ") as refused:
        timings(settings, CATALOG)
    assert complaint in str(refused.value)


def test_timings_come_from_settings_and_defaults() -> None:
    """Interval, a tenth of it as jitter, cron without jitter unless asked."""
    settings = load(
        flags={
            "schedule": {
                "autograd": {"interval": "10m"},
                "tensor_ops": {"cron": "0 3 * * *"},
                "train_eval": {"jitter": 5},
            }
        }
    )
    table = timings(settings, CATALOG)

    assert table["autograd"] == Timing(600, 60)
    assert table["tensor_ops"] == Timing(86400, 0, "0 3 * * *")
    assert table["train_eval"] == Timing(300, 5)
    assert table["numpy_sharing"] == Timing(300, 30)
    assert table["numpy_sharing"].stale_after_s == 900
    # A run of the others may take as long as a run may take.
    assert table["telemetry"].stale_after_s == 180 + settings.run.timeout


def phases(monkeypatch: pytest.MonkeyPatch, *nodes: str) -> list[float]:
    """Of each node, the share of an interval at which `linalg` first runs."""
    found = []
    for node in nodes:
        monkeypatch.setenv("NODE_NAME", node)
        found.append(timings(load(), [LINALG])["linalg"].phase)
    return [each for each in found if each is not None]


def test_what_loads_a_device_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at start: at a time that follows from the node's name, so that a fleet is spread."""
    names = [f"node-{number}" for number in range(64)]
    found = phases(monkeypatch, *names)

    assert found == phases(monkeypatch, *names)
    assert len(set(found)) == len(found) == len(names)
    assert all(0 <= each < 1 for each in found)
    assert {int(4 * each) for each in found} == {0, 1, 2, 3}


def due_s(schedule: Schedule, wall: Wall) -> float:
    """Seconds until `linalg` is due."""
    return (schedule.due_at()["linalg"] - wall.now).total_seconds()


def test_it_is_not_due_when_the_daemon_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick probe is; the other comes at its share of the interval, then at intervals."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    clock, wall = Clock(), Wall()
    table = timings(load(), [AUTOGRAD, LINALG])
    schedule = Schedule(table, monotonic=clock, now=wall, shift=lambda: 0.0)
    at_start = schedule.due()
    schedule.record_start(at_start)
    wait_s = due_s(schedule, wall)
    clock.now_s += wait_s
    later = schedule.due()

    assert at_start == ("autograd",)
    assert 0 < wait_s <= LINALG.interval_s
    assert "linalg" in later


def test_a_restart_does_not_put_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time follows from the clock on the wall: half an hour later it is half an hour nearer."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    wall = Wall()
    table = timings(load(), [LINALG])
    first_s = due_s(Schedule(table, now=wall), wall)
    wall.now += timedelta(seconds=first_s / 2)
    again_s = due_s(Schedule(table, now=wall), wall)

    assert again_s == pytest.approx(first_s / 2, abs=0.01)


def test_a_cron_expression_is_kept_to_from_the_start() -> None:
    """Who writes a time of day gets that time, and no run before it."""
    settings = load(flags={"schedule": {"linalg": {"cron": "0 3 * * *"}}})
    wall = Wall()
    schedule = Schedule(timings(settings, [LINALG]), now=wall)

    assert schedule.due() == ()
    assert schedule.due_at()["linalg"].hour == 3


def test_each_profile_runs_as_often_as_promised() -> None:
    """Instant every minute, quick every five, standard every hour; by default no deep one."""
    often = {"instant": 60, "quick": 300, "standard": 3600}
    settings = load(flags={"run": {"profile": "deep"}})
    table = timings(settings, make_plan(settings, "schedule").specs)
    profile_of = {spec.name: spec.profile for spec in CATALOG}

    assert {often[profile_of[name]] == timing.interval_s for name, timing in table.items()} == {
        True
    }
    assert set(table) == {spec.name for spec in CATALOG if spec.profile in often}
    assert make_plan(load(), "schedule").profile == "quick"


def test_all_that_loads_a_device_comes_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes of profile standard share a run, and its import of torch."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    clock, wall = Clock(), Wall()
    settings = load(flags={"run": {"profile": "standard"}})
    specs = make_plan(settings, "schedule").specs
    schedule = Schedule(timings(settings, specs), monotonic=clock, now=wall, shift=lambda: 0.0)
    at_start = schedule.due()
    clock.now_s += due_s(schedule, wall)
    standard = {spec.name for spec in specs if spec.profile == "standard"}

    assert not standard & set(at_start)
    assert standard <= set(schedule.due())


def test_a_busy_device_is_tried_again_within_the_hour() -> None:
    """After a sixth of the interval, again and again; when it was idle at the interval."""
    both = Both(a=Timing(3600, phase=0.0))
    both.pass_s(-START.timestamp() % 3600 + 3600)
    first = both.run()
    both.schedule.try_again({"a": None})
    both.pass_s(599)
    early = "a" in both.run()
    both.pass_s(1)
    again = "a" in both.run()
    both.pass_s(600)
    not_again = "a" in both.run()
    both.pass_s(3000)

    assert "a" in first
    assert (early, again, not_again) == (False, True, False)
    assert "a" in both.run()


def test_a_gpu_that_is_busy_for_ever_leaves_its_siblings_their_hour() -> None:
    """It alone is tried every ten minutes; at the hour the probe runs on all devices."""
    both = Both(a=Timing(3600, phase=0.0), b=Timing(3600, phase=0.0))
    both.pass_s(-START.timestamp() % 3600 + 3600)
    both.run()
    runs: list[tuple[int, tuple[str, ...], dict[str, frozenset[str]]]] = []
    busy = {"a": frozenset({"GPU-1"})}
    both.schedule.try_again(busy)
    for minute in range(1, 121):
        both.pass_s(60)
        if due := both.schedule.due():
            runs.append((minute, due, narrowed := both.schedule.narrowed(due)))
            both.schedule.record_start(due, narrowed)
            both.schedule.try_again(busy)

    alone = [(("a",), busy)] * 5
    assert [run[1:] for run in runs] == [*alone, (("a", "b"), {}), *alone, (("a", "b"), {})]
    assert [run[0] for run in runs] == list(range(10, 121, 10))


def test_a_time_of_day_is_kept_though_the_device_was_busy() -> None:
    """Who wrote it means it; a probe that is unknown by now is none to try."""
    both = Both(a=Timing(86400, cron="0 3 * * *", phase=0.0))
    both.pass_s(15 * 3600)
    both.run()
    due = both.schedule.due_at()
    both.schedule.try_again({"a": None, "gone": None})

    assert both.schedule.due_at() == due


def test_two_that_found_each_other_do_not_meet_again() -> None:
    """Two daemons on one node come at one time; each draws when it tries again."""
    waits = []
    for shift in (-1.0, 0.5):
        both = Both(0.0, a=Timing(3600, jitter_s=360, phase=0.0), b=Timing(3600, jitter_s=3600))
        both.schedule.record_start(("a", "b"))
        both.shifts.append(shift)
        both.schedule.try_again({"a": None, "b": None})
        due = both.schedule.due_at()
        waits.append([(due[name] - START).total_seconds() for name in ("a", "b")])

    assert waits == [[300, 300], [750, 750]]


def test_a_reload_of_a_whole_fleet_does_not_bring_it_at_once() -> None:
    """What loads a device takes its turn of another interval; others count from their last run."""
    table = {"light": Timing(3600), "heavy": Timing(7200, phase=0.25)}
    both = Both(**table)
    both.schedule.record_start(table)
    both.pass_s(3500)
    both.schedule.replace({"light": Timing(1800), "heavy": Timing(1800, phase=0.25)})
    due = both.schedule.due_at()

    assert due["light"] == both.wall.now
    assert due["heavy"] == START + timedelta(seconds=4050)  # 450 s after each half hour


@pytest.mark.parametrize("wait_s", [0.0, 0.5, 9.0, 11.0])
@pytest.mark.parametrize("cron", [None, "0 13 * * *"])
def test_its_turn_at_the_start_is_no_start(wait_s: float, cron: str | None) -> None:
    """Neither at once nor with the first run: a little later, and then it comes."""
    both = Both()
    both.wall.now = START + timedelta(seconds=3600 - wait_s)
    table = {"light": Timing(300), "heavy": Timing(3600, cron=cron, phase=0.0)}
    both.schedule.replace(table)
    at_start = both.run()
    both.pass_s(11 if wait_s or cron is None else 3600)

    assert at_start == ("light",)
    if wait_s or cron is None:
        assert "heavy" in both.run()


def test_a_turn_that_comes_while_a_retry_starts_is_not_used_up() -> None:
    """It was settled that it runs on one device alone: the siblings keep their hour."""
    both = Both(a=Timing(3600, phase=0.0))
    both.pass_s(-START.timestamp() % 3600 + 3600)
    both.run()
    both.schedule.try_again({"a": frozenset({"GPU-1"})})
    both.pass_s(3600 - SHARED_S - 1)
    narrowed = both.schedule.narrowed(["a"])
    both.pass_s(2)
    both.schedule.record_start(["a"], narrowed)
    both.pass_s(SHARED_S)

    assert narrowed == {"a": frozenset({"GPU-1"})}
    assert both.schedule.due() == ("a",)
    assert both.schedule.narrowed(["a"]) == {}
