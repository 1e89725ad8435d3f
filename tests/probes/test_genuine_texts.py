"""Texts that the real CUDA builds of torch and the real pynvml gave, through our own judgement.

They are recorded with fake drivers: `tests/cuda_wheel/record.py` says how.
"""

from typing import Any, Final

import pytest

from probes.contract import GPU_BUSY, Finding
from probes.cuda_available import probe
from probes.cuda_available.observation import AcceleratorApi, Framework, Kernel
from probes.kit.symptoms import Symptom, diagnose
from probes.node.cuda_driver import CODES as NAMES
from probes.node.cuda_driver import CudaDriver
from probes.node.hardware import Hardware
from probes.node.nvml import Nvml, NvmlGpu
from tests.cuda_wheel.machines import NAMED, NVML, TORCH, recorded

RECORDED: Final = recorded()
STARTS: Final = [
    (version, machine) for version, machines in RECORDED["torch"].items() for machine in machines
]
ANSWERS: Final = [
    (version, machine) for version, machines in RECORDED["pynvml"].items() for machine in machines
]


def symptom_of(machine: str, table: dict[str, tuple[dict[str, int], str]]) -> Symptom:
    """What the texts of a machine must be recognised as."""
    return NAMED[table[machine][1]]


def node(**parts: Any) -> probe.Observation:
    """A node of one GPU of which no torch device could be had."""
    sound: dict[str, Any] = {
        "device": "cpu",
        "hardware": Hardware(vendors=("nvidia",), evidence=("PCI 0000:0f:00.0 is 10de:2330",)),
        "variables": {},
        "driver": CudaDriver(loaded=True, init_code=0, init_name="CUDA_SUCCESS", device_count=0),
        "driver_s": 0.1,
        "nvml": Nvml(driver_version="580.65.06", gpus=(NvmlGpu(index=0, process_count=0),)),
        "framework": Framework(version="2.14.1", cuda="13.0", accelerator="cuda", available=False),
        "framework_s": 0.1,
        "kernel": Kernel(),
        "generic": AcceleratorApi(),
    }
    return probe.Observation(**sound | parts)


def driver_of(machine: str) -> CudaDriver:
    """What libcuda itself says on that machine."""
    steering = TORCH[machine][0]
    if not steering:
        text = "libcuda.so.1: cannot open shared object file: No such file or directory"
        return CudaDriver(load_error=text)
    code = steering.get("FAKE_CUDA_INIT", 0)
    return CudaDriver(loaded=True, path="/lib/libcuda.so.1", init_code=code, init_name=NAMES[code])


def judged(seen: probe.Observation) -> dict[str, Finding]:
    """Findings by the bare name of their check, where one GPU was promised."""
    findings = probe.judge(seen, probe.Limits(gpus=1))
    return {finding.id.partition(".")[2]: finding for finding in findings}


def test_all_machines_are_recorded_with_every_version() -> None:
    """At least the oldest and the newest torch, each on every machine."""
    assert len(RECORDED["torch"]) >= 2
    assert all(texts.keys() == TORCH.keys() for texts in RECORDED["torch"].values())
    assert all(texts.keys() == NVML.keys() for texts in RECORDED["pynvml"].values())


@pytest.mark.parametrize(("version", "machine"), STARTS)
def test_what_torch_says_is_known(version: str, machine: str) -> None:
    """The exception, and each warning of `is_available()`, is diagnosed as what it is."""
    texts = RECORDED["torch"][version][machine]
    found = [diagnose(text) for text in (texts["error"], *texts["warnings"])]

    assert {each.name for each in found if each} == {symptom_of(machine, TORCH).name}
    assert None not in found


@pytest.mark.parametrize(("version", "machine"), STARTS)
def test_what_torch_says_becomes_cause_hint_and_action(version: str, machine: str) -> None:
    """The judge's findings about driver and torch name the same cause; contention is no fault."""
    symptom = symptom_of(machine, TORCH)
    framework = Framework(
        version=version,
        cuda="13.0",
        accelerator="cuda",
        available=False,
        error=RECORDED["torch"][version][machine]["error"],
    )
    seen = node(framework=framework, driver=driver_of(machine))
    findings = judged(seen)
    start, driver = findings["torch_starts"], findings["driver_starts"]

    if symptom.reason == "gpu_busy":
        assert {finding.status for finding in findings.values()} == {"skip"}
        assert start.message.startswith(GPU_BUSY)
        return
    assert (start.status, start.hint, start.action) == ("fail", symptom.hint, symptom.action)
    assert symptom.cause in start.message
    if seen.driver.init_code == 0:  # one that is too old starts, and torch refuses it
        assert driver.status == "pass"
    else:
        assert (driver.status, driver.hint) == ("fail", symptom.hint)


@pytest.mark.parametrize(("version", "machine"), ANSWERS)
def test_what_nvml_says_is_known(version: str, machine: str) -> None:
    """The text of a start or of one GPU becomes its cause, hint and action."""
    text, symptom = RECORDED["pynvml"][version][machine], symptom_of(machine, NVML)
    if machine.startswith("handle"):  # of the GPU that is judged
        framework = Framework(version="2.14.1", cuda="13.0", device_count=1)
        gpu = NvmlGpu(index=0, error=text)
        seen = node(device="cuda:0", framework=framework, nvml=Nvml(gpus=(gpu,)))
    else:
        seen = node(nvml=Nvml(error=text))
    answers = judged(seen)["nvml_answers"]
    found = diagnose(text)

    assert found is not None
    assert found.name == symptom.name
    assert answers.status == ("error" if symptom.reason == "lost_access" else "fail")
    assert symptom.cause in answers.message
    assert (answers.hint, answers.action) == (symptom.hint, symptom.action)
