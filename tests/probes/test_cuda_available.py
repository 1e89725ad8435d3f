"""The GPU probe: nodes built by hand, every known error, a pretended GPU, and fake drivers."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import CUDA_AVAILABLE
from probes.contract import GPU_BUSY, Comparison, Finding, worst
from probes.cuda_available import observation as looking
from probes.cuda_available import probe
from probes.cuda_available.observation import AcceleratorApi, Framework, Kernel
from probes.kit.symptoms import SYMPTOMS, diagnose
from probes.node import containers, cuda_driver, hardware, nvml, pci_gpus
from probes.node.containers import Container
from probes.node.cuda_driver import CODES, CudaDriver, DriverDevice
from probes.node.device_nodes import Node, open_nodes
from probes.node.hardware import Hardware
from probes.node.nvml import MigInstance, Nvml, NvmlGpu
from probes.node.pci_gpus import PciGpu
from tests import fakes
from tests.probes.edits import edited
from tests.probes.verdicts import tripped

GIB = 1024**3
NAME = "NVIDIA H100 80GB HBM3"
UUIDS = [f"GPU-6f2d1c3b-90aa-4be1-8c35-5d1f0e7a2b{index:02d}" for index in range(2)]
RIGHT = (Comparison(operation="add(out=), add_", elements=4096),)

#: A sound node of two H100, built by hand from the models; no recording of a machine.
H100_NODE = probe.Observation(
    device="cuda:1",
    hardware=Hardware(
        vendors=("nvidia",),
        evidence=("PCI 0000:0f:00.0 is 10de:2330 of class 0302", "/dev/nvidia0 exists"),
        pci_addresses=("0000:0f:00.0", "0000:1f:00.0"),
        driver_version="550.54.15",
    ),
    variables={},
    nodes=tuple(
        Node(path=f"/dev/{name}") for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1")
    ),
    driver=CudaDriver(
        loaded=True,
        path="/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15",
        init_code=0,
        init_name="CUDA_SUCCESS",
        driver_version=12040,
        device_count=2,
        devices=tuple(
            DriverDevice(
                index=index,
                uuid=UUIDS[index],
                pci_bus_id=f"0000:{index}f:00.0",
                name=NAME,
                capability=(9, 0),
                memory_total_bytes=79 * GIB,
            )
            for index in range(2)
        ),
    ),
    driver_s=0.4,
    nvml=Nvml(
        driver_version="550.54.15",
        gpus=tuple(
            NvmlGpu(
                index=index,
                uuid=UUIDS[index],
                pci_bus_id=f"0000:{index}f:00.0",
                name=NAME,
                memory_total_bytes=80 * GIB,
                memory_free_bytes=79 * GIB,
                memory_reserved_bytes=GIB // 2,
                process_count=0,
                compute_mode="default",
                capability=(9, 0),
                mig_enabled=False,
                minor=index,
            )
            for index in range(2)
        ),
    ),
    framework=Framework(
        version="2.6.0+cu124",
        cuda="12.4",
        accelerator="cuda",
        available=True,
        device_count=2,
        name=NAME,
        uuid=UUIDS[1].removeprefix("GPU-"),
        capability=(9, 0),
        memory_total_bytes=79 * GIB,
        memory_free_bytes=78 * GIB,
    ),
    framework_s=0.2,
    kernel=Kernel(comparisons=RIGHT, first_s=0.6),
    generic=AcceleratorApi(exists=True, type="cuda", available=True, device_count=2),
    pci=tuple(
        PciGpu(address=f"0000:{index}f:00.0", model=0x2330, driver="nvidia", minor=index)
        for index in range(2)
    ),
)

CPU_MACHINE = probe.Observation(
    device="cpu",
    hardware=Hardware(),
    variables={},
    driver=CudaDriver(load_error="libcuda.so.1: cannot open shared object file"),
    driver_s=0.0,
    nvml=Nvml(error="Failed to initialize NVML: NVML Shared Library Not Found"),
    framework=Framework(version="2.6.0+cpu"),
    framework_s=0.0,
    kernel=Kernel(),
    generic=AcceleratorApi(),
)

#: A GPU node whose torch cannot start: no device is listed, so the CPU's place is judged.
DEAD_NODE = edited(
    H100_NODE,
    {
        "device": "cpu",
        "framework": Framework(
            version="2.6.0+cu124",
            cuda="12.4",
            accelerator="cuda",
            available=False,
            device_count=0,
            error="RuntimeError: No CUDA GPUs are available",
        ),
        "driver.init_code": 100,
        "driver.init_name": "CUDA_ERROR_NO_DEVICE",
        "driver.device_count": None,
        "driver.devices": (),
        "kernel": Kernel(),
        "generic": AcceleratorApi(),
    },
)

#: One instance of the first GPU, as a MIG job sees it.
MIG_NODE = edited(
    H100_NODE,
    {
        "device": "cuda:0",
        "variables": {"CUDA_VISIBLE_DEVICES": "MIG-1fa1b2c3-0001-0002-0003-000000000004"},
        "driver.device_count": 1,
        "driver.devices": (
            DriverDevice(
                index=0,
                uuid="MIG-1fa1b2c3-0001-0002-0003-000000000004",
                pci_bus_id="0000:0f:00.0",
                name=f"{NAME} MIG 1g.10gb",
                capability=(9, 0),
                memory_total_bytes=10 * GIB,
            ),
        ),
        "nvml.gpus.0.mig_enabled": True,
        "nvml.gpus.0.mig_uuids": ("MIG-1fa1b2c3-0001-0002-0003-000000000004",),
        "nvml.gpus.0.mig_instances": (
            MigInstance(slot=4, uuid="MIG-1fa1b2c3-0001-0002-0003-000000000004"),
        ),
        "framework.device_count": 1,
        "framework.name": f"{NAME} MIG 1g.10gb",
        "framework.uuid": "MIG-1fa1b2c3-0001-0002-0003-000000000004",
        "framework.memory_total_bytes": 10 * GIB,
        "framework.memory_free_bytes": 9 * GIB,
        "generic.device_count": 1,
    },
)

WRONG = Kernel(
    comparisons=(
        *RIGHT,
        Comparison(
            operation="sum",
            elements=1,
            mismatches=1,
            first_index=(),
            worst_index=(),
            expected=4096.0,
            observed=0.0,
            xor_mask="0x45800000",
        ),
    ),
    first_s=0.5,
)

# (check, its status, changes to the sound node that trip this check and no other)
FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "device_nodes",
        "fail",
        {"nodes.1.problem": "ENOENT: No such file or directory", "kernel": Kernel()},
    ),
    ("device_nodes", "fail", {"nodes.3.problem": "EIO: Input/output error", "kernel": Kernel()}),
    ("driver_starts", "warn", {"driver.init_code": 999, "driver.init_name": "CUDA_ERROR_UNKNOWN"}),
    ("nvml_answers", "warn", {"nvml": Nvml(error="Failed to initialize NVML: Driver Not Loaded")}),
    ("nvml_answers", "fail", {"nvml.gpus.1.error": "nvmlDeviceGetMemoryInfo: GPU is lost"}),
    ("nvml_answers", "warn", {"nvml.gpus.1.error": "nvmlDeviceGetName: Unknown Error"}),
    (
        "torch_starts",
        "warn",
        {"framework.warnings": ("CUDA initialization: No CUDA GPUs are available",)},
    ),
    (
        "torch_starts",
        "warn",
        {
            "framework.warnings": (
                "the GPU is not compatible with the current PyTorch installation.",
            )
        },
    ),
    ("is_available", "fail", {"framework.available": False}),
    (
        "visible_devices",
        "fail",
        {"variables": {"CUDA_VISIBLE_DEVICES": "0,1,7"}},
    ),
    ("visible_devices", "fail", {"variables": {"CUDA_VISIBLE_DEVICES": ""}}),
    ("counts_agree", "fail", {"driver.device_count": 1}),
    (
        "counts_agree",
        "fail",
        {"nvml.gpus": (*H100_NODE.nvml.gpus, NvmlGpu(index=2, error="GPU is lost"))},
    ),
    (
        "all_gpus",
        "fail",
        {"pci": (*H100_NODE.pci, PciGpu(address="0000:2f:00.0", model=0x2330, driver="nvidia"))},
    ),
    ("all_gpus", "warn", {"pci": (*H100_NODE.pci, PciGpu(address="0000:2f:00.0", model=0x128B))}),
    ("mig_instances", "warn", {"nvml.gpus.0.mig_enabled": True}),
    ("accelerator_api", "fail", {"generic.available": False}),
    ("accelerator_api", "fail", {"generic.type": "xpu"}),
    ("accelerator_api", "fail", {"generic.device_count": 1}),
    (
        "accelerator_api",
        "fail",
        {"generic": AcceleratorApi(exists=True, error="RuntimeError: invalid device ordinal")},
    ),
    ("kernel", "fail", {"kernel": WRONG}),
    ("kernel", "fail", {"kernel": Kernel(error="RuntimeError: an illegal memory access")}),
    ("kernel", "fail", {"kernel": Kernel()}),
    ("first_kernel", "warn", {"kernel.first_s": 90.0}),
    ("identity", "fail", {"framework.device_error": "RuntimeError: device >= 0 && device"}),
    ("identity", "fail", {"framework.name": "NVIDIA A100-SXM4-80GB"}),
    ("identity", "fail", {"framework.capability": (8, 0)}),
    ("identity", "fail", {"framework.uuid": UUIDS[0].removeprefix("GPU-")}),
    ("identity", "fail", {"nvml.gpus.1.pci_bus_id": "0000:0f:00.0"}),
    ("identity", "fail", {"nvml.gpus.1.name": "NVIDIA L40S"}),
    ("identity", "fail", {"nvml.gpus.1.uuid": "GPU-of-another-node"}),
    ("identity", "fail", {"driver.devices": H100_NODE.driver.devices[:1]}),
    ("memory_size", "fail", {"framework.memory_total_bytes": 40 * GIB}),
    ("memory_size", "fail", {"nvml.gpus.1.memory_total_bytes": 96 * GIB}),
    ("memory_free", "warn", {"nvml.gpus.1.memory_free_bytes": GIB // 4}),
    ("compute_mode", "warn", {"nvml.gpus.1.compute_mode": "exclusive_process"}),
    ("compute_mode", "fail", {"nvml.gpus.1.compute_mode": "prohibited"}),
]

#: (check, limits that the sound node does not meet).
PROMISES: list[tuple[str, dict[str, Any]]] = [
    ("enough_gpus", {"gpus": 8}),
    ("mig_instances", {"mig_instances": 7}),
    ("first_kernel", {"first_kernel_s": 0.1}),
    ("memory_free", {"free_memory_bytes": 100 * GIB}),
    ("memory_size", {"memory_size_tolerance": 0.001}),
]


def findings_by_check(observation: probe.Observation, **limits: Any) -> dict[str, Finding]:
    """The findings by check name, without the probe's prefix."""
    findings = list(probe.judge(observation, probe.Limits(**limits)))
    assert tuple(finding.id for finding in findings) == CUDA_AVAILABLE.check_ids
    return {finding.id.partition(".")[2]: finding for finding in findings}


def check_ids(*checks: str) -> set[str]:
    """The full ids of checks."""
    return {f"cuda_available.{check}" for check in checks}


def test_this_image_is_sound() -> None:
    """No check trips here; without GPUs all are skipped, with that reason."""
    observation = probe.observe("cpu")
    findings = findings_by_check(observation)

    assert tripped(findings.values()) == set()
    if not observation.hardware.vendors and not observation.framework.device_count:
        assert {finding.status for finding in findings.values()} == {"skip"}
        assert {finding.message for finding in findings.values()} == {"no GPU is present"}


@pytest.mark.parametrize("observation", [H100_NODE, MIG_NODE], ids=["H100", "MIG"])
def test_a_healthy_node_passes(observation: probe.Observation) -> None:
    """No check trips on a healthy node, and no check that applies is skipped."""
    findings = findings_by_check(observation)
    skips = {name for name, finding in findings.items() if finding.status == "skip"}

    assert tripped(findings.values()) == set()
    assert skips == (set() if observation is MIG_NODE else {"visible_devices", "mig_instances"})


@pytest.mark.parametrize(("check", "status", "fault"), FAULTS)
def test_a_fault_trips_its_check_alone(check: str, status: str, fault: dict[str, Any]) -> None:
    """Breaking one promise trips that check and no other, and says what to do."""
    findings = findings_by_check(edited(H100_NODE, fault))
    # A device without a kernel's result fails there as well: only then do closed nodes count.
    expected = check_ids(check, "kernel") if check == "device_nodes" else check_ids(check)

    assert tripped(findings.values()) == expected
    assert findings[check].status == status
    assert findings[check].message
    assert findings[check].hint or findings[check].observed == []


@pytest.mark.parametrize(("check", "limits"), PROMISES)
def test_a_promise_that_is_not_kept_trips_its_check(check: str, limits: dict[str, Any]) -> None:
    """A limit that the node does not meet trips its check and no other."""
    assert tripped(findings_by_check(H100_NODE, **limits).values()) == check_ids(check)


def test_a_listed_compute_mode_passes() -> None:
    """A site that uses exclusive mode lists it in the limits."""
    observation = edited(H100_NODE, {"nvml.gpus.1.compute_mode": "exclusive_process"})

    assert (
        tripped(findings_by_check(observation, compute_modes=("exclusive_process",)).values())
        == set()
    )


def test_every_check_has_a_fault() -> None:
    """Each check has a fault that trips it."""
    assert {check for check, _, _ in FAULTS} | {"enough_gpus"} == CUDA_AVAILABLE.checks.keys()
    assert "enough_gpus" in {check for check, _ in PROMISES}


# ---- every known error of the start

_BEFORE = (
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
    "before calling NumCudaDevices() that might have already set an error? Error "
)

# cuInit's code -> what torch 2.2 (a CUDA 12.1 build) then raises, recorded with a fake driver that
# returns the code, and the symptom.
STARTS: dict[int, tuple[str, str]] = {
    3: (
        "RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.",
        "driver_not_initialized",
    ),
    34: (f"{_BEFORE}34: CUDA driver is a stub library", "stub_library"),
    100: ("RuntimeError: No CUDA GPUs are available", "no_device"),
    101: (f"{_BEFORE}101: invalid device ordinal", "invalid_device_ordinal"),
    802: (f"{_BEFORE}802: system not yet initialized", "fabric_not_ready"),
    803: (
        f"{_BEFORE}803: system has unsupported display driver / cuda driver combination",
        "driver_combination",
    ),
    804: (
        f"{_BEFORE}804: forward compatibility was attempted on non supported HW",
        "forward_compatibility",
    ),
    999: (
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment",
        "unknown_error",
    ),
}


def failed_start(code: int, text: str, *, device: str = "cuda:1") -> probe.Observation:
    """The node when cuInit gives a code and torch raises a text."""
    dead = {
        "device": device,
        "driver.init_code": code,
        "driver.init_name": CODES.get(code, ""),
        "driver.device_count": None,
        "driver.devices": (),
        "framework.error": text,
        "framework.available": False,
        "framework.device_count": 2 if device.startswith("cuda") else 0,
        "kernel": Kernel(),
        "generic": AcceleratorApi(),
    }
    return edited(H100_NODE, dead)


@pytest.mark.parametrize("device", ["cuda:1", "cpu"])
@pytest.mark.parametrize(("code", "text", "name"), [(k, *v) for k, v in STARTS.items()])
def test_every_code_of_cuinit_is_explained(code: int, text: str, name: str, device: str) -> None:
    """Driver and torch both fail with the cause, a hint and an action, device listed or not."""
    symptom = next(each for each in SYMPTOMS if each.name == name)
    findings = findings_by_check(failed_start(code, text, device=device))

    for check in ("driver_starts", "torch_starts"):
        assert findings[check].status == "fail"
        assert symptom.cause in findings[check].message
        assert (findings[check].hint, findings[check].action) == (symptom.hint, symptom.action)
    assert findings["is_available"].status == "pass"  # False is right here
    assert (findings["enough_gpus"].status == "fail") == (device == "cpu")
    assert {f.status for f in findings.values()} <= {"fail", "pass", "skip"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
            "driver_too_old",
        ),
        ("RuntimeError: Found no NVIDIA driver on your system.", "no_driver"),
        ("AssertionError: Torch not compiled with CUDA enabled", "torch_without_cuda"),
        ("RuntimeError: Cannot re-initialize CUDA in forked subprocess.", "fork_after_init"),
    ],
)
def test_every_error_of_torch_is_explained(text: str, name: str) -> None:
    """With a driver that starts, torch's own refusal is the finding."""
    started = {"driver.init_code": 0, "driver.init_name": "CUDA_SUCCESS"}
    findings = findings_by_check(edited(DEAD_NODE, {"framework.error": text} | started))
    symptom = next(each for each in SYMPTOMS if each.name == name)

    assert findings["driver_starts"].status == "pass"
    assert symptom.cause in findings["torch_starts"].message
    assert findings["torch_starts"].hint == symptom.hint
    assert findings["torch_starts"].action == symptom.action
    assert findings["enough_gpus"].status == "fail"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "no_kernel_image",
        ),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "ecc_uncorrectable"),
        ("RuntimeError: CUDA error: device-side assert triggered", "device_assert"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "illegal_address"),
        ("RuntimeError: CUDA error: unspecified launch failure", "launch_failure"),
        ("RuntimeError: CUDA error: device kernel image is invalid", "kernel_image_invalid"),
    ],
)
def test_every_error_of_a_kernel_is_explained(text: str, name: str) -> None:
    """A kernel that raises fails its check alone, with what its text means."""
    findings = findings_by_check(
        edited(H100_NODE, {"kernel": Kernel(error=text), "generic": AcceleratorApi()})
    )
    symptom = next(each for each in SYMPTOMS if each.name == name)

    assert tripped(findings.values()) == check_ids("kernel")
    assert symptom.cause in findings["kernel"].message
    assert (findings["kernel"].hint, findings["kernel"].action) == (symptom.hint, symptom.action)


def test_an_unknown_error_still_says_what_to_do() -> None:
    """An unknown text is in the finding, with a hint where to look."""
    findings = findings_by_check(
        edited(H100_NODE, {"kernel": Kernel(error="RuntimeError: gremlins")})
    )

    assert "gremlins" in findings["kernel"].message
    assert "dmesg" in findings["kernel"].hint
    assert findings["kernel"].action == "investigate"


def test_nvml_mismatch_is_explained() -> None:
    """The driver was upgraded under a running node: NVML refuses, and cuInit with it."""
    text, _ = STARTS[803]
    mismatch = {"nvml": Nvml(error="Failed to initialize NVML: Driver/library version mismatch")}
    findings = findings_by_check(edited(failed_start(803, text), mismatch))

    assert findings["nvml_answers"].status == "fail"
    assert findings["nvml_answers"].action == "reboot_node"
    assert "upgraded under a running node" in findings["nvml_answers"].message


def test_no_libcuda_on_a_gpu_node() -> None:
    """The finding says that the container has no compute capability."""
    findings = findings_by_check(
        edited(
            DEAD_NODE,
            {
                "driver": CudaDriver(
                    load_error="libcuda.so.1: cannot open shared object file: No such file"
                ),
                "framework.error": "RuntimeError: Found no NVIDIA driver on your system.",
            },
        )
    )

    assert findings["driver_starts"].status == "fail"
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in findings["driver_starts"].hint
    assert findings["visible_devices"].status == findings["counts_agree"].status == "skip"


# ---- who is to blame

BUSY = f"{_BEFORE}46: CUDA-capable device(s) is/are busy or unavailable"
FULL = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB."


def test_a_gpu_that_others_hold_is_skipped() -> None:
    """Exclusive mode with another process in it: the device's whole result is `gpu_busy`."""
    others = {"nvml.gpus.1.process_count": 1, "nvml.gpus.1.compute_mode": "exclusive_process"}
    findings = findings_by_check(edited(failed_start(46, BUSY), others))

    assert worst(finding.status for finding in findings.values()) == "skip"
    assert findings["torch_starts"].message.startswith(GPU_BUSY)


def test_memory_that_others_hold_is_skipped() -> None:
    """Out of memory while another process has it: skip; the node's own faults still count."""
    others = {
        "kernel": Kernel(error=FULL),
        "nvml.gpus.1.process_count": 3,
        "nvml.gpus.1.memory_free_bytes": 64 * 1024**2,
    }
    findings = findings_by_check(edited(H100_NODE, others))
    lost = findings_by_check(
        edited(H100_NODE, others | {"nodes.1.problem": "EIO: Input/output error"})
    )

    assert worst(finding.status for finding in findings.values()) == "skip"
    assert findings["kernel"].message.startswith(GPU_BUSY)
    assert tripped(lost.values()) == check_ids("device_nodes")


def test_memory_that_others_hold_is_contention_while_a_kernel_runs() -> None:
    """Little free memory is no leftover when the processes that use it are known."""
    others = {"nvml.gpus.1.process_count": 3, "nvml.gpus.1.memory_free_bytes": 64 * 1024**2}
    findings = findings_by_check(edited(H100_NODE, others))

    assert tripped(findings.values()) == set()
    assert "contention" in findings["memory_free"].message
    assert findings["kernel"].status == "pass"


def test_a_gpu_that_nobody_holds_cannot_be_busy() -> None:
    """Busy, while NVML saw no process and no exclusive mode: the GPU is broken."""
    findings = findings_by_check(failed_start(46, BUSY))

    for check in ("driver_starts", "torch_starts"):
        assert findings[check].status == "fail"
        assert findings[check].action == "reset_gpu"
        assert "NVML saw no other process" in findings[check].message
    full = findings_by_check(edited(H100_NODE, {"kernel": Kernel(error=FULL)}))["kernel"]
    assert (full.status, full.action) == ("fail", "reset_gpu")


def test_unknown_holders_are_given_the_benefit_of_the_doubt() -> None:
    """Where NVML does not know who uses the GPU, "busy" is taken as true."""
    findings = findings_by_check(
        edited(failed_start(46, BUSY), {"nvml.gpus.1.process_count": None})
    )

    assert worst(finding.status for finding in findings.values()) == "skip"


def test_a_prohibited_mode_is_no_contention() -> None:
    """Waiting does not help: the check fails, and the hint says how to change the mode."""
    prohibited = {"nvml.gpus.1.compute_mode": "prohibited"}
    findings = findings_by_check(edited(failed_start(46, BUSY), prohibited))

    assert findings["compute_mode"].status == findings["driver_starts"].status == "fail"
    assert findings["compute_mode"].action == "fix_config"


@pytest.mark.parametrize("problem", ["EPERM: Operation not permitted", "EACCES: Permission denied"])
def test_lost_access_is_an_error_of_the_container(problem: str) -> None:
    """Nodes that may not be opened say nothing about the GPU: error, never fail."""
    text, _ = STARTS[999]
    lost = {
        "nodes": tuple(Node(path=node.path, problem=problem) for node in H100_NODE.nodes),
        "nvml": Nvml(error="Failed to initialize NVML: Unknown Error"),
    }
    for device in ("cuda:1", "cpu"):
        findings = findings_by_check(edited(failed_start(999, text, device=device), lost))

        assert worst(finding.status for finding in findings.values()) == "error"
        assert findings["device_nodes"].status == "error"
        assert findings["device_nodes"].action == "recreate_container"
        assert {f.status for f in findings.values()} <= {"error", "skip", "pass"}


def test_access_is_lost_by_nvmls_error_where_there_are_no_nodes() -> None:
    """NVML's Unknown Error means lost access only where there are no nodes."""
    text, _ = STARTS[999]
    refused = edited(
        failed_start(999, text), {"nvml": Nvml(error="Failed to initialize NVML: Unknown Error")}
    )
    lost = findings_by_check(edited(refused, {"nodes": ()}))

    assert worst(finding.status for finding in lost.values()) == "error"
    assert lost["nvml_answers"].status == "error"
    assert lost["device_nodes"].status == "skip"
    assert findings_by_check(refused)["driver_starts"].status == "fail"


def test_a_right_kernel_proves_access() -> None:
    """A device that computes right is usable, even where its nodes did not open."""
    closed = [Node(path=node.path, problem="EPERM: not permitted") for node in H100_NODE.nodes]

    assert tripped(findings_by_check(edited(H100_NODE, {"nodes": tuple(closed)})).values()) == set()


@pytest.mark.parametrize(
    ("problem", "status", "hint"),
    [
        ("ENOENT: No such file or directory", "fail", "nvidia-modprobe"),
        ("EPERM: Operation not permitted", "error", "recreate the container"),
        ("EIO: Input/output error", "fail", "dmesg"),
    ],
)
def test_a_closed_node_has_the_right_hint(problem: str, status: str, hint: str) -> None:
    """Missing, forbidden and broken nodes have three different hints."""
    change = {"nodes.1.problem": problem, "kernel": Kernel(error="RuntimeError: CUDA error")}
    finding = findings_by_check(edited(H100_NODE, change))["device_nodes"]

    assert finding.status == status
    assert hint in finding.hint
    assert problem in finding.message


@pytest.mark.parametrize(("value", "status"), [("0,1", "pass"), ("0", "fail"), ("0,1,2", "fail")])
def test_rocm_has_a_variable_of_its_own(value: str, status: str) -> None:
    """What hides AMD's GPUs from a ROCm build is judged there, and no CUDA driver is asked."""
    rocm = {
        "variables": {"HIP_VISIBLE_DEVICES": value, "CUDA_VISIBLE_DEVICES": "7"},
        "hardware": Hardware(vendors=("amd",)),
        "nodes": (Node(path="/dev/kfd"),),
        "driver": CPU_MACHINE.driver,
        "nvml": CPU_MACHINE.nvml,
        "framework.cuda": None,
        "framework.hip": "6.2.41134",
    }
    findings = findings_by_check(edited(H100_NODE, rocm))

    assert findings["visible_devices"].status == status
    assert findings["driver_starts"].status == findings["identity"].status == "skip"
    assert tripped(findings.values()) <= check_ids("visible_devices")


def test_another_jobs_gpu_is_not_missed() -> None:
    """A scheduler closes other jobs' nodes and hides their GPUs from NVML: nothing is wrong."""
    observation = edited(
        H100_NODE,
        {
            "device": "cuda:0",
            "nodes.3.problem": "EPERM: Operation not permitted",
            "driver.device_count": 1,
            "driver.devices": H100_NODE.driver.devices[:1],
            "nvml.gpus.1": NvmlGpu(index=1, accessible=False, error="Insufficient Permissions"),
            "framework.device_count": 1,
            "framework.uuid": UUIDS[0].removeprefix("GPU-"),
            "generic.device_count": 1,
        },
    )

    assert tripped(findings_by_check(observation).values()) == set()


@pytest.mark.parametrize(
    ("change", "action", "hint"),
    [
        (
            {"framework": Framework(version="2.6.0+cpu"), "driver.init_code": 0},
            "fix_image",
            "--index-url https://download.pytorch.org/whl/cu",
        ),
        (
            {"variables": {"CUDA_VISIBLE_DEVICES": "9"}, "framework.error": "RuntimeError: odd"},
            "fix_config",
            "`echo $CUDA_VISIBLE_DEVICES` gives '9'",
        ),
        ({"framework.error": "", "driver.load_error": ""}, "investigate", "look for lost GPUs"),
    ],
)
def test_no_usable_gpu_says_why(change: dict[str, Any], action: str, hint: str) -> None:
    """A CPU build and an empty list of visible devices have different hints."""
    finding = findings_by_check(edited(DEAD_NODE, change))["enough_gpus"]

    assert (finding.status, finding.action) == ("fail", action)
    assert hint in finding.hint


@pytest.mark.parametrize(
    ("gpus", "status"), [("auto", "skip"), (None, "skip"), (0, "skip"), (1, "fail")]
)
def test_no_gpu_is_judged_by_the_promise(gpus: int | str | None, status: str) -> None:
    """Without hardware there is nothing to judge, unless a GPU was promised."""
    findings = findings_by_check(CPU_MACHINE, gpus=gpus)

    assert findings["enough_gpus"].status == status
    assert worst(finding.status for finding in findings.values()) == status


def test_no_gpu_expected_where_there_is_one() -> None:
    """A node that is to use its CPU alone is not failed for its GPUs."""
    assert tripped(findings_by_check(DEAD_NODE, gpus=0).values()) == set()


def test_the_cpu_beside_working_gpus_is_left_alone() -> None:
    """On `cpu` the probe skips what each GPU's own result has."""
    findings = findings_by_check(edited(H100_NODE, {"device": "cpu"}))

    assert {finding.status for finding in findings.values()} == {"skip"}
    assert "each of the 2 accelerators" in findings["kernel"].message


def test_another_vendors_device_is_judged_without_nvidias_libraries() -> None:
    """A device of another back-end computes right: what is NVIDIA's is skipped, the rest passes."""
    observation = probe.Observation(
        device="xpu:0",
        hardware=Hardware(vendors=("intel",)),
        variables={},
        driver=CPU_MACHINE.driver,
        driver_s=0.0,
        nvml=CPU_MACHINE.nvml,
        framework=Framework(version="2.6.0+xpu", accelerator="xpu", available=True, device_count=1),
        framework_s=0.0,
        kernel=Kernel(comparisons=RIGHT, first_s=0.5),
        generic=AcceleratorApi(exists=True, type="xpu", available=True, device_count=1),
    )
    findings = findings_by_check(observation)
    passed = {name for name, finding in findings.items() if finding.status == "pass"}

    assert tripped(findings.values()) == set()
    assert passed >= {"torch_starts", "is_available", "enough_gpus", "kernel", "accelerator_api"}


def test_a_gpu_beside_another_vendors_is_not_mixed_up() -> None:
    """On a node with NVIDIA's GPUs too, another vendor's device is not compared with them."""
    observation = edited(
        H100_NODE,
        {
            "device": "xpu:0",
            "framework.cuda": None,
            "framework.accelerator": "xpu",
            "framework.name": "Intel Data Center GPU Max 1550",
            "framework.memory_total_bytes": 64 * GIB,
            "generic.type": "xpu",
            "nvml.gpus.0.compute_mode": "prohibited",
        },
    )

    assert tripped(findings_by_check(observation).values()) == set()


SOUND_VARIANTS: dict[str, tuple[probe.Observation, dict[str, Any]]] = {
    "narrowed by the variable alone": (
        H100_NODE,
        {
            "device": "cuda:0",
            "variables": {"CUDA_VISIBLE_DEVICES": UUIDS[1]},
            "driver.device_count": 1,
            "driver.devices": (H100_NODE.driver.devices[1].model_copy(update={"index": 0}),),
            "framework.device_count": 1,
            "generic.device_count": 1,
        },
    ),
    "narrowed by MIG alone": (
        MIG_NODE,
        {"variables": {}, "nvml.gpus": (MIG_NODE.nvml.gpus[0],), "pci": H100_NODE.pci[:1]},
    ),
    # Some versions of torch give an instance its GPU's UUID.
    "an instance under its GPU's UUID": (
        MIG_NODE,
        {"framework.uuid": UUIDS[0].removeprefix("GPU-")},
    ),
    "no UUIDs told": (
        H100_NODE,
        {
            "framework.uuid": None,
            "driver.devices.1.uuid": None,
            "nvml.gpus.0.name": "NVIDIA H100",
            "nvml.gpus.1.name": "NVIDIA H100",
        },
    ),
    "memory that the driver keeps": (
        H100_NODE,
        {
            "framework.memory_total_bytes": 75 * GIB,
            "driver.devices.1.memory_total_bytes": 75 * GIB,
            "nvml.gpus.1.memory_reserved_bytes": 5 * GIB,
        },
    ),
    "memory that an old driver does not tell of": (
        H100_NODE,
        {
            "framework.memory_total_bytes": 78 * GIB,
            "driver.devices.1.memory_total_bytes": 78 * GIB,
            "nvml.gpus.1.memory_reserved_bytes": None,
        },
    ),
    "back-end without is_available": (H100_NODE, {"framework.available": None}),
    "torch before its generic interface": (H100_NODE, {"generic": AcceleratorApi()}),
    "a warning that means nothing": (H100_NODE, {"framework.warnings": ("numpy is old",)}),
    "another GPU of the node in use": (
        H100_NODE,
        {"nvml.gpus.0.process_count": 4, "nvml.gpus.0.memory_free_bytes": 0},
    ),
}


@pytest.mark.parametrize(("base", "change"), SOUND_VARIANTS.values(), ids=SOUND_VARIANTS.keys())
def test_a_right_difference_is_no_fault(base: probe.Observation, change: dict[str, Any]) -> None:
    """Each of these nodes is healthy, if not the usual one."""
    findings = findings_by_check(edited(base, change))

    assert tripped(findings.values()) == set()
    assert findings["kernel"].status == "pass"


def test_a_gpu_without_a_uuid_is_busy_if_any_is() -> None:
    """Without a UUID every usable GPU counts: one in use is enough to believe "busy"."""
    unmatched = {
        "variables": {"CUDA_VISIBLE_DEVICES": "1"},
        "framework.device_count": 1,
        "nvml.gpus": (
            *H100_NODE.nvml.gpus,
            NvmlGpu(index=2, accessible=False, compute_mode="exclusive_process"),
        ),
    }
    idle = edited(failed_start(46, BUSY), unmatched)
    used = edited(idle, {"nvml.gpus.0.process_count": 1})

    assert findings_by_check(idle)["torch_starts"].status == "fail"
    assert worst(finding.status for finding in findings_by_check(used).values()) == "skip"


def test_hidden_hardware_is_still_asked_for() -> None:
    """Where the container shows no hardware, a CUDA build with devices has its driver judged."""
    hidden = {"hardware": Hardware(), "driver.init_code": 999, "kernel": Kernel()}
    unpromised = findings_by_check(edited(CPU_MACHINE, {"framework.cuda": "12.4"}), gpus=1)

    assert findings_by_check(edited(H100_NODE, hidden))["driver_starts"].status == "fail"
    assert unpromised["driver_starts"].status == "fail"
    assert findings_by_check(CPU_MACHINE, gpus=1)["driver_starts"].status == "skip"


def test_a_build_without_a_back_end_has_nothing_to_start() -> None:
    """With GPUs promised to a CPU build, their number fails; the start is skipped."""
    findings = findings_by_check(CPU_MACHINE, gpus=1)

    assert findings["torch_starts"].status == "skip"
    assert findings["kernel"].message == "no accelerator to ask"
    assert tripped(findings.values()) == check_ids("enough_gpus")
    assert findings["enough_gpus"].hint


def test_a_start_without_error_passes_though_no_device_is_there() -> None:
    """torch.cuda.init went through: the start is right, the count is not."""
    findings = findings_by_check(edited(DEAD_NODE, {"framework.error": ""}))

    assert findings["torch_starts"].status == "pass"
    assert findings["enough_gpus"].status == "fail"


@pytest.mark.parametrize(
    ("vendors", "framework", "wrong"),
    [
        (("nvidia",), Framework(version="2.6.0+cpu"), "cu126"),
        (("amd",), Framework(version="2.6.0+cpu"), "rocm6.4"),
        (("intel",), Framework(version="2.6.0+cpu"), "xpu"),
        (("nvidia", "intel"), Framework(version="2.6.0+cu124", cuda="12.4"), ""),
        (("intel",), Framework(version="2.6.0+xpu", accelerator="xpu"), ""),
    ],
)
def test_the_right_build_is_named(
    vendors: tuple[str, ...], framework: Framework, wrong: str
) -> None:
    """For a build without support for the node's GPUs, the hint names the index of one with it."""
    change = {"hardware.vendors": vendors, "framework": framework}
    finding = findings_by_check(edited(DEAD_NODE, change))["enough_gpus"]

    assert finding.status == "fail"
    assert ("--index-url" in finding.hint) == bool(wrong)
    assert f"whl/{wrong}`" in finding.hint or not wrong


def test_leftover_memory_says_whether_its_holder_is_known() -> None:
    """The message differs when no process uses the memory and when NVML does not know."""
    little = {"nvml.gpus.1.memory_free_bytes": 0}
    nobody = findings_by_check(edited(H100_NODE, little))["memory_free"]
    unknown = findings_by_check(edited(H100_NODE, little | {"nvml.gpus.1.process_count": None}))[
        "memory_free"
    ]

    assert "no process is seen" in nobody.message
    assert "unknown" in unknown.message


def test_measurements_are_in_base_units() -> None:
    """Measurements are seconds and bytes; steps that did not happen have none."""
    measured = {each.name: (each.value, each.unit) for each in probe.measure(H100_NODE)}

    assert measured == {
        "driver_start_seconds": (0.4, "seconds"),
        "torch_start_seconds": (0.2, "seconds"),
        "first_kernel_seconds": (0.6, "seconds"),
        "device_memory_bytes": (79.0 * GIB, "bytes"),
    }
    assert list(probe.measure(CPU_MACHINE)) == []


# ---- observe() on a pretended node, broken from outside

Patch = pytest.MonkeyPatch


@pytest.fixture
def node(monkeypatch: Patch) -> Callable[[], set[str]]:
    """Replace what observe() reads by a node of two GPUs; return a call that gives what trips."""
    real = looking.exercise
    framework = H100_NODE.framework
    properties = SimpleNamespace(
        name=framework.name,
        uuid=framework.uuid,
        major=9,
        minor=0,
        total_memory=framework.memory_total_bytes,
    )
    generic = SimpleNamespace(
        current_accelerator=lambda: torch.device("cuda"),
        is_available=lambda: True,
        device_count=lambda: 2,
        synchronize=lambda *_: None,
    )
    monkeypatch.setattr(torch, "accelerator", generic, raising=False)
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    for name, stand_in in {
        "init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_properties": lambda *_: properties,
        "mem_get_info": lambda *_: (78 * GIB, 79 * GIB),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(looking, "exercise", lambda *_: real("cpu"))
    monkeypatch.setattr(looking, "open_nodes", lambda *_: H100_NODE.nodes)
    monkeypatch.setattr(hardware, "detect", lambda: H100_NODE.hardware)
    monkeypatch.setattr(cuda_driver, "read", lambda: H100_NODE.driver)
    monkeypatch.setattr(nvml, "read", lambda: H100_NODE.nvml)
    monkeypatch.setattr(pci_gpus, "read", lambda: H100_NODE.pci)
    monkeypatch.setattr(containers, "read", lambda _: Container())
    for name in looking.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return lambda: tripped(probe.judge(probe.observe("cuda:1")))


def test_the_pretended_node_is_sound(node: Callable[[], set[str]]) -> None:
    """Without a fault no check trips."""
    assert node() == set()


def _raising(text: str) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:
        raise RuntimeError(text)

    return call


def _spoiled(change: Callable[[torch.Tensor], object]) -> Callable[..., Any]:
    """An addition whose output is then changed."""
    real = torch.add

    def add(*arguments: Any, **named: Any) -> torch.Tensor:
        out: torch.Tensor = real(*arguments, **named)
        change(out)
        return out

    return add


def _flip_a_bit(out: torch.Tensor) -> None:
    out.view(torch.int32)[4095] ^= 1


def _swap_two(out: torch.Tensor) -> None:
    out[[7, 8]] = out[[8, 7]]


def _one_nan(out: torch.Tensor) -> None:
    out[100] = float("nan")


def _sum_loses_the_last(tensor: torch.Tensor) -> torch.Tensor:
    return torch.tensor(tensor[:-1].tolist()).cumsum(0)[-1]


def _with_warning(message: str) -> Callable[[], None]:
    return lambda: warnings.warn(message, stacklevel=2)


BREAKS: dict[str, tuple[str, Callable[[Patch], None]]] = {
    "init raises 802": (
        "torch_starts",
        lambda patch: patch.setattr(torch.cuda, "init", _raising(STARTS[802][0])),
    ),
    "init warns of a missing architecture": (
        "torch_starts",
        lambda patch: patch.setattr(
            torch.cuda,
            "init",
            _with_warning("GPU is not compatible with the current PyTorch installation"),
        ),
    ),
    "is_available says no": (
        "is_available",
        lambda patch: patch.setattr(torch.cuda, "is_available", lambda: False),
    ),
    "is_available says yes to a dead back-end": (
        "is_available",
        lambda patch: patch.setattr(torch.cuda, "init", _raising(STARTS[3][0])),
    ),
    "torch counts one": (
        "counts_agree",
        lambda patch: patch.setattr(torch.cuda, "device_count", lambda: 1),
    ),
    "torch.accelerator counts none": (
        "accelerator_api",
        lambda patch: patch.setattr(torch.accelerator, "device_count", lambda: 0),
    ),
    "torch.accelerator raises": (
        "accelerator_api",
        lambda patch: patch.setattr(torch.accelerator, "synchronize", _raising("lost")),
    ),
    "properties of another GPU": (
        "identity",
        lambda patch: patch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda *_: SimpleNamespace(name="NVIDIA T4", major=7, minor=5),
        ),
    ),
    "properties raise": (
        "identity",
        lambda patch: patch.setattr(torch.cuda, "get_device_properties", _raising("INTERNAL")),
    ),
    "half of the memory": (
        "memory_size",
        lambda patch: patch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda *_: SimpleNamespace(total_memory=40 * GIB),
        ),
    ),
    "a bad entry in the environment": (
        "visible_devices",
        lambda patch: patch.setenv("CUDA_VISIBLE_DEVICES", "0,1,9"),
    ),
    "add does nothing": (
        "kernel",
        lambda patch: patch.setattr(torch, "add", lambda *_, **named: named["out"]),
    ),
    "add gives zeros": (
        "kernel",
        lambda patch: patch.setattr(torch, "add", _spoiled(torch.Tensor.zero_)),
    ),
    "add is off by a thousandth": (
        "kernel",
        lambda patch: patch.setattr(torch, "add", _spoiled(lambda out: out.mul_(1.001))),
    ),
    "one bit of one element": (
        "kernel",
        lambda patch: patch.setattr(torch, "add", _spoiled(_flip_a_bit)),
    ),
    "two elements swapped": (
        "kernel",
        lambda patch: patch.setattr(torch, "add", _spoiled(_swap_two)),
    ),
    "one NaN": ("kernel", lambda patch: patch.setattr(torch, "add", _spoiled(_one_nan))),
    "the factor is ignored": (
        "kernel",
        lambda patch: patch.setattr(torch, "add", lambda b, a, *, out, **_: out.copy_(a).add_(b)),
    ),
    "add_ copies": (
        "kernel",
        lambda patch: patch.setattr(torch.Tensor, "add_", lambda tensor, other: tensor + other),
    ),
    "sum loses the last element": (
        "kernel",
        lambda patch: patch.setattr(torch.Tensor, "sum", _sum_loses_the_last),
    ),
    "copies to the device are stale": (
        "kernel",
        lambda patch: patch.setattr(torch.Tensor, "to", lambda tensor, *_: tensor * 0),
    ),
    "kernels raise": (
        "kernel",
        lambda patch: patch.setattr(
            torch, "add", _raising("CUDA error: no kernel image is available for execution on t")
        ),
    ),
}


@pytest.mark.parametrize(("check", "break_it"), BREAKS.values(), ids=BREAKS.keys())
def test_broken_from_outside(
    check: str, break_it: Callable[[Patch], None], node: Callable[[], set[str]], monkeypatch: Patch
) -> None:
    """A break below observe trips the check that names it."""
    break_it(monkeypatch)

    assert check_ids(check) <= node()


def test_nothing_trips_whatever_the_state(node: Callable[[], set[str]]) -> None:
    """Fifty runs with other seeds, threads and default dtypes trip no check."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    found: set[str] = set()
    try:
        for seed in range(50):
            torch.manual_seed(seed)
            torch.set_num_threads(1 + seed % 2)
            torch.set_default_dtype(torch.float64 if seed % 5 == 4 else torch.float32)
            with torch.set_grad_enabled(seed % 3 > 0):
                found |= node()
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)

    assert found == set()


def test_nodes_are_opened(tmp_path: Path) -> None:
    """A missing control node is listed, and a directory cannot be opened for writing."""
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").mkdir()
    (tmp_path / "nvidia-caps").mkdir()
    found = {
        Path(node.path).name: node.problem.partition(":")[0]
        for node in open_nodes(("nvidia",), tmp_path)
    }

    assert found == {"nvidia0": "", "nvidiactl": "EISDIR", "nvidia-uvm": "ENOENT"}
    assert open_nodes(("nvidia",), tmp_path / "absent") == ()
    assert open_nodes((), tmp_path) == ()


def test_results_left_on_the_host_are_seen(monkeypatch: Patch) -> None:
    """A `to` that moves nothing gives the right numbers on the wrong device, which fails."""
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_: tensor)
    monkeypatch.setattr(looking, "synchronize", lambda _: None)
    kernel = looking.exercise("meta")
    findings = findings_by_check(edited(H100_NODE, {"kernel": kernel}))

    assert [each.operation for each in kernel.comparisons if not each.holds] == ["placement"]
    assert tripped(findings.values()) == check_ids("kernel")


def test_the_kernels_reference_is_exact() -> None:
    """The integers and their sum are exact in float32, in any order of summation."""
    index = np.arange(4096)
    total = int((3 * (index % 61 - 30) + (index % 53 - 26) + 1).sum())
    kernel = looking.exercise("cpu")

    assert abs(total) < 2**24
    assert [each.operation for each in kernel.comparisons] == ["add(out=), add_", "sum"]
    assert all(each.holds for each in kernel.comparisons)
    assert kernel.error == ""


# ---- with fake drivers, in a child


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake drivers in it."""
    return fakes.build(tmp_path_factory.mktemp("drivers"))


@pytest.mark.slow
@pytest.mark.parametrize("code", [802, 999])
def test_end_to_end_with_a_driver_that_fails(libraries: Path, code: int) -> None:
    """The errors of libcuda and NVML are in the finding, through ctypes and pynvml."""
    # A CUDA build counts NVML's GPUs even where CUDA cannot start.
    device = "cpu" if torch.version.cuda is None else "cuda:0"
    answer: Any = fakes.ask(
        f"probe.observe({device!r}).model_dump_json()",
        libraries,
        "probes.cuda_available",
        FAKE_CUDA_INIT=code,
        FAKE_CUDA_COUNT=2,
        FAKE_NVML_COUNT=2,
    )
    observation = edited(
        probe.Observation.model_validate(answer), {"hardware": H100_NODE.hardware, "nodes": ()}
    )
    findings = findings_by_check(observation)
    symptom = diagnose(CODES[code])

    assert symptom is not None
    assert findings["driver_starts"].status == "fail"
    assert f"libcuda.so.1 gave {code}" in findings["driver_starts"].message
    assert findings["driver_starts"].hint == symptom.hint
    assert findings["nvml_answers"].status == "pass"
    assert (findings["enough_gpus"].status == "fail") == (device == "cpu")


def test_an_observation_is_small_and_survives_json() -> None:
    """It round-trips, and stays far under 20 KiB on a node of GPUs as well."""
    for observation in (probe.observe("cpu"), H100_NODE, MIG_NODE, DEAD_NODE):
        text = observation.model_dump_json(exclude_defaults=True)

        assert probe.Observation.model_validate_json(text) == observation
        assert len(text) < 8 * 1024


def test_an_accelerator_of_another_kind_needs_no_nvidia_library() -> None:
    """A CUDA build with an out-of-tree back-end: libcuda and NVML do not apply there."""
    other = edited(
        CPU_MACHINE,
        {
            "device": "fake:0",
            "framework.cuda": "13.0",
            "framework.accelerator": "fake",
            "framework.device_count": 2,
            "kernel": Kernel(comparisons=RIGHT, first_s=0.1),
        },
    )
    found = findings_by_check(other)

    assert found["driver_starts"].status == "skip"
    assert found["nvml_answers"].status == "skip"
    assert found["kernel"].status == "pass"
