"""Simulates a GPU node with two H100: the answers of hardware, driver, NVML and torch.

Everything that the probes query is answered from one table, so that each answer can be changed
separately. No GPU is used: the first kernel runs on the CPU.
"""

import copy
import os
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import torch

from probes.cuda_available import observation as cuda_observation
from probes.faults.inject.replaced import replace, with_result
from probes.node import containers, copies, cuda_driver, device_nodes, hardware, nvml, pci_gpus
from probes.torch_version import look, mapped, runtimes
from probes.torch_version import observation as version_observation
from probes.worker import framework

_GIB: Final = 1024**3
_NAME: Final = "NVIDIA H100 80GB HBM3"
_UUIDS: Final = tuple(f"GPU-6f2d1c3b-90aa-4be1-8c35-5d1f0e7a2b{index:02d}" for index in range(2))
_DRIVER: Final = "550.54.15"
_LIBRARIES: Final = "/opt/venv/lib/python3/site-packages/nvidia"

#: The answers of a healthy node, by source.
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
        "version": "",  # empty: the imported version, with the tag of a CUDA build
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
    """The node with new values at some paths, as in `nvml.gpus.0.uuid`; a list may grow by one.

    Raises:
        KeyError: a path does not exist, so the fault would change nothing.
    """
    node = copy.deepcopy(NODE)
    for path, value in changes.items():
        *folders, last = path.split(".")
        value_at: Any = node
        for folder in folders:
            value_at = value_at[int(folder)] if isinstance(value_at, list) else value_at[folder]
        if isinstance(value_at, list):
            value_at[int(last) : int(last) + 1] = [value]
        elif last in value_at or folders[:1] in (["variables"], ["nodes"]) or _is_optional(folders):
            value_at[last] = value
        else:
            raise KeyError(path)
    return node


#: Variables that this process needs to find its libraries; they are not changed.
_KEPT_VARIABLES: Final = {"LD_LIBRARY_PATH", "LD_PRELOAD"}


def _is_optional(folders: list[str]) -> bool:
    """Whether the path may be new: its model has more fields than the healthy node sets."""
    return folders[:1] in (["driver"], ["nvml"], ["pci"], ["container"])


def pretends(changes: Mapping[str, Any]) -> None:
    """Make everything that the probes query answer as the node does, with some changes."""
    node = edited(changes)
    _machine(node)
    _torch(node["torch"])
    _accelerator(node["accelerator"])
    _installation(node)


def _machine(node: dict[str, Any]) -> None:
    present = hardware.Hardware.model_validate(node["hardware"])
    driver = cuda_driver.CudaDriver.model_validate(node["driver"])
    management = nvml.Nvml.model_validate(node["nvml"])
    nodes = tuple(
        device_nodes.Node(path=path, problem=text) for path, text in node["nodes"].items()
    )
    _fix_answers(hardware, detect=present, nvidia_module=node["kernel_module"])
    _fix_answers(cuda_driver, read=driver)
    _fix_answers(nvml, read=management)
    _fix_answers(pci_gpus, read=tuple(pci_gpus.PciGpu.model_validate(gpu) for gpu in node["pci"]))
    _fix_answers(containers, read=containers.Container.model_validate(node["container"]))
    _fix_answers(cuda_observation, open_nodes=nodes)
    for name in {*cuda_observation.VARIABLES, *version_observation.VARIABLES} - _KEPT_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(node["variables"])


def _fix_answers(owner: Any, **answers: Any) -> None:
    """Replace functions of a module or class: each returns a fixed answer for any arguments."""
    for name, answer in answers.items():
        setattr(owner, name, _constant(answer))


def _constant(answer: Any) -> Callable[..., Any]:
    return lambda *_: answer


def _torch(values: dict[str, Any]) -> None:
    """Replace what torch reports of its build and devices."""
    properties = SimpleNamespace(
        name=values["name"],
        uuid=values["uuid"],
        major=values["major"],
        minor=0,
        total_memory=values["total_memory"],
    )

    def init() -> None:
        if values["error"]:
            raise RuntimeError(values["error"])
        if values["warning"]:
            warnings.warn(values["warning"], stacklevel=2)

    def cudnn_version() -> int:
        if values["cudnn_error"]:
            raise RuntimeError(values["cudnn_error"])
        return 90100

    base = str(torch.__version__).partition("+")[0]
    tag = f"+cu{values['cuda'].replace('.', '')}" if values["cuda"] else "+cpu"
    torch.__version__ = values["version"] or base + tag  # type: ignore[assignment]
    torch.version.cuda = values["cuda"]
    torch.version.hip = None
    _fix_answers(
        torch.cuda,
        is_available=values["available"],
        device_count=values["device_count"],
        get_device_properties=properties,
        mem_get_info=(values["total_memory"] - _GIB, values["total_memory"]),
        synchronize=None,
    )
    _fix_answers(torch.backends.cuda, is_built=values["built"])
    torch.cuda.init = init
    torch.backends.cudnn.version = cudnn_version
    core: Any = torch._C  # a CPU build has none of these
    core._cuda_getCompiledVersion = lambda: values["compiled_cuda"]
    core._cuda_getArchFlags = lambda: values["arch_flags"]
    core._nccl_version = lambda: 2 << 32 | 21 << 16 | 5
    _first_kernel(values["first_kernel_s"])


def _first_kernel(seconds: float) -> None:
    """Run the first kernel on the CPU, and report `seconds` as its duration."""

    def on_the_cpu(exercise: Any) -> Any:
        return lambda _: exercise("cpu").model_copy(update={"first_s": seconds})

    replace(cuda_observation, "exercise", on_the_cpu)
    replace(framework, "synchronize", lambda kept: lambda _: kept("cpu"))


def _accelerator(values: dict[str, Any]) -> None:
    def synchronize(*_: object) -> None:
        if values["error"]:
            raise RuntimeError(values["error"])

    api = SimpleNamespace(
        current_accelerator=lambda: torch.device(values["type"]) if values["type"] else None,
        is_available=lambda: values["available"],
        device_count=lambda: values["device_count"],
        synchronize=synchronize,
    )
    torch.accelerator = api  # type: ignore[assignment]


def _installation(node: dict[str, Any]) -> None:
    """Replace what is installed and mapped. Versions in metadata have no local part, as on PyPI."""
    libraries = tuple(mapped.Library.model_validate(each) for each in node["libraries"])
    _fix_answers(
        copies, found_on=tuple(copies.Copy.model_validate(each) for each in node["copies"])
    )
    _fix_answers(runtimes, loaded=tuple(node["runtimes"]))
    replace(look, "_version", with_result(lambda version: version.partition("+")[0]))
    _fix_answers(
        mapped,
        libraries=(libraries, tuple(node["ahead"])),
        nccl_loaded=node["torch"]["nccl_loaded"],
    )
