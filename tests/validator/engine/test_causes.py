"""One cause is told once: what follows from it points to it, and nothing else is hidden."""

from datetime import datetime, timezone
from typing import Any

import pytest

from probes.contract import Finding, Reason, Result, Status
from tests.validator.engine.test_host_limits import CHECK, bad, run
from validator.engine import causes
from validator.engine.causes import without_consequences
from validator.report import overall


def result(
    check: str,
    message: str = "",
    *,
    device: str = "cuda:0",
    status: Status = "fail",
    reason: Reason = "check_failed",
) -> Result:
    """A result with one finding."""
    given: dict[str, Any] = {"started_at": datetime(2026, 1, 1, tzinfo=timezone.utc)}
    return Result(
        probe=check.partition(".")[0],
        device=device,
        status=status,
        reason=reason,
        summary=message or check,
        duration_s=1.0,
        findings=(Finding(id=check, status=status, message=message),),
        **given,
    )


NO_NUMPY = result(
    "torch_version.torch_to_numpy", "RuntimeError: Numpy is not available", device="cpu"
)
NO_DRIVER = result("cuda_available.driver_starts", "CUDA_ERROR_NO_DEVICE")
NO_KERNEL = result("cuda_available.kernel", "RuntimeError: no kernel image is available")
WRONG = result("tensor_ops.large", "3 of 4 elements wrong")


def pointed(*results: Result) -> dict[tuple[str, str], str]:
    """What became of each result: its status, or the check that it points to."""
    found = without_consequences(results)
    assert overall(found) == overall(results)
    return {
        (r.probe, r.device): r.summary.rpartition("see ")[2]
        if r.reason == "dependency"
        else r.status
        for r in found
    }


def test_without_numpy_all_that_fails_follows() -> None:
    """On every device; what passed all the same still has."""
    passed = result("train_eval.saved", status="pass", reason="ok")

    seen = pointed(NO_NUMPY, WRONG, WRONG.model_copy(update={"device": "cpu"}), passed)

    assert seen == {
        ("torch_version", "cpu"): "fail",
        ("tensor_ops", "cuda:0"): "torch_version.torch_to_numpy",
        ("tensor_ops", "cpu"): "torch_version.torch_to_numpy",
        ("train_eval", "cuda:0"): "pass",
    }


def test_a_gpu_that_cannot_be_used_fails_once() -> None:
    """A driver that does not start, and a build without code for the GPU; other GPUs are judged."""
    other = WRONG.model_copy(update={"device": "cuda:1"})
    for cause in (NO_DRIVER, NO_KERNEL):
        seen = pointed(cause, WRONG, other)

        assert seen == {
            ("cuda_available", "cuda:0"): "fail",
            ("tensor_ops", "cuda:0"): cause.findings[0].id,
            ("tensor_ops", "cuda:1"): "fail",
        }


def test_a_gpu_that_is_lost_says_so_once() -> None:
    """Every later probe there ends by the same error; the first of them tells it."""
    text = "the GPU no longer answers on PCIe (Xid 79)"
    lost = [
        result(f"{probe}.completes", text, reason="torch_raised")
        for probe in ("device_transfer", "tensor_ops", "autograd")
    ]

    assert pointed(*lost) == {
        ("device_transfer", "cuda:0"): "fail",
        ("tensor_ops", "cuda:0"): "device_transfer.completes",
        ("autograd", "cuda:0"): "device_transfer.completes",
    }


def test_what_is_no_consequence_is_told() -> None:
    """Wrong numbers, a hang beside a cause, and everything on the CPU keep their own finding."""
    hang = result("autograd.completes", "no result within 60 s", reason="timeout")
    wrong_integers = result("cuda_available.kernel", "2 of 4 elements wrong")
    on_cpu = NO_DRIVER.model_copy(update={"device": "cpu"})
    wrong_dtype = result("torch_version.torch_to_numpy", "int16: 3 elements wrong", device="cpu")

    assert set(pointed(NO_DRIVER, hang).values()) == {"fail"}
    assert set(pointed(wrong_integers, WRONG).values()) == {"fail"}
    assert set(pointed(on_cpu, WRONG.model_copy(update={"device": "cpu"})).values()) == {"fail"}
    assert set(pointed(wrong_dtype, WRONG).values()) == {"fail"}


#: Found before all other modules: torch as it is when it was built for another NumPy.
BROKEN = """
import importlib.abc, importlib.util, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        execute = spec.loader.exec_module
        def broken(module):
            execute(module)
            def refuse(*args, **kwargs):
                raise RuntimeError("Numpy is not available")
            module.from_numpy = module.Tensor.numpy = module.Tensor.__array__ = refuse
        spec.loader.exec_module = broken
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.torch
@pytest.mark.slow
def test_a_torch_without_numpy_is_one_finding_of_a_real_run(tmp_path: Any) -> None:
    """The whole quick profile: one result is bad, the others point to it, and it comes first."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN)

    done = run(*CHECK, folder=tmp_path)

    (told,) = bad(done)
    assert (told["probe"], told["status"]) == ("torch_version", "fail")
    assert done.returncode == 1


def test_wrong_bits_beside_a_cause_are_told() -> None:
    """A probe that computed wrong shows something of its own, whatever failed before it."""
    bits = Finding(id="tensor_ops.large", status="fail", message="wrong", wrong={"add": "bits"})
    raised = bits.model_copy(update={"wrong": {"add": "other"}})

    for finding, status in ((bits, "fail"), (raised, "skip")):
        one = WRONG.model_copy(update={"findings": (finding,)})
        assert without_consequences([NO_KERNEL, one])[1].status == status


def test_each_finding_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 56 instances that all fail, every result is no search of all the others."""
    calls = 0
    is_cause = causes._is

    def counted(*given: Any) -> bool:
        nonlocal calls
        calls += 1
        return is_cause(*given)

    monkeypatch.setattr(causes, "_is", counted)
    many = [
        result(f"probe_{n}.check", "boom", device=f"cuda:{m}", reason="torch_raised")
        for n in range(4)
        for m in range(56)
    ]
    found = without_consequences(many)

    assert calls == len(causes._CAUSES) * len(many)
    assert [one.reason for one in found] == ["torch_raised"] * 56 + ["dependency"] * 168
