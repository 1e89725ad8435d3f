"""What NVIDIA's management library says of the GPUs; every error kept as text, none raised.

It may hang where the driver does: call it only in a process that somebody else can kill.
"""

import os
from typing import Any

from probes.contract import Frozen

try:
    import pynvml
except ImportError:
    pynvml = None

_VGPU_GUEST = 2  # NVML_GPU_VIRTUALIZATION_MODE_VGPU
_COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}


class MigInstance(Frozen):
    """One MIG instance: a part of a GPU that CUDA treats as a device. None is "could not be told".

    `slot` is its place among the instances of its GPU, as in `nvidia-smi -L`.
    """

    slot: int
    uuid: str
    name: str | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    process_count: int | None = None


class NvmlGpu(Frozen):
    """One physical GPU. None is "could not be told" (not supported, no permission), never "fine".

    `process_count` counts compute and graphics processes other than ours; in a container NVML
    gives the host's process ids, so ours is told apart only where the two agree: ask before using
    the GPU. `memory_reserved_bytes` is what the driver keeps of `memory_total_bytes`.
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
    mig_instances: tuple[MigInstance, ...] = ()  # the same instances, with what is known of each
    minor: int | None = None  # the N of /dev/nvidiaN
    virtual: bool | None = None  # a slice that a hypervisor made (vGPU)
    accessible: bool = True  # False: another job's, which we may not ask about
    error: str = ""  # the first error that NVML gave for this GPU


class Nvml(Frozen):
    """The library's answer; `error` is empty when it answered, whatever single GPUs say."""

    error: str = ""
    driver_version: str | None = None
    confidential: bool | None = None  # confidential computing is on
    gpus: tuple[NvmlGpu, ...] = ()


def text_of(value: str | bytes) -> str:
    """Text as it is; older pynvml and ctypes hand out bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def sysfs_address(bus_id: str | bytes) -> str:
    """A PCI address as sysfs spells it: `00000000:0F:00.0` becomes `0000:0f:00.0`."""
    domain, colon, rest = text_of(bus_id).lower().partition(":")
    return f"{domain.lstrip('0'):0>4}{colon}{rest}"


class _Asker:
    """Asks NVML one question at a time and keeps the first error that tells something."""

    def __init__(self) -> None:
        self.error = ""
        self.forbidden = False  # some question was not permitted

    def ask(self, function: str, *arguments: object) -> Any:
        """What a function of pynvml answers, or None with the error kept.

        Not supported, not in this driver and not permitted are no faults: only None.
        """
        call = getattr(pynvml, function, None)
        if call is None:
            return None
        try:
            return call(*arguments)
        except pynvml.NVMLError_NoPermission:
            self.forbidden = True
            return None
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
            return None
        except (pynvml.NVMLError, ValueError) as error:  # ValueError: text that is no UTF-8
            self.error = self.error or f"{function}: {error}"
            return None

    def text(self, function: str, *arguments: object) -> str | None:
        """The same, for functions that answer with text."""
        answer = self.ask(function, *arguments)
        return None if answer is None else text_of(answer)


def _processes(asker: _Asker, handle: object) -> int | None:
    """How many processes but ours use the GPU; None when those that compute could not be had."""
    listed = {}
    for kind in ("Compute", "Graphics"):
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        # By version: pynvml's plain name raises an error of no NVML kind on an older driver.
        answer = asker.ask(f"{name}_v3", handle)
        listed[kind] = asker.ask(f"{name}_v2", handle) if answer is None else answer
    if listed["Compute"] is None:
        return None
    found = {int(process.pid) for processes in listed.values() for process in processes or ()}
    return len(found - {os.getpid()})


def _mig(asker: _Asker, handle: object) -> tuple[bool | None, tuple[MigInstance, ...]]:
    """Whether MIG is on, and its instances."""
    modes = asker.ask("nvmlDeviceGetMigMode", handle)
    if modes is None or modes[0] == 0:
        return (None if modes is None else False), ()
    found = []
    for slot in range(asker.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        # An empty slot is an error of its own kind, and what an instance may not be asked (as
        # some drivers answer for its processes) is no fault of its GPU.
        own = _Asker()
        instance = own.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot)
        uuid = None if instance is None else asker.text("nvmlDeviceGetUUID", instance)
        if uuid is not None:
            memory = own.ask("nvmlDeviceGetMemoryInfo", instance)
            found.append(
                MigInstance(
                    slot=slot,
                    uuid=uuid,
                    name=own.text("nvmlDeviceGetName", instance),
                    memory_total_bytes=None if memory is None else int(memory.total),
                    memory_free_bytes=None if memory is None else int(memory.free),
                    process_count=_processes(own, instance),
                )
            )
    return True, tuple(found)


def _gpu(index: int) -> NvmlGpu:
    asker = _Asker()
    ask, text = asker.ask, asker.text
    handle = ask("nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        problem = asker.error or "nvmlDeviceGetHandleByIndex: no handle"
        return NvmlGpu(index=index, accessible=not asker.forbidden, error=problem)
    # The second layout tells what is reserved from what is used; drivers before 510 lack it.
    memory = ask("nvmlDeviceGetMemoryInfo", handle, getattr(pynvml, "nvmlMemory_v2", None))
    if memory is None:
        memory = ask("nvmlDeviceGetMemoryInfo", handle)
    reserved = getattr(memory, "reserved", None)
    pci = ask("nvmlDeviceGetPciInfo", handle)
    mode = ask("nvmlDeviceGetComputeMode", handle)
    virtualization = ask("nvmlDeviceGetVirtualizationMode", handle)
    mig_enabled, instances = _mig(asker, handle)
    return NvmlGpu(
        index=index,
        uuid=text("nvmlDeviceGetUUID", handle),
        pci_bus_id=None if pci is None else sysfs_address(pci.busId),
        name=text("nvmlDeviceGetName", handle),
        memory_total_bytes=None if memory is None else int(memory.total),
        memory_free_bytes=None if memory is None else int(memory.free),
        memory_reserved_bytes=None if reserved is None else int(reserved),
        process_count=_processes(asker, handle),
        compute_mode=None if mode is None else _COMPUTE_MODES.get(mode, f"mode_{mode}"),
        capability=ask("nvmlDeviceGetCudaComputeCapability", handle),
        mig_enabled=mig_enabled,
        mig_uuids=tuple(instance.uuid for instance in instances),
        mig_instances=instances,
        minor=ask("nvmlDeviceGetMinorNumber", handle),
        virtual=None if virtualization is None else virtualization == _VGPU_GUEST,
        error=asker.error,  # the last argument: all questions have been asked
    )


def read() -> Nvml:
    """Start NVML, ask for every GPU, shut it down. Takes a millisecond where there is no driver."""
    if pynvml is None:
        return Nvml(error="nvidia-ml-py (module pynvml) is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Nvml(error=f"Failed to initialize NVML: {error}")
    asker = _Asker()
    version = asker.text("nvmlSystemGetDriverVersion")
    count = asker.ask("nvmlDeviceGetCount")
    # Asked apart: a driver that does not know the question is no worse for it.
    state = _Asker().ask("nvmlSystemGetConfComputeState")
    gpus = tuple(_gpu(index) for index in range(count or 0))
    asker.ask("nvmlShutdown")
    problem = asker.error or ("" if count is not None else "nvmlDeviceGetCount: no answer")
    confidential = None if state is None else bool(state.ccFeature)
    return Nvml(error=problem, driver_version=version, confidential=confidential, gpus=gpus)
