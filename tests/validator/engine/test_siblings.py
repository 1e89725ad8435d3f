"""A failed check beside the same check on the run's other devices: its status never changes."""

from typing import Any, cast

import pytest

from probes.contract import Finding, Result, Status, Triage, Try, Wrong
from tests.validator import reports
from validator.engine import siblings
from validator.engine.context import RunContext
from validator.engine.plan import Event
from validator.engine.siblings import compared, with_words
from validator.report import Device, overall
from validator.settings.model import Settings

CHECK = "tensor_ops.products"
GPUS = tuple(
    Device(name=f"cuda:{n}", type="cuda", uuid=f"GPU-{n}", model_name="H200") for n in range(4)
)


def finding(status: Status = "fail", *wrong: str, **fields: Any) -> Finding:
    """The check's finding, by default a failure."""
    ways: dict[str, Wrong] = dict.fromkeys(wrong or ("mm",), "bits")
    values = {"hint": "look", "action": "drain", "wrong": ways} if status == "fail" else {}
    return Finding(id=CHECK, status=status, **{**values, **fields})


def result(device: str, found: Finding | None = None, **fields: Any) -> Result:
    """The probe's result on a device, by default one that failed."""
    found = finding() if found is None else found
    return reports.result(
        "tensor_ops", device, found.status, summary="wrong", findings=(found,), **fields
    )


def triage_on(device: str, *results: Result, devices: tuple[Device, ...] = GPUS) -> Triage:
    """What is told of the failure on one device; every status is as it was."""
    told = compared(results, devices)

    assert [one.status for one in told] == [one.status for one in results]
    assert overall(told) == overall(results)
    triage = next(one for one in told if one.device == device).findings[0].triage
    return Triage() if triage is None else triage


PASSED = finding("pass")


def test_a_sibling_passes() -> None:
    """The same image on the same kind of GPU is right: this device."""
    triage = triage_on("cuda:1", result("cuda:0", PASSED), result("cuda:1"))

    assert (triage.location, triage.passes_on, triage.fails_on) == ("device", ("cuda:0",), ())


def test_all_siblings_fail_alike() -> None:
    """What they have in common is at fault, and no GPU is drained for it."""
    made = [result(gpu.name) for gpu in GPUS]
    triage = triage_on("cuda:0", *made)
    told = compared(made, GPUS)

    assert (triage.location, triage.fails_on) == ("environment", ("cuda:1", "cuda:2", "cuda:3"))
    assert {one.findings[0].action for one in told} == {"investigate"}
    assert all("do not drain for it" in one.findings[0].hint for one in told)
    assert all(one.findings[0].hint.endswith("; look") for one in told)
    assert len({one.summary for one in told}) == 1


def test_siblings_that_contradict_each_other_prove_nothing() -> None:
    """Two GPUs may be sick, and an image may be wrong now and then."""
    made = [result("cuda:0", PASSED), result("cuda:1"), result("cuda:2")]
    told = compared(made, GPUS)[1].findings[0]

    assert told.triage is not None
    assert (told.triage.location, told.action, told.hint) == ("unknown", "drain", "look")
    assert (told.triage.fails_on, told.triage.passes_on) == (("cuda:2",), ("cuda:0",))


@pytest.mark.parametrize(
    ("busy", "location"), [(1, "environment"), (2, "unknown")], ids=["most told", "half told"]
)
def test_siblings_that_told_nothing_are_not_all_of_them(busy: int, location: str) -> None:
    """Two sick GPUs beside busy ones must not pass for a wrong image, which nobody drains."""
    made = [result(gpu.name) for gpu in GPUS[: 4 - busy]]
    silent = [result(gpu.name, finding("skip"), reason="gpu_busy") for gpu in GPUS[4 - busy :]]
    told = compared([*made, *silent], GPUS)[0].findings[0]

    assert told.triage is not None
    assert told.triage.location == location
    assert told.action == ("drain" if location == "unknown" else "investigate")
    assert ("fails on all" in compared([*made, *silent], GPUS)[0].summary) is (
        location == "environment"
    )


OTHER_MODEL = Device(name="cuda:1", type="cuda", uuid="GPU-1", model_name="T4")
SAME_BOARD = tuple(
    Device(name=f"cuda:0:{n}", type="cuda", uuid=f"MIG-{n}", parent_uuid="GPU-0") for n in range(2)
)


@pytest.mark.parametrize(
    ("other", "devices"),
    [
        (result("cuda:1", PASSED), (GPUS[0], OTHER_MODEL)),
        (result("cuda:1", finding("skip"), reason="gpu_busy"), GPUS),
        (result("cuda:1", finding("warn"), reason="unproven"), GPUS),
        (result("cuda:1", finding("error"), reason="internal_error"), GPUS),
        (result("cuda:1", reason="crashed"), GPUS),
        (result("cuda:1", PASSED.model_copy(update={"id": "tensor_ops.sums"})), GPUS),
        (reports.result("autograd", "cuda:1", findings=(PASSED,)), GPUS),
        (result("cuda:1", PASSED), (GPUS[0],)),
    ],
    ids=["model", "busy", "unproven", "error", "crash", "check", "probe", "not of this run"],
)
def test_what_is_no_trial_of_the_same(other: Result, devices: tuple[Device, ...]) -> None:
    """Another kind of GPU, another check, or a result that tells nothing of this failure."""
    assert triage_on("cuda:0", result("cuda:0"), other, devices=devices) == Triage()


def test_instances_of_one_gpu_are_no_siblings() -> None:
    """They share its memory and its faults."""
    made = [result(device.name) for device in SAME_BOARD]

    assert triage_on("cuda:0:0", *made, devices=SAME_BOARD) == Triage()


def test_other_wrong_operations_are_another_failure() -> None:
    """What is wrong here is right there; an operation in common is no coincidence."""
    here = result("cuda:0", finding("fail", "mm", "bmm"))
    apart = result("cuda:1", finding("fail", "conv2d"))
    common = result("cuda:1", finding("fail", "bmm", "conv2d"))

    assert triage_on("cuda:0", here, apart).location == "device"
    assert triage_on("cuda:0", here, common).location == "environment"


def tried(location: str = "device", **fields: Any) -> Triage:
    """What the worker's retries told."""
    first = Try(ended_s=0.1, failed=True)
    places = {"device": "passes_on", "environment": "fails_on"}
    known = {places[location]: ("cpu",)} if location in places else {}
    values = {"kind": "persistent", "retries": 2, "failures": 2, "tries": (first, first, first)}
    return Triage(location=location, **{**values, **known, **fields})


def test_siblings_tell_more_than_the_cpu() -> None:
    """Right on the CPU and wrong on all GPUs: what they have in common."""
    made = [result(gpu.name, finding(triage=tried())) for gpu in GPUS]
    triage = triage_on("cuda:0", *made)

    assert triage.location == "environment"
    assert (triage.kind, triage.passes_on) == ("persistent", ("cpu",))


def test_a_sibling_that_contradicts_the_cpu() -> None:
    """Wrong on the CPU and right on the sibling: nothing is concluded, and nothing advised."""
    made = [result("cuda:0", finding(triage=tried("environment"))), result("cuda:1", PASSED)]
    told = compared(made, GPUS)[0].findings[0]

    assert told.triage is not None
    assert told.triage.location == "unknown"
    assert (told.action, told.hint) == ("drain", "look")


def test_what_fails_on_the_cpu_too_drains_nothing() -> None:
    """The image is at fault: still a failure, but the device is not to be drained."""
    (told,) = compared([result("cuda:0", finding(triage=tried("environment")))], GPUS)

    assert (told.status, told.findings[0].status) == ("fail", "fail")
    assert told.findings[0].action == "fix_image"
    assert "do not drain" in told.findings[0].hint
    assert told.findings[0].hint.endswith("; look")
    assert told.summary == (
        "wrong (persistent: failed again in 2 of 2 retries; fails on the CPU too: environment)"
    )


def test_what_fails_on_the_device_alone_keeps_its_action() -> None:
    """The GPU or the image's libraries for it is at fault: a second GPU shows which."""
    (told,) = compared([result("cuda:0", finding(triage=tried()))], GPUS)

    assert told.findings[0].action == "drain"
    assert "run the same image on a second device" in told.findings[0].hint


def test_a_second_gpu_has_shown_which() -> None:
    """The advice to try another one is of no use then."""
    made = [result("cuda:0", finding(triage=tried())), result("cuda:1", PASSED)]
    told = compared(made, GPUS)[0]

    assert told.findings[0].action == "drain"
    assert "second device" not in told.findings[0].hint
    assert "it passes on another device of this kind" in told.findings[0].hint
    assert told.summary.endswith("; passes on the CPU and 1 other of its kind: device)")


@pytest.mark.parametrize("action", ["fix_config", "reboot_node", "fix_image"])
def test_advice_about_more_than_the_device_is_kept(action: str) -> None:
    """Only draining and resetting a GPU is no cure for what all have in common."""
    made = [result(gpu.name, finding(action=action)) for gpu in GPUS[:2]]

    assert [one.findings[0].action for one in compared(made, GPUS)] == [action, action]


def test_a_check_that_computes_nothing_keeps_its_advice() -> None:
    """A driver that is wrong for all GPUs knows better what to do."""
    made = [result(gpu.name, finding(wrong={})) for gpu in GPUS[:2]]
    (first, _) = (one.findings[0] for one in compared(made, GPUS))

    assert first.triage is not None
    assert (first.triage.location, first.action, first.hint) == ("environment", "drain", "look")


def test_on_the_cpu_and_without_a_failure_nothing_changes() -> None:
    """A sound report is as it was."""
    made = [result("cpu"), result("cuda:0", PASSED), result("cuda:1", PASSED)]

    assert compared(made, GPUS) == made


def test_words_are_those_of_the_failures_alone() -> None:
    """A result that became an error of the host, or that warns, says nothing of retries."""
    warned = result("cuda:0", finding("warn", triage=tried()))

    assert with_words(warned) == warned


def test_an_event_has_the_words_and_the_run_keeps_what_the_worker_said() -> None:
    """The log tells a failure at once; what the siblings came to is known when the run is over."""
    events: list[Event] = []
    context = RunContext(Settings(), cast("Any", None), {}, events.append)
    made = result("cuda:0", finding(triage=tried()))
    context.record(made)

    assert context.results["tensor_ops", "cuda:0"] == made
    assert events[0].result is not None
    assert events[0].result.summary.endswith("; passes on the CPU: device)")


def test_many_devices_are_compared_once_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is the same for the instances of a GPU is looked up once, not for each of them."""
    calls = 0
    verdict = siblings._verdict

    def counted(*given: Any) -> Status:
        nonlocal calls
        calls += 1
        return verdict(*given)

    monkeypatch.setattr(siblings, "_verdict", counted)
    many = tuple(
        Device(name=f"cuda:{n}:{m}", type="cuda", uuid=f"MIG-{n}-{m}", parent_uuid=f"GPU-{n}")
        for n in range(8)
        for m in range(7)
    )
    told = compared([result(device.name) for device in many], many)
    triages = [one.findings[0].triage for one in told]

    assert calls == 8 * 49
    assert {(len(one.fails_on), one.location) for one in triages if one} == {(49, "environment")}
