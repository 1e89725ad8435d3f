"""Other nodes, healthy and broken: Jetson, MPS, vGPU, GH200, limited memory, MIG."""

from pathlib import Path
from typing import Any

import pytest

from probes.cuda_available import observation as looking
from probes.cuda_available import probe
from probes.cuda_available.observation import Framework
from probes.node.cuda_driver import DriverDevice
from probes.node.device_nodes import Node, open_nodes
from probes.node.nvml import MigInstance, Nvml, NvmlGpu
from tests.probes.edits import edited
from tests.probes.test_cuda_available import DEAD_NODE, GIB, H100_NODE, check_ids, findings_by_check
from tests.probes.verdicts import tripped

ORIN = edited(
    H100_NODE,
    {
        "device": "cuda:0",
        "pci": (),
        "nodes": (Node(path="/dev/nvidiactl"), Node(path="/dev/nvidia0")),
        "driver.device_count": 1,
        "driver.devices": (
            DriverDevice(
                index=0,
                uuid="GPU-ddddcccc-0000-0000-0000-000000000000",
                pci_bus_id="0000:00:00.0",
                name="Orin",
                capability=(8, 7),
                memory_total_bytes=61 * GIB,
                integrated=True,
            ),
        ),
        "nvml.gpus": (
            NvmlGpu(index=0, uuid="GPU-another", name="Orin (nvgpu)", memory_total_bytes=8 * GIB),
        ),
        "framework": Framework(
            version="2.8.0",
            cuda="12.6",
            accelerator="cuda",
            available=True,
            device_count=1,
            name="Orin",
            uuid="ddddcccc-0000-0000-0000-000000000000",
            capability=(8, 7),
            memory_total_bytes=61 * GIB,
            memory_free_bytes=GIB // 2,  # the host's page cache has the rest
        ),
        "generic.device_count": 1,
    },
)

#: Two H100 of which one is cut into seven; this child is shown instance 3.
SLICED = tuple(
    MigInstance(slot=slot, uuid=f"MIG-1fa1b2c3-0001-0002-0003-00000000000{slot}")
    for slot in range(7)
)
MIXED_NODE = edited(
    H100_NODE,
    {
        "device": "cuda:0",
        "visible_before": "",
        "driver.device_count": 1,
        "driver.devices": (
            DriverDevice(
                index=0,
                uuid=SLICED[3].uuid,
                pci_bus_id="0000:0f:00.0",
                name="NVIDIA H100 80GB HBM3 MIG 1g.10gb",
                capability=(9, 0),
                memory_total_bytes=10 * GIB,
            ),
        ),
        "nvml.gpus.0.mig_enabled": True,
        "nvml.gpus.0.mig_uuids": tuple(instance.uuid for instance in SLICED),
        "nvml.gpus.0.mig_instances": SLICED,
        "framework.device_count": 1,
        "framework.name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "framework.uuid": SLICED[3].uuid,
        "framework.memory_total_bytes": 10 * GIB,
        "framework.memory_free_bytes": 9 * GIB,
        "generic.device_count": 1,
    },
)

MPS = {"driver.devices.0.mps": True, "driver.devices.1.mps": True}
ONE_OF_TWO = {
    "device": "cuda:0",
    "driver.device_count": 1,
    "driver.devices": (H100_NODE.driver.devices[1].model_copy(update={"index": 0, "mps": True}),),
    "framework.device_count": 1,
    "generic.device_count": 1,
}

OLD_DRIVER = {
    "driver.devices": (H100_NODE.driver.devices[1].model_copy(update={"index": 0}),),
}

HEALTHY: dict[str, tuple[probe.Observation, dict[str, Any]]] = {
    "Jetson Orin": (ORIN, {}),
    "Jetson without NVML": (
        ORIN,
        {"nvml": Nvml(error="Failed to initialize NVML: NVML Shared Library Not Found")},
    ),
    "GB10, whose NVML knows no memory": (ORIN, {"nvml.gpus.0.memory_total_bytes": None}),
    "an MPS daemon that has one of two GPUs": (H100_NODE, ONE_OF_TWO),
    "an old driver behind MPS": (
        H100_NODE,
        {**ONE_OF_TWO, **OLD_DRIVER, "mps_pipes": True},
    ),
    "MPS as NVIDIA recommends it": (
        H100_NODE,
        MPS | {"nvml.gpus.1.compute_mode": "exclusive_process"},
    ),
    "MPS with a limit of pinned memory": (
        H100_NODE,
        MPS | {"framework.memory_total_bytes": 20 * GIB},
    ),
    "MPS that divides a GPU": (
        H100_NODE,
        {
            "driver.devices": tuple(
                device.model_copy(update={"mps": True, "uuid": f"GPU-part{device.index}"})
                for device in H100_NODE.driver.devices
            ),
            "nvml.gpus": H100_NODE.nvml.gpus[:1],
            "framework.uuid": "part1",
            "framework.memory_total_bytes": 39 * GIB,
            "pci": H100_NODE.pci[:1],
        },
    ),
    "HAMi's limit of memory": (
        H100_NODE,
        {
            "variables": {"CUDA_DEVICE_MEMORY_LIMIT_0": "20g"},
            "framework.memory_total_bytes": 20 * GIB,
        },
    ),
    "a preloaded limit of memory": (
        H100_NODE,
        {"preloaded": ("/usr/local/vgpu/libvgpu.so",), "framework.memory_total_bytes": 20 * GIB},
    ),
    "GH200, whose freed pages the system keeps": (
        H100_NODE,
        {"driver.devices.1.numa_memory": True, "nvml.gpus.1.memory_free_bytes": GIB // 4},
    ),
    "one MIG instance of seven beside a whole GPU": (MIXED_NODE, {}),
    "several MIG instances listed, shown one by one": (
        MIXED_NODE,
        {
            "visible_before": f"{SLICED[3].uuid},{SLICED[5].uuid}",
            "variables": {"CUDA_VISIBLE_DEVICES": f"{SLICED[3].uuid},{SLICED[5].uuid}"},
        },
    ),
    "an instance and a GPU listed": (
        MIXED_NODE,
        {
            "visible_before": f"{SLICED[3].uuid},{H100_NODE.nvml.gpus[1].uuid}",
            "variables": {
                "CUDA_VISIBLE_DEVICES": f"{SLICED[3].uuid},{H100_NODE.nvml.gpus[1].uuid}"
            },
        },
    ),
}


@pytest.mark.parametrize(("base", "changes"), HEALTHY.values(), ids=HEALTHY)
def test_a_healthy_node_of_another_kind_passes(
    base: probe.Observation, changes: dict[str, Any]
) -> None:
    """Nothing trips, and its kernel is judged."""
    findings = findings_by_check(edited(base, changes))

    assert tripped(findings.values()) == set()
    assert findings["kernel"].status == "pass"


def test_listed_instances_pass_without_nvml() -> None:
    """CUDA shows one of them: only the missing NVML trips a check."""
    changes = {
        "visible_before": None,
        "nvml": Nvml(error="Failed to initialize NVML: NVML Shared Library Not Found"),
        "variables": {"CUDA_VISIBLE_DEVICES": f"{SLICED[3].uuid},{SLICED[5].uuid}"},
    }
    findings = findings_by_check(edited(MIXED_NODE, changes))

    assert tripped(findings.values()) == check_ids("nvml_answers")
    assert findings["visible_devices"].status == "pass"
    assert findings["all_gpus"].status == "skip"


SICK: dict[str, tuple[probe.Observation, dict[str, Any], str, str]] = {
    "a Jetson that torch calls otherwise": (ORIN, {"framework.name": "Thor"}, "identity", "fail"),
    "a Jetson that lost half of its memory": (
        ORIN,
        {"framework.memory_total_bytes": 30 * GIB},
        "memory_size",
        "fail",
    ),
    "torch and driver differ under MPS": (
        H100_NODE,
        MPS | {"framework.device_count": 1, "generic.device_count": 1},
        "counts_agree",
        "fail",
    ),
    "more memory than there is, with a limit": (
        H100_NODE,
        {"preloaded": ("/opt/libvgpu.so",), "framework.memory_total_bytes": 200 * GIB},
        "memory_size",
        "warn",
    ),
    "half the memory, with another library preloaded": (
        H100_NODE,
        {"preloaded": ("/usr/lib/libjemalloc.so.2",), "framework.memory_total_bytes": 40 * GIB},
        "memory_size",
        "fail",
    ),
    "one GPU of two, and no MPS": (
        H100_NODE,
        {**ONE_OF_TWO, **OLD_DRIVER},
        "counts_agree",
        "fail",
    ),
    "a slice of a hypervisor whose sizes differ": (
        H100_NODE,
        {"nvml.gpus.1.virtual": True, "nvml.gpus.1.memory_total_bytes": 96 * GIB},
        "memory_size",
        "warn",
    ),
    "exclusive mode without MPS": (
        H100_NODE,
        {"nvml.gpus.1.compute_mode": "exclusive_process"},
        "compute_mode",
        "warn",
    ),
    "prohibited mode under MPS": (
        H100_NODE,
        MPS | {"nvml.gpus.1.compute_mode": "prohibited"},
        "compute_mode",
        "fail",
    ),
    "an instance listed that is not there": (
        MIXED_NODE,
        {
            "visible_before": f"{SLICED[3].uuid},MIG-of-another-node",
            "variables": {"CUDA_VISIBLE_DEVICES": f"{SLICED[3].uuid},MIG-of-another-node"},
        },
        "visible_devices",
        "fail",
    ),
    "an instance and a GPU that is not there": (
        MIXED_NODE,
        {
            "visible_before": f"{SLICED[3].uuid},GPU-ffffffff",
            "variables": {"CUDA_VISIBLE_DEVICES": f"{SLICED[3].uuid},GPU-ffffffff"},
        },
        "visible_devices",
        "fail",
    ),
}


@pytest.mark.parametrize(("base", "changes", "check", "status"), SICK.values(), ids=SICK)
def test_a_sick_node_of_another_kind_fails(
    base: probe.Observation, changes: dict[str, Any], check: str, status: str
) -> None:
    """What is right for one check of such a node does not excuse another check."""
    findings = findings_by_check(edited(base, changes))

    assert tripped(findings.values()) == check_ids(check)
    assert findings[check].status == status


@pytest.mark.parametrize(
    ("limits", "check"),
    [
        ({"gpus": 2}, ""),
        ({"gpus": 2, "mig_instances": 7}, ""),
        ({"gpus": 3}, "enough_gpus"),
        ({"mig_instances": 8}, "mig_instances"),
    ],
)
def test_promises_count_what_an_operator_counts(limits: dict[str, Any], check: str) -> None:
    """A GPU cut into seven is one GPU and seven instances, whatever one process is shown."""
    found = tripped(findings_by_check(MIXED_NODE, **limits).values())

    assert found == (check_ids(check) if check else set())


def test_the_finding_names_what_was_not_judged() -> None:
    """The finding names a GPU with MIG on and no instance, and counts hidden instances."""
    third = NvmlGpu(index=2, uuid="GPU-2", pci_bus_id="0000:2f:00.0", mig_enabled=True)
    empty = findings_by_check(edited(MIXED_NODE, {"nvml.gpus": (*MIXED_NODE.nvml.gpus, third)}))
    own_choice = findings_by_check(
        edited(MIXED_NODE, {"visible_before": None, "variables": {"CUDA_VISIBLE_DEVICES": "0"}})
    )

    assert "GPU 2: MIG is on and no instance" in empty["mig_instances"].message
    assert "one judged, and 6 not" in str(own_choice["mig_instances"].observed)
    assert own_choice["mig_instances"].status == "pass"


NO_FILES = {"variables": {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}}


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_a_job_that_asked_for_no_gpu_does_not_fail(name: str) -> None:
    """Slurm hides all GPUs from it: the checks are skipped with that reason."""
    findings = findings_by_check(edited(DEAD_NODE, {"variables": {name: "NoDevFiles"}}))

    assert {finding.status for finding in findings.values()} == {"skip"}
    assert "asked for no GPU (NoDevFiles)" in findings["kernel"].message


def test_a_promise_to_a_job_without_gpus_is_an_error() -> None:
    """The node may have the GPUs: an error of the set-up, which does not drain the node."""
    findings = findings_by_check(edited(DEAD_NODE, NO_FILES), gpus=8)

    assert tripped(findings.values()) == check_ids("enough_gpus")
    assert findings["enough_gpus"].status == "error"
    assert findings["enough_gpus"].action == "fix_config"
    assert "asked for no GPU" in findings["enough_gpus"].message


def test_a_jetsons_nodes_are_opened(tmp_path: Path) -> None:
    """A Jetson has no node for unified memory; on other machines a missing one is listed."""
    for name in ("nvidiactl", "nvidia0"):
        (tmp_path / name).touch()
    discrete = [Path(node.path).name for node in open_nodes(("nvidia",), tmp_path)]
    (tmp_path / "nvhost-gpu").touch()
    jetson = [Path(node.path).name for node in open_nodes(("nvidia",), tmp_path)]

    assert discrete == ["nvidiactl", "nvidia-uvm", "nvidia0"]
    assert jetson == ["nvidiactl", "nvidia0"]


def test_the_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preloaded libraries, the pipes of MPS and the user's value of the variable are read."""
    preload = tmp_path / "ld.so.preload"
    preload.write_text("/usr/local/vgpu/libvgpu.so\n")
    monkeypatch.setenv("LD_PRELOAD", "/opt/a.so:/opt/b.so")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    before = looking._mps_pipes()
    (tmp_path / "control").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3")
    monkeypatch.setenv("_GPU_VALIDATOR_VISIBLE_BEFORE", "MIG-3,MIG-5")
    users = looking._variables()["CUDA_VISIBLE_DEVICES"]
    monkeypatch.setenv("_GPU_VALIDATOR_VISIBLE_BEFORE", "")

    assert looking._preloaded(preload) == ("/opt/a.so", "/opt/b.so", "/usr/local/vgpu/libvgpu.so")
    assert looking._preloaded(tmp_path / "absent") == ("/opt/a.so", "/opt/b.so")
    assert (before, looking._mps_pipes()) == (False, True)
    assert users == "MIG-3,MIG-5"
    assert "CUDA_VISIBLE_DEVICES" not in looking._variables()
