"""Failures on unproven hardware become warnings, and proven.json matches the recordings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from probes.catalog import CATALOG, DEVICE_TRANSFER, TENSOR_OPS
from probes.contract import Comparison, Finding, agree
from probes.kit.backend import cpu_type, cuda_type, node_type
from probes.worker import proven
from tools import proven as maker

ROOT = Path(__file__).parents[3]
INTEGERS = Comparison(
    operation="add (int64, first call)", elements=9, mismatches=1, expected=7, observed=6
)
BITS = INTEGERS.model_copy(update={"operation": "Tensor.to", "expected": 7.0, "observed": 6.0})
BOUND = BITS.model_copy(update={"operation": "exp", "allowed_error": 1e-7, "worst_error": 1.0})
RAISED = Comparison(operation="gcd", problem="raised RuntimeError: not on this device")


def softened(finding: Finding, backend: str) -> Finding:
    """The finding after `soften` for that hardware, by the rules of its probe."""
    spec = next(spec for spec in CATALOG if spec.name == finding.id.partition(".")[0])
    (only,) = proven.soften([finding], spec.certain, backend)
    return only


def test_the_file_is_what_the_recordings_prove() -> None:
    """`make proven` was run after the last change of a check or a recording."""
    assert proven.PROVEN_FILE.read_text(encoding="utf-8") == maker.document()


def test_the_check_of_the_file_sees_a_stale_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--check writes nothing; its exit code shows a stale file."""
    stale = tmp_path / "proven.json"
    stale.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(maker, "PROVEN_FILE", stale)
    monkeypatch.setattr(sys, "argv", ["proven.py", "--check"])

    assert maker.main() == 1
    assert stale.read_text(encoding="utf-8") == "{}"
    monkeypatch.setattr(sys, "argv", ["proven.py"])
    assert maker.main() == 0
    monkeypatch.setattr(sys, "argv", ["proven.py", "--check"])
    assert maker.main() == 0


def test_the_file_ships_in_the_wheel(tmp_path: Path) -> None:
    """A build of the package holds it beside the module that reads it."""
    build = "from setuptools import setup; setup()"
    folders = ["egg_info", "--egg-base", str(tmp_path), "build", "--build-base", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-c", build, "-q", *folders],
        cwd=ROOT,
        check=True,
        timeout=100,
        capture_output=True,
    )

    (shipped,) = tmp_path.glob("lib*/probes/proven.json")
    assert json.loads(shipped.read_text(encoding="utf-8")).keys() >= {"cuda"}


@pytest.mark.parametrize(
    ("check", "comparison", "status"),
    [
        ("tensor_ops.elementwise", BOUND, "warn"),
        ("tensor_ops.integer_division", RAISED, "warn"),
        ("tensor_ops.arithmetic", INTEGERS, "fail"),
        ("tensor_ops.arithmetic", BITS, "warn"),
        ("device_transfer.host_to_device_dtypes", BITS, "fail"),
        ("device_transfer.host_to_device_converts", BITS, "warn"),
        ("numpy_sharing.copies", BITS, "fail"),
        ("numpy_sharing.lifetime", BITS, "warn"),
    ],
)
def test_on_unproven_hardware_only_what_arithmetic_promises_fails(
    check: str, comparison: Comparison, status: str
) -> None:
    """Wrong bits in copies and wrong integers fail anywhere; the rest is a warning."""
    finding = softened(agree(check, [comparison], hint="look"), "xpu")

    assert finding.status == status
    assert finding.message.startswith("unproven on xpu: ") == (status == "warn")
    assert ("send the file" in finding.hint) == (status == "warn")


def test_on_proven_hardware_the_same_fails() -> None:
    """An H200 has passed the check, so it is proven on NVIDIA's GPUs; so is the tested CPU."""
    wrong = agree("tensor_ops.elementwise", [BOUND])

    assert softened(wrong, "cuda") is wrong
    assert softened(wrong, "cpu-x86_64") is wrong
    assert softened(wrong, "cpu-aarch64").status == "warn"


def test_an_operation_added_later_is_unproven_until_it_was_recorded() -> None:
    """Alone it is a warning; together with a proven operation the check fails."""
    new = BOUND.model_copy(update={"operation": "an_operation_of_tomorrow (float32)"})

    assert softened(agree("tensor_ops.elementwise", [new]), "cuda").status == "warn"
    assert softened(agree("tensor_ops.elementwise", [new, BOUND]), "cuda").status == "fail"


def test_a_promise_of_the_user_fails_on_hardware_of_any_kind() -> None:
    """Fewer GPUs than the settings promise is a failure also on an unproven back-end."""
    few = Finding(id="cuda_available.enough_gpus", status="fail")
    other = Finding(id="cuda_available.identity", status="fail")

    assert softened(few, "hip").status == "fail"
    assert softened(other, "hip").status == "warn"


def test_other_statuses_are_unchanged() -> None:
    """Passes, warnings and errors are not changed."""
    findings = [Finding(id="tensor_ops.item", status=each) for each in ("pass", "warn", "error")]

    assert list(proven.soften(findings, TENSOR_OPS.certain, "xpu")) == findings


def test_the_rules_name_checks_that_exist() -> None:
    """`certain` has only existing checks."""
    for spec in CATALOG:
        assert spec.certain.keys() <= spec.checks.keys(), spec.name
    assert len(DEVICE_TRANSFER.certain) > 10


def test_the_most_informative_way_of_being_wrong_is_kept() -> None:
    """An operation that is wrong in integers and raises elsewhere is wrong in integers."""
    raised = RAISED.model_copy(update={"operation": "add (bfloat16)"})

    assert agree("tensor_ops.arithmetic", [INTEGERS, raised]).wrong == {"add": "integers"}


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("cuda", {"capability": (9, 0)}),
        ("cuda", {"capability": (7, 5)}),
        ("cuda", {"capability": None}),
        ("cuda-below-sm75", {"capability": (7, 0)}),
        ("cuda-integrated", {"capability": (8, 7), "integrated": True}),
        ("cuda-confidential", {"capability": (9, 0), "confidential": True}),
        ("cuda-mps", {"capability": (9, 0), "mps": True}),
        ("cuda-mig", {"capability": (9, 0), "instance": True}),
    ],
)
def test_types_of_nvidia_devices(kind: str, known: dict[str, bool]) -> None:
    """CUDA splits where its behaviour does."""
    assert cuda_type(**known) == kind  # type: ignore[arg-type]


def test_the_type_of_a_node() -> None:
    """Its GPUs' vendor, else the CPU's architecture."""
    assert node_type(("amd",)) == "hip"
    assert node_type(("nvidia", "intel")) == "cuda"
    assert node_type(()) == cpu_type()
    assert cpu_type().startswith("cpu-")
