"""Reading of libcuda through ctypes, with a fake library, in a child process."""

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
    """The result of `cuda_driver.read` in a child that loads the fake library."""
    answer: Any = fakes.ask("cuda_driver.read().model_dump_json()", libraries, **environment)
    return cuda_driver.CudaDriver.model_validate(answer)


def test_every_field_is_read(libraries: Path) -> None:
    """Two devices with all fields, read by handle and not by index."""
    driver = read(libraries, FAKE_CUDA_COUNT=2, FAKE_CUDA_VERSION=13000)

    assert (driver.loaded, driver.init_code, driver.init_name) == (True, 0, "CUDA_SUCCESS")
    assert (driver.driver_version, driver.device_count) == (13000, 2)
    assert driver.path == str(libraries / "libcuda.so.1")
    assert driver.devices[1] == cuda_driver.DriverDevice(
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
def test_the_kind_of_a_device_is_read(libraries: Path, number: int, field: str) -> None:
    """Each attribute by its number in cuda.h; None with a driver that does not know it."""
    device = read(libraries, FAKE_CUDA_ATTRIBUTES=number).devices[0]
    old = read(libraries, FAKE_CUDA_ATTRIBUTES=number, FAKE_CUDA_OLD=1).devices[0]
    kinds = ("integrated", "numa_memory", "mps")

    assert [name for name in kinds if getattr(device, name)] == [field]
    assert getattr(old, field) is (None if number > 125 else True)


def test_the_uuid_is_the_one_that_nvml_gives(libraries: Path) -> None:
    """Both libraries give equal UUIDs for a GPU and for an instance, so they can be matched."""
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
    """A failed start gives a code and a name, whose cause is known, and no devices."""
    driver = read(libraries, FAKE_CUDA_INIT=code)
    found = diagnose(driver.init_name)

    assert (driver.loaded, driver.init_code, driver.device_count, driver.devices) == (
        True,
        code,
        None,
        (),
    )
    assert found is not None
    assert found.name == symptom


def test_an_unknown_code_is_kept(libraries: Path) -> None:
    """A code that is not in the table keeps its number."""
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
    """Only the field of the failed call is None."""
    device = read(libraries, FAKE_CUDA_REFUSES=function).devices[0]

    assert [name for name, value in device if value is None] == [field]


def test_without_attributes_only_their_fields_are_unknown(libraries: Path) -> None:
    """Without attributes only the capability and the kind of the device are None."""
    device = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGetAttribute").devices[0]
    missing = [name for name, value in device if value is None]

    assert missing == ["capability", "integrated", "numa_memory", "mps"]


def test_the_older_uuid_call_is_enough(libraries: Path) -> None:
    """Drivers before CUDA 11.4 have one call for the UUID."""
    driver = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGetUuid_v2")

    assert driver.devices[0].uuid == "GPU-00010203-0405-0607-0809-0a0b0c0d0e00"


def test_a_device_without_a_handle_is_listed(libraries: Path) -> None:
    """A device that cannot be opened is listed, with all fields None."""
    driver = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGet")

    assert driver.devices == (cuda_driver.DriverDevice(index=0),)


def test_a_count_that_fails_is_not_zero(libraries: Path) -> None:
    """An unknown number of devices is None."""
    driver = read(libraries, FAKE_CUDA_REFUSES="cuDeviceGetCount")

    assert (driver.init_code, driver.device_count) == (0, None)


def test_no_devices_are_none(libraries: Path) -> None:
    """A driver that starts without devices has a count of zero."""
    assert read(libraries, FAKE_CUDA_COUNT=0).device_count == 0


def test_a_missing_library_is_an_error(tmp_path: Path) -> None:
    """Without libcuda.so.1 the linker's own text is kept, and it is diagnosed."""
    driver = read(tmp_path)
    found = diagnose(driver.load_error)

    assert not driver.loaded
    assert found is not None
    assert found.name == "no_driver"


def test_a_library_without_cuinit_is_an_error(libraries: Path, tmp_path: Path) -> None:
    """A libcuda.so.1 without cuInit counts as not loaded, and the file is named."""
    wrong = tmp_path / "libcuda.so.1"
    wrong.write_bytes((libraries / "libnvidia-ml.so.1").read_bytes())
    driver = read(tmp_path)

    assert (driver.loaded, driver.load_error) == (False, f"{wrong} has no function cuInit")


@pytest.mark.parametrize(
    "uuid",
    ["MIG-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadb300", "GPU-00010203-0405-0607-0809-0a0b0c0d0e01"],
)
def test_the_fake_driver_shows_what_is_made_visible(libraries: Path, uuid: str) -> None:
    """Tests of MIG rest on this: one device, of the UUID that the variable holds."""
    driver = read(libraries, FAKE_CUDA_MIG=1, CUDA_VISIBLE_DEVICES=uuid)

    assert [device.uuid for device in driver.devices] == [uuid]
