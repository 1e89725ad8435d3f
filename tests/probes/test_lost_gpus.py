"""GPUs on PCI that cannot be used: lost ones fail by address, others pass with the reason.

A node of eight GPUs of which two are left, as hosts, containers and jobs show it.
"""

from typing import Any

import pytest

from probes.contract import Finding
from probes.node.containers import Container
from probes.node.cuda_driver import CudaDriver
from probes.node.device_nodes import Node
from probes.node.hardware import Hardware
from probes.node.nvml import Nvml, NvmlGpu
from probes.node.pci_gpus import PciGpu
from tests.probes.edits import edited
from tests.probes.test_cuda_available import H100_NODE, check_ids, findings_by_check
from tests.probes.verdicts import tripped

CONTROL = H100_NODE.nodes[:2]
POD, DOCKER = Container(kind="a Kubernetes pod"), Container(kind="a container")
TOOLKIT = DOCKER.model_copy(update={"toolkit": True})


def gpu(index: int, **fields: Any) -> PciGpu:
    """One of eight equal GPUs on the bus."""
    defaults = {"address": f"0000:{index}f:00.0", "model": 0x2330, "driver": "nvidia"}
    return PciGpu.model_validate({**defaults, "minor": index, **fields})


def nodes(*indices: int, problem: str = "") -> tuple[Node, ...]:
    """The control nodes and the nodes of some GPUs; `problem` is for all GPUs but the first two."""
    return CONTROL + tuple(
        Node(path=f"/dev/nvidia{index}", problem=problem if index > 1 else "") for index in indices
    )


#: All eight GPUs on the bus; driver, NVML and torch list two of them.
EIGHT_ON_BUS: dict[str, Any] = {"pci": tuple(gpu(index) for index in range(8))}

MASKED = {"pci": tuple(gpu(index, minor=index if index < 2 else None) for index in range(8))}


def all_gpus_finding(changes: dict[str, Any], **limits: Any) -> Finding:
    """The finding of all_gpus for the node of eight; no other check but enough_gpus may trip."""
    findings = findings_by_check(edited(H100_NODE, EIGHT_ON_BUS | changes), **limits)
    allowed = check_ids("all_gpus", "enough_gpus") if "gpus" in limits else check_ids("all_gpus")

    assert tripped(findings.values()) <= allowed
    return findings["all_gpus"]


LOST: dict[str, dict[str, Any]] = {
    "a host of our own, nodes there": {"nodes": nodes(*range(8))},
    "a host of our own, no nodes": {"nodes": nodes(0, 1)},
    "nodes that no longer open": {"nodes": nodes(*range(8), problem="EIO: Input/output error")},
    "a privileged container": {"nodes": nodes(*range(8)), "container": DOCKER},
    "a privileged pod": {"nodes": nodes(*range(8)), "container": POD},
    "a job that no device group limits": {
        "nodes": nodes(*range(8)),
        "variables": {"SLURM_JOB_ID": "7"},
    },
    "all asked of NVIDIA's toolkit": {
        **MASKED,
        "nodes": nodes(0, 1),
        "container": TOOLKIT,
        "variables": {"NVIDIA_VISIBLE_DEVICES": "all"},
    },
    "a prolog, outside the job's limits": {
        "nodes": nodes(0, 1),
        "variables": {"SLURM_JOB_ID": "7", "SLURM_SCRIPT_CONTEXT": "prolog_slurmd"},
    },
    "no driver took six of eight like ones": {
        "nodes": nodes(0, 1),
        "pci": (*EIGHT_ON_BUS["pci"][:2], *(gpu(i, driver=None, minor=None) for i in range(2, 8))),
    },
}


@pytest.mark.parametrize("changes", LOST.values(), ids=LOST)
def test_gpus_that_were_given_and_are_gone_are_lost(changes: dict[str, Any]) -> None:
    """Each of the six is named by its PCI address, and the node is to be drained."""
    finding = all_gpus_finding(changes)

    assert (finding.status, finding.action) == ("fail", "drain")
    assert "8 NVIDIA GPUs, and 6 of them cannot be used" in finding.message
    assert all(f"0000:{index}f:00.0 (" in finding.message for index in range(2, 8))
    assert "0000:0f:00.0" not in finding.message


ALLOTTED: dict[str, tuple[dict[str, Any], str]] = {
    "a pod with 2 of 8": (
        {
            "nodes": nodes(0, 1),
            "container": POD,
            "variables": {"NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2"},
        },
        "not given to a Kubernetes pod",
    ),
    "a pod whose image says all": (
        {"nodes": nodes(0, 1), "container": POD, "variables": {"NVIDIA_VISIBLE_DEVICES": "all"}},
        "not given to a Kubernetes pod",
    ),
    "a pod whose GPUs are named by mounts": (
        {
            **MASKED,
            "nodes": nodes(0, 1),
            "container": Container(kind="a Kubernetes pod", toolkit=True, by_mounts=True),
            "variables": {"NVIDIA_VISIBLE_DEVICES": "all"},
        },
        "not given to a Kubernetes pod",
    ),
    "a container of CDI": (
        {
            "nodes": nodes(0, 1),
            "container": DOCKER,
            "variables": {"NVIDIA_VISIBLE_DEVICES": "void"},
        },
        "not given to a container",
    ),
    "a container of the toolkit with two": (
        {
            **MASKED,
            "nodes": nodes(0, 1),
            "container": TOOLKIT,
            "variables": {"NVIDIA_VISIBLE_DEVICES": "0,1"},
        },
        "not given to a container",
    ),
    "a job's device group": (
        {
            "nodes": nodes(*range(8), problem="EPERM: Operation not permitted"),
            "variables": {"SLURM_JOB_ID": "7"},
        },
        "/dev/nvidia7 is closed to us",
    ),
    "a job that sees no other nodes": (
        {"nodes": nodes(0, 1), "variables": {"PBS_JOBID": "7"}},
        "not given to this job (PBS_JOBID)",
    ),
    "excluded by the driver's settings": (
        {"pci": (*EIGHT_ON_BUS["pci"][:2], *(gpu(index, excluded=True) for index in range(2, 8)))},
        "told to leave it alone",
    ),
    "given to virtual machines": (
        {"pci": (*EIGHT_ON_BUS["pci"][:2], *(gpu(i, driver="vfio-pci") for i in range(2, 8)))},
        "0000:7f:00.0 (has vfio-pci)",
    ),
}


@pytest.mark.parametrize(("changes", "why"), ALLOTTED.values(), ids=ALLOTTED)
def test_gpus_that_were_not_given_pass_with_the_reason(changes: dict[str, Any], why: str) -> None:
    """An allocation or a virtual machine explains the difference, and the finding says which."""
    finding = all_gpus_finding(changes)

    assert finding.status == "pass"
    assert "2 of 8 GPUs" in str(finding.observed)
    assert why in str(finding.observed)


@pytest.mark.parametrize("changes", [each for each, _ in ALLOTTED.values()][:5])
def test_a_promised_number_outweighs_the_allotment(changes: dict[str, Any]) -> None:
    """Eight were promised: the six are named, with the reason why they are missing."""
    finding = all_gpus_finding(changes, gpus=8)
    kept = all_gpus_finding(changes, gpus=2)

    assert finding.status == "fail"
    assert "8 were promised" in finding.message
    assert "0000:2f:00.0 (not given" in finding.message
    assert kept.status == "pass"


def test_a_gpu_off_the_bus_is_named(tmp_path: object) -> None:
    """Its configuration space no longer answers, and the finding says so."""
    gone = (*EIGHT_ON_BUS["pci"][:7], gpu(7, answers=False))
    finding = all_gpus_finding({"pci": gone, "nodes": nodes(*range(8))})

    assert (
        "0000:7f:00.0 (its node /dev/nvidia7 is here, and it no longer answers" in finding.message
    )


def test_a_lost_gpu_that_nvml_still_lists_is_lost() -> None:
    """NVML counts it and cannot give its handle: its address is known from PCI alone."""
    changes = {
        "pci": EIGHT_ON_BUS["pci"][:3],
        "nvml.gpus": (*H100_NODE.nvml.gpus, NvmlGpu(index=2, error="GPU is lost")),
    }
    findings = findings_by_check(edited(H100_NODE, changes))

    assert tripped(findings.values()) == check_ids("all_gpus", "counts_agree")
    assert "0000:2f:00.0" in findings["all_gpus"].message


def test_another_jobs_gpu_has_no_address_and_is_not_lost() -> None:
    """NVML may not describe it, so nothing is known and no check trips."""
    closed = NvmlGpu(index=2, accessible=False, error="Insufficient Permissions")
    changes = {"pci": EIGHT_ON_BUS["pci"][:3], "nvml.gpus": (*H100_NODE.nvml.gpus, closed)}

    assert findings_by_check(edited(H100_NODE, changes))["all_gpus"].status == "skip"


@pytest.mark.parametrize("driver", [None, "nouveau"])
def test_another_model_without_a_driver_is_a_warning(driver: str | None) -> None:
    """A display card that the driver may not support is a warning, without a drain."""
    display = PciGpu(address="0000:03:00.0", model=0x128B, driver=driver)
    finding = findings_by_check(edited(H100_NODE, {"pci": (display, *H100_NODE.pci)}))["all_gpus"]

    assert finding.status == "warn"
    assert "0000:03:00.0" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"variables": {"CUDA_VISIBLE_DEVICES": "0,1"}},
        {"driver.devices.0.uuid": "MIG-1"},
        {"driver.devices.0.mps": True},
        {"driver.init_code": 999, "driver.devices": ()},
    ],
    ids=["narrowed", "MIG", "MPS", "no driver"],
)
def test_without_nvml_what_cuda_hides_is_not_called_lost(changes: dict[str, Any]) -> None:
    """CUDA leaves devices out for other reasons, so without NVML nothing is called lost."""
    silent = {"nvml.error": "Failed to initialize NVML: NVML Shared Library Not Found"}
    observation = edited(H100_NODE, {**EIGHT_ON_BUS, **silent, "nvml.gpus": (), **changes})
    plain = edited(H100_NODE, {**EIGHT_ON_BUS, **silent, "nvml.gpus": ()})

    assert findings_by_check(observation)["all_gpus"].status == "skip"
    assert findings_by_check(plain)["all_gpus"].status == "fail"


def test_devices_asked_for_by_name_are_not_the_node() -> None:
    """A prolog that asks about its job's GPUs gets no finding about another job's."""
    observation = edited(H100_NODE, EIGHT_ON_BUS)

    assert findings_by_check(observation, asked=("cuda:1",))["all_gpus"].status == "skip"


MI300X: dict[str, Any] = {
    "hardware": Hardware(
        vendors=("amd",),
        evidence=("KFD node 2 is gfx942", "KFD node 3 is gfx942"),
        architectures=("gfx942", "gfx942"),
    ),
    "nodes": (Node(path="/dev/kfd"), Node(path="/dev/dri/renderD128")),
    "driver": CudaDriver(load_error="libcuda.so.1: cannot open shared object file"),
    "nvml": Nvml(error="Failed to initialize NVML: NVML Shared Library Not Found"),
    "framework.cuda": None,
    "framework.hip": "6.4",
    "pci": (),
}
ONE = {"framework.device_count": 1, "generic.device_count": 1}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "pass"),
        (ONE, "fail"),
        ({**ONE, "variables": {"HIP_VISIBLE_DEVICES": "0"}}, "skip"),
        ({**ONE, "variables": {"GPU_DEVICE_ORDINAL": "0"}}, "skip"),
        (
            {
                **ONE,
                "nodes.1": Node(path="/dev/dri/renderD129", problem="EACCES: Permission denied"),
            },
            "skip",
        ),
        ({**ONE, "hardware": Hardware(vendors=("amd",), architectures=("gfx942",))}, "pass"),
        ({**ONE, "hardware": Hardware(vendors=("amd",))}, "skip"),
    ],
    ids=["both", "one lost", "hidden", "hidden by Slurm", "closed", "one given", "KFD is silent"],
)
def test_gpus_of_amd_are_counted_by_its_driver(changes: dict[str, Any], status: str) -> None:
    """KFD lists the GPUs given to us; torch must see as many, unless a variable hides some."""
    findings = findings_by_check(edited(H100_NODE, MI300X | changes))

    assert findings["all_gpus"].status == status
    assert tripped(findings.values()) == (check_ids("all_gpus") if status == "fail" else set())


def test_a_graphics_chip_beside_is_not_missed() -> None:
    """In a laptop, another vendor's integrated GPU is not expected from NVIDIA's driver."""
    laptop = {
        "hardware.pci_addresses": ("0000:00:02.0", *H100_NODE.hardware.pci_addresses),
        "hardware.vendors": ("nvidia", "intel"),
    }

    assert findings_by_check(edited(H100_NODE, laptop))["all_gpus"].status == "pass"
