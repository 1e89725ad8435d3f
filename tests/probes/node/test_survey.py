"""The survey: devices of each kind, versions, and the fingerprint."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from probes.node import cuda_driver, hardware, nvml, survey
from probes.node.cuda_driver import CudaDriver, DriverDevice
from probes.node.hardware import Hardware
from probes.node.nvml import MigInstance, Nvml, NvmlGpu
from tests import fakes

GIB = 1024**3
Patch = pytest.MonkeyPatch

GPU = NvmlGpu(
    index=0,
    uuid="GPU-1",
    pci_bus_id="0000:0f:00.0",
    name="NVIDIA H100 80GB HBM3",
    memory_total_bytes=80 * GIB,
    memory_free_bytes=60 * GIB,
    process_count=2,
    compute_mode="default",
    capability=(9, 0),
)
WHOLE = DriverDevice(
    index=0,
    uuid="GPU-1",
    pci_bus_id="0000:0f:00.0",
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    memory_total_bytes=79 * GIB,
)


@pytest.fixture
def cuda(monkeypatch: Patch) -> Callable[..., list[dict[str, Any]]]:
    """A function that returns the surveyed devices of a CUDA build with given driver and NVML."""

    def take(
        driver: tuple[DriverDevice, ...],
        gpus: tuple[NvmlGpu, ...],
        count: int = 1,
        **system: Any,
    ) -> list[dict[str, Any]]:
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(torch.version, "cuda", "12.4")
        monkeypatch.setattr(survey, "accelerator_type", lambda: "cuda")
        monkeypatch.setattr(survey, "device_count", lambda _: count)
        monkeypatch.setattr(cuda_driver, "read", lambda: CudaDriver(devices=driver))
        answers = Nvml(driver_version="550.54.15", gpus=gpus, **system)
        monkeypatch.setattr(nvml, "read", lambda: answers)
        taken: Any = survey.take()
        devices: list[dict[str, Any]] = taken["devices"]
        return devices

    return take


def environment() -> dict[str, str | None]:
    """The versions of a survey."""
    taken: Any = survey.take()
    found: dict[str, str | None] = taken["environment"]
    return found


def test_the_survey_of_this_machine() -> None:
    """The versions are the imported ones; without hardware no device is listed."""
    taken: Any = survey.take()
    found = taken["environment"]

    assert bool(taken["devices"]) <= bool(taken["hardware"])
    assert taken["hardware"] == list(hardware.detect().evidence)
    assert (found["torch"], found["numpy"]) == (str(torch.__version__), np.__version__)
    assert found["python"] == platform.python_version()
    assert found["os"]
    assert json.loads(json.dumps(taken)) == taken


def test_drivers_are_read_in_a_real_process(tmp_path: Path) -> None:
    """The driver's version comes from pynvml; only a GPU build lists GPUs."""
    taken = fakes.ask("survey.take()", fakes.build(tmp_path), FAKE_NVML_COUNT=2)

    assert taken["environment"]["driver"] == "550.54.15"
    assert len(taken["devices"]) == (0 if torch.version.cuda is None else 2)


def test_a_whole_gpu(cuda: Callable[..., list[dict[str, Any]]]) -> None:
    """All fields come from driver and NVML; memory is the driver's, which a process can use."""
    assert cuda((WHOLE,), (GPU,)) == [
        {
            "name": "cuda:0",
            "type": "cuda",
            "index": 0,
            "alone": False,
            "uuid": "GPU-1",
            "parent_uuid": None,
            "pci_bus_id": "0000:0f:00.0",
            "model_name": "NVIDIA H100 80GB HBM3",
            "capability": "9.0",
            "memory_bytes": 79 * GIB,
            "memory_free_bytes": 60 * GIB,
            "process_count": 2,
            "compute_mode": "default",
            "backend": "cuda",
            "processes": [],  # NVML itself is not there
            "utilization_percent": None,
            "memory_used_bytes": None,
        }
    ]


@pytest.mark.parametrize(
    ("backend", "driver", "confidential"),
    [
        ("cuda-below-sm75", WHOLE.model_copy(update={"capability": (7, 0)}), False),
        ("cuda-integrated", WHOLE.model_copy(update={"integrated": True}), False),
        ("cuda-mps", WHOLE.model_copy(update={"mps": True}), False),
        ("cuda-confidential", WHOLE, True),
    ],
)
def test_the_type_of_hardware(
    cuda: Callable[..., list[dict[str, Any]]],
    backend: str,
    driver: DriverDevice,
    confidential: bool,  # noqa: FBT001 - one of the cases
) -> None:
    """The type, by driver and NVML, decides which recordings count for the device."""
    assert cuda((driver,), (GPU,), confidential=confidential)[0]["backend"] == backend


INSTANCES = tuple(
    MigInstance(
        slot=slot,
        uuid=f"MIG-{slot}",
        name="NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        memory_total_bytes=10 * GIB,
        memory_free_bytes=(9 - slot) * GIB,
        process_count=slot,
    )
    for slot in range(7)
)
SLICED = GPU.model_copy(
    update={
        "mig_enabled": True,
        "mig_uuids": tuple(instance.uuid for instance in INSTANCES),
        "mig_instances": INSTANCES,
    }
)


def test_every_instance_and_the_gpu_beside_are_devices(
    cuda: Callable[..., list[dict[str, Any]]],
) -> None:
    """CUDA shows one instance; the survey lists all seven and the whole GPU, each with its own."""
    beside = GPU.model_copy(update={"index": 1, "uuid": "GPU-2", "process_count": 0})
    first = WHOLE.model_copy(update={"uuid": "MIG-0", "memory_total_bytes": 10 * GIB})
    devices = cuda((first,), (SLICED, beside))

    assert [device["name"] for device in devices] == [
        *(f"cuda:0:{slot}" for slot in range(7)),
        "cuda:1",
    ]
    assert [device["uuid"] for device in devices] == [*SLICED.mig_uuids, "GPU-2"]
    assert [device["parent_uuid"] for device in devices] == ["GPU-1"] * 7 + [None]
    assert [device["process_count"] for device in devices] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert devices[3]["memory_free_bytes"] == 6 * GIB
    assert devices[7]["memory_bytes"] == 80 * GIB
    assert {device["alone"] for device in devices} == {True}


def test_a_lone_instance_is_cuda_0(cuda: Callable[..., list[dict[str, Any]]]) -> None:
    """An only instance is torch's cuda:0, with its own numbers."""
    instance = WHOLE.model_copy(update={"uuid": "MIG-2", "memory_total_bytes": 10 * GIB})
    lone = SLICED.model_copy(update={"mig_uuids": ("MIG-2",), "mig_instances": INSTANCES[2:3]})
    (device,) = cuda((instance,), (lone,))

    assert (device["name"], device["uuid"], device["alone"]) == ("cuda:0", "MIG-2", False)
    assert (device["memory_free_bytes"], device["process_count"]) == (7 * GIB, 2)
    assert device["parent_uuid"] == "GPU-1"


def test_an_instance_is_not_its_gpu(cuda: Callable[..., list[dict[str, Any]]]) -> None:
    """If an instance reports nothing, free memory and processes are unknown, not the GPU's."""
    instance = WHOLE.model_copy(update={"uuid": "MIG-7", "memory_total_bytes": 10 * GIB})
    sliced = GPU.model_copy(update={"mig_enabled": True, "mig_uuids": ("MIG-7",)})
    (device,) = cuda((instance,), (sliced,))

    assert (device["uuid"], device["memory_bytes"]) == ("MIG-7", 10 * GIB)
    assert device["memory_free_bytes"] is device["process_count"] is None
    assert device["compute_mode"] == "default"


def test_a_driver_that_does_not_start(cuda: Callable[..., list[dict[str, Any]]]) -> None:
    """Devices that torch counts are listed, with NVML's values if the order is certain."""
    other = GPU.model_copy(update={"index": 1, "uuid": "GPU-2"})
    (first, second) = cuda((), (GPU, other), count=2)
    (unknown,) = cuda((), (GPU, other), count=1)

    assert (first["uuid"], second["uuid"]) == ("GPU-1", "GPU-2")
    assert second["name"] == "cuda:1"
    assert unknown["uuid"] is unknown["capability"] is unknown["process_count"] is None


def test_another_vendors_device(monkeypatch: Patch) -> None:
    """Fields come from torch's back-end; an error leaves them None."""
    answers = SimpleNamespace(
        name="AMD Instinct MI300X",
        gcnArchName="gfx942:sramecc+:xnack-",
        total_memory=192 * GIB,
        pci_domain_id=0,
        pci_bus_id=0x26,
        pci_device_id=0,
    )

    def raising(index: int) -> None:
        raise RuntimeError("no such device")

    module = SimpleNamespace(get_device_properties=lambda _: answers)
    monkeypatch.setattr(torch, "other", module, raising=False)
    monkeypatch.setattr(survey, "accelerator_type", lambda: "other")
    monkeypatch.setattr(survey, "device_count", lambda _: 1)
    taken: Any = survey.take()
    (device,) = taken["devices"]
    module.get_device_properties = raising
    blank: Any = survey.take()

    assert device["name"] == "other:0"
    assert (device["capability"], device["pci_bus_id"]) == ("gfx942", "0000:26:00.0")
    assert (device["model_name"], device["memory_bytes"]) == (answers.name, 192 * GIB)
    assert blank["devices"][0]["model_name"] is blank["devices"][0]["pci_bus_id"] is None


@pytest.mark.parametrize(
    ("uuids", "told"), [(("a", "a", "b"), [None, None, "b"]), (("a", "b", None), ["a", "b", None])]
)
def test_a_uuid_that_several_have_is_none(
    uuids: tuple[str | None, ...], told: list[str | None], monkeypatch: Patch
) -> None:
    """Some drivers give all devices the same one; two GPUs would be one, whose fail is lost."""
    answers = [SimpleNamespace(name="MI300X", uuid=each) for each in uuids]
    module = SimpleNamespace(get_device_properties=answers.__getitem__)
    monkeypatch.setattr(torch, "other", module, raising=False)
    monkeypatch.setattr(survey, "accelerator_type", lambda: "other")
    monkeypatch.setattr(survey, "device_count", lambda _: len(answers))
    taken: Any = survey.take()

    assert [each["uuid"] for each in taken["devices"]] == told


def test_libraries_of_a_gpu_build(monkeypatch: Patch) -> None:
    """Versions of cuDNN and NCCL are text; None if a library raises."""

    def refuses() -> None:
        raise RuntimeError("cuDNN version incompatibility")

    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90100)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 21, 5))
    found = environment()
    monkeypatch.setattr(torch.backends.cudnn, "version", refuses)
    monkeypatch.setattr(torch.cuda.nccl, "version", refuses)
    unknown = environment()

    assert (found["cudnn"], found["nccl"], found["torch_cuda"]) == ("90100", "2.21.5", "12.4")
    assert unknown["cudnn"] is unknown["nccl"] is None


@pytest.mark.parametrize("field", survey.DECIDE_NUMERICS)
def test_a_fingerprint_covers_versions_that_affect_results(field: str, monkeypatch: Patch) -> None:
    """Another version of one of these gives another fingerprint."""
    # A CUDA build that claims to be ROCm's has no library to count devices with.
    monkeypatch.setattr(survey, "device_count", lambda _: 0)
    before = environment()["fingerprint"]
    targets: dict[str, tuple[object, str, Any]] = {
        "torch": (torch, "__version__", "2.0.0"),
        "torch_cuda": (torch.version, "cuda", "1.0"),
        "torch_hip": (torch.version, "hip", "1.0"),
        "cudnn": (survey, "_cudnn", lambda: "1"),
        "nccl": (survey, "_nccl", lambda: "1"),
        "numpy": (np, "__version__", "1.0"),
        "driver": (hardware, "detect", lambda: Hardware(driver_version="1.0")),
    }
    if field in {"cudnn", "nccl"}:  # asked of GPU builds alone
        monkeypatch.setattr(torch.version, "cuda", "12.4")
        monkeypatch.setattr(survey, "_cudnn", lambda: "0")
        monkeypatch.setattr(survey, "_nccl", lambda: "0")
        before = environment()["fingerprint"]
    monkeypatch.setattr(*targets[field])

    assert environment()["fingerprint"] != before


def test_a_fingerprint_covers_nothing_else(monkeypatch: Patch) -> None:
    """Nodes with equal versions have equal fingerprints, whatever the system's name."""
    before = environment()
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    monkeypatch.setattr(survey, "_os", lambda: "another system")
    after = environment()

    assert (before["python"], before["os"]) != (after["python"], after["os"])
    assert before["fingerprint"] == after["fingerprint"]


def test_a_system_without_a_release_file(monkeypatch: Patch) -> None:
    """Without os-release, the kernel's name is used."""

    def missing() -> None:
        raise OSError("no os-release")

    monkeypatch.setattr(platform, "freedesktop_os_release", missing)

    assert environment()["os"] == f"{platform.system()} {platform.release()}"
