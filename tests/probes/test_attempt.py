"""One probe on one device: whose word counts when the device breaks while it is looked at."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from probes.contract import GPU_BUSY, Finding, Observation, Status, skipped
from probes.kit import breadcrumb, tensors
from probes.kit.symptoms import diagnose
from probes.node import hardware
from probes.worker import attempt

ECC = "CUDA error: uncorrectable ECC error encountered"
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"

SOUND = Finding(id="sick.sum", status="pass")
WRONG = Finding(id="sick.sum", status="fail", message="the sum is 7", hint="repeat it")
NAMED = WRONG.model_copy(update={"hint": getattr(diagnose(ECC), "hint", "")})
LOST = Finding(id="sick.sum", status="error", message="no access", action="recreate_container")
TAKEN = skipped("sick.sum", f"{GPU_BUSY}: another process holds it")


class Seen(Observation):
    """Nothing."""


class Sick:
    """A probe whose judge says what it is told to, and a device that raises what it is told to."""

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = (SOUND,)
        self.error = ""
        self.observed: list[str] = []
        self.dtypes: list[torch.dtype] = []
        self.raises: set[str] = set()
        self.others: dict[str, tuple[Finding, ...]] = {}  # device -> what is found there

    def observe(self, device: str) -> Seen:
        """Note the device, and the default dtype that it is looked at with."""
        self.observed.append(device)
        self.dtypes.append(torch.get_default_dtype())
        if device in self.raises:
            raise RuntimeError("no kernel image")
        if device in self.others:
            self.findings = self.others[device]
        return Seen()

    def judge(self, _seen: Seen) -> Iterator[Finding]:
        """Give the findings."""
        yield from self.findings

    def synchronize(self, _device: str) -> None:
        """Raise as a device does whose context is lost."""
        if self.error:
            raise RuntimeError(self.error)


@pytest.fixture
def sick(monkeypatch: pytest.MonkeyPatch) -> Sick:
    """The probe, importable as `sick`, and its device."""
    sick = Sick()
    module: Any = ModuleType("sick")
    module.__file__ = "/nowhere/sick.py"
    module.observe, module.judge = sick.observe, sick.judge
    monkeypatch.setitem(sys.modules, "sick", module)
    monkeypatch.setattr(attempt, "synchronize", sick.synchronize)
    return sick


def tried(
    unproven: str = "fail", backend: str | None = "cuda", name: str = "sick", **more: Any
) -> attempt.Attempt:
    """An attempt at it on the second GPU."""
    request = {
        "device": "cuda:1",
        "gpu_uuid": None,
        "shared": False,
        "observations": True,
        "timings": False,
    }
    probe = {"name": name, "module": "sick", "limits": {}, "timeout_s": 60.0}
    probe |= {"about_node": False, "certain": {}, **more}
    return attempt.Attempt(probe, {**request, "backend": backend, "unproven": unproven})


def test_the_summary_counts_the_checks_that_applied(sick: Sick) -> None:
    """One is no plural, and what was skipped is not counted."""
    passing, left_out = Finding(id="sick.mean", status="pass"), skipped("sick.max", "no such type")
    sick.findings = (SOUND, left_out)
    one = tried().first().summary
    sick.findings = (SOUND, passing, left_out)

    assert (one, tried().first().summary) == ("1 check passed", "2 checks passed")


def test_a_device_that_fails_afterwards_fails_a_probe_that_saw_nothing(sick: Sick) -> None:
    """Work that was queued and failed shows only when the device is waited for."""
    sick.error = ECC
    trying = tried()
    result = trying.first()

    assert (result.status, result.reason) == ("fail", "torch_raised")
    assert [finding.id for finding in result.findings] == ["sick.completes"]
    assert result.findings[0].action == "drain"
    assert trying.poisoned


@pytest.mark.parametrize(
    ("finding", "error", "told"),
    [
        (NAMED, ECC, ("fail", "check_failed")),
        (LOST, ECC, ("error", "lost_access")),
        (TAKEN, BUSY, ("skip", "gpu_busy")),
    ],
    ids=["fail", "error", "busy"],
)
def test_a_judge_that_has_seen_the_cause_has_the_word(
    sick: Sick, finding: Finding, error: str, told: tuple[Status, str]
) -> None:
    """The findings stay; nothing more is started on the device, not even a retry."""
    sick.findings, sick.error = (finding,), error
    trying = tried()
    result = trying.first()

    assert (result.status, result.reason) == told
    assert result.findings == (finding,)
    assert trying.poisoned
    assert trying.classify(result) is result
    assert sick.observed == ["cuda:1"]


def test_a_busy_gpu_is_the_reason_whatever_else_does_not_apply(sick: Sick) -> None:
    """The summary of a probe that was skipped for contention says so."""
    sick.findings = (skipped("sick.nodes", "no GPU device nodes in /dev"), TAKEN)
    result = tried().first()

    assert (result.status, result.reason, result.summary) == ("skip", "gpu_busy", TAKEN.message)


def test_an_error_that_the_judge_did_not_see_is_told_beside_its_findings(sick: Sick) -> None:
    """A wrong value and a device that then breaks are two findings of one result."""
    sick.findings, sick.error = (WRONG,), ECC
    result = tried().first()

    assert (result.status, result.reason) == ("fail", "check_failed")
    assert [finding.id for finding in result.findings] == ["sick.sum", "sick.completes"]
    assert result.summary == "sum: the sum is 7"


def test_a_failure_on_a_device_that_works_is_tried_again(sick: Sick) -> None:
    """Twice more on the device, and once on the CPU, which tells device from environment."""
    sick.findings = (WRONG,)
    trying = tried()
    result = trying.classify(trying.first())

    assert sick.observed == ["cuda:1", "cuda:1", "cuda:1", "cpu"]
    assert "persistent: failed again in 2 of 2 retries; fails on the CPU too" in result.summary
    assert not trying.poisoned


def test_only_what_failed_is_tried_again(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks that passed have told what they can: a retry costs what failed, and no more."""
    begun: list[frozenset[str]] = []
    monkeypatch.setattr(breadcrumb, "begin", begun.append)
    mean = Finding(id="sick.mean", status="pass")
    sick.findings = (mean, WRONG, OTHER, skipped("sick.max", "no such type"))
    trying = tried()
    trying.classify(trying.first())

    assert begun == [frozenset(), *[frozenset({"mean", "max"})] * 3]


def test_a_check_that_fails_in_a_retry_alone_is_still_told(sick: Sick) -> None:
    """What was left out is not judged in a retry, so that it cannot fail there unseen."""
    sick.findings = (WRONG, SOUND)
    trying = tried()
    failed = trying.first()
    sick.findings = (SOUND.model_copy(update={"id": WRONG.id}), OTHER)
    result = trying.classify(failed)

    assert result.status == "fail"
    assert "intermittent: failed again in 0 of 2 retries" in result.summary


DRAINED = WRONG.model_copy(update={"action": "drain"})
OTHER = DRAINED.model_copy(update={"id": "sick.product", "message": "the product is 0"})


def test_what_fails_on_the_cpu_too_drains_nothing(sick: Sick) -> None:
    """The image is wrong everywhere: still a failure, and no device's."""
    sick.findings = (DRAINED,)
    trying = tried()
    result = trying.classify(trying.first())

    assert (result.status, result.findings[0].status) == ("fail", "fail")
    assert result.findings[0].action == "fix_image"
    assert "do not drain" in result.findings[0].hint
    assert result.findings[0].hint.endswith(WRONG.hint)


def test_what_fails_on_the_device_alone_keeps_its_action(sick: Sick) -> None:
    """The GPU, or the image's libraries for it: a second GPU tells which."""
    sick.findings = (DRAINED,)
    sick.others = {"cuda:1": (DRAINED,), "cpu": (SOUND,)}
    trying = tried()
    result = trying.classify(trying.first())

    assert result.findings[0].action == "drain"
    assert "a second device" in result.findings[0].hint
    assert result.summary.endswith("not on the CPU: device)")


def test_each_failure_is_placed_by_itself(sick: Sick) -> None:
    """A false alarm of the image must not hide a sick device beside it."""
    sick.findings = (DRAINED, OTHER)
    sick.others = {"cpu": (DRAINED,)}
    trying = tried()
    sick.others["cuda:1"] = (DRAINED, OTHER)
    result = trying.classify(trying.first())

    assert [each.action for each in result.findings] == ["fix_image", "drain"]
    assert "not all of it on the CPU: device, of product" in result.summary


def test_a_cpu_that_raises_tells_nothing_of_the_device(sick: Sick) -> None:
    """The finding stays as it was."""
    sick.findings = (DRAINED,)
    sick.raises = {"cpu"}
    trying = tried()
    result = trying.classify(trying.first())

    assert result.findings == (DRAINED,)
    assert "raised on the CPU" in result.summary


def test_checks_of_the_node_are_not_placed_by_the_cpu(sick: Sick) -> None:
    """A driver that is wrong is wrong whatever the device: its own advice stands."""
    sick.findings = (DRAINED,)
    trying = tried(about_node=True)
    result = trying.classify(trying.first())

    assert sick.observed == ["cuda:1", "cuda:1", "cuda:1"]
    assert result.findings == (DRAINED,)
    assert result.summary.endswith("(persistent: failed again in 2 of 2 retries)")


def test_a_probe_looks_with_torchs_own_defaults(sick: Sick) -> None:
    """At every try, and what a plug-in had set is there again afterwards."""
    sick.findings = (WRONG,)
    trying = tried()
    torch.set_default_dtype(torch.float64)
    try:
        trying.classify(trying.first())
        after = torch.get_default_dtype()
    finally:
        torch.set_default_dtype(torch.float32)

    assert sick.dtypes == [torch.float32] * 4
    assert after == torch.float64


def test_a_sound_probe_on_a_sound_device_passes(sick: Sick) -> None:
    """The control."""
    trying = tried()
    result = trying.first()

    assert (result.status, result.reason, trying.poisoned) == ("pass", "ok", False)
    assert result.findings == (SOUND,)


def test_a_failure_that_nobody_has_proven_on_this_hardware_is_a_warning(sick: Sick) -> None:
    """It says so, asks for the report, is told once and not tried again as a failure."""
    sick.findings = (WRONG,)
    result = tried("warn", "hip").first()

    assert (result.status, result.reason) == ("warn", "unproven")
    assert result.summary == "sum: unproven on hip: the sum is 7"
    assert "--record FILE" in result.findings[0].hint


def test_what_torch_raises_on_unproven_hardware_is_a_warning_but_for_a_known_cause(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is diagnosed says what it is on hardware of any kind."""
    raised = ["no kernel of that name", ECC]

    def raising(_device: str) -> Seen:
        raise RuntimeError(raised.pop(0))

    monkeypatch.setattr(sys.modules["sick"], "observe", raising)
    unknown, known = (tried("warn", "hip").first() for _ in range(2))

    assert (unknown.status, unknown.reason) == ("warn", "unproven")
    assert (known.status, known.reason) == ("fail", "torch_raised")


def test_an_exception_of_what_probes_share_is_ours(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the kit must not look like a sick torch; one in torch's own files does."""
    monkeypatch.setattr(sys.modules["sick"], "observe", lambda _: tensors.bits(None))  # type: ignore[arg-type]
    ours = tried().first()
    monkeypatch.setattr(sys.modules["sick"], "observe", lambda _: torch.nn.Linear("two", 3))  # type: ignore[arg-type]
    theirs = tried().first()

    assert (ours.status, ours.reason) == ("error", "internal_error")
    assert (theirs.status, theirs.reason) == ("fail", "torch_raised")


def test_whose_hardware_a_check_of_the_host_is_about(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check of the node's GPUs is about their vendor's hardware, another about the CPU."""
    amd = hardware.Hardware(vendors=("amd",))
    monkeypatch.setattr(hardware, "detect", lambda: amd)
    monkeypatch.setattr(attempt, "cpu_type", lambda: "cpu-x86_64")
    sick.findings = (WRONG,)

    assert tried("warn", None, about_node=True).first().status == "warn"
    assert tried("warn", None, about_node=False).first().status == "fail"
