"""NVML's answers and errors, through the real pynvml on a fake library, in a child process."""

import os
from pathlib import Path
from typing import Any

import pytest

from probes.kit.symptoms import diagnose
from probes.node import nvml
from tests import fakes

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake drivers in it."""
    return fakes.build(tmp_path_factory.mktemp("drivers"))


def read(libraries: Path, **environment: str | int) -> nvml.Nvml:
    """What `nvml.read` says in a child that loads the fake library."""
    answer: Any = fakes.ask("nvml.read().model_dump_json()", libraries, **environment)
    return nvml.Nvml.model_validate(answer)


def test_every_field_is_read(libraries: Path) -> None:
    """Two GPUs come back whole, in order, in base units and sysfs spelling."""
    seen = read(libraries, FAKE_NVML_COUNT=2, FAKE_NVML_MODE=3)

    assert (seen.error, seen.driver_version) == ("", "550.54.15")
    assert seen.gpus[1] == nvml.NvmlGpu(
        index=1,
        uuid="GPU-00010203-0405-0607-0809-0a0b0c0d0e01",
        pci_bus_id="0000:0b:00.0",
        name="Fake GPU",
        memory_total_bytes=16384 * MIB,
        memory_free_bytes=15000 * MIB,
        memory_reserved_bytes=384 * MIB,
        process_count=0,
        compute_mode="exclusive_process",
        capability=(9, 1),
        mig_enabled=None,  # this GPU does not know MIG
        minor=1,
    )


def test_others_are_counted_once_and_we_are_not(libraries: Path) -> None:
    """Compute and graphics processes count together, each once, without our own."""
    seen = read(libraries, FAKE_NVML_PROCESSES="self,4,5", FAKE_NVML_GRAPHICS="5,6")

    assert seen.gpus[0].process_count == 3


def test_a_driver_without_the_newest_layouts_is_read(libraries: Path) -> None:
    """Older layouts of memory and processes are asked for when the newest are missing."""
    seen = read(libraries, FAKE_NVML_OLD=1, FAKE_NVML_PROCESSES="4")

    assert (seen.gpus[0].process_count, seen.gpus[0].error) == (1, "")
    assert seen.gpus[0].memory_total_bytes == 16384 * MIB
    assert seen.gpus[0].memory_reserved_bytes is None


def test_mig_instances_are_listed(libraries: Path) -> None:
    """With MIG on the UUIDs of the filled slots are listed, and empty slots are no error."""
    seen = read(libraries, FAKE_NVML_MIG=1)

    assert seen.gpus[0].mig_enabled is True
    assert seen.gpus[0].mig_uuids == ("MIG-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae00",)
    assert seen.gpus[0].error == ""
    assert read(libraries, FAKE_NVML_MIG=0).gpus[0].mig_enabled is False


def test_every_instance_tells_of_itself(libraries: Path) -> None:
    """Seven instances, in their slots, with names, memory and processes of their own."""
    seen = read(
        libraries, FAKE_NVML_MIG=1, FAKE_NVML_SLOTS="0,1,2,3,4,5,6", FAKE_NVML_PROCESSES="4,5"
    )
    instances = seen.gpus[0].mig_instances

    assert [instance.slot for instance in instances] == list(range(7))
    assert len({instance.uuid for instance in instances}) == 7
    assert seen.gpus[0].mig_uuids == tuple(instance.uuid for instance in instances)
    assert instances[6] == nvml.MigInstance(
        slot=6,
        uuid="MIG-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadb300",
        name="Fake GPU MIG 1g.10gb",
        memory_total_bytes=2048 * MIB,
        memory_free_bytes=2000 * MIB,
        process_count=2,
    )


def test_what_an_instance_does_not_tell_is_no_fault_of_its_gpu(libraries: Path) -> None:
    """Its memory and its processes are unknown then, and it is listed all the same."""
    refused = {"FAKE_NVML_REFUSES": "nvmlDeviceGetMemoryInfo"}
    gpu = read(libraries, FAKE_NVML_MIG=1, FAKE_NVML_CODE=999, **refused).gpus[0]

    assert [instance.memory_free_bytes for instance in gpu.mig_instances] == [None]
    assert gpu.error == ""


@pytest.mark.parametrize(
    ("code", "text", "symptom"),
    [
        (999, "Failed to initialize NVML: Unknown Error", "lost_access"),
        (
            18,
            "Failed to initialize NVML: RM has detected an NVML/RM version mismatch.",
            "nvml_version_mismatch",
        ),
        (9, "Failed to initialize NVML: Driver Not Loaded", "nvml_driver_not_loaded"),
        (4242, "Failed to initialize NVML: NVML Error with code 4242", None),
    ],
)
def test_a_start_that_fails_is_text(
    libraries: Path, code: int, text: str, symptom: str | None
) -> None:
    """Every error of the start is told in NVML's words, which `diagnose` knows; none is raised."""
    seen = read(libraries, FAKE_NVML_INIT=code)
    found = diagnose(seen.error)

    assert (seen.error, seen.gpus) == (text, ())
    assert (found and found.name) == symptom


def test_a_lost_gpu_keeps_its_place(libraries: Path) -> None:
    """A GPU whose handle cannot be had is listed with the error, and the others are read."""
    seen = read(libraries, FAKE_NVML_COUNT=3, FAKE_NVML_LOST=1)

    assert [gpu.index for gpu in seen.gpus] == [0, 1, 2]
    assert seen.gpus[1].error == "nvmlDeviceGetHandleByIndex: GPU is lost"
    assert seen.gpus[1].process_count is None
    assert (seen.gpus[2].error, seen.gpus[2].process_count) == ("", 0)


def test_a_gpu_of_another_job_is_told_apart_from_a_lost_one(libraries: Path) -> None:
    """A handle that is not permitted marks the GPU as not ours, and is no fault of it."""
    seen = read(libraries, FAKE_NVML_COUNT=2, FAKE_NVML_LOST=1, FAKE_NVML_LOST_CODE=4)

    assert [gpu.accessible for gpu in seen.gpus] == [True, False]


FIELDS = {
    "nvmlDeviceGetUUID": "uuid",
    "nvmlDeviceGetPciInfo_v3": "pci_bus_id",
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetMemoryInfo_v2": "memory_reserved_bytes",
    "nvmlDeviceGetComputeMode": "compute_mode",
    "nvmlDeviceGetCudaComputeCapability": "capability",
    "nvmlDeviceGetMigMode": "mig_enabled",
    "nvmlDeviceGetMinorNumber": "minor",
}


@pytest.mark.parametrize(("function", "field"), FIELDS.items())
def test_one_field_that_fails_is_none_and_told(libraries: Path, function: str, field: str) -> None:
    """A question that fails costs its own field and leaves its text; the rest is read."""
    gpu = read(libraries, FAKE_NVML_MIG=0, FAKE_NVML_REFUSES=function, FAKE_NVML_CODE=15).gpus[0]
    missing = {name for name in FIELDS.values() if getattr(gpu, name) is None}

    assert missing == {field}
    assert gpu.error.endswith(": GPU is lost")


@pytest.mark.parametrize("code", [3, 4], ids=["not supported", "no permission"])
def test_what_may_not_be_told_is_none_without_a_fault(libraries: Path, code: int) -> None:
    """Not supported and not permitted are unknown: neither zero processes nor an error."""
    refused = {"FAKE_NVML_REFUSES": "nvmlDeviceGetComputeRunningProcesses_v3"}
    gpu = read(libraries, FAKE_NVML_OLD=0, FAKE_NVML_CODE=code, **refused).gpus[0]
    mode = read(libraries, FAKE_NVML_REFUSES="nvmlDeviceGetComputeMode", FAKE_NVML_CODE=code)

    assert gpu.process_count == 0  # the older layout was asked then
    assert (mode.gpus[0].compute_mode, mode.gpus[0].error) == (None, "")


def test_an_unknown_number_of_gpus_is_an_error(libraries: Path) -> None:
    """A count that cannot be had is not a count of zero."""
    seen = read(libraries, FAKE_NVML_REFUSES="nvmlDeviceGetCount_v2", FAKE_NVML_CODE=3)

    assert seen.error == "nvmlDeviceGetCount: no answer"


def test_nvml_is_shut_down(libraries: Path, tmp_path: Path) -> None:
    """The session with the driver ends, so that nothing of ours blocks a GPU reset."""
    proof = tmp_path / "shutdown"
    read(libraries, FAKE_NVML_SHUTDOWN_FILE=str(proof), FAKE_NVML_LOST=0)

    assert proof.exists()


def test_absence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No library and no pynvml are both an error text, not an empty success."""
    assert "nvidia-ml-py" not in read(tmp_path).error
    assert diagnose(read(tmp_path).error) == diagnose("NVML Shared Library Not Found")
    monkeypatch.setattr(nvml, "pynvml", None)

    assert "nvidia-ml-py" in nvml.read().error


@pytest.mark.parametrize(
    ("spelled", "address"),
    [
        ("00000000:0F:00.0", "0000:0f:00.0"),
        (b"0000:0F:00.0", "0000:0f:00.0"),
        ("00010000:E1:00.0", "10000:e1:00.0"),
    ],
)
def test_addresses_are_spelled_as_in_sysfs(spelled: str | bytes, address: str) -> None:
    """Whatever the spelling of a library, addresses can be compared."""
    assert nvml.sysfs_address(spelled) == address


def test_our_own_process_is_named_by_its_id(libraries: Path) -> None:
    """A process id that only resembles ours is somebody else's."""
    seen = read(libraries, FAKE_NVML_PROCESSES=f"{os.getpid()}")

    assert seen.gpus[0].process_count == 1


def test_confidential_computing_is_told(libraries: Path) -> None:
    """On, off, and unknown to an older driver, which is no error."""
    assert read(libraries, FAKE_NVML_CC=1).confidential is True
    assert read(libraries).confidential is False
    old = read(libraries, FAKE_NVML_OLD=1)
    assert (old.confidential, old.error) == (None, "")
