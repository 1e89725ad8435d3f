"""What libcuda itself says, asked through ctypes: the true cause of a failed start, without torch.

No context is made, so no GPU memory is taken; the enumeration honours CUDA_VISIBLE_DEVICES.
`cuInit` can hang with the interpreter's lock held elsewhere: call it only in a killable process.
"""

import ctypes
import re
import uuid as uuids
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from probes.contract import Frozen
from probes.node.nvml import Nvml, NvmlGpu, sysfs_address, text_of

#: Codes of CUresult that a start-up can end with (cuda.h).
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

# Numbers of CUdevice_attribute (cuda.h); a driver that is older than one of them refuses it.
_CAPABILITY: Final = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_INTEGRATED: Final = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED: shares the host's memory (Jetson, GB10)
_NUMA_CONFIG: Final = 130  # CU_DEVICE_ATTRIBUTE_NUMA_CONFIG: 1 where its memory is a NUMA node
_MPS_ENABLED: Final = 133  # CU_DEVICE_ATTRIBUTE_MPS_ENABLED: contexts here are shared by way of MPS


class DriverDevice(Frozen):
    """One device in CUDA's order. None where the driver did not say."""

    index: int
    uuid: str | None = None  # GPU-..., or MIG-... for an instance
    pci_bus_id: str | None = None  # as sysfs spells it, 0000:0f:00.0
    name: str | None = None
    capability: tuple[int, int] | None = None
    memory_total_bytes: int | None = None
    integrated: bool | None = None  # it shares the host's memory
    numa_memory: bool | None = None  # its memory is a NUMA node of the host (GH200, GB200)
    mps: bool | None = None  # CUDA's multi-process service (MPS) stands between


class CudaDriver(Frozen):
    """What came of loading libcuda.so.1 and of `cuInit`; `init_code` is None when never called."""

    loaded: bool = False
    load_error: str = ""
    path: str | None = None  # the file that was mapped: shows stubs/ and compat/
    init_code: int | None = None
    init_name: str = ""
    driver_version: int | None = None  # 12040 is CUDA 12.4
    device_count: int | None = None
    devices: tuple[DriverDevice, ...] = ()


def _mapped() -> str | None:
    """The file behind the libcuda.so.1 of this process."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"\s(/\S*/libcuda\.so\S*)", maps)
    return found.group(1) if found else None


class _Library:
    """libcuda's functions by name; one that is missing, or fails, is False."""

    def __init__(self) -> None:
        self._functions = ctypes.CDLL("libcuda.so.1")

    def code(self, function: str, *arguments: object) -> int | None:
        """The CUresult of a call; None when the library has no such function."""
        call = getattr(self._functions, function, None)
        return None if call is None else int(call(*arguments))

    def did(self, function: str, *arguments: object) -> bool:
        """Whether the call was there and succeeded."""
        return self.code(function, *arguments) == 0

    def text(self, function: str, device: int) -> str | None:
        """What `function(char *, int length, device)` writes."""
        buffer = ctypes.create_string_buffer(256)
        return text_of(buffer.value) if self.did(function, buffer, len(buffer), device) else None


def _uuid(library: _Library, device: int) -> str | None:
    """The device's UUID.

    `cuDeviceGetUuid_v2` gives an instance's own under MIG, the older call never does: where the
    two differ, it is an instance.
    """
    told = []
    for function in ("cuDeviceGetUuid_v2", "cuDeviceGetUuid"):
        buffer = ctypes.create_string_buffer(16)
        if library.did(function, buffer, device):
            told.append(uuids.UUID(bytes=buffer.raw))
    if not told:
        return None
    return f"{'GPU' if len(set(told)) == 1 else 'MIG'}-{told[0]}"


def _attribute(library: _Library, attribute: int, device: int) -> int | None:
    """One attribute of a device; None where the driver does not know it."""
    number = ctypes.c_int(-1)
    told = library.did("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    return number.value if told else None


def _is_set(library: _Library, attribute: int, device: int) -> bool | None:
    """Whether an attribute is not zero; None where the driver does not know it."""
    value = _attribute(library, attribute, device)
    return None if value is None else value != 0


def _device(library: _Library, index: int) -> DriverDevice:
    handle, total = ctypes.c_int(-1), ctypes.c_size_t(0)
    if not library.did("cuDeviceGet", ctypes.byref(handle), index):
        return DriverDevice(index=index)
    device = handle.value
    address = library.text("cuDeviceGetPCIBusId", device)
    sized = library.did("cuDeviceTotalMem_v2", ctypes.byref(total), device)
    major, minor = (_attribute(library, attribute, device) for attribute in _CAPABILITY)
    return DriverDevice(
        index=index,
        uuid=_uuid(library, device),
        pci_bus_id=None if address is None else sysfs_address(address),
        name=library.text("cuDeviceGetName", device),
        capability=None if major is None or minor is None else (major, minor),
        memory_total_bytes=total.value if sized else None,
        integrated=_is_set(library, _INTEGRATED, device),
        numa_memory=_is_set(library, _NUMA_CONFIG, device),
        mps=_is_set(library, _MPS_ENABLED, device),
    )


def read() -> CudaDriver:
    """Load libcuda.so.1, initialise it and list its devices; nothing is raised, no context made."""
    try:
        library = _Library()
    except OSError as error:
        return CudaDriver(load_error=str(error))
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    told = library.did("cuDriverGetVersion", ctypes.byref(version))  # allowed before cuInit
    path = _mapped()
    code = library.code("cuInit", 0)
    if code is None:
        return CudaDriver(load_error=f"{path or 'libcuda.so.1'} has no function cuInit", path=path)
    counted = code == 0 and library.did("cuDeviceGetCount", ctypes.byref(count))
    return CudaDriver(
        loaded=True,
        path=path,
        init_code=code,
        init_name=CODES.get(code, f"CUDA_ERROR_{code}"),
        driver_version=version.value if told else None,
        device_count=count.value if counted else None,
        devices=tuple(_device(library, index) for index in range(count.value)) if counted else (),
    )


def match(
    index: int, count: int, driver: CudaDriver, management: Nvml, environment: Mapping[str, str]
) -> tuple[DriverDevice | None, NvmlGpu | None]:
    """What the driver and NVML know of torch's device `index` of `count`.

    They are matched by UUID, a MIG instance with the GPU that it is a part of. Where the driver
    does not start there is no UUID: then NVML's order is CUDA's only if nothing can reorder it.
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
