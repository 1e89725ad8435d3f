"""Reads the GPUs from NVML, NVIDIA's management library. Errors are kept as text, not raised.

NVML may hang if the driver hangs: call it only in a process that another one can kill.
"""

import os
from pathlib import Path
from typing import Any, Final

from probes.contract import Frozen

try:
    import pynvml
except ImportError:
    pynvml = None

#: More than one system can have: a count that is larger is no count.
MOST_GPUS: Final = 256

#: Numbers by which NVML says that there is none: all bits of an unsigned number of 32 or 64 bits.
_NO_NUMBER: Final = (2**32 - 1, 2**64 - 1)

#: The name of the server of MPS, `nvidia-cuda-mps-server`, as far as the kernel keeps it.
_MPS_SERVER: Final = "nvidia-cuda-mps"

#: Of a GPU's memory, what a process that computes takes at least; a bare desktop takes less.
_DRAWING_BYTES: Final = 256 * 1024 * 1024

_VGPU_GUEST = 2  # NVML_GPU_VIRTUALIZATION_MODE_VGPU
_COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}


class MigInstance(Frozen):
    """One MIG instance: a part of a GPU that CUDA treats as a device. None means unknown.

    `slot` is its index among the instances of its GPU, as in `nvidia-smi -L`.
    """

    slot: int
    uuid: str
    name: str | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    process_count: int | None = None


class NvmlGpu(Frozen):
    """One physical GPU. None means unknown (not supported, no permission).

    `process_count` counts those that compute or draw much, without this one. In a container NVML
    reports the host's process ids, so this process cannot be recognised: read before using the
    GPU. `memory_reserved_bytes` is the part of `memory_total_bytes` that the driver reserves.
    """

    index: int
    uuid: str | None = None
    pci_bus_id: str | None = None  # as sysfs spells it, 0000:0f:00.0
    name: str | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    process_count: int | None = None
    compute_mode: str | None = None
    capability: tuple[int, int] | None = None
    mig_enabled: bool | None = None
    mig_uuids: tuple[str, ...] = ()
    mig_instances: tuple[MigInstance, ...] = ()  # the instances of `mig_uuids`, in detail
    minor: int | None = None  # the N of /dev/nvidiaN
    virtual: bool | None = None  # a vGPU made by a hypervisor
    accessible: bool = True  # False: no permission to query it (another job's GPU)
    error: str = ""  # the first error that NVML gave for this GPU


class Nvml(Frozen):
    """What NVML reported; `error` is empty if the library worked, even if a GPU has an error."""

    error: str = ""
    driver_version: str | None = None
    confidential: bool | None = None  # confidential computing is on
    gpus: tuple[NvmlGpu, ...] = ()


def decoded(value: str | bytes) -> str:
    """The value as text: older pynvml and ctypes return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def told(answer: Any) -> Any:
    """The answer; None for a number that stands for none."""
    return None if isinstance(answer, int) and answer in _NO_NUMBER else answer


def sysfs_address(bus_id: str | bytes) -> str:
    """A PCI address as sysfs spells it: `00000000:0F:00.0` becomes `0000:0f:00.0`."""
    domain, colon, rest = decoded(bus_id).lower().partition(":")
    return f"{domain.lstrip('0'):0>4}{colon}{rest}"


class Queries:
    """Calls functions of NVML and keeps the first error that means a fault."""

    def __init__(self) -> None:
        self.error = ""
        self.forbidden = False  # some call was not permitted

    def query(self, function: str, *arguments: object) -> Any:
        """Call a function of pynvml; return None if it fails, and keep the error.

        Not supported, not in this driver and not permitted are no faults: no error is kept.
        """
        call = getattr(pynvml, function, None)
        if call is None:
            return None
        try:
            return told(call(*arguments))
        except pynvml.NVMLError_NoPermission:
            self.forbidden = True
            return None
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
            return None
        except (pynvml.NVMLError, ValueError) as error:  # ValueError: text that is not UTF-8
            self.error = self.error or f"{function}: {error}"
            return None
        except (AttributeError, TypeError):  # an older or newer module than ours
            return None

    def text(self, function: str, *arguments: object) -> str | None:
        """`query`, for functions that return text."""
        answer = self.query(function, *arguments)
        return None if answer is None else decoded(answer)


def processes(queries: Queries, handle: object) -> dict[int, int | None] | None:
    """The other processes on the GPU, by id, with their bytes of its memory where they are told.

    Of MPS those that compute through its server, which itself computes for nobody else: it stays
    when they have gone. Nor do those count that draw and take little together, such as a display
    server. None if the compute processes are unknown.
    """
    listed = {}
    for kind in ("Compute", "MPSCompute", "Graphics"):
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        # Versioned names: the plain name raises something else than NVMLError on older drivers.
        answer = queries.query(f"{name}_v3", handle)
        answer = queries.query(f"{name}_v2", handle) if answer is None else answer
        if answer is None and kind == "Compute":
            return None
        listed[kind] = {int(each.pid): each.usedGpuMemory for each in answer or ()}
    compute, clients = listed["Compute"], listed["MPSCompute"]
    servers = set(filter(_is_mps_server, compute))
    if clients.keys() - compute.keys() and not servers:  # in a container its name is not known
        servers = set(
            sorted(compute.keys() - clients.keys(), key=lambda pid: compute[pid] or 0)[:1]
        )
    found = {pid: size for pid, size in compute.items() if pid not in servers}
    found |= clients
    drawing = {pid: size for pid, size in listed["Graphics"].items() if pid not in found}
    if None in drawing.values() or sum(filter(None, drawing.values())) >= _DRAWING_BYTES:
        found |= drawing
    found.pop(os.getpid(), None)
    return found


def _is_mps_server(pid: int) -> bool:
    """Whether a process is the server of MPS, where process ids here are those of the host."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return name.strip() == _MPS_SERVER


def process_count(queries: Queries, handle: object) -> int | None:
    """The number of other processes on the GPU; None if its compute processes are unknown."""
    found = processes(queries, handle)
    return None if found is None else len(found)


def _mig_instances(queries: Queries, handle: object) -> tuple[bool | None, tuple[MigInstance, ...]]:
    """Whether MIG is on, and its instances."""
    modes = queries.query("nvmlDeviceGetMigMode", handle)
    if modes is None or modes[0] == 0:
        return (None if modes is None else False), ()
    found = []
    for slot in range(queries.query("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        # Separate queries: an empty slot is an error, and some drivers refuse queries about an
        # instance (its processes); neither is a fault of the GPU.
        own_queries = Queries()
        instance = own_queries.query("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot)
        uuid = None if instance is None else queries.text("nvmlDeviceGetUUID", instance)
        if uuid is not None:
            memory = own_queries.query("nvmlDeviceGetMemoryInfo", instance)
            found.append(
                MigInstance(
                    slot=slot,
                    uuid=uuid,
                    name=own_queries.text("nvmlDeviceGetName", instance),
                    memory_total_bytes=None if memory is None else int(memory.total),
                    memory_free_bytes=None if memory is None else int(memory.free),
                    process_count=process_count(own_queries, instance),
                )
            )
    return True, tuple(found)


def _gpu(index: int) -> NvmlGpu:
    queries = Queries()
    query, text = queries.query, queries.text
    handle = query("nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        problem = queries.error or "nvmlDeviceGetHandleByIndex: no handle"
        return NvmlGpu(index=index, accessible=not queries.forbidden, error=problem)
    # Version 2 separates reserved from used memory; drivers before 510 lack it.
    memory = query("nvmlDeviceGetMemoryInfo", handle, getattr(pynvml, "nvmlMemory_v2", None))
    if memory is None:
        memory = query("nvmlDeviceGetMemoryInfo", handle)
    reserved = getattr(memory, "reserved", None)
    pci = query("nvmlDeviceGetPciInfo", handle)
    mode = query("nvmlDeviceGetComputeMode", handle)
    virtualization = query("nvmlDeviceGetVirtualizationMode", handle)
    mig_enabled, instances = _mig_instances(queries, handle)
    return NvmlGpu(
        index=index,
        uuid=text("nvmlDeviceGetUUID", handle),
        pci_bus_id=None if pci is None else sysfs_address(pci.busId),
        name=text("nvmlDeviceGetName", handle),
        memory_total_bytes=None if memory is None else int(memory.total),
        memory_free_bytes=None if memory is None else int(memory.free),
        memory_reserved_bytes=None if reserved is None else int(reserved),
        process_count=process_count(queries, handle),
        compute_mode=None if mode is None else _COMPUTE_MODES.get(mode, f"mode_{mode}"),
        capability=query("nvmlDeviceGetCudaComputeCapability", handle),
        mig_enabled=mig_enabled,
        mig_uuids=tuple(instance.uuid for instance in instances),
        mig_instances=instances,
        minor=query("nvmlDeviceGetMinorNumber", handle),
        virtual=None if virtualization is None else virtualization == _VGPU_GUEST,
        error=queries.error,  # keep it last: the queries above set it
    )


def temperature_c(uuid: str | None) -> int | None:
    """How warm the GPU with that UUID is now, in degrees Celsius; None where NVML does not say."""
    if pynvml is None or uuid is None:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    queries = Queries()
    handle = queries.query("nvmlDeviceGetHandleByUUID", uuid.encode())
    value = None if handle is None else queries.query("nvmlDeviceGetTemperature", handle, 0)
    queries.query("nvmlShutdown")
    return None if value is None else int(value)


def read() -> Nvml:
    """Start NVML, read every GPU, shut NVML down. Takes a millisecond if there is no driver."""
    if pynvml is None:
        return Nvml(error="nvidia-ml-py (module pynvml) is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Nvml(error=f"Failed to initialize NVML: {error}")
    queries = Queries()
    version = queries.text("nvmlSystemGetDriverVersion")
    count = queries.query("nvmlDeviceGetCount")
    # Separate queries: an error of an older driver here is no fault.
    state = Queries().query("nvmlSystemGetConfComputeState")
    counted = count is not None and 0 <= count <= MOST_GPUS
    gpus = tuple(_gpu(index) for index in range(count if counted else 0))
    queries.query("nvmlShutdown")
    answer = "no answer" if count is None else f"{count} GPUs"
    problem = queries.error or ("" if counted else f"nvmlDeviceGetCount: {answer}")
    confidential = None if state is None else bool(state.ccFeature)
    return Nvml(error=problem, driver_version=version, confidential=confidential, gpus=gpus)
