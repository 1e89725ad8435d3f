"""The observation of drivers, torch and one device, each read before a later step can change it."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from probes import contract
from probes.contract import Comparison, Frozen
from probes.kit import breadcrumb
from probes.kit.references import compare
from probes.kit.tensors import accelerator_type, device_count, poisoned, synchronize
from probes.legible import legible, variables
from probes.node import containers, cuda_driver, hardware, mig, nvml, pci_gpus
from probes.node.device_nodes import Node, open_nodes

#: Variables that choose, hide, reorder or limit devices, and those of a job scheduler.
VARIABLES: Final = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_DEVICE_MEMORY_LIMIT",
    "CUDA_DEVICE_MEMORY_LIMIT_0",
    "SLURM_JOB_ID",
    "SLURM_SCRIPT_CONTEXT",
    "PBS_JOBID",
    "LSB_JOBID",
)

_ELEMENTS: Final = 4096

_MOST_PRELOADED: Final = 64


class Framework(Frozen):
    """Torch's own data. `error`: what its start raised; `device_error`: what this device raised.

    `available` is `torch.<type>.is_available()`, which neither raises nor gives a reason.
    """

    version: str
    cuda: str | None = None  # version of CUDA that this build was made for
    hip: str | None = None
    accelerator: str | None = None  # device type of this build's accelerator
    error: str = ""
    warnings: tuple[str, ...] = ()
    available: bool | None = None
    device_count: int = 0
    name: str | None = None
    uuid: str | None = None  # without a prefix, as torch spells it
    capability: tuple[int, int] | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None  # after the kernel, so without our own context
    device_error: str = ""


class Kernel(Frozen):
    """A first computation on the device: exact integers into poisoned memory."""

    comparisons: tuple[Comparison, ...] = ()
    error: str = ""
    first_s: float | None = None  # copies, context, kernel and synchronize, by a monotonic clock


class AcceleratorApi(Frozen):
    """What `torch.accelerator` says; `exists` is False before torch 2.6."""

    exists: bool = False
    type: str | None = None
    available: bool | None = None
    device_count: int | None = None
    error: str = ""


class Observation(contract.Observation):
    """Hardware, driver, NVML, torch and a kernel, each observed separately."""

    device: str
    hardware: hardware.Hardware
    variables: dict[str, str]
    nodes: tuple[Node, ...] = ()
    driver: cuda_driver.CudaDriver
    driver_s: float  # of cuInit and the enumeration
    nvml: nvml.Nvml
    framework: Framework
    framework_s: float  # of torch's start
    kernel: Kernel
    generic: AcceleratorApi
    pci: tuple[pci_gpus.PciGpu, ...] = ()  # NVIDIA's GPUs on the bus
    container: containers.Container = containers.Container()
    mps_pipes: bool = False  # the directory of NVIDIA's MPS holds the pipes of a daemon
    preloaded: tuple[str, ...] = ()  # libraries of LD_PRELOAD and /etc/ld.so.preload
    #: The user's CUDA_VISIBLE_DEVICES, where the worker set it to one device for this process;
    #: `variables` has the user's value too.
    visible_before: str | None = None


def error_of(call: Callable[[], object]) -> str:
    """Type and text of what a call raised, at most 4000 characters; empty for nothing."""
    try:
        call()
    except (
        RuntimeError,
        AssertionError,
        AttributeError,
        TypeError,
        ValueError,
        torch.cuda.DeferredCudaCallError,  # no RuntimeError: a queued call failed in torch's start
    ) as error:
        return f"{type(error).__name__}: {error}"[:4000]
    return ""


def _start(kind: str) -> None:
    """Start a back-end by a call that raises, since `is_available` hides why it cannot start."""
    start = getattr(getattr(torch, kind), "init", None)
    if start is not None:
        start()
    else:
        torch.empty(1, device=kind)
        synchronize(kind)


def exercise(device: str) -> Kernel:
    """Run a first kernel on the device: a*3 + b + 1 on integers, and its sum, both exact."""
    a = np.arange(_ELEMENTS, dtype=np.float32) % 61 - 30  # (4096,), |a| <= 30
    b = np.arange(_ELEMENTS, dtype=np.float32) % 53 - 26  # (4096,), |b| <= 26
    expected = 3 * a + b + 1  # (4096,), |x| <= 117: any order of its sum is exact in float32
    comparisons: list[Comparison] = []
    first_s: float | None = None

    def compute() -> None:
        nonlocal first_s
        begin = time.perf_counter()
        out = poisoned((_ELEMENTS,), torch.float32, device)
        torch.add(torch.from_numpy(b).to(device), torch.from_numpy(a).to(device), alpha=3, out=out)
        out.add_(1)
        synchronize(device)
        first_s = time.perf_counter() - begin
        comparisons.append(compare("add(out=), add_", out, expected))
        total = out.sum()
        synchronize(device)
        comparisons.append(compare("sum", total, np.asarray(expected.sum(), dtype=np.float32)))
        if out.device != total.device or out.device.type != torch.device(device).type:
            problem = f"results on {out.device} and {total.device}, asked for {device}"
            comparisons.append(Comparison(operation="placement", problem=problem))

    error = error_of(compute)
    return Kernel(comparisons=tuple(comparisons), error=error, first_s=first_s)


def _properties(device: str) -> dict[str, Any]:
    """Name, UUID, capability and memory (bytes) of the device; None where the back-end has none."""
    module = getattr(torch, torch.device(device).type)
    get_properties = getattr(module, "get_device_properties", None)
    properties: Any = None if get_properties is None else get_properties(device)
    uuid = getattr(properties, "uuid", None)  # torch 2.4 and later
    major, minor = (getattr(properties, part, None) for part in ("major", "minor"))
    return {
        "name": getattr(properties, "name", None),
        "uuid": None if uuid is None else str(uuid).removeprefix("GPU-"),
        "capability": None if major is None or minor is None else (int(major), int(minor)),
        "memory_total_bytes": getattr(properties, "total_memory", None),
    }


def _free_memory(device: str) -> dict[str, Any]:
    get_memory = getattr(getattr(torch, torch.device(device).type), "mem_get_info", None)
    return {} if get_memory is None else {"memory_free_bytes": int(get_memory(device)[0])}


def _accelerator_api(device: str) -> AcceleratorApi:
    """What torch's device-neutral interface says of the same device."""
    if not hasattr(torch, "accelerator"):
        return AcceleratorApi()
    answers: dict[str, Any] = {}

    def query() -> None:
        current = torch.accelerator.current_accelerator()
        answers["type"] = None if current is None else current.type
        answers["available"] = torch.accelerator.is_available()
        answers["device_count"] = torch.accelerator.device_count()
        torch.accelerator.synchronize(torch.device(device))

    error = error_of(query)
    return AcceleratorApi(exists=True, error=error, **answers)


def _variables() -> dict[str, str]:
    """The variables as the user set them."""
    found = variables(VARIABLES)
    before = mig.visible_before(os.environ)
    if before is not None:  # the current value is the worker's
        found.pop(mig.VISIBLE, None)
        found |= {mig.VISIBLE: legible(before)} if before else {}
    return found


def _preloaded(file: Path = Path("/etc/ld.so.preload")) -> tuple[str, ...]:
    """The libraries that are loaded into every process before its own."""
    text = os.environ.get("LD_PRELOAD", "")
    with contextlib.suppress(OSError):  # no such file, as a rule
        text = f"{text} {file.read_text(encoding='utf-8', errors='replace')}"
    return tuple(legible(one, 300) for one in text.replace(":", " ").split()[:_MOST_PRELOADED])


def _mps_pipes() -> bool:
    """Whether NVIDIA's MPS daemon made its pipes in the folder that a client uses."""
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"  # noqa: S108 - CUDA's
    return os.path.exists(f"{folder}/control")  # noqa: PTH110 - Path raises at a long name


def observe(device: str) -> Observation:
    """Observe hardware, NVML, driver and torch; on "cpu" only why there is no accelerator."""
    detected, before = hardware.detect(), mig.visible_before(os.environ)
    breadcrumb.operation("NVML")
    nvml_state = nvml.read()  # first, before our own process uses the GPU
    breadcrumb.operation("cuInit of the driver")
    begin = time.perf_counter()
    driver = cuda_driver.read()
    driver_s = time.perf_counter() - begin
    nodes = open_nodes(detected.vendors)  # after cuInit, which may create them
    kind = accelerator_type() or ("cuda" if {"nvidia", "amd"} & set(detected.vendors) else None)
    kernel, generic, properties = Kernel(), AcceleratorApi(), {}
    error = device_error = ""
    available: bool | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begin = time.perf_counter()
        if kind is not None:
            breadcrumb.operation("start of torch's back-end")
            error = error_of(lambda: _start(kind))
        framework_s = time.perf_counter() - begin
        if torch.device(device).type != "cpu" and not error:
            breadcrumb.operation("first kernel")
            kernel = exercise(device)
            breadcrumb.operation("properties and free memory")
            device_error = error_of(lambda: properties.update(_properties(device)))
            device_error = device_error or error_of(lambda: properties.update(_free_memory(device)))
            generic = AcceleratorApi() if kernel.error else _accelerator_api(device)
        if kind is not None:
            module: Any = getattr(torch.backends if kind == "mps" else torch, kind)
            available = bool(module.is_available()) if hasattr(module, "is_available") else None
        count = 0 if kind is None else device_count(kind)
    return Observation(
        device=device,
        hardware=detected,
        variables=_variables(),
        nodes=nodes,
        driver=driver,
        driver_s=driver_s,
        nvml=nvml_state,
        framework=Framework(
            version=str(torch.__version__),
            cuda=torch.version.cuda,
            hip=torch.version.hip,
            accelerator=accelerator_type(),
            error=error,
            warnings=tuple(str(warning.message)[:1000] for warning in caught),
            available=available,
            device_count=count,
            device_error=device_error,
            **properties,
        ),
        framework_s=framework_s,
        kernel=kernel,
        generic=generic,
        pci=pci_gpus.read(),
        container=containers.read(os.environ),
        mps_pipes=_mps_pipes(),
        preloaded=_preloaded(),
        visible_before=None if before is None else legible(before),
    )
