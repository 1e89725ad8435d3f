"""Reads libcuda through ctypes, without torch, to find the true cause of a failed CUDA start.

No context is created, so no GPU memory is used; the devices listed follow CUDA_VISIBLE_DEVICES.
`cuInit` can hang in the driver: call `read` only in a process that another one can kill.
"""

import ctypes
import re
import uuid as uuids
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from probes.contract import Frozen
from probes.node.nvml import Nvml, NvmlGpu, decoded, sysfs_address

#: CUresult codes that driver start-up can return (cuda.h).
CODES: Final[dict[int, str]] = {
    0: "CUDA_SUCCESS",
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    3: "CUDA_ERROR_NOT_INITIALIZED",
    4: "CUDA_ERROR_DEINITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    102: "CUDA_ERROR_DEVICE_NOT_LICENSED",
    200: "CUDA_ERROR_INVALID_IMAGE",
    201: "CUDA_ERROR_INVALID_CONTEXT",
    209: "CUDA_ERROR_NO_BINARY_FOR_GPU",
    214: "CUDA_ERROR_ECC_UNCORRECTABLE",
    222: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    304: "CUDA_ERROR_OPERATING_SYSTEM",
    500: "CUDA_ERROR_NOT_FOUND",
    800: "CUDA_ERROR_NOT_PERMITTED",
    801: "CUDA_ERROR_NOT_SUPPORTED",
    802: "CUDA_ERROR_SYSTEM_NOT_READY",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    805: "CUDA_ERROR_MPS_CONNECTION_FAILED",
    806: "CUDA_ERROR_MPS_RPC_FAILURE",
    807: "CUDA_ERROR_MPS_SERVER_NOT_READY",
    808: "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED",
    809: "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED",
    999: "CUDA_ERROR_UNKNOWN",
}

# Values of CUdevice_attribute (cuda.h); a driver older than an attribute returns an error.
_CAPABILITY: Final = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_INTEGRATED: Final = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED: shares the host's memory (Jetson, GB10)
_NUMA_CONFIG: Final = 130  # CU_DEVICE_ATTRIBUTE_NUMA_CONFIG: 1 where its memory is a NUMA node
_MPS_ENABLED: Final = 133  # CU_DEVICE_ATTRIBUTE_MPS_ENABLED: contexts are shared through MPS


class DriverDevice(Frozen):
    """One device in CUDA's order. A field is None if the driver did not report it."""

    index: int
    uuid: str | None = None  # GPU-..., or MIG-... for an instance
    pci_bus_id: str | None = None  # as sysfs spells it, 0000:0f:00.0
    name: str | None = None
    capability: tuple[int, int] | None = None
    memory_total_bytes: int | None = None
    integrated: bool | None = None  # it shares the host's memory
    numa_memory: bool | None = None  # its memory is a NUMA node of the host (GH200, GB200)
    mps: bool | None = None  # contexts go through the multi-process service (MPS)


class CudaDriver(Frozen):
    """The outcome of loading libcuda.so.1 and calling `cuInit` (`init_code` None: not called)."""

    loaded: bool = False
    load_error: str = ""
    path: str | None = None  # the mapped file: reveals stubs/ and compat/
    init_code: int | None = None
    init_name: str = ""
    driver_version: int | None = None  # 12040 is CUDA 12.4
    device_count: int | None = None
    devices: tuple[DriverDevice, ...] = ()


def _mapped_path() -> str | None:
    """The file that this process has mapped as libcuda.so.1."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"\s(/\S*/libcuda\.so\S*)", maps)
    return found.group(1) if found else None


class _Library:
    """Calls libcuda's functions by name."""

    def __init__(self) -> None:
        self._functions = ctypes.CDLL("libcuda.so.1")

    def code(self, function: str, *arguments: object) -> int | None:
        """The CUresult of a call; None when the library has no such function."""
        call = getattr(self._functions, function, None)
        return None if call is None else int(call(*arguments))

    def succeeded(self, function: str, *arguments: object) -> bool:
        """Whether the function exists and the call succeeded."""
        return self.code(function, *arguments) == 0

    def text(self, function: str, device: int) -> str | None:
        """The text that `function(char *, int length, device)` writes; None if it fails."""
        buffer = ctypes.create_string_buffer(256)
        return (
            decoded(buffer.value) if self.succeeded(function, buffer, len(buffer), device) else None
        )


def _device_uuid(library: _Library, device: int) -> str | None:
    """The device's UUID.

    Under MIG `cuDeviceGetUuid_v2` returns the instance's UUID, the older function the GPU's: if
    the two differ, the device is a MIG instance.
    """
    found = []
    for function in ("cuDeviceGetUuid_v2", "cuDeviceGetUuid"):
        buffer = ctypes.create_string_buffer(16)
        if library.succeeded(function, buffer, device):
            found.append(uuids.UUID(bytes=buffer.raw))
    if not found:
        return None
    return f"{'GPU' if len(set(found)) == 1 else 'MIG'}-{found[0]}"


def _attribute(library: _Library, attribute: int, device: int) -> int | None:
    """One attribute of a device; None where the driver does not know it."""
    number = ctypes.c_int(-1)
    known = library.succeeded("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    return number.value if known else None


def _is_set(library: _Library, attribute: int, device: int) -> bool | None:
    """Whether an attribute is not zero; None where the driver does not know it."""
    value = _attribute(library, attribute, device)
    return None if value is None else value != 0


def _device(library: _Library, index: int) -> DriverDevice:
    handle, total = ctypes.c_int(-1), ctypes.c_size_t(0)
    if not library.succeeded("cuDeviceGet", ctypes.byref(handle), index):
        return DriverDevice(index=index)
    device = handle.value
    address = library.text("cuDeviceGetPCIBusId", device)
    has_size = library.succeeded("cuDeviceTotalMem_v2", ctypes.byref(total), device)
    major, minor = (_attribute(library, attribute, device) for attribute in _CAPABILITY)
    return DriverDevice(
        index=index,
        uuid=_device_uuid(library, device),
        pci_bus_id=None if address is None else sysfs_address(address),
        name=library.text("cuDeviceGetName", device),
        capability=None if major is None or minor is None else (major, minor),
        memory_total_bytes=total.value if has_size else None,
        integrated=_is_set(library, _INTEGRATED, device),
        numa_memory=_is_set(library, _NUMA_CONFIG, device),
        mps=_is_set(library, _MPS_ENABLED, device),
    )


def read() -> CudaDriver:
    """Load libcuda.so.1, initialise it and list its devices. Creates no context, raises nothing."""
    try:
        library = _Library()
    except OSError as error:
        return CudaDriver(load_error=str(error))
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    # Allowed before cuInit.
    has_version = library.succeeded("cuDriverGetVersion", ctypes.byref(version))
    path = _mapped_path()
    code = library.code("cuInit", 0)
    if code is None:
        return CudaDriver(load_error=f"{path or 'libcuda.so.1'} has no function cuInit", path=path)
    has_count = code == 0 and library.succeeded("cuDeviceGetCount", ctypes.byref(count))
    return CudaDriver(
        loaded=True,
        path=path,
        init_code=code,
        init_name=CODES.get(code, f"CUDA_ERROR_{code}"),
        driver_version=version.value if has_version else None,
        device_count=count.value if has_count else None,
        devices=tuple(_device(library, index) for index in range(count.value)) if has_count else (),
    )


def match(
    index: int, count: int, driver: CudaDriver, management: Nvml, environment: Mapping[str, str]
) -> tuple[DriverDevice | None, NvmlGpu | None]:
    """The driver's and NVML's entries for torch's device `index` of `count`; None if unknown.

    They are matched by UUID, a MIG instance with its GPU. If the driver does not start there is no
    UUID: then the index is used, if nothing can make CUDA's order differ from NVML's.
    """
    device = next((device for device in driver.devices if device.index == index), None)
    if device is not None and device.uuid is not None:
        for gpu in management.gpus:
            if device.uuid == gpu.uuid or device.uuid in gpu.mig_uuids:
                return device, gpu
        return device, None
    alike = len({gpu.name for gpu in management.gpus}) == 1
    by_address = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    whole = "CUDA_VISIBLE_DEVICES" not in environment and count == len(management.gpus)
    return device, management.gpus[index] if whole and (alike or by_address) else None
