"""Which devices and versions there are: what a report says of its machine before any probe runs.

Run in a throwaway child of a process that has imported torch: a driver's start-up may hang, and
after it the process could not be forked any more. No CUDA context is made, so no GPU memory taken.
"""

import hashlib
import json
import os
import platform
from typing import Any, Final

import numpy as np
import torch

from probes.kit.backend import cuda_type
from probes.kit.tensors import accelerator_type, device_count
from probes.node import cuda_driver, hardware, mig, nvml

#: Versions that decide what a computation's bits are; another fingerprint is another environment.
DECIDE_NUMERICS: Final = ("torch", "torch_cuda", "torch_hip", "cudnn", "nccl", "numpy", "driver")

_PCI_PARTS: Final = ("domain", "bus", "device")


def take() -> dict[str, object]:
    """Devices, evidence of hardware, and versions, as JSON can hold them."""
    management, present = nvml.read(), hardware.detect()
    kind = accelerator_type()
    return {
        "devices": [] if kind is None else _devices(kind, management),
        "hardware": list(present.evidence),
        "environment": _environment(management.driver_version or present.driver_version),
    }


def _devices(kind: str, management: nvml.Nvml) -> list[dict[str, object]]:
    count = device_count(kind)
    if kind == "cuda" and torch.version.cuda is not None:
        if apart := mig.devices_apart(management, os.environ):
            return [_apart(index, each, management) for index, each in enumerate(apart)]
        seen = cuda_driver.read() if count else cuda_driver.CudaDriver()
        return [_cuda_device(index, count, seen, management) for index in range(count)]
    return [_other_device(kind, index) for index in range(count)]


def _entry(kind: str, index: int, **known: object) -> dict[str, object]:
    """One device; what is not known of it is None."""
    fields = ("uuid", "parent_uuid", "pci_bus_id", "model_name", "capability", "memory_bytes")
    unknown = dict.fromkeys((*fields, "memory_free_bytes", "process_count", "compute_mode"))
    whose = {"name": f"{kind}:{index}", "type": kind, "index": index, "alone": False}
    return {**whose, **unknown, **known}


def _cuda_device(
    index: int, count: int, driver: cuda_driver.CudaDriver, management: nvml.Nvml
) -> dict[str, object]:
    device, gpu = cuda_driver.match(index, count, driver, management, os.environ)
    device = device or cuda_driver.DriverDevice(index=index)
    gpu = gpu or nvml.NvmlGpu(index=index)
    instance = device.uuid is not None and device.uuid in gpu.mig_uuids
    # NVML's numbers of a GPU say nothing of one instance: those are the instance's own.
    of = next((each for each in gpu.mig_instances if each.uuid == device.uuid), None)
    numbers = of if instance else gpu
    capability = device.capability or gpu.capability
    return _entry(
        "cuda",
        index,
        uuid=device.uuid or gpu.uuid,
        parent_uuid=gpu.uuid if instance else None,
        pci_bus_id=device.pci_bus_id or gpu.pci_bus_id,
        model_name=device.name or gpu.name,
        capability=None if capability is None else "{}.{}".format(*capability),
        memory_bytes=device.memory_total_bytes or gpu.memory_total_bytes,
        memory_free_bytes=None if numbers is None else numbers.memory_free_bytes,
        process_count=None if numbers is None else numbers.process_count,
        compute_mode=gpu.compute_mode,
        backend=cuda_type(
            capability,
            instance=instance,
            integrated=bool(device.integrated),
            confidential=bool(management.confidential),
            mps=bool(device.mps),
        ),
    )


def _apart(index: int, device: mig.Apart, management: nvml.Nvml) -> dict[str, object]:
    """A MIG instance, or a GPU beside some, as NVML knows it: CUDA shows one of them a process."""
    gpu, instance = device
    numbers = gpu if instance is None else instance
    return _entry(
        "cuda",
        index,
        name=device.name,
        alone=True,
        uuid=device.uuid,
        parent_uuid=None if instance is None else gpu.uuid,
        pci_bus_id=gpu.pci_bus_id,
        model_name=numbers.name,
        capability=None if gpu.capability is None else "{}.{}".format(*gpu.capability),
        memory_bytes=numbers.memory_total_bytes,
        memory_free_bytes=numbers.memory_free_bytes,
        process_count=numbers.process_count,
        compute_mode=gpu.compute_mode,
        backend=cuda_type(
            gpu.capability,
            instance=instance is not None,
            confidential=bool(management.confidential),
        ),
    )


def _other_device(kind: str, index: int) -> dict[str, object]:
    """What torch itself says of a device of another vendor, as far as its back-end does."""
    ask = getattr(getattr(torch, kind), "get_device_properties", None)
    try:
        properties: Any = None if ask is None else ask(index)
    except (RuntimeError, AssertionError, TypeError):  # told by the probes, each in its place
        properties = None
    bus: list[Any] = [getattr(properties, f"pci_{part}_id", None) for part in _PCI_PARTS]
    uuid = getattr(properties, "uuid", None)
    arch = getattr(properties, "gcnArchName", None)
    return _entry(
        kind,
        index,
        uuid=None if uuid is None else str(uuid),
        pci_bus_id=None if None in bus else "{:04x}:{:02x}:{:02x}.0".format(*bus),
        model_name=getattr(properties, "name", None),
        capability=None if arch is None else arch.partition(":")[0],
        memory_bytes=getattr(properties, "total_memory", None),
        backend="hip" if kind == "cuda" else kind,
    )


def _cudnn() -> str | None:
    try:
        version: int | None = torch.backends.cudnn.version()
    except RuntimeError:  # an incompatible cuDNN: the torch_version probe tells it
        return None
    return None if version is None else str(version)


def _nccl() -> str | None:
    try:
        version: Any = torch.cuda.nccl.version()
    except (AttributeError, RuntimeError):  # built without NCCL
        return None
    return ".".join(map(str, version)) if isinstance(version, tuple) else str(version)


def _os() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # no os-release file
        release = {}
    return release.get("PRETTY_NAME", f"{platform.system()} {platform.release()}")


def _environment(driver: str | None) -> dict[str, str | None]:
    gpu_build = torch.version.cuda is not None or torch.version.hip is not None
    found = {
        "torch": str(torch.__version__),
        "torch_cuda": torch.version.cuda,
        "torch_hip": torch.version.hip,
        "cudnn": _cudnn() if gpu_build else None,
        "nccl": _nccl() if gpu_build else None,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "driver": driver,
        "os": _os(),
    }
    text = json.dumps([found[field] for field in DECIDE_NUMERICS])
    return {**found, "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:12]}
