"""A device that hangs costs a quick check one deadline and a little, not one a probe."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from probes.contract import ProbeSpec
from tests.validator.cli.test_signals import until
from tests.validator.runs import Ran, marked, ran, spec, write
from validator.engine import attempted as attempted_module
from validator.engine import cgroup, hangs, job, outcomes
from validator.engine.attempted import Attempted
from validator.engine.hangs import DeviceHangs
from validator.engine.plan import Plan
from validator.engine.runner import Runner
from validator.engine.stopping import Stop
from validator.report import CPU, Device, Report, json_schema
from validator.settings import loading

pytestmark = [pytest.mark.torch, pytest.mark.slow]

HANG = "    time.sleep(600)"


def hanging(folder: Path, *names: str) -> None:
    """Write probes that hang."""
    for name in names:
        write(folder, name, HANG)


def plan(*names: str, **fields: object) -> Plan:
    """A plan of these probes, in that order."""
    return Plan(tuple(replace(spec(name), **fields) for name in names), "quick", "cli")  # type: ignore[arg-type]


def reasons(seen: Ran) -> dict[str, str]:
    """What became of each probe, by name."""
    return {result.probe: result.reason for result in seen.report.results} | {
        one.probe: one.reason for one in seen.report.not_run
    }


def test_after_two_hangs_in_a_row_nothing_more_is_run_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first costs its own deadline, the second a short one, and the rest nothing."""
    monkeypatch.setattr(hangs, "SHORTENED_S", 0.5)
    hanging(folder, "one", "two", "three")

    seen = ran(plan("one", "two", "three", "earlier", timeout_s=2))

    assert reasons(seen) == {
        "one": "timeout",
        "two": "timeout",
        "three": "device_hangs",
        "earlier": "device_hangs",
    }
    assert seen.of("one").summary == "no result within 2 s"
    assert seen.of("two").summary == (
        "no result within 0.5 s, shortened since a probe on this device had timed out"
    )
    assert [seen.of(name).status for name in ("one", "two")] == ["fail", "error"]
    assert seen.report.status == "fail"


def test_a_probe_that_answers_between_two_hangs_keeps_the_rest_running(folder: Path) -> None:
    """A probe that hangs by itself costs only itself, as before."""
    hanging(folder, "one", "three")

    seen = ran(plan("one", "earlier", "three", "later"))

    assert reasons(seen) == {"one": "timeout", "earlier": "ok", "three": "timeout", "later": "ok"}
    assert seen.report.not_run == ()


def test_a_crash_between_two_hangs_is_an_end_too(folder: Path) -> None:
    """What dies by a signal does not hang: the rest are run."""
    hanging(folder, "one", "three")
    write(folder, "sicken", "    os.abort()")

    seen = ran(plan("one", "sicken", "three", "later"))

    assert reasons(seen)["sicken"] == "crashed"
    assert reasons(seen)["later"] == "ok"


def test_heavy_probes_side_by_side_hang_in_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two in one of the rows is a row: what comes after them is not run."""
    monkeypatch.setattr(hangs, "SHORTENED_S", 0.5)
    monkeypatch.setattr(cgroup, "cores", lambda: 2)
    hanging(folder, "one", "two", "three", "four", "five")

    seen = ran(plan("one", "two", "three", "four", "five", timeout_s=2, profile="standard"))
    found = reasons(seen)

    assert found["one"] == found["two"] == "timeout"
    assert "timeout" in {found["three"], found["four"]}
    assert found["five"] == "device_hangs"
    assert seen.report.duration_s < 30


SLOW = "    time.sleep(2.5)"


def test_a_sound_probe_beside_one_that_hangs_does_not_fail(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs longer than the short deadline, and less than its own: nothing is told of it."""
    monkeypatch.setattr(hangs, "SHORTENED_S", 0.5)
    monkeypatch.setattr(cgroup, "cores", lambda: 2)
    hanging(folder, "one")
    write(folder, "two", SLOW)
    heavy = replace(spec("one"), timeout_s=1, profile="standard")
    sound = replace(spec("two"), timeout_s=60, profile="standard")

    seen = ran(Plan((heavy, sound), "standard", "cli"))

    assert (seen.of("one").status, seen.of("two").status) == ("fail", "error")
    assert seen.of("two").reason == "timeout"
    assert "shortened" in seen.of("two").summary


def test_the_next_run_of_the_same_runner_is_patient_again(folder: Path) -> None:
    """A daemon's next run finds out for itself whether the device still hangs."""
    hanging(folder, "one", "two")
    runner = Runner()

    first = ran(plan("one", "two", "later"), runner=runner)
    for name in ("one", "two"):
        write(folder, name)
    second = ran(plan("one", "two", "later"), runner=runner)

    assert reasons(first)["later"] == "device_hangs"
    assert second.report.status == "pass"


def quick(own_s: float = 60.0) -> ProbeSpec:
    """A probe of the quick profile."""
    return replace(spec("quick"), timeout_s=own_s)


def test_deadlines_fit_the_time_of_a_quick_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 10 s after a timeout, less where a quick check must end, never too little to run."""
    now_s = 0.0
    monkeypatch.setattr(hangs, "now", lambda: now_s)
    known = DeviceHangs()

    assert known.deadline_s(quick(), "cuda:0", 60) == 60
    now_s = 62.0
    known.record_timeout("cuda:0", None)
    assert known.deadline_s(quick(), "cuda:0", 60) == 10
    assert known.deadline_s(quick(), "cuda:0", 3) == 3
    assert known.deadline_s(quick(), "cuda:1", 60) == 60
    now_s = 66.0
    assert known.deadline_s(quick(), "cuda:0", 60) == 7
    assert known.deadline_s(replace(quick(), profile="deep"), "cuda:0", 600) == 10
    now_s = 300.0
    assert known.deadline_s(quick(), "cuda:0", 60) == 5


def test_a_probe_under_way_is_cut_by_a_timeout_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets ten seconds more; one that starts later has its short deadline already."""
    now_s = 60.0
    monkeypatch.setattr(hangs, "now", lambda: now_s)
    known = DeviceHangs()

    assert known.shortened_deadline_s("cpu", 20, 60) == 60
    known.record_timeout("cpu", None)
    assert known.shortened_deadline_s("cpu", 20, 60) == 50
    assert known.shortened_deadline_s("cpu", 5, 60) == 60
    assert known.shortened_deadline_s("cpu", 61, 10) == 10
    assert known.shortened_deadline_s("cuda:0", 20, 60) == 60


def test_hangs_count_in_a_row_and_by_device() -> None:
    """On a GPU one in each of two rows is two, and an answer in any row begins anew."""
    known = DeviceHangs()
    known.record_timeout("cuda:0", "a row")
    known.record_answer("cuda:0", "another row")
    known.record_timeout("cuda:0", "a row")
    known.record_timeout("cuda:1", "a row")

    assert not known.is_given_up("cuda:0")
    assert not known.is_given_up("cuda:1")
    known.record_timeout("cuda:0", "a row")
    assert known.is_given_up("cuda:0")
    known.record_timeout("cuda:1", "another row")
    assert known.is_given_up("cuda:1")


def test_on_the_cpu_jobs_run_side_by_side() -> None:
    """One hang in each of two is no row: each has one chance more."""
    known = DeviceHangs()
    known.record_timeout("cpu", "a job")
    known.record_timeout("cpu", "another")

    assert not known.is_given_up("cpu")
    known.record_timeout("cpu", "another")
    assert known.is_given_up("cpu")


def test_the_schema_knows_the_reason() -> None:
    """A reader of the published schema accepts the report of a device that hangs."""
    told = json_schema()["$defs"]["NotRun"]["properties"]["reason"]["enum"]

    assert "device_hangs" in told


#: Wrong at the first try, and then it never ends.
FAILS_THEN_HANGS = """
    global tries
    tries = globals().get("tries", 0) + 1
    if tries > 1:
        time.sleep(600)
    return Seen(total=7)
"""


def test_retries_that_do_not_end_cost_their_share_and_are_no_hang_of_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed has its result, soon, and the probes after it their own deadlines."""
    monkeypatch.setattr(attempted_module, "_RETRIES_SHARE", 0.05)
    write(folder, "one", FAILS_THEN_HANGS)
    write(folder, "two", SLOW)
    plan = Plan(
        (replace(spec("one"), timeout_s=60), replace(spec("two"), timeout_s=60)), "quick", "cli"
    )

    seen = ran(plan)
    one = seen.of("one")

    assert (one.status, one.reason) == ("fail", "check_failed")
    assert one.findings[0].triage is not None
    assert one.findings[0].triage.unfinished_on == ("cpu",)
    assert (one.findings[0].triage.kind, one.findings[0].triage.retries) == ("unknown", 0)
    assert "retries on cpu did not end" in one.summary
    assert seen.of("two").reason == "ok"
    assert seen.report.duration_s < 60


@pytest.mark.parametrize(("phases", "given_up"), [(("cuda:0",), True), (("cuda:0", "cpu"), False)])
def test_a_retry_on_an_accelerator_that_does_not_end_is_its_hang(
    phases: tuple[str, ...], *, given_up: bool
) -> None:
    """A slow retry on the CPU says nothing of the device, whose own retries had ended."""
    known = DeviceHangs()
    context: Any = SimpleNamespace(hangs=known)
    one = job.Job(Device(name="cuda:0", type="cuda"), [spec("one")], 1, context)
    failed = outcomes.broken(spec("one"), CPU, "wrong")
    for _ in range(2):
        attempted = Attempted(spec("one"), 100.0)
        for device in phases:
            attempted.try_again(failed, device)
        one._record_end(outcomes.cut_short, attempted)

    assert known.is_given_up("cuda:0") is given_up


def test_each_kind_of_retry_has_its_share_of_the_deadline() -> None:
    """On its device half of it, on the CPU a quarter: never more than what is left of it."""
    failed = outcomes.broken(spec("one"), CPU, "wrong")
    attempted = Attempted(spec("one"), 100.0)
    left: list[float] = []
    for device in ("cuda:0", "cpu"):
        attempted.try_again(failed, device)
        left.append(attempted.remaining_s(DeviceHangs(), "cuda:0"))
    on_cpu = Attempted(spec("one"), 100.0)
    on_cpu.try_again(failed, "cpu")
    short = Attempted(spec("one"), 0.0, 100.0)
    short.try_again(failed, "cuda:0")

    assert left == pytest.approx([50, 25], abs=1)
    assert on_cpu.remaining_s(DeviceHangs(), "cpu") == pytest.approx(50, abs=1)
    assert short.remaining_s(DeviceHangs(), "cuda:0") <= 0


#: The same, and it says when the retries have begun.
FAILS_THEN_TELLS = """
    global tries
    tries = globals().get("tries", 0) + 1
    if tries > 1:
        open({mark!r}, "w").close()
        time.sleep(600)
    return Seen(total=7)
"""


@pytest.mark.parametrize("by", ["a signal", "the run's deadline"])
def test_a_failure_stands_whatever_stops_its_retries(folder: Path, by: str) -> None:
    """It was seen before anybody stopped the run: no `not run`, and in a burn no earlier pass."""
    mark = folder / "retries"
    write(folder, "one", FAILS_THEN_TELLS.format(mark=str(mark)))
    stop, settings = Stop(), loading.load()
    if by != "a signal":
        settings = loading.load(flags={"run": {"timeout": "6s"}})

    async def until_stopped() -> Report:
        two = replace(spec("two"), timeout_s=60)
        each = Plan((replace(spec("one"), timeout_s=60), two), "quick", "cli")
        going = asyncio.ensure_future(Runner().run(each, settings, stop=stop))
        if by == "a signal":
            assert await asyncio.to_thread(until, mark.exists)
            stop.take(signal.SIGTERM)
        return await going

    report = asyncio.run(until_stopped())
    (one,) = report.results

    assert (report.status, one.probe, one.reason) == ("fail", "one", "check_failed")
    assert "retries on cpu did not end" in one.summary
    assert [missed.probe for missed in report.not_run] == ["two"]
    assert marked() == []
