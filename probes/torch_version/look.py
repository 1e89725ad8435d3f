"""Looking at an installation: modules, metadata, build, driver, mapped libraries, NumPy."""

import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from packaging.requirements import InvalidRequirement, Requirement

from probes.kit import breadcrumb, defaults
from probes.node import copies, cuda_driver, hardware, nvml
from probes.torch_version import mapped, numpy_abi, runtimes
from probes.torch_version.observation import (
    VARIABLES,
    Build,
    Distribution,
    Gpu,
    Module,
    Need,
    Observation,
)


def observe(device: str) -> Observation:  # noqa: ARG001 - the image is one, whatever the device
    """Look at the imported modules, their metadata and what the process has mapped."""
    here = _module(torch, sys.modules.get("torch._C"))
    breadcrumb.operation("cuInit of the driver, NVML, PCI")
    driver, management, present = cuda_driver.read(), nvml.read(), hardware.detect()
    breadcrumb.operation("cuDNN's version")
    cudnn_version, cudnn_error = mapped.cudnn_version()  # may map libcudnn
    breadcrumb.operation("installed packages, mapped libraries, NumPy's arrays")
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    libraries, ahead = mapped.libraries(here.folder, os.environ.get("LD_LIBRARY_PATH", ""))
    return Observation(
        torch=here,
        numpy=_module(np, _multiarray()),
        build=_build(),
        distributions=tuple(_distributions()),
        needs=tuple(_needs(here.folder)),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        hardware=present,
        kernel_module=hardware.nvidia_module(),
        driver=driver,
        nvml_error=management.error,
        nvml_driver=management.driver_version,
        gpus=tuple(_gpus(driver, management, present)),
        cudnn_version=cudnn_version,
        cudnn_error=cudnn_error,
        nccl_compiled=mapped.nccl_compiled(),
        nccl_loaded=mapped.nccl_loaded(libraries),
        libraries=libraries,
        copies=copies.found_on(sys.path),
        runtimes=runtimes.loaded(maps),
        ahead=ahead,
        changed_defaults=defaults.changed(),
        numpy_to_torch=numpy_abi.arrays_to_tensors(),
        torch_to_numpy=numpy_abi.tensors_to_arrays(),
        numpy_scalars=numpy_abi.scalars_to_tensors(),
    )


def _module(module: ModuleType, compiled: ModuleType | None) -> Module:
    file = getattr(module, "__file__", None)
    return Module(
        version=str(getattr(module, "__version__", "")),
        folder=None if file is None else str(Path(file).resolve().parent),
        compiled=_resolved(getattr(compiled, "__file__", None)),
    )


def _resolved(file: str | None) -> str | None:
    return None if file is None else str(Path(file).resolve())


def _multiarray() -> ModuleType | None:
    """NumPy's compiled core, by its name in NumPy 2, else by that of NumPy 1."""
    names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
    return next((sys.modules[name] for name in names if name in sys.modules), None)


def _build() -> Build:
    compiled = re.search(r"TORCH_VERSION=([\d.]+)", torch.__config__.show())
    cuda = getattr(torch._C, "_cuda_getCompiledVersion", None)  # CUDA and ROCm builds alone
    flags: Any = getattr(torch._C, "_cuda_getArchFlags", None)
    return Build(
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        rocm=getattr(torch.version, "rocm", None),
        xpu=bool(getattr(torch._C, "_has_xpu", False)),
        compiled_torch=None if compiled is None else compiled[1].rstrip("."),
        compiled_cuda=None if cuda is None or torch.version.cuda is None else int(cuda()),
        compiled_for_gpu=bool(torch.backends.cuda.is_built()),
        # Unlike torch.cuda.get_arch_list this answers without a GPU.
        arch_flags=() if flags is None else tuple((flags() or "").split()),
    )


def _distributions() -> Iterator[Distribution]:
    known = set()
    for name in ("torch", "numpy"):
        for distribution in metadata.distributions(name=name):
            folder, version = _home(distribution), _version(distribution)
            if (name, version, folder) not in known:  # a folder may be twice in sys.path
                known.add((name, version, folder))
                yield Distribution(name=name, version=version, folder=folder)


def _home(distribution: metadata.Distribution) -> str:
    """The folder of sys.path that the metadata speaks for."""
    return str(Path(str(distribution.locate_file(""))).resolve())


def _version(distribution: metadata.Distribution) -> str:
    """Its version; empty where an uninstallation left a folder without one."""
    told: list[str] = distribution.metadata.get_all("Version") or [""]
    return told[0]


def _needs(folder: str | None) -> Iterator[Need]:
    """The requirements of the torch that is imported; of the first on sys.path when none is."""
    listed = list(metadata.distributions(name="torch"))
    own = [each for each in listed if folder and _home(each) == str(Path(folder).parent)]
    for text in next((each.requires or [] for each in own or listed), []):
        try:
            need = Requirement(text)
        except InvalidRequirement:  # an old builder's spelling: pip itself would refuse it
            continue
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield Need(
                name=need.name, specifier=str(need.specifier), installed=_installed(need.name)
            )


def _installed(name: str) -> str | None:
    try:
        return _version(metadata.distribution(name))
    except metadata.PackageNotFoundError:
        return None


def _gpus(
    driver: cuda_driver.CudaDriver, management: nvml.Nvml, present: hardware.Hardware
) -> Iterator[Gpu]:
    """GPUs as far as any source knows what code they run; CUDA's view first, which honours hiding.

    NVML's list of all GPUs would hold hidden ones too, so it counts only where CUDA has none.
    """
    listed: tuple[cuda_driver.DriverDevice | nvml.NvmlGpu, ...] = driver.devices
    if not driver.devices:
        listed = tuple(gpu for gpu in management.gpus if gpu.accessible)
    for gpu in listed:
        if gpu.capability is not None:
            yield Gpu(label=f"GPU {gpu.index} ({gpu.name})", capability=gpu.capability)
    for number, gfx in enumerate(present.architectures):
        yield Gpu(label=f"AMD GPU {number}", gfx=gfx)
