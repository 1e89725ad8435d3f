"""Reading of NVML: the real pynvml with a fake library, in a child process."""

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
    """The result of `nvml.read` in a child that loads the fake library."""
    answer: Any = fakes.ask("nvml.read().model_dump_json()", libraries, **environment)
    return nvml.Nvml.model_validate(answer)


def test_every_field_is_read(libraries: Path) -> None:
    """Two GPUs with all fields, in order, in base units and with sysfs addresses."""
    answer = read(libraries, FAKE_NVML_COUNT=2, FAKE_NVML_MODE=3)

    assert (answer.error, answer.driver_version) == ("", "550.54.15")
    assert answer.gpus[1] == nvml.NvmlGpu(
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


def test_other_processes_are_counted_once_and_this_one_is_not(libraries: Path) -> None:
    """Compute and graphics processes are counted together, each once, without this one."""
    answer = read(libraries, FAKE_NVML_PROCESSES="self,4,5", FAKE_NVML_GRAPHICS="5,6:512")

    assert answer.gpus[0].process_count == 3


def test_a_driver_without_the_newest_layouts_is_read(libraries: Path) -> None:
    """Older layouts of memory and processes are used when the newest are missing."""
    answer = read(libraries, FAKE_NVML_OLD=1, FAKE_NVML_PROCESSES="4")

    assert (answer.gpus[0].process_count, answer.gpus[0].error) == (1, "")
    assert answer.gpus[0].memory_total_bytes == 16384 * MIB
    assert answer.gpus[0].memory_reserved_bytes is None


def test_mig_instances_are_listed(libraries: Path) -> None:
    """With MIG on the UUIDs of the filled slots are listed, and empty slots are no error."""
    answer = read(libraries, FAKE_NVML_MIG=1)

    assert answer.gpus[0].mig_enabled is True
    assert answer.gpus[0].mig_uuids == ("MIG-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae00",)
    assert answer.gpus[0].error == ""
    assert read(libraries, FAKE_NVML_MIG=0).gpus[0].mig_enabled is False


def test_every_instance_has_its_own_values(libraries: Path) -> None:
    """Seven instances, in their slots, with names, memory and processes of their own."""
    answer = read(
        libraries, FAKE_NVML_MIG=1, FAKE_NVML_SLOTS="0,1,2,3,4,5,6", FAKE_NVML_PROCESSES="4,5"
    )
    instances = answer.gpus[0].mig_instances

    assert [instance.slot for instance in instances] == list(range(7))
    assert len({instance.uuid for instance in instances}) == 7
    assert answer.gpus[0].mig_uuids == tuple(instance.uuid for instance in instances)
    assert instances[6] == nvml.MigInstance(
        slot=6,
        uuid="MIG-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadb300",
        name="Fake GPU MIG 1g.10gb",
        memory_total_bytes=2048 * MIB,
        memory_free_bytes=2000 * MIB,
        process_count=2,
    )


def test_an_unknown_value_of_an_instance_is_no_error_of_its_gpu(libraries: Path) -> None:
    """Its memory and processes are None, and it is still listed."""
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
def test_an_error_of_the_start_is_kept_as_text(
    libraries: Path, code: int, text: str, symptom: str | None
) -> None:
    """Every error is kept as NVML's text, which `diagnose` knows; none is raised."""
    answer = read(libraries, FAKE_NVML_INIT=code)
    found = diagnose(answer.error)

    assert (answer.error, answer.gpus) == (text, ())
    assert (found and found.name) == symptom


def test_a_lost_gpu_keeps_its_place(libraries: Path) -> None:
    """A GPU without a handle is listed with the error, and the others are read."""
    answer = read(libraries, FAKE_NVML_COUNT=3, FAKE_NVML_LOST=1)

    assert [gpu.index for gpu in answer.gpus] == [0, 1, 2]
    assert answer.gpus[1].error == "nvmlDeviceGetHandleByIndex: GPU is lost"
    assert answer.gpus[1].process_count is None
    assert (answer.gpus[2].error, answer.gpus[2].process_count) == ("", 0)


def test_a_gpu_of_another_job_differs_from_a_lost_one(libraries: Path) -> None:
    """A GPU whose handle is not permitted is marked inaccessible; that is no fault."""
    answer = read(libraries, FAKE_NVML_COUNT=2, FAKE_NVML_LOST=1, FAKE_NVML_LOST_CODE=4)

    assert [gpu.accessible for gpu in answer.gpus] == [True, False]


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
def test_one_field_that_fails_is_none_with_an_error(
    libraries: Path, function: str, field: str
) -> None:
    """The field of a failed call is None, its error is kept, and the rest is read."""
    gpu = read(libraries, FAKE_NVML_MIG=0, FAKE_NVML_REFUSES=function, FAKE_NVML_CODE=15).gpus[0]
    missing = {name for name in FIELDS.values() if getattr(gpu, name) is None}

    assert missing == {field}
    assert gpu.error.endswith(": GPU is lost")


@pytest.mark.parametrize("code", [3, 4], ids=["not supported", "no permission"])
def test_what_is_not_permitted_is_none_without_an_error(libraries: Path, code: int) -> None:
    """Not supported and not permitted give None: neither zero processes nor an error."""
    refused = {"FAKE_NVML_REFUSES": "nvmlDeviceGetComputeRunningProcesses_v3"}
    gpu = read(libraries, FAKE_NVML_OLD=0, FAKE_NVML_CODE=code, **refused).gpus[0]
    mode = read(libraries, FAKE_NVML_REFUSES="nvmlDeviceGetComputeMode", FAKE_NVML_CODE=code)

    assert gpu.process_count == 0  # the older layout was asked then
    assert (mode.gpus[0].compute_mode, mode.gpus[0].error) == (None, "")


def test_an_unknown_number_of_gpus_is_an_error(libraries: Path) -> None:
    """An unknown count is not zero."""
    answer = read(libraries, FAKE_NVML_REFUSES="nvmlDeviceGetCount_v2", FAKE_NVML_CODE=3)

    assert answer.error == "nvmlDeviceGetCount: no answer"


def test_nvml_is_shut_down(libraries: Path, tmp_path: Path) -> None:
    """The session with the driver is closed, so that it does not block a GPU reset."""
    proof = tmp_path / "shutdown"
    read(libraries, FAKE_NVML_SHUTDOWN_FILE=str(proof), FAKE_NVML_LOST=0)

    assert proof.exists()


def test_a_missing_library_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library or pynvml there is an error text."""
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
    """Addresses in all spellings are converted to one, so they can be compared."""
    assert nvml.sysfs_address(spelled) == address


def test_our_own_process_is_named_by_its_id(libraries: Path) -> None:
    """Another process with this test's id is counted: the child has its own id."""
    answer = read(libraries, FAKE_NVML_PROCESSES=f"{os.getpid()}")

    assert answer.gpus[0].process_count == 1


def test_confidential_computing_is_read(libraries: Path) -> None:
    """On, off, and unknown to an older driver, which is no error."""
    assert read(libraries, FAKE_NVML_CC=1).confidential is True
    assert read(libraries).confidential is False
    old = read(libraries, FAKE_NVML_OLD=1)
    assert (old.confidential, old.error) == (None, "")


SECOND = "GPU-00010203-0405-0607-0809-0a0b0c0d0e01"


@pytest.mark.parametrize(
    ("uuid", "environment", "degrees"),
    [
        (SECOND, {}, 42),
        ("GPU-of-another-node", {}, None),
        (None, {}, None),
        (SECOND, {"FAKE_NVML_TEMPERATURE": ""}, None),
        (SECOND, {"FAKE_NVML_INIT": 9}, None),
        (SECOND, {"FAKE_NVML_REFUSES": "nvmlDeviceGetTemperature"}, None),
    ],
    ids=["known", "no such GPU", "no GPU", "not supported", "no driver", "an error"],
)
def test_how_warm_a_gpu_is(
    libraries: Path,
    tmp_path: Path,
    uuid: str | None,
    environment: dict[str, str | int],
    degrees: int | None,
) -> None:
    """Of the GPU with that UUID, and of no other; nothing is raised."""
    given: dict[str, str | int] = {"FAKE_NVML_COUNT": 3, "FAKE_NVML_TEMPERATURE": 41}
    given["FAKE_NVML_SHUTDOWN_FILE"] = str(tmp_path / "shut")
    answer = fakes.ask(f"nvml.temperature_c({uuid!r})", libraries, **{**given, **environment})

    assert answer == degrees
    started = uuid is not None and "FAKE_NVML_INIT" not in environment
    assert (tmp_path / "shut").exists() == started
