"""`gpu-validator check` where the real torch and pynvml meet a sick driver: whole, in processes."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes.catalog import CATALOG
from probes.contract import GPU_BUSY, PROFILES, Finding, Result
from probes.node.cuda_driver import CudaDriver
from probes.node.hardware import detect
from tests import fakes
from tests.cuda_wheel.machines import CODES, NAMED, NVML, ROOT, TORCH, environment, listen, recorded
from validator.report import Report

pytestmark = [pytest.mark.cuda_wheel, pytest.mark.timeout(240)]

BOTH = ("cuda_available", "torch_version")

#: NVML's start fails with this, so that torch itself has to count devices: there are none.
SILENT = {"FAKE_NVML_INIT": 9}


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter with a CUDA build of torch."""
    named = os.environ.get("VALIDATOR_CUDA_PYTHON", "")
    if not named:
        pytest.skip("VALIDATOR_CUDA_PYTHON is not set: `make test-cuda-wheel` sets it")
    if detect().vendors:
        pytest.skip("this machine has a GPU, which the fake drivers cannot hide")
    asked = [named, "-c", "import torch, pydantic, typer; print(torch.version.cuda)"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=100, check=True)
    assert told.stdout.strip() != "None", f"{named} has a torch without CUDA"
    return named


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both fake drivers."""
    return fakes.build(tmp_path_factory.mktemp("drivers"))


@dataclass(frozen=True)
class Checked:
    """What one `check` ended with."""

    code: int
    report: Report

    def result(self, probe: str, device: str = "cpu") -> Result:
        """The result of a probe on a device."""
        return {(each.probe, each.device): each for each in self.report.results}[probe, device]

    def findings(self, probe: str, device: str = "cpu") -> dict[str, Finding]:
        """Its findings by the bare name of their check."""
        return {
            finding.id.partition(".")[2]: finding for finding in self.result(probe, device).findings
        }


def check(
    python: str,
    libraries: Path | None,
    steering: Mapping[str, int | str] | None = None,
    *,
    probes: Iterable[str] = BOTH,
    gpus: int = 1,
) -> Checked:
    """Run `gpu-validator check` of this tree in that interpreter, on such a machine."""
    child = subprocess.run(
        [python, "-m", "validator", "check", "--output", "json"]
        + [word for probe in probes for word in ("--probe", probe)],
        env=environment(libraries, GPU_VALIDATOR_EXPECT__GPUS=gpus, **steering or {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert child.stdout, child.stderr
    return Checked(child.returncode, Report.model_validate_json(child.stdout))


def tripped(findings: dict[str, Finding]) -> set[str]:
    """Names of the checks that neither passed nor were skipped."""
    return {name for name, finding in findings.items() if finding.status not in {"pass", "skip"}}


def explains(finding: Finding, name: str) -> bool:
    """Whether a finding tells that symptom's cause, hint and action."""
    symptom = NAMED[name]
    return (
        symptom.cause in finding.message
        and finding.hint == symptom.hint
        and finding.action == symptom.action
    )


def test_a_machine_without_a_gpu_is_none_to_complain_of(python: str) -> None:
    """The control: where no GPU is expected, a CUDA build without a driver is right."""
    checked = check(python, None, gpus=0)

    assert checked.code == 0
    assert checked.result("torch_version").status == "pass"
    assert checked.result("cuda_available").reason == "no_device"


@pytest.mark.parametrize("code", sorted(CODES.keys() - {46}))
def test_a_driver_that_fails_is_explained_where_nvml_lists_the_gpu(
    python: str, libraries: Path, code: int
) -> None:
    """Torch counts by NVML, so that the GPU is there and cannot be used: the cause is named."""
    checked = check(python, libraries, {"FAKE_CUDA_INIT": code})
    result = checked.result("cuda_available", "cuda:0")
    findings = checked.findings("cuda_available", "cuda:0")

    assert checked.code == 1
    assert (result.status, result.reason) == ("fail", "check_failed")
    assert tripped(findings) == {"driver_starts", "torch_starts"}
    assert explains(findings["driver_starts"], CODES[code])
    assert explains(findings["torch_starts"], CODES[code])
    assert checked.result("torch_version").status == "pass"


@pytest.mark.parametrize("code", sorted(CODES.keys() - {46}))
def test_a_driver_that_fails_is_explained_where_nvml_is_silent(
    python: str, libraries: Path, code: int
) -> None:
    """No device at all: the promised GPU is missed, and the same cause is named."""
    checked = check(python, libraries, {"FAKE_CUDA_INIT": code, **SILENT})
    result, findings = checked.result("cuda_available"), checked.findings("cuda_available")

    assert checked.code == 1
    assert (result.status, result.reason) == ("fail", "check_failed")
    assert tripped(findings) == {"driver_starts", "torch_starts", "nvml_answers", "enough_gpus"}
    assert explains(findings["driver_starts"], CODES[code])
    assert explains(findings["torch_starts"], CODES[code])
    assert explains(findings["nvml_answers"], "nvml_driver_not_loaded")
    assert findings["enough_gpus"].hint == NAMED[CODES[code]].hint


def test_a_gpu_that_others_hold_is_skipped(python: str, libraries: Path) -> None:
    """46 with a process on it, or with nobody to say that there is none, is contention."""
    held = check(
        python, libraries, {"FAKE_CUDA_INIT": 46, "FAKE_NVML_PROCESSES": "1", "FAKE_NVML_MODE": 3}
    )
    result = held.result("cuda_available", "cuda:0")
    unknown = check(python, libraries, {"FAKE_CUDA_INIT": 46, **SILENT}).result("cuda_available")

    assert (result.status, result.reason) == ("skip", "gpu_busy")
    assert (unknown.status, unknown.reason) == ("skip", "gpu_busy")
    assert unknown.summary.startswith(GPU_BUSY)
    assert held.code == 0


def test_a_gpu_that_nobody_holds_and_that_says_busy_is_sick(python: str, libraries: Path) -> None:
    """46 where NVML sees no process and no mode that excludes one."""
    findings = check(python, libraries, {"FAKE_CUDA_INIT": 46}).findings("cuda_available", "cuda:0")

    assert tripped(findings) == {"driver_starts", "torch_starts"}
    assert {findings[name].action for name in tripped(findings)} == {"reset_gpu"}


def test_a_driver_that_is_too_old_is_told_by_both_probes(python: str, libraries: Path) -> None:
    """Torch says so when it starts; its build and the driver's version say so before."""
    checked = check(python, libraries, {"FAKE_CUDA_VERSION": 11040})
    start = checked.findings("cuda_available", "cuda:0")
    versions = checked.findings("torch_version")

    assert checked.code == 1
    assert tripped(start) == {"torch_starts"}
    assert explains(start["torch_starts"], "driver_too_old")
    assert tripped(versions) == {"driver_cuda"}
    assert versions["driver_cuda"].observed == "CUDA 11.4"
    assert versions["driver_cuda"].hint == NAMED["driver_too_old"].hint


def test_no_driver_library_at_all(python: str) -> None:
    """A container that was started without GPUs, on a node where they were promised."""
    findings = check(python, None).findings("cuda_available")

    assert tripped(findings) == {"driver_starts", "torch_starts", "nvml_answers", "enough_gpus"}
    assert explains(findings["driver_starts"], "no_driver")
    assert explains(findings["torch_starts"], "no_driver")
    assert explains(findings["nvml_answers"], "nvml_library_missing")


def test_a_container_with_the_utility_capability_alone(python: str, tmp_path: Path) -> None:
    """`nvidia-smi` works there, and nothing that computes does."""
    fakes.build(tmp_path)
    (tmp_path / "libcuda.so.1").unlink()
    checked = check(python, tmp_path)
    devices = {result.device for result in checked.report.results} - {"cpu"}
    findings = checked.findings("cuda_available", *devices)

    assert checked.code == 1
    assert findings["nvml_answers"].status == "pass"
    assert explains(findings["driver_starts"], "no_driver")
    assert explains(findings["torch_starts"], "no_driver")


def test_a_driver_that_was_upgraded_under_a_running_node(python: str, libraries: Path) -> None:
    """803 from CUDA and a mismatch from NVML: each in its own words, and the files are told."""
    checked = check(python, libraries, {"FAKE_CUDA_INIT": 803, "FAKE_NVML_INIT": 18})
    findings, versions = checked.findings("cuda_available"), checked.findings("torch_version")

    assert checked.code == 1
    assert explains(findings["driver_starts"], "driver_combination")
    assert explains(findings["nvml_answers"], "nvml_version_mismatch")
    assert tripped(versions) == {"driver_files"}
    assert versions["driver_files"].action == "reboot_node"


def test_a_container_that_lost_its_gpus_is_no_fault_of_the_node(
    python: str, libraries: Path
) -> None:
    """999 from both: the container is to be made anew, and no node drained."""
    checked = check(python, libraries, {"FAKE_CUDA_INIT": 999, "FAKE_NVML_INIT": 999})
    result, findings = checked.result("cuda_available"), checked.findings("cuda_available")

    assert checked.code == 2
    assert (result.status, result.reason) == ("error", "lost_access")
    assert tripped(findings) == {"nvml_answers"}
    assert explains(findings["nvml_answers"], "lost_access")


@pytest.mark.parametrize(("code", "name"), [(15, "gpu_lost"), (16, "gpu_reset_required")])
def test_a_gpu_that_fell_off_the_bus_is_named(
    python: str, libraries: Path, code: int, name: str
) -> None:
    """NVML still lists it, and says why its handle cannot be had."""
    lost = {"FAKE_NVML_LOST": 0, "FAKE_NVML_LOST_CODE": code}
    checked = check(python, libraries, {"FAKE_CUDA_INIT": 999, **lost})
    findings = checked.findings("cuda_available", "cuda:0")

    assert checked.code == 1
    assert tripped(findings) == {"driver_starts", "torch_starts", "nvml_answers"}
    assert explains(findings["nvml_answers"], name)


def test_counts_that_differ_are_told_of_every_device(python: str, libraries: Path) -> None:
    """NVML counts two GPUs, the driver one; torch believes NVML until it starts."""
    checked = check(python, libraries, {"FAKE_NVML_COUNT": 2})

    for device in ("cuda:0", "cuda:1"):
        findings = checked.findings("cuda_available", device)
        assert findings["counts_agree"].status == "fail"
        assert findings["counts_agree"].observed == "torch 2, driver 1, NVML 2"
        assert findings["driver_starts"].status == "pass"


def test_every_probe_of_a_gpu_that_cannot_start_says_why(python: str, libraries: Path) -> None:
    """Those of the host go on; on the device the cause is told once, and nothing hangs."""
    quick = PROFILES.index("quick")
    specs = [spec for spec in CATALOG if PROFILES.index(spec.profile) <= quick]
    names = [spec.name for spec in specs]
    checked = check(python, libraries, {"FAKE_CUDA_INIT": 802}, probes=names)

    for spec in specs:
        if spec.needs == "host":
            assert checked.result(spec.name).status == "pass"
            continue
        result = checked.result(spec.name, "cuda:0")
        if spec.name != "cuda_available":  # what follows from it points to it
            assert (result.status, result.reason) == ("skip", "dependency")
            continue
        hints = {finding.hint for finding in result.findings if finding.status == "fail"}
        assert result.status == "fail"
        assert hints == {NAMED["fabric_not_ready"].hint}


def test_a_driver_that_hangs_is_a_timeout_and_others_answer(python: str, libraries: Path) -> None:
    """`cuInit` never returns: what asks the driver is killed at its deadline, nothing else is."""
    deadlines = {
        "GPU_VALIDATOR_PROBES__CUDA_AVAILABLE__TIMEOUT": 3,
        "GPU_VALIDATOR_PROBES__TORCH_VERSION__TIMEOUT": 15,  # of its import of torch too
    }
    probes = (*BOTH, "numpy_sharing", "tensor_ops")
    checked = check(python, libraries, {"FAKE_CUDA_HANG": 1, **deadlines}, probes=probes)
    hung = checked.result("cuda_available")

    assert checked.code == 1
    assert (hung.status, hung.reason) == ("fail", "timeout")
    assert 3 <= hung.duration_s < 8
    assert hung.findings[0].action == "drain"
    assert "nvidia-smi" in hung.findings[0].hint
    assert "cuda_driver.py" in hung.log_tail  # the traceback of where it hung
    assert checked.result("torch_version").reason == "timeout"
    assert checked.result("numpy_sharing").status == "pass"
    assert checked.result("tensor_ops").status == "pass"


def test_a_driver_that_crashes_costs_only_what_asks_it(python: str, libraries: Path) -> None:
    """A SIGSEGV in `cuInit` is told with its traceback; the rest have their results."""
    probes = (*BOTH, "numpy_sharing", "tensor_ops")
    checked = check(python, libraries, {"FAKE_CUDA_SIGNAL": 11}, probes=probes)

    assert checked.code == 1
    for probe in BOTH:
        result = checked.result(probe)
        assert (result.status, result.reason) == ("fail", "crashed")
        assert "SIGSEGV" in result.summary
        assert "cuda_driver.py" in result.log_tail
    assert checked.result("numpy_sharing").status == "pass"
    assert checked.result("tensor_ops").status == "pass"


@pytest.mark.parametrize("machine", TORCH)
def test_the_recorded_text_is_what_this_torch_says(
    python: str, libraries: Path, machine: str
) -> None:
    """What CI judges is what the libraries say, as far as this version is recorded."""
    steering, _ = TORCH[machine]
    told = listen(python, libraries if steering else None, **steering)
    known = recorded()["torch"].get(told["torch"])
    if known is None:
        pytest.skip(f"torch {told['torch']} is not recorded")

    assert known[machine] == {"error": told["error"], "warnings": told["warnings"]}


@pytest.mark.parametrize("machine", NVML)
def test_the_recorded_text_is_what_this_pynvml_says(
    python: str, libraries: Path, machine: str
) -> None:
    """The same of NVML's."""
    steering, _ = NVML[machine]
    told = listen(python, libraries if steering else None, **steering)
    known = recorded()["pynvml"].get(told["pynvml"])
    if known is None:
        pytest.skip(f"pynvml {told['pynvml']} is not recorded")

    assert known[machine] == told["nvml"]


def test_every_mig_instance_and_the_gpu_beside_gets_a_child_of_its_own(
    python: str, libraries: Path
) -> None:
    """Seven instances and a whole GPU are eight devices, each of which its child alone is shown.

    The fake driver computes nothing, so each fails; what each was shown is what is looked at.
    """
    steering: dict[str, int | str] = {
        "FAKE_NVML_MIG": 1,
        "FAKE_CUDA_MIG": 1,
        "FAKE_NVML_COUNT": 2,
        "FAKE_NVML_WHOLE": 1,
        "FAKE_NVML_SLOTS": "0123456",
    }
    checked = check(python, libraries, steering)
    names = [f"cuda:0:{slot}" for slot in range(7)] + ["cuda:1"]
    uuids = {device.name: device.uuid for device in checked.report.devices}
    shown = {}
    for name in names:
        observation = checked.result("cuda_available", name).observation or {}
        driver = CudaDriver.model_validate(observation["driver"])
        shown[name] = [device.uuid for device in driver.devices]

    assert list(uuids) == names
    assert shown == {name: [uuids[name]] for name in names}
    for name in names:
        findings = checked.findings("cuda_available", name)
        assert findings["mig_instances"].status == "pass"
        assert findings["driver_starts"].status == "pass"
        assert "invalid device" not in findings["torch_starts"].message
