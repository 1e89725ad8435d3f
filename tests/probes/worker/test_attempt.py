"""One probe on one device: the result when checks fail, the device raises, or both."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from probes.contract import GPU_BUSY, Finding, Observation, Result, Status, Triage, skipped
from probes.kit import breadcrumb, tensors
from probes.kit.symptoms import diagnose
from probes.node import hardware, nvml
from probes.worker import attempt, framework

ECC = "CUDA error: uncorrectable ECC error encountered"
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"

SOUND = Finding(id="sick.sum", status="pass")
WRONG = Finding(id="sick.sum", status="fail", message="the sum is 7", hint="repeat it")
NAMED = WRONG.model_copy(update={"hint": getattr(diagnose(ECC), "hint", "")})
LOST = Finding(id="sick.sum", status="error", message="no access", action="recreate_container")
TAKEN = skipped("sick.sum", f"{GPU_BUSY}: another process holds it")


class EmptyObservation(Observation):
    """An observation without fields."""


class SickProbe:
    """A probe with given findings, on a device that raises a given error."""

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = (SOUND,)
        self.error = ""
        self.observed: list[str] = []
        self.dtypes: list[torch.dtype] = []
        self.raises: set[str] = set()
        self.findings_on: dict[str, tuple[Finding, ...]] = {}  # device -> findings there

    def observe(self, device: str) -> EmptyObservation:
        """Record the device and the default dtype."""
        self.observed.append(device)
        self.dtypes.append(torch.get_default_dtype())
        if device in self.raises:
            raise RuntimeError("no kernel image")
        if device in self.findings_on:
            self.findings = self.findings_on[device]
        return EmptyObservation()

    def judge(self, _observation: EmptyObservation) -> Iterator[Finding]:
        """Yield the findings."""
        yield from self.findings

    def synchronize(self, _device: str) -> None:
        """Raise the error of a device with a lost context, if one is set."""
        if self.error:
            raise RuntimeError(self.error)


@pytest.fixture
def sick(monkeypatch: pytest.MonkeyPatch) -> SickProbe:
    """The probe, importable as `sick`, and its device."""
    sick = SickProbe()
    module: Any = ModuleType("sick")
    module.__file__ = "/nowhere/sick.py"
    module.observe, module.judge = sick.observe, sick.judge
    monkeypatch.setitem(sys.modules, "sick", module)
    monkeypatch.setattr(framework, "synchronize", sick.synchronize)
    return sick


def make_attempt(
    unproven: str = "fail",
    backend: str | None = "cuda",
    name: str = "sick",
    *,
    timings: bool = False,
    memory: bool = False,
    **more: Any,
) -> attempt.Attempt:
    """An attempt at the probe `sick` on the second GPU."""
    request = {
        "device": "cuda:1",
        "gpu_uuid": None,
        "shared": False,
        "observations": True,
        "timings": timings,
        "memory": memory,
    }
    probe = {"name": name, "module": "sick", "limits": {}, "timeout_s": 60.0}
    probe |= {"about_node": False, "certain": {}, "in_a_new_process": False}
    probe |= {"needs_torch": True, **more}
    return attempt.Attempt(probe, {**request, "backend": backend, "unproven": unproven})


@pytest.mark.parametrize(
    ("memory", "heavy", "started", "taken"),
    [(False, True, [], None), (True, True, ["cuda:1"], 5), (True, False, [], 5)],
)
def test_times_are_always_kept_and_memory_of_who_is_alone(
    memory: bool,  # noqa: FBT001
    heavy: bool,  # noqa: FBT001
    started: list[str],
    taken: int | None,
    sick: SickProbe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A heavy probe's process is new: its context is started before its memory is measured."""
    calls: list[str] = []

    class Watch:
        def __init__(self, _device: str) -> None:
            assert calls == started

        def taken_bytes(self) -> int:
            return 5

    monkeypatch.setattr(framework, "start", calls.append)
    monkeypatch.setattr(framework, "MemoryWatch", Watch)
    monkeypatch.setattr(breadcrumb, "parts", lambda: [("mean", 2.0, 3.0)])
    result = make_attempt(timings=True, memory=memory, in_a_new_process=heavy).first_result()

    assert sick.observed == ["cuda:1"]
    assert calls == started
    assert result.memory_bytes == taken
    assert [(part.name, part.duration_s) for part in result.timings] == [("mean", 1.0)]


def test_the_summary_counts_the_checks_that_applied(sick: SickProbe) -> None:
    """One is no plural, and what was skipped is not counted."""
    passing, left_out = Finding(id="sick.mean", status="pass"), skipped("sick.max", "no such type")
    sick.findings = (SOUND, left_out)
    one = make_attempt().first_result().summary
    sick.findings = (SOUND, passing, left_out)

    assert (one, make_attempt().first_result().summary) == ("1 check passed", "2 checks passed")


def test_an_error_of_the_device_afterwards_fails_a_probe_that_passed(sick: SickProbe) -> None:
    """Work that was queued and failed shows only when the device is waited for."""
    sick.error = ECC
    sick_attempt = make_attempt()
    result = sick_attempt.first_result()

    assert (result.status, result.reason) == ("fail", "torch_raised")
    assert [finding.id for finding in result.findings] == ["sick.completes"]
    assert result.findings[0].action == "drain"
    assert sick_attempt.poisoned


@pytest.mark.parametrize(
    ("finding", "error", "expected"),
    [
        (NAMED, ECC, ("fail", "check_failed")),
        (LOST, ECC, ("error", "lost_access")),
        (TAKEN, BUSY, ("skip", "gpu_busy")),
    ],
    ids=["fail", "error", "busy"],
)
def test_findings_that_name_the_cause_are_kept(
    sick: SickProbe, finding: Finding, error: str, expected: tuple[Status, str]
) -> None:
    """No finding is added, and nothing more is started on the device, not even a retry."""
    sick.findings, sick.error = (finding,), error
    sick_attempt = make_attempt()
    result = sick_attempt.first_result()

    assert (result.status, result.reason) == expected
    assert result.findings == (finding,)
    assert sick_attempt.poisoned
    assert sick_attempt.classify(result) is result
    assert sick.observed == ["cuda:1"]


def test_a_busy_gpu_is_the_reason_whatever_else_does_not_apply(sick: SickProbe) -> None:
    """The summary of a probe that was skipped because the GPU is busy says so."""
    sick.findings = (skipped("sick.nodes", "no GPU device nodes in /dev"), TAKEN)
    result = make_attempt().first_result()

    assert (result.status, result.reason, result.summary) == ("skip", "gpu_busy", TAKEN.message)


def test_an_error_afterwards_is_added_to_other_findings(sick: SickProbe) -> None:
    """A wrong value and a device that then breaks are two findings of one result."""
    sick.findings, sick.error = (WRONG,), ECC
    result = make_attempt().first_result()

    assert (result.status, result.reason) == ("fail", "check_failed")
    assert [finding.id for finding in result.findings] == ["sick.sum", "sick.completes"]
    assert result.summary == "sum: the sum is 7"


def test_a_failure_on_a_device_that_works_is_tried_again(sick: SickProbe) -> None:
    """Twice more on the device, and once on the CPU, to distinguish device and environment."""
    sick.findings = (WRONG,)
    sick_attempt = make_attempt()
    result = sick_attempt.classify(sick_attempt.first_result())

    assert sick.observed == ["cuda:1", "cuda:1", "cuda:1", "cpu"]
    assert not sick_attempt.poisoned
    assert result.status == result.findings[0].status == "fail"
    triage = triage_of(result)
    assert (triage.kind, triage.retries, triage.failures) == ("persistent", 2, 2)
    assert (triage.location, triage.fails_on) == ("environment", ("cpu",))


def test_what_stands_is_told_before_each_kind_of_retry(sick: SickProbe) -> None:
    """So that a retry on the CPU that never ends costs nothing of what those before it told."""
    told: list[tuple[str, int, int]] = []

    def tell(result: Result, device: str) -> None:
        triage = result.findings[0].triage or Triage()
        told.append((device, triage.retries, len(sick.observed)))

    sick.findings = (WRONG,)
    sick_attempt = make_attempt()
    sick_attempt.classify(sick_attempt.first_result(), tell)

    assert told == [("cuda:1", 0, 1), ("cpu", 2, 3)]


def test_only_what_failed_is_tried_again(sick: SickProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks that passed have told what they can: a retry costs what failed, and no more."""
    begun: list[frozenset[str]] = []
    monkeypatch.setattr(breadcrumb, "begin", begun.append)
    mean = Finding(id="sick.mean", status="pass")
    sick.findings = (mean, WRONG, OTHER, skipped("sick.max", "no such type"))
    trying = make_attempt()
    trying.classify(trying.first_result())

    assert begun == [frozenset(), *[frozenset({"mean", "max"})] * 3]


def test_a_check_that_fails_in_a_retry_alone_is_still_told(sick: SickProbe) -> None:
    """What was left out is not judged in a retry, so that it cannot fail there unseen."""
    sick.findings = (WRONG, SOUND)
    trying = make_attempt()
    failed = trying.first_result()
    sick.findings = (SOUND.model_copy(update={"id": WRONG.id}), OTHER)
    result = trying.classify(failed)

    assert result.status == "fail"
    triage = triage_of(result)
    assert (triage.kind, triage.retries, triage.failures) == ("intermittent", 2, 0)


DRAINED = WRONG.model_copy(update={"action": "drain"})
OTHER = DRAINED.model_copy(update={"id": "sick.product", "message": "the product is 0"})
OTHER_RIGHT = Finding(id=OTHER.id, status="pass")


def triage_of(result: Result, place: int = 0) -> Triage:
    """What the retries told of a finding, the first of the result by default."""
    triage = result.findings[place].triage
    assert triage is not None
    return triage


def test_a_failure_that_does_not_come_again_is_still_a_failure(sick: SickProbe) -> None:
    """The GPU that is wrong once in a while is the one that spoils a run."""
    sick.findings = (DRAINED,)
    trying = make_attempt()
    failed = trying.first_result()
    sick.findings = (SOUND,)
    result = trying.classify(failed)

    assert (result.status, result.reason) == ("fail", "check_failed")
    assert result.findings[0].model_copy(update={"triage": None}) == DRAINED
    triage = triage_of(result)
    assert (triage.kind, triage.failures) == ("intermittent", 0)
    assert (triage.location, triage.passes_on) == ("device", ("cpu",))
    assert [each.failed for each in triage.tries] == [True, False, False]


def test_what_fails_on_the_device_alone(sick: SickProbe) -> None:
    """The device, or the image's libraries for it."""
    sick.findings = (DRAINED,)
    sick.findings_on = {"cuda:1": (DRAINED,), "cpu": (SOUND,)}
    sick_attempt = make_attempt()
    result = sick_attempt.classify(sick_attempt.first_result())

    triage = triage_of(result)
    assert (triage.kind, triage.location) == ("persistent", "device")
    assert (triage.passes_on, triage.fails_on, triage.raises_on) == (("cpu",), (), ())


def test_each_failure_gets_its_own_location(sick: SickProbe) -> None:
    """A fault of the image must not hide a fault of the device."""
    sick.findings = (DRAINED, OTHER)
    sick_attempt = make_attempt()
    sick.findings_on = {"cuda:1": (DRAINED, OTHER), "cpu": (DRAINED, OTHER_RIGHT)}
    result = sick_attempt.classify(sick_attempt.first_result())

    assert [triage_of(result, place).location for place in range(2)] == ["environment", "device"]


@pytest.mark.parametrize(
    ("there", "location"),
    [
        ("mm (float32, 1x7x17): bits differ", "environment"),
        ("mm (float32, 9x9x9): bits differ", "environment"),
        ("mm (bfloat16, 1x7x17): bits differ", "unknown"),
        ("mm: bits differ", "environment"),
    ],
)
def test_another_defect_of_the_cpus_own_kernels_says_nothing(
    sick: SickProbe, there: str, location: str
) -> None:
    """The same operation in another type is wrong there: the device may be sick all the same."""
    wrong: Any = {"wrong": {"mm": "bits"}}
    here = DRAINED.model_copy(update={**wrong, "observed": ["mm (float32, 1x7x17): 1 of 9"]})
    sick.findings = (here,)
    sick_attempt = make_attempt()
    sick.findings_on = {
        "cuda:1": (here,),
        "cpu": (DRAINED.model_copy(update={**wrong, "observed": [there]}),),
    }
    result = sick_attempt.classify(sick_attempt.first_result())

    assert (triage_of(result).location, triage_of(result).fails_on) == (location, ("cpu",))


def test_an_error_on_the_cpu_tells_nothing(sick: SickProbe) -> None:
    """The finding is that of the first try."""
    sick.findings = (DRAINED,)
    sick.raises = {"cpu"}
    sick_attempt = make_attempt()
    result = sick_attempt.classify(sick_attempt.first_result())

    triage = triage_of(result)
    assert (triage.location, triage.raises_on, triage.fails_on) == ("unknown", ("cpu",), ())


def test_each_try_is_told_with_its_time_and_how_warm_the_gpu_was(
    sick: SickProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hot or cold: by NVML, of the GPU that the probe ran on."""
    degrees = iter((41, 55, None, 60))
    asked: list[str | None] = []

    def temperature_c(uuid: str | None) -> int | None:
        asked.append(uuid)
        return next(degrees)

    monkeypatch.setattr(nvml, "temperature_c", temperature_c)
    sick.findings = (WRONG,)
    trying = make_attempt()
    trying._gpu_uuid = "GPU-7"
    tries = triage_of(trying.classify(trying.first_result())).tries

    assert [each.temperature_c for each in tries] == [41, 55, None]
    assert [each.failed for each in tries] == [True, True, True]
    times = [each.ended_s for each in tries]
    assert times == sorted(times)
    assert times[0] > 0
    assert set(asked) == {"GPU-7"}


def test_a_first_try_that_took_long_is_not_made_again(sick: SickProbe) -> None:
    """The deadline is for all of it."""
    sick.findings = (WRONG,)
    trying = make_attempt()
    failed = trying.first_result()
    trying._started -= 7  # of 60 s

    assert trying.classify(failed) is failed
    assert sick.observed == ["cuda:1"]


def test_checks_of_the_node_are_not_run_on_the_cpu(sick: SickProbe) -> None:
    """A wrong driver does not depend on the device."""
    sick.findings = (DRAINED,)
    sick_attempt = make_attempt(about_node=True)
    result = sick_attempt.classify(sick_attempt.first_result())

    assert sick.observed == ["cuda:1", "cuda:1", "cuda:1"]
    triage = triage_of(result)
    assert (triage.kind, triage.location) == ("persistent", "unknown")
    assert (triage.fails_on, triage.passes_on, triage.raises_on) == ((), (), ())


def test_a_probe_observes_with_torchs_own_defaults(sick: SickProbe) -> None:
    """At every try; a default set by a plug-in is restored afterwards."""
    sick.findings = (WRONG,)
    sick_attempt = make_attempt()
    torch.set_default_dtype(torch.float64)
    try:
        sick_attempt.classify(sick_attempt.first_result())
        after = torch.get_default_dtype()
    finally:
        torch.set_default_dtype(torch.float32)

    assert sick.dtypes == [torch.float32] * 4
    assert after == torch.float64


def test_a_sound_probe_on_a_sound_device_passes(sick: SickProbe) -> None:
    """The control."""
    sick_attempt = make_attempt()
    result = sick_attempt.first_result()

    assert (result.status, result.reason, sick_attempt.poisoned) == ("pass", "ok", False)
    assert result.findings == (SOUND,)


def test_a_failure_that_nobody_has_proven_on_this_hardware_is_a_warning(sick: SickProbe) -> None:
    """The message says so, and the hint asks for a recording."""
    sick.findings = (WRONG,)
    result = make_attempt("warn", "hip").first_result()

    assert (result.status, result.reason) == ("warn", "unproven")
    assert result.summary == "sum: unproven on hip: the sum is 7"
    assert "--record FILE" in result.findings[0].hint


def test_what_torch_raises_on_unproven_hardware_is_a_warning_but_for_a_known_cause(
    sick: SickProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known error text means the same on any hardware."""
    errors = ["no kernel of that name", ECC]

    def raising(_device: str) -> EmptyObservation:
        raise RuntimeError(errors.pop(0))

    monkeypatch.setattr(sys.modules["sick"], "observe", raising)
    unknown, known = (make_attempt("warn", "hip").first_result() for _ in range(2))

    assert (unknown.status, unknown.reason) == ("warn", "unproven")
    assert (known.status, known.reason) == ("fail", "torch_raised")


def test_an_exception_in_shared_probe_code_is_an_internal_error(
    sick: SickProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the kit must not look like torch's; an error in torch's own files is torch's."""
    monkeypatch.setattr(sys.modules["sick"], "observe", lambda _: tensors.bits(None))  # type: ignore[arg-type]
    ours = make_attempt().first_result()
    monkeypatch.setattr(sys.modules["sick"], "observe", lambda _: torch.nn.Linear("two", 3))  # type: ignore[arg-type]
    theirs = make_attempt().first_result()

    assert (ours.status, ours.reason) == ("error", "internal_error")
    assert (theirs.status, theirs.reason) == ("fail", "torch_raised")


def test_the_hardware_type_of_a_check_on_the_host(
    sick: SickProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks of the node's GPUs depend on the GPU vendor, other checks on the CPU."""
    amd = hardware.Hardware(vendors=("amd",))
    monkeypatch.setattr(hardware, "detect", lambda: amd)
    monkeypatch.setattr(attempt, "cpu_type", lambda: "cpu-x86_64")
    sick.findings = (WRONG,)

    assert make_attempt("warn", None, about_node=True).first_result().status == "warn"
    assert make_attempt("warn", None, about_node=False).first_result().status == "fail"
