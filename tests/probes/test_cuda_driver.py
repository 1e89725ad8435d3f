"""libcuda's answers through ctypes on a fake library, in a child process."""

from pathlib import Path
from typing import Any

import pytest

from probes.kit.symptoms import diagnose
from probes.node import cuda_driver
from tests import fakes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake drivers in it."""
    return fakes.build(tmp_path_factory.mktemp("drivers"))


def read(libraries: Path, **environment: str | int) -> cuda_driver.CudaDriver:
    """What `cuda_driver.read` says in a child that loads the fake library."""
    answer: Any = fakes.ask("cuda_driver.read().model_dump_json()", libraries, **environment)
    return cuda_driver.CudaDriver.model_validate(answer)


def test_every_field_is_read(libraries: Path) -> None:
    """Two devices come back whole, by handle and not by index."""
    seen = read(libraries, FAKE_CUDA_COUNT=2, FAKE_CUDA_VERSION=13000)

    assert (seen.loaded, seen.init_code, seen.init_name) == (True, 0, "CUDA_SUCCESS")
    assert (seen.driver_version, seen.device_count) == (13000, 2)
    assert seen.path == str(libraries / "libcuda.so.1")
    assert seen.devices[1] == cuda_driver.DriverDevice(
        index=1,
        uuid="GPU-00010203-0405-0607-0809-0a0b0c0d0e01",
        pci_bus_id="0000:0b:00.0",
        name="Fake GPU",
        capability=(9, 1),
        memory_total_bytes=16000 * 1024 * 1024,
        integrated=False,
        numa_memory=False,
        mps=False,
    )


@pytest.mark.parametrize(
    ("number", "field"), [(18, "integrated"), (130, "numa_memory"), (133, "mps")]
)
def test_the_kind_of_a_device_is_told(libraries: Path, number: int, field: str) -> None:
    """Each attribute by its number in cuda.h; a driver that is older than it leaves it unknown."""
    told = read(libraries, FAKE_CUDA_ATTRIBUTES=number).devices[0]
    old = read(libraries, FAKE_CUDA_ATTRIBUTES=number, FAKE_CUDA_OLD=1).devices[0]
    kinds = ("integrated", "numa_memory", "mps")

    assert [name for name in kinds if getattr(told, name)] == [field]
    assert getattr(old, field) is (None if number > 125 else True)


def test_the_uuid_is_the_one_that_nvml_gives(libraries: Path) -> None:
    """Both libraries spell a GPU's UUID alike, and an instance's, so they can be matched."""
    whole = read(libraries).devices[0].uuid
    slice_ = read(libraries, FAKE_CUDA_MIG=1).devices[0].uuid
    gpu = fakes.ask("nvml.read().model_dump_json()", libraries, FAKE_NVML_MIG=1)["gpus"][0]

    assert whole == gpu["uuid"]
    assert [slice_] == gpu["mig_uuids"]


@pytest.mark.parametrize(
    ("code", "symptom"),
    {
        3: "driver_not_initialized",
        34: "stub_library",
        46: "device_busy",
        100: "no_device",
        101: "invalid_device_ordinal",
        802: "fabric_not_ready",
        803: "driver_combination",
        804: "forward_compatibility",
        805: "mps_unreachable",
        999: "unknown_error",
    }.items(),
)
def test_every_code_has_a_name_that_is_diagnosed(libraries: Path, code: int, symptom: str) -> None:
    """A start that fails gives its code, a name, and through it a cause; no devices."""
    seen = read(libraries, FAKE_CUDA_INIT=code)
    found = diagnose(seen.init_name)

    assert (seen.loaded, seen.init_code, seen.device_count, seen.devices) == (True, code, None, ())
    assert found is not None
    assert found.name == symptom


def test_an_unknown_code_is_kept(libraries: Path) -> None:
    """A code that is not in the table is told by its number."""
    assert read(libraries, FAKE_CUDA_INIT=4242).init_name == "CUDA_ERROR_4242"


@pytest.mark.parametrize(
    ("function", "field"),
    {
        "cuDeviceGetName": "name",
        "cuDeviceGetPCIBusId": "pci_bus_id",
        "cuDeviceTotalMem_v2": "memory_total_bytes",
    }.items(),
)
def test_one_field_that_fails_is_none(libraries: Path, function: str, field: str) -> None:
    """A question that the driver refuses costs its own field only."""
    device = read(libraries, FAKE_CUDA_REFUSES=function).devices[0]

    assert [name for name, value in device if value is None] == [field]


def test_no_attributes_cost_what_they_tell(libraries: Path) -> None:
    """Without them the capability and the kind of the device are unknown, and nothing else is."""
    device = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGetAttribute").devices[0]
    missing = [name for name, value in device if value is None]

    assert missing == ["capability", "integrated", "numa_memory", "mps"]


def test_the_older_uuid_call_is_enough(libraries: Path) -> None:
    """Drivers before CUDA 11.4 have one call for the UUID."""
    seen = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGetUuid_v2")

    assert seen.devices[0].uuid == "GPU-00010203-0405-0607-0809-0a0b0c0d0e00"


def test_a_device_without_a_handle_is_listed(libraries: Path) -> None:
    """A device that cannot be opened keeps its place, with nothing known of it."""
    seen = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGet")

    assert seen.devices == (cuda_driver.DriverDevice(index=0),)


def test_a_count_that_fails_is_not_zero(libraries: Path) -> None:
    """An unknown number of devices is None."""
    seen = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGetCount")

    assert (seen.init_code, seen.device_count) == (0, None)


def test_no_devices_are_none(libraries: Path) -> None:
    """A driver that starts and offers nothing has a count of zero."""
    assert read(libraries, FAKE_CUDA_COUNT=0).device_count == 0


def test_absence_is_told(tmp_path: Path) -> None:
    """Without libcuda.so.1 the linker's own text is kept, and it is diagnosed."""
    seen = read(tmp_path)
    found = diagnose(seen.load_error)

    assert not seen.loaded
    assert found is not None
    assert found.name == "no_driver"


def test_a_library_of_another_kind_is_told(libraries: Path, tmp_path: Path) -> None:
    """A libcuda.so.1 without cuInit counts as not loaded, and the file is named."""
    wrong = tmp_path / "libcuda.so.1"
    wrong.write_bytes((libraries / "libnvidia-ml.so.1").read_bytes())
    seen = read(tmp_path)

    assert (seen.loaded, seen.load_error) == (False, f"{wrong} has no function cuInit")


@pytest.mark.parametrize(
    "uuid",
    ["MIG-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadb300", "GPU-00010203-0405-0607-0809-0a0b0c0d0e01"],
)
def test_the_fake_driver_shows_what_is_made_visible(libraries: Path, uuid: str) -> None:
    """Tests of MIG rest on this: one device, of the UUID that the variable holds."""
    seen = read(libraries, FAKE_CUDA_MIG=1, CUDA_VISIBLE_DEVICES=uuid)

    assert [device.uuid for device in seen.devices] == [uuid]
