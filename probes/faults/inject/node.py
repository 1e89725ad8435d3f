"""A GPU node that is not there: what hardware, driver, NVML and torch say of two H100.

Everything that the probes ask is answered from one table, so that each answer can be made wrong
alone. No GPU is touched: the first kernel runs on the CPU.
"""

import copy
import os
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import torch

from probes.cuda_available import observation as started
from probes.faults.inject.replaced import replace, then
from probes.node import containers, copies, cuda_driver, hardware, nvml, pci_gpus
from probes.torch_version import look, mapped, runtimes
from probes.torch_version import observation as looked
from probes.worker import attempt

_GIB: Final = 1024**3
_NAME: Final = "NVIDIA H100 80GB HBM3"
_UUIDS: Final = tuple(f"GPU-6f2d1c3b-90aa-4be1-8c35-5d1f0e7a2b{index:02d}" for index in range(2))
_DRIVER: Final = "550.54.15"
_LIBRARIES: Final = "/opt/venv/lib/python3/site-packages/nvidia"

#: What a sound node says, by who says it.
NODE: Final[dict[str, Any]] = {
    "hardware": {
        "vendors": ["nvidia"],
        "evidence": ["PCI 0000:0f:00.0 is 10de:2330 of class 0302", "/dev/nvidia0 exists"],
        "pci_addresses": ["0000:0f:00.0", "0000:1f:00.0"],
        "driver_version": _DRIVER,
    },
    "pci": [
        {"address": f"0000:{index}f:00.0", "model": 0x2330, "driver": "nvidia", "minor": index}
        for index in range(2)
    ],
    "container": {},
    "kernel_module": _DRIVER,
    "nodes": {f"/dev/{name}": "" for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1")},
    "driver": {
        "loaded": True,
        "path": f"/usr/lib/x86_64-linux-gnu/libcuda.so.{_DRIVER}",
        "init_code": 0,
        "init_name": "CUDA_SUCCESS",
        "driver_version": 12040,
        "device_count": 2,
        "devices": [
            {
                "index": index,
                "uuid": _UUIDS[index],
                "pci_bus_id": f"0000:{index}f:00.0",
                "name": _NAME,
                "capability": (9, 0),
                "memory_total_bytes": 79 * _GIB,
            }
            for index in range(2)
        ],
    },
    "nvml": {
        "driver_version": _DRIVER,
        "gpus": [
            {
                "index": index,
                "uuid": _UUIDS[index],
                "pci_bus_id": f"0000:{index}f:00.0",
                "name": _NAME,
                "memory_total_bytes": 80 * _GIB,
                "memory_free_bytes": 79 * _GIB,
                "memory_reserved_bytes": _GIB // 2,
                "process_count": 0,
                "compute_mode": "default",
                "capability": (9, 0),
                "mig_enabled": False,
                "minor": index,
            }
            for index in range(2)
        ],
    },
    "torch": {
        "version": "",  # the imported one's, with the tag of a build for CUDA
        "cuda": "12.4",
        "compiled_cuda": 12040,
        "built": True,
        "arch_flags": "sm_80 sm_86 sm_90",
        "error": "",
        "warning": "",
        "available": True,
        "device_count": 2,
        "name": _NAME,
        "uuid": _UUIDS[1].removeprefix("GPU-"),
        "major": 9,
        "total_memory": 79 * _GIB,
        "cudnn_error": "",
        "nccl_loaded": (2, 21, 5),
        "first_kernel_s": 0.6,
    },
    "accelerator": {"type": "cuda", "available": True, "device_count": 2, "error": ""},
    "variables": {},
    "libraries": [
        {"family": "cuda", "path": f"/usr/lib/x86_64-linux-gnu/libcuda.so.{_DRIVER}"},
        {"family": "cudnn", "path": f"{_LIBRARIES}/cudnn/lib/libcudnn.so.9", "version": "9"},
        {"family": "nccl", "path": f"{_LIBRARIES}/nccl/lib/libnccl.so.2", "version": "2"},
    ],
    "ahead": [],
    "copies": [
        {"name": name, "path": f"/opt/venv/lib/python3/site-packages/{name}", "place": "own"}
        for name in ("torch", "numpy")
    ],
    "runtimes": [
        "/opt/venv/lib/python3/site-packages/torch/lib/libgomp.so.1",
        "/opt/venv/lib/python3/site-packages/numpy.libs/libscipy_openblas64_-32a4b2a6.so",
    ],
}


def edited(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The node with other values at some paths, as in `nvml.gpus.0.uuid`; a list may grow by one.

    Raises:
        KeyError: there is nothing at a path, so that the fault would miss.
    """
    node = copy.deepcopy(NODE)
    for path, value in changes.items():
        *folders, last = path.split(".")
        place: Any = node
        for folder in folders:
            place = place[int(folder)] if isinstance(place, list) else place[folder]
        if isinstance(place, list):
            place[int(last) : int(last) + 1] = [value]
        elif last in place or folders[:1] in (["variables"], ["nodes"]) or _optional(folders):
            place[last] = value
        else:
            raise KeyError(path)
    return node


#: Variables by which a process finds its libraries: those of this one stay.
_KEPT: Final = {"LD_LIBRARY_PATH", "LD_PRELOAD"}


def _optional(folders: list[str]) -> bool:
    """Whether a model of the node's has more fields than the sound node tells."""
    return folders[:1] in (["driver"], ["nvml"], ["pci"], ["container"])


def pretends(changes: Mapping[str, Any]) -> None:
    """Have everything that the probes ask answer as the node does, but for some changes."""
    node = edited(changes)
    _machine(node)
    _torch(node["torch"])
    _accelerator(node["accelerator"])
    _installation(node)


def _machine(node: dict[str, Any]) -> None:
    present = hardware.Hardware.model_validate(node["hardware"])
    driver = cuda_driver.CudaDriver.model_validate(node["driver"])
    management = nvml.Nvml.model_validate(node["nvml"])
    nodes = tuple(started.Node(path=path, problem=text) for path, text in node["nodes"].items())
    _answer(hardware, detect=present, nvidia_module=node["kernel_module"])
    _answer(cuda_driver, read=driver)
    _answer(nvml, read=management)
    _answer(pci_gpus, read=tuple(pci_gpus.PciGpu.model_validate(gpu) for gpu in node["pci"]))
    _answer(containers, read=containers.Container.model_validate(node["container"]))
    _answer(started, open_nodes=nodes)
    for name in {*started.VARIABLES, *looked.VARIABLES} - _KEPT:
        os.environ.pop(name, None)
    os.environ.update(node["variables"])


def _answer(owner: Any, **answers: Any) -> None:
    """Have functions of a module or class say what they are told to, whatever they are asked."""
    for name, answer in answers.items():
        setattr(owner, name, _saying(answer))


def _saying(answer: Any) -> Callable[..., Any]:
    return lambda *_: answer


def _torch(said: dict[str, Any]) -> None:
    """What torch says of its build and its devices."""
    properties = SimpleNamespace(
        name=said["name"],
        uuid=said["uuid"],
        major=said["major"],
        minor=0,
        total_memory=said["total_memory"],
    )

    def init() -> None:
        if said["error"]:
            raise RuntimeError(said["error"])
        if said["warning"]:
            warnings.warn(said["warning"], stacklevel=2)

    def cudnn_version() -> int:
        if said["cudnn_error"]:
            raise RuntimeError(said["cudnn_error"])
        return 90100

    base = str(torch.__version__).partition("+")[0]
    tag = f"+cu{said['cuda'].replace('.', '')}" if said["cuda"] else "+cpu"
    torch.__version__ = said["version"] or base + tag  # type: ignore[assignment]
    torch.version.cuda = said["cuda"]
    torch.version.hip = None
    _answer(
        torch.cuda,
        is_available=said["available"],
        device_count=said["device_count"],
        get_device_properties=properties,
        mem_get_info=(said["total_memory"] - _GIB, said["total_memory"]),
        synchronize=None,
    )
    _answer(torch.backends.cuda, is_built=said["built"])
    torch.cuda.init = init
    torch.backends.cudnn.version = cudnn_version
    core: Any = torch._C  # a build for the CPU has none of these
    core._cuda_getCompiledVersion = lambda: said["compiled_cuda"]
    core._cuda_getArchFlags = lambda: said["arch_flags"]
    core._nccl_version = lambda: 2 << 32 | 21 << 16 | 5
    _first_kernel(said["first_kernel_s"])


def _first_kernel(seconds: float) -> None:
    """Run the first kernel on the CPU, and say how long it took."""

    def on_the_cpu(exercise: Any) -> Any:
        return lambda _: exercise("cpu").model_copy(update={"first_s": seconds})

    replace(started, "exercise", on_the_cpu)
    replace(attempt, "synchronize", lambda kept: lambda _: kept("cpu"))


def _accelerator(said: dict[str, Any]) -> None:
    def synchronize(*_: object) -> None:
        if said["error"]:
            raise RuntimeError(said["error"])

    api = SimpleNamespace(
        current_accelerator=lambda: torch.device(said["type"]) if said["type"] else None,
        is_available=lambda: said["available"],
        device_count=lambda: said["device_count"],
        synchronize=synchronize,
    )
    torch.accelerator = api  # type: ignore[assignment]


def _installation(node: dict[str, Any]) -> None:
    """What is installed and mapped. Metadata drop the local part of a version, as PyPI's do."""
    libraries = tuple(mapped.Library.model_validate(each) for each in node["libraries"])
    _answer(copies, found_on=tuple(copies.Copy.model_validate(each) for each in node["copies"]))
    _answer(runtimes, loaded=tuple(node["runtimes"]))
    replace(look, "_version", then(lambda version: version.partition("+")[0]))
    _answer(
        mapped,
        libraries=(libraries, tuple(node["ahead"])),
        nccl_loaded=node["torch"]["nccl_loaded"],
    )
