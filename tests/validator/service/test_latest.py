"""The newest result of each probe and device counts, as long as it can."""

from datetime import timedelta

import pytest

from probes.contract import Finding, Reason, Result, Status
from tests.validator.reports import QUICK
from tests.validator.service.fake_runner import NOON, Clock, everything, gpu, gpus, report, result
from validator.piecewise import at_once
from validator.report import CPU, Device, Environment, NotRun, NotRunReason
from validator.service.entry import Pair
from validator.service.latest import Latest, slimmed

OLDEST_S = 900.0
ALL = dict.fromkeys((spec.name for spec in QUICK), OLDEST_S)
HOST = [spec.name for spec in QUICK if spec.needs == "host"]
OPS = Pair("tensor_ops", "cuda:0")


class Known:
    """A Latest under a clock of its own; by default it knows that all is well."""

    def __init__(self, devices: tuple[Device, ...] = ()) -> None:
        self.clock = Clock()
        self.latest = Latest(self.clock)
        self.latest.limit(ALL)
        if devices:
            self.latest.accept(report(everything(devices), devices))

    def status(self, pair: Pair = OPS) -> Status:
        """What counts of a pair now."""
        return self.latest.results()[pair].status

    def hear(self, status: Status, reason: Reason = "check_failed", device: str = "cuda:0") -> None:
        """A run of tensor_ops alone on one device."""
        devices = gpus(1)
        self.latest.accept(report([result("tensor_ops", device, status, reason)], devices))


def test_before_the_first_run_nothing_is_healthy() -> None:
    """No result is not ready, has no report, and every probe is planned on what is not known."""
    known = Known()

    assert known.latest.merged_report() is None
    assert not known.latest.readiness().ready
    assert known.latest.readiness().reason.startswith("not ready: no result yet of torch_version")
    assert Pair("torch_version", "cpu") in known.latest.planned
    assert Pair("tensor_ops", "unknown") in known.latest.planned


def test_all_passed_is_ready() -> None:
    """The merged report has one result a pair and says so."""
    known = Known(gpus(2))
    merged = known.latest.merged_report()

    assert merged is not None
    assert (merged.trigger, merged.status) == ("merged", "pass")
    pairs = len(HOST) + 2 * (len(QUICK) - len(HOST))
    assert len(merged.results) == len(known.latest.planned) == pairs
    assert known.latest.readiness().ready
    assert known.latest.readiness().reason == merged.summary


def test_a_newer_result_replaces_its_own_pair_alone() -> None:
    """One probe fails on its next run: that pair is bad, all others stay."""
    known = Known(gpus(1))
    known.hear("fail")
    merged = known.latest.merged_report()

    assert merged is not None
    assert {one.probe for one in merged.results if one.status != "pass"} == {"tensor_ops"}
    assert not known.latest.readiness().ready
    known.hear("pass", "ok")
    assert known.latest.readiness().ready


@pytest.mark.parametrize(
    ("status", "ready"),
    [("pass", True), ("warn", True), ("fail", False), ("error", False)],
)
def test_the_worst_status_decides(status: Status, ready: bool) -> None:  # noqa: FBT001 - a table
    """One result of each status among passes."""
    known = Known(gpus(1))
    known.hear(status)

    assert known.latest.readiness().ready is ready


def test_a_planned_probe_without_result_is_not_ready() -> None:
    """All probes but one passed; that one was never heard of."""
    known = Known()
    some = [one for one in everything() if one.probe != "autograd"]
    known.latest.accept(report(some))

    assert not known.latest.readiness().ready
    assert "autograd" in known.latest.readiness().reason


def test_a_known_fail_is_said_before_what_is_missing() -> None:
    """A node that already failed says so, though other probes have no result yet."""
    known = Known()
    known.latest.accept(report([result("torch_version", status="fail", reason="import_failed")]))

    assert known.latest.readiness().reason.startswith("fail: torch_version on cpu")


def test_what_got_no_chance_is_missing_or_stays() -> None:
    """`not_run` of a pair never heard of is not ready; of a known pair its result stays."""
    missed = NotRun(probe="tensor_ops", device="cuda:0", reason="run_timeout")
    fresh = Known()
    others = [one for one in everything(gpus(1)) if one.probe != "tensor_ops"]
    fresh.latest.accept(report(others, gpus(1), [missed]))
    known = Known(gpus(1))
    known.latest.accept(report(others, gpus(1), [missed]))
    merged = fresh.latest.merged_report()

    assert merged is not None
    assert (merged.status, merged.not_run) == ("error", (missed,))
    assert not fresh.latest.readiness().ready
    assert known.status() == "pass"
    assert known.latest.readiness().ready


@pytest.mark.parametrize(("age_s", "expected"), [(OLDEST_S, "pass"), (OLDEST_S + 1, "error")])
def test_an_old_pass_is_an_error(age_s: float, expected: Status) -> None:
    """At its limit a result still counts; a second later nothing can be told."""
    known = Known(gpus(1))
    known.clock.now_s += age_s

    assert known.status() == expected
    assert known.latest.readiness().ready is (expected == "pass")


def test_an_old_fail_stays_a_fail() -> None:
    """Age never makes a broken device better."""
    known = Known(gpus(1))
    known.hear("fail")
    known.clock.now_s += 10 * OLDEST_S

    assert known.status() == "fail"


def test_growing_old_is_noticed_once() -> None:
    """Time alone changes what is shown: the version grows when it does, and only then."""
    known = Known(gpus(1))
    known.latest.has_aged()
    version = known.latest.version
    unchanged = known.latest.has_aged()
    known.clock.now_s += OLDEST_S + 1

    assert not unchanged
    assert known.latest.version == version
    assert known.latest.has_aged()
    assert not known.latest.has_aged()
    assert known.latest.version == version + 1


@pytest.mark.parametrize("reason", ["gpu_busy", "disabled"])
@pytest.mark.parametrize("verdict", ["pass", "warn", "fail", "error"])
def test_a_skip_without_chance_keeps_the_last_verdict(verdict: Status, reason: Reason) -> None:
    """A busy device is as it was last seen, under the name that it has now."""
    known = Known(gpus(1))
    known.hear(verdict)
    known.hear("skip", reason)

    assert known.status() == verdict
    known.hear("skip", reason)
    assert known.status() == verdict


def test_a_skip_that_says_something_replaces_the_verdict() -> None:
    """What a probe needs is broken: its old pass is no longer true."""
    known = Known(gpus(1))
    known.hear("skip", "dependency")

    assert known.status() == "skip"


@pytest.mark.parametrize(
    ("verdict", "reason", "expected"),
    [
        ("pass", "gpu_busy", "skip"),
        ("error", "gpu_busy", "skip"),
        ("fail", "gpu_busy", "fail"),
        ("fail", "disabled", "skip"),
    ],
)
def test_a_kept_verdict_ends_with_its_age(
    verdict: Status, reason: Reason, expected: Status
) -> None:
    """Busy for too long: a pass is no longer vouched for, a fail is not healed by work on it."""
    known = Known(gpus(1))
    known.hear(verdict)
    known.clock.now_s += OLDEST_S + 1
    known.hear("skip", reason)

    assert known.status() == expected


def test_a_kept_verdict_without_newer_results_is_stale() -> None:
    """Neither the verdict nor the skip after it is fresh: nothing can be told."""
    known = Known(gpus(1))
    known.hear("skip", "gpu_busy")
    known.clock.now_s += OLDEST_S + 1

    assert known.status() == "error"


def test_busy_from_the_start_is_no_pass() -> None:
    """A device that was never free has no verdict; it is a skip."""
    known = Known()
    known.hear("skip", "gpu_busy")

    assert known.status() == "skip"


def test_a_removed_gpu_vanishes() -> None:
    """The next run sees one GPU of two: nothing of the other is left."""
    known = Known(gpus(2))
    known.latest.accept(report(everything(gpus(1)), gpus(1)))
    merged = known.latest.merged_report()

    assert merged is not None
    assert {one.device for one in merged.results} == {"cpu", "cuda:0"}
    assert [one.name for one in merged.devices] == ["cuda:0"]
    assert {pair.device for pair in known.latest.planned} == {"cpu", "cuda:0"}


def test_a_gpu_is_known_by_its_uuid() -> None:
    """The GPUs change places; a busy one keeps the verdict of its UUID, under its new name."""
    known = Known(gpus(2))
    known.latest.accept(
        report(
            [
                result("tensor_ops", "cuda:0"),
                result("tensor_ops", "cuda:1", "fail", "check_failed"),
            ],
            gpus(2),
        )
    )
    swapped = (gpu(0, "GPU-1"), gpu(1, "GPU-0"))
    busy = [result("tensor_ops", one.name, "skip", "gpu_busy") for one in swapped]
    known.latest.accept(report(busy, swapped))

    assert known.status(Pair("tensor_ops", "cuda:0")) == "fail"
    assert known.status(Pair("tensor_ops", "cuda:1")) == "pass"
    assert all(one.device == pair.device for pair, one in known.latest.results().items())


def test_another_gpu_in_the_same_place_is_not_the_old_one() -> None:
    """A replaced GPU that is busy has no verdict to keep."""
    known = Known(gpus(1))
    new = (gpu(0, "GPU-new"),)
    known.latest.accept(report([result("tensor_ops", "cuda:0", "skip", "gpu_busy")], new))

    assert known.status() == "skip"


def test_a_run_that_could_not_tell_the_uuid_still_finds_the_verdict() -> None:
    """The first run knew the device by name alone."""
    known = Known()
    nameless = (Device(name="cuda:0", type="cuda"),)
    known.latest.accept(report([result("tensor_ops", "cuda:0", "fail", "check_failed")], nameless))
    known.hear("skip", "gpu_busy")

    assert known.status() == "fail"


def test_probes_that_no_longer_count_are_forgotten() -> None:
    """A reload takes a failing probe out of the plan: its verdict goes with it."""
    known = Known(gpus(1))
    known.hear("fail")
    known.latest.limit({name: age for name, age in ALL.items() if name != "tensor_ops"})

    assert OPS not in known.latest.results()
    assert known.latest.readiness().ready
    known.hear("fail")
    assert OPS not in known.latest.results()


def test_equal_findings_are_kept_once() -> None:
    """Two devices that passed alike share what they say; one that differs has its own."""
    found = [Finding(id="tensor_ops.matmul", status="pass", observed=[n]) for n in (1, 1, 2)]
    results = [
        result("tensor_ops", f"cuda:{index}", findings=(one,)) for index, one in enumerate(found)
    ]
    known = Known()
    known.latest.accept(at_once(slimmed(report(results, gpus(3)))))
    first, second, third = (one.findings[0] for one in known.latest.results().values())

    assert first is second
    assert (first, third) == (found[0], found[2])


def test_results_are_counted() -> None:
    """Every result by status, every skip by reason as well."""
    known = Known(gpus(1))
    known.hear("fail")
    known.hear("skip", "gpu_busy")
    known.hear("skip", "gpu_busy")

    assert known.latest.runs["tensor_ops", "pass"] == 1
    assert known.latest.runs["tensor_ops", "fail"] == 1
    assert known.latest.runs["tensor_ops", "skip"] == 2
    assert known.latest.skips["tensor_ops", "gpu_busy"] == 2


def test_the_last_success_is_remembered_through_failures() -> None:
    """Its time stays while the probe fails and is skipped, and moves with the next pass."""
    known = Known(gpus(1))
    first = known.latest.entries()[OPS].succeeded_at
    known.hear("fail")
    known.hear("skip", "gpu_busy")

    assert first is not None
    assert first > NOON
    assert known.latest.entries()[OPS].succeeded_at == first


def test_the_reason_is_one_short_line_and_the_text_is_whole() -> None:
    """A summary of many lines and characters gives way to the check, and stands beside it whole."""
    known = Known(gpus(1))
    long = result("tensor_ops", "cuda:0", "fail", "check_failed", summary="x\n" * 300)
    known.latest.accept(report([long], gpus(1)))
    early = known.latest.readiness()
    known.latest.accept(report([long, *everything(gpus(1))[1:]], gpus(1)))
    known.latest.accept(report([long], gpus(1)))
    readiness = known.latest.readiness()

    assert early.reason == readiness.reason == "fail: tensor_ops on cuda:0: check_failed"
    assert early.text == readiness.text == "fail: tensor_ops on cuda:0: " + " ".join("x" * 300)


def test_a_reason_that_fits_is_told_once() -> None:
    """Nothing stands beside what is whole already."""
    known = Known(gpus(1))
    known.hear("fail")
    readiness = known.latest.readiness()

    assert readiness.whole == ""
    assert readiness.text == readiness.reason


def test_a_probe_that_waits_for_its_turn_keeps_no_node_from_work() -> None:
    """Of profile standard: without a result ready, after a failure not, until it passes again."""
    devices = gpus(1)
    known = Known(devices)
    known.latest.limit({**ALL, "linalg": OLDEST_S})
    known.latest.accept(report(everything(devices), devices))
    waiting = known.latest.readiness()
    known.latest.accept(report([result("linalg", "cuda:0", "fail")], devices))
    failed = known.latest.readiness()
    known.latest.accept(report(everything(devices), devices))
    still_failed = known.latest.readiness()
    known.latest.accept(report([result("linalg", "cuda:0", "pass", "ok")], devices))

    assert waiting.ready
    assert (failed.ready, still_failed.ready) == (False, False)
    assert failed.reason.startswith("fail: linalg on cuda:0")
    assert known.latest.readiness().ready


def test_a_run_without_torch_leaves_what_is_known_of_torch() -> None:
    """Every minute: devices and versions are those of the last run that looked at them."""
    known = Known(gpus(2))
    versions = Environment(torch="2.13.0", python="3.11.7")
    told = report(everything(gpus(2)), gpus(2)).model_copy(update={"environment": versions})
    bare = report([result("telemetry", "cpu")], ()).model_copy(
        update={"environment": Environment(python="3.11.7")}
    )
    known.latest.accept(told)
    known.latest.accept(bare)
    merged = known.latest.merged_report()

    assert merged is not None
    assert (merged.environment, len(merged.devices)) == (versions, 2)

    broken = report([result("torch_version", "cpu", "fail", "import_failed")], ())
    known.latest.accept(broken)
    merged = known.latest.merged_report()

    assert merged is not None
    assert merged.environment.torch is None


#: A probe that loads its device, with what follows on one fail of it.
LINALG_PAIR = Pair("linalg", "cuda:0")


def heard(*verdicts: tuple[Status, Reason], age_s: float = 0.0) -> Known:
    """All quick probes pass, and `linalg` has these verdicts one after another."""
    devices = gpus(1)
    known = Known(devices)
    known.latest.limit({**ALL, "linalg": OLDEST_S})
    for status, reason in verdicts:
        known.clock.now_s += age_s
        results = [*everything(devices), result("linalg", "cuda:0", status, reason)]
        known.latest.accept(report(results, devices))
    return known


@pytest.mark.parametrize("age_s", [0.0, OLDEST_S + 1])
@pytest.mark.parametrize(
    "later",
    [
        [("skip", "gpu_busy")],
        [("error", "internal_error"), ("skip", "gpu_busy")],
        [("skip", "not_applicable")],
        [("skip", "dependency"), ("error", "timeout")],
    ],
)
def test_only_a_pass_ends_the_fail_of_what_loads_a_device(
    later: list[tuple[Status, Reason]], age_s: float
) -> None:
    """Neither a skip nor an error, however old the fail is; a pass or warning does."""
    known = heard(("fail", "check_failed"), *later, age_s=age_s)
    after = [heard(("fail", "check_failed"), *later, (good, "ok")) for good in ("pass", "warn")]

    assert known.status(LINALG_PAIR) == "fail"
    assert not known.latest.readiness().ready
    assert known.latest.readiness().reason.startswith("fail: linalg on cuda:0")
    assert [one.latest.readiness().ready for one in after] == [True, True]


def test_whoever_switches_it_off_has_decided() -> None:
    """Then its fail counts for no longer than any other verdict."""
    known = heard(("fail", "check_failed"), ("skip", "disabled"), age_s=OLDEST_S + 1)

    assert known.status(LINALG_PAIR) == "skip"


@pytest.mark.parametrize("age_s", [0.0, OLDEST_S + 1])
def test_a_busy_device_makes_no_node_unready(age_s: float) -> None:
    """Neither at the first turn of what loads it, nor after passes of long ago."""
    never = heard(("skip", "gpu_busy"), age_s=age_s)
    once = heard(("pass", "ok"), ("skip", "gpu_busy"), ("skip", "gpu_busy"), age_s=age_s)

    assert never.latest.readiness().ready
    assert once.latest.readiness().ready


@pytest.mark.parametrize(("trigger", "ready"), [("schedule", True), ("cli", False)])
@pytest.mark.parametrize("reason", ["run_timeout", "cancelled"])
def test_what_was_cut_off_before_its_first_result_has_not_run_yet(
    trigger: str,
    ready: bool,  # noqa: FBT001 - a table
    reason: NotRunReason,
) -> None:
    """Of a schedule it comes again; of one run it is a chance that was lost."""
    devices = gpus(1)
    known = Known(devices)
    known.latest.limit({**ALL, "linalg": OLDEST_S})
    missed = [NotRun(probe="linalg", device="cuda:0", reason=reason)]
    known.latest.accept(report(everything(devices), devices, missed, trigger=trigger))

    assert known.latest.readiness().ready is ready


def test_a_device_that_hangs_is_no_turn_that_comes_again() -> None:
    """What was not run for that is told."""
    devices = gpus(1)
    known = Known(devices)
    known.latest.limit({**ALL, "linalg": OLDEST_S})
    missed = [NotRun(probe="linalg", device="cuda:0", reason="device_hangs")]
    known.latest.accept(report(everything(devices), devices, missed))

    assert not known.latest.readiness().ready


def findings(**statuses: Status) -> tuple[Finding, ...]:
    """A finding a check of `linalg`."""
    return tuple(Finding(id=f"linalg.{name}", status=one) for name, one in statuses.items())


@pytest.mark.parametrize("probe", ["linalg", "tensor_ops"])
@pytest.mark.parametrize(
    ("later", "counts"),
    [
        (findings(solve="pass", decompose="skip"), "fail"),
        (findings(solve="pass", decompose="pass"), "pass"),
        (findings(solve="skip", decompose="pass"), "pass"),
        (findings(solve="pass"), "pass"),
    ],
)
def test_a_pass_that_left_out_what_failed_heals_nothing(
    probe: str, later: tuple[Finding, ...], counts: Status
) -> None:
    """Others held the memory that the check needs, or came before it: the rest was right before."""
    pair, devices = Pair(probe, "cuda:0"), gpus(1)
    known = Known(devices)
    known.latest.limit({**ALL, "linalg": OLDEST_S})
    wrong = findings(solve="pass", decompose="fail")
    for one in (
        result(probe, "cuda:0", "fail", "check_failed", findings=wrong),
        result(probe, "cuda:0", "pass", "ok", findings=later),
    ):
        known.latest.accept(report([one], devices))

    assert known.status(pair) == counts
    known.latest.accept(report([result(probe, "cuda:0", "skip", "gpu_busy")], devices))
    assert known.status(pair) == counts
    succeeded = known.latest.entries()[pair].succeeded_at
    assert (succeeded is None) is (counts == "fail" and probe == "linalg")
    known.clock.now_s += OLDEST_S / 2
    whole = result(probe, "cuda:0", findings=findings(solve="pass", decompose="pass"))
    known.latest.accept(report([whole], devices))
    assert known.status(pair) == "pass"


@pytest.mark.parametrize(
    ("later", "devices", "kept"),
    [
        (result("linalg", "cpu", "skip", "dependency"), (), True),  # torch was not imported
        (result("linalg", "cpu"), (CPU,), True),  # no device could be listed
        (result("linalg", "cpu", "skip", "disabled"), (), False),
        (result("linalg", "cuda:0"), (gpu(0, "GPU-new"),), False),
    ],
)
def test_what_failed_stays_where_a_run_sees_no_device(
    later: Result,
    devices: tuple[Device, ...],
    kept: bool,  # noqa: FBT001 - a table
) -> None:
    """A survey that is lost once does not heal the GPU; another GPU in its place does."""
    known = heard(("fail", "check_failed"))
    known.latest.accept(report([later], devices))
    merged = known.latest.merged_report()

    assert merged is not None
    assert (merged.status == "fail") is kept
    known.latest.accept(report([result("linalg", "cuda:0")], gpus(1)))
    assert known.status(LINALG_PAIR) == "pass"


def test_probes_that_are_off_know_nothing_of_torch() -> None:
    """The versions stay those of the last run that imported it."""
    known = Known()
    versions = Environment(torch="2.13.0", python="3.11.7")
    bare = Environment(python="3.11.7")
    off = [result("autograd", status="skip", reason="disabled"), result("telemetry")]
    known.latest.accept(report(everything()).model_copy(update={"environment": versions}))
    known.latest.accept(report(off).model_copy(update={"environment": bare}))
    merged = known.latest.merged_report()

    assert merged is not None
    assert merged.environment == versions


NAMELESS = (Device(name="cuda:0", type="cuda"), Device(name="cuda:1", type="cuda"))
LINALG_1 = Pair("linalg", "cuda:1")


def linalg(devices: tuple[Device, ...], *verdicts: tuple[Status, Reason]) -> Known:
    """A Latest that has heard of linalg on these devices, one verdict each."""
    known = Known()
    known.latest.limit({"linalg": OLDEST_S})
    pairs = zip(devices, verdicts, strict=True)
    known.latest.accept(report([result("linalg", one.name, *told) for one, told in pairs], devices))
    return known


PASS: tuple[Status, Reason] = ("pass", "ok")
FAIL: tuple[Status, Reason] = ("fail", "check_failed")
BUSY: tuple[Status, Reason] = ("skip", "gpu_busy")
CUT_OFF = NotRun(probe="linalg", device="cpu", reason="run_timeout")


@pytest.mark.parametrize(
    ("results", "missed", "partly"),
    [
        ([], [CUT_OFF], ["linalg"]),
        ([], [CUT_OFF], []),
        ([result("linalg", "cpu", "error", "internal_error")], [], ["linalg"]),
    ],
)
def test_a_run_that_never_saw_the_devices_takes_no_verdict_of_theirs(
    results: list[Result], missed: list[NotRun], partly: list[str]
) -> None:
    """Cut off before it had a list of them, or a retry on one of them that had no worker."""
    known = linalg(gpus(2), BUSY, PASS)
    known.latest.accept(report(results, (), missed), partly=partly)

    assert known.status(LINALG_1) == "pass"
    if partly:
        assert LINALG_1 in known.latest.planned


@pytest.mark.parametrize(("before", "now"), [(gpus(2), NAMELESS), (NAMELESS, gpus(2))])
def test_a_retry_knows_the_siblings_though_one_list_lacks_the_uuids(
    before: tuple[Device, ...], now: tuple[Device, ...]
) -> None:
    """What a run on one device left out is found by its name."""
    known = linalg(before, BUSY, FAIL)
    known.latest.accept(report([result("linalg", "cuda:0")], now), partly=["linalg"])

    assert known.status(LINALG_PAIR) == "pass"
    assert known.status(LINALG_1) == "fail"


def test_a_clock_that_is_set_back_heals_nothing() -> None:
    """The pass before the fail has the later time; the probe is switched off and on again."""
    known = linalg(gpus(1), PASS)
    known.latest.accept(
        report([result("linalg", "cuda:0", *FAIL, started_at=NOON - timedelta(days=1))], gpus(1))
    )
    known.latest.limit({"linalg": OLDEST_S}, ())
    known.latest.accept(report([result("linalg", "cuda:0", "skip", "disabled")], gpus(1)))
    known.latest.limit({"linalg": OLDEST_S})

    assert [one.status for one in known.latest.standing()] == ["fail"]


@pytest.mark.parametrize(
    ("before", "found", "after"),
    [
        (PASS, FAIL, ["fail"]),
        (FAIL, PASS, []),
        (FAIL, BUSY, ["fail"]),
        (FAIL, ("skip", "disabled"), ["fail"]),
    ],
)
def test_what_a_run_finds_counts_though_its_probe_has_left_the_schedule(
    before: tuple[Status, Reason], found: tuple[Status, Reason], after: list[Status]
) -> None:
    """The settings were read again while it went on; later the probe is back."""
    known = linalg(gpus(1), before)
    known.latest.limit(ALL)
    known.latest.accept(report([result("linalg", "cuda:0", *found)], gpus(1)))
    kept = [one.status for one in known.latest.kept()]
    known.latest.limit({"linalg": OLDEST_S})

    assert kept == after
    assert [one.status for one in known.latest.standing()] == after


def test_a_probe_that_is_off_keeps_the_fail_of_a_device_without_a_uuid() -> None:
    """A run of probes that are off alone lists no device."""
    known = linalg(NAMELESS[:1], FAIL)
    known.latest.limit({"linalg": OLDEST_S}, ())
    known.latest.accept(report([result("linalg", "cpu", "skip", "disabled")], ()))
    off = known.latest.standing()
    known.latest.limit({"linalg": OLDEST_S})

    assert off == ()
    assert known.status(LINALG_PAIR) == "fail"


def test_a_device_without_a_uuid_that_goes_takes_a_fail_that_waits_along() -> None:
    """Its probe is off meanwhile; what has its name later may be another one."""
    known = linalg(NAMELESS, PASS, FAIL)
    known.latest.limit({"linalg": OLDEST_S}, ())
    off = [result("linalg", one.name, "skip", "disabled") for one in NAMELESS]
    known.latest.accept(report(off, NAMELESS))
    known.latest.plan([], NAMELESS[:1])
    known.latest.plan([], NAMELESS)
    known.latest.limit({"linalg": OLDEST_S})

    assert known.latest.kept() == ()
    assert [one.device for one in known.latest.gone] == ["cuda:1"]


@pytest.mark.parametrize("moved", [(gpu(0, "GPU-new"),), (gpu(0, "GPU-new"), gpu(1, "GPU-0"))])
def test_a_fail_stays_with_its_gpu_though_a_later_run_lacked_the_uuid(
    moved: tuple[Device, ...],
) -> None:
    """Another one in its place is sound."""
    known = linalg(gpus(1), FAIL)
    known.latest.accept(report([result("linalg", "cuda:0", *BUSY)], NAMELESS[:1]))
    known.latest.plan([], moved)

    assert [one.gpu_uuid for one in known.latest.kept()] == ["GPU-0"]
    assert [one.device for one in known.latest.standing()] == [one.name for one in moved[1:]]


def test_what_is_known_by_name_alone_hides_no_fail_of_the_gpu_that_has_that_name() -> None:
    """One GPU had no UUID in a list; then another one has its name."""
    known = Known()
    known.latest.limit({"linalg": OLDEST_S})
    devices = (gpu(0, "GPU-bad"), NAMELESS[1])
    told = [result("linalg", "cuda:0", *FAIL), result("linalg", "cuda:1")]
    known.latest.accept(report(told, devices))
    known.latest.plan([], (gpu(0, "GPU-other"), gpu(1, "GPU-bad")))

    assert {pair: one.status for pair, one in known.latest.results().items()} == {LINALG_1: "fail"}
