"""The survey: devices and versions of this machine, taken before any probe runs.

It runs in its own child of the worker: the driver's start-up may hang, and a process that has
started the driver must not fork. No CUDA context is created, so no GPU memory is used.
"""

import hashlib
import json
import os
import platform
from collections import Counter
from typing import Any, Final

import numpy as np
import torch

from probes.kit.backend import cuda_type
from probes.kit.tensors import accelerator_type, device_count
from probes.node import cuda_driver, hardware, mig, nvml, tenants

#: The versions that affect the bits of a result; the fingerprint of the environment covers them.
DECIDE_NUMERICS: Final = ("torch", "torch_cuda", "torch_hip", "cudnn", "nccl", "numpy", "driver")

_PCI_PARTS: Final = ("domain", "bus", "device")


def take() -> dict[str, object]:
    """Devices, evidence of hardware, and versions, as a dict for JSON."""
    management, present = nvml.read(), hardware.detect()
    kind = accelerator_type()
    return {
        "devices": [] if kind is None else _with_use(_told_apart(_devices(kind, management))),
        "hardware": list(present.evidence),
        "environment": _environment(management.driver_version or present.driver_version),
    }


def _told_apart(devices: list[dict[str, object]]) -> list[dict[str, object]]:
    """The entries, without a UUID that several have: some drivers give all the same one.

    What is known of one GPU would be taken for the other's.
    """
    count = Counter(each["uuid"] for each in devices)
    return [each if count[each["uuid"]] == 1 else {**each, "uuid": None} for each in devices]


def _with_use(devices: list[dict[str, object]]) -> list[dict[str, object]]:
    """The entries, and by whom and how much the devices are used, where NVML tells."""
    known = [each for each in devices if None not in (each["uuid"], each["process_count"])]
    uses = tenants.read(str(each["uuid"]) for each in known)
    for device in devices:
        use = uses.get(str(device["uuid"]), tenants.Use())
        device["processes"] = [each.model_dump() for each in use.processes or ()]
        device["utilization_percent"] = use.utilization_percent
        device["memory_used_bytes"] = use.memory_used_bytes
    return devices


def _devices(kind: str, management: nvml.Nvml) -> list[dict[str, object]]:
    count = device_count(kind)
    if kind == "cuda" and torch.version.cuda is not None:
        if separate := mig.separate_devices(management, os.environ):
            return [
                _separate_device(index, each, management) for index, each in enumerate(separate)
            ]
        driver = cuda_driver.read() if count else cuda_driver.CudaDriver()
        return [_cuda_device(index, count, driver, management) for index in range(count)]
    return [_other_device(kind, index) for index in range(count)]


def _device_entry(kind: str, index: int, **known: object) -> dict[str, object]:
    """The entry of one device; unknown fields are None."""
    fields = ("uuid", "parent_uuid", "pci_bus_id", "model_name", "capability", "memory_bytes")
    unknown = dict.fromkeys((*fields, "memory_free_bytes", "process_count", "compute_mode"))
    identity = {"name": f"{kind}:{index}", "type": kind, "index": index, "alone": False}
    return {**identity, **unknown, **known}


def _cuda_device(
    index: int, count: int, driver: cuda_driver.CudaDriver, management: nvml.Nvml
) -> dict[str, object]:
    device, gpu = cuda_driver.match(index, count, driver, management, os.environ)
    device = device or cuda_driver.DriverDevice(index=index)
    gpu = gpu or nvml.NvmlGpu(index=index)
    instance = device.uuid is not None and device.uuid in gpu.mig_uuids
    # An instance has its own numbers in NVML; those of its GPU do not apply.
    own_instance = next((each for each in gpu.mig_instances if each.uuid == device.uuid), None)
    numbers = own_instance if instance else gpu
    capability = device.capability or gpu.capability
    return _device_entry(
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


def _separate_device(
    index: int, device: mig.SeparateDevice, management: nvml.Nvml
) -> dict[str, object]:
    """The entry of a device that needs its own process, from NVML: CUDA shows only one of them."""
    gpu, instance = device
    numbers = gpu if instance is None else instance
    return _device_entry(
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
    """The entry of a device of another vendor, with what torch's back-end reports."""
    get_properties = getattr(getattr(torch, kind), "get_device_properties", None)
    try:
        properties: Any = None if get_properties is None else get_properties(index)
    except (RuntimeError, AssertionError, TypeError):  # the probes report it
        properties = None
    bus: list[Any] = [getattr(properties, f"pci_{part}_id", None) for part in _PCI_PARTS]
    uuid = getattr(properties, "uuid", None)
    arch = getattr(properties, "gcnArchName", None)
    return _device_entry(
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
    except RuntimeError:  # an incompatible cuDNN: the torch_version probe reports it
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
    versions = {
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
    text = json.dumps([versions[field] for field in DECIDE_NUMERICS])
    return {**versions, "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:12]}
