"""Observing an installation: modules, metadata, build, driver, mapped libraries, NumPy."""

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
from probes.legible import variables
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


def observe(device: str) -> Observation:  # noqa: ARG001 - the image is the same for each device
    """Observe the imported modules, their metadata and what the process has mapped."""
    torch_module = _module(torch, sys.modules.get("torch._C"))
    breadcrumb.operation("cuInit of the driver, NVML, PCI")
    driver, nvml_state, detected = cuda_driver.read(), nvml.read(), hardware.detect()
    breadcrumb.operation("cuDNN's version")
    cudnn_version, cudnn_error = mapped.cudnn_version()  # may map libcudnn
    breadcrumb.operation("installed packages, mapped libraries, NumPy's arrays")
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    libraries, ahead = mapped.libraries(torch_module.folder, os.environ.get("LD_LIBRARY_PATH", ""))
    return Observation(
        torch=torch_module,
        numpy=_module(np, _multiarray()),
        build=_build(),
        distributions=tuple(_distributions()),
        needs=tuple(_requirements(torch_module.folder)),
        variables=variables(VARIABLES),
        hardware=detected,
        kernel_module=hardware.nvidia_module(),
        driver=driver,
        nvml_error=nvml_state.error,
        nvml_driver=nvml_state.driver_version,
        gpus=tuple(_gpus(driver, nvml_state, detected)),
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
    """NumPy's compiled core, under its name in NumPy 2 or 1; None when it is not imported."""
    names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
    return next((sys.modules[name] for name in names if name in sys.modules), None)


def _build() -> Build:
    compiled = re.search(r"TORCH_VERSION=([\d.]+)", torch.__config__.show())
    cuda = getattr(torch._C, "_cuda_getCompiledVersion", None)  # in CUDA and ROCm builds only
    flags: Any = getattr(torch._C, "_cuda_getArchFlags", None)
    return Build(
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        rocm=getattr(torch.version, "rocm", None),
        xpu=bool(getattr(torch._C, "_has_xpu", False)),
        compiled_torch=None if compiled is None else compiled[1].rstrip("."),
        compiled_cuda=None if cuda is None or torch.version.cuda is None else int(cuda()),
        compiled_for_gpu=bool(torch.backends.cuda.is_built()),
        # torch.cuda.get_arch_list gives an empty list without a GPU; this does not.
        arch_flags=() if flags is None else tuple((flags() or "").split()),
    )


def _distributions() -> Iterator[Distribution]:
    known = set()
    for name in ("torch", "numpy"):
        for distribution in metadata.distributions(name=name):
            folder, version = _site_folder(distribution), _version(distribution)
            if (name, version, folder) not in known:  # sys.path may list a folder twice
                known.add((name, version, folder))
                yield Distribution(name=name, version=version, folder=folder)


def _site_folder(distribution: metadata.Distribution) -> str:
    """The folder of sys.path that the distribution is installed in."""
    return str(Path(str(distribution.locate_file(""))).resolve())


def _version(distribution: metadata.Distribution) -> str:
    """The distribution's version; empty where an uninstallation left a folder without one."""
    versions: list[str] = distribution.metadata.get_all("Version") or [""]
    return versions[0]


def _requirements(folder: str | None) -> Iterator[Need]:
    """The requirements of the imported torch; without its metadata, of the first on sys.path."""
    listed = list(metadata.distributions(name="torch"))
    own = [each for each in listed if folder and _site_folder(each) == str(Path(folder).parent)]
    for text in next((each.requires or [] for each in own or listed), []):
        try:
            need = Requirement(text)
        except InvalidRequirement:  # written by an old tool; pip refuses it too
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
    driver: cuda_driver.CudaDriver, nvml_state: nvml.Nvml, detected: hardware.Hardware
) -> Iterator[Gpu]:
    """The GPUs whose architecture is known, from CUDA, else NVML, and AMD's from the kernel.

    NVML also lists GPUs that a variable hides, so it is used only where CUDA lists none.
    """
    listed: tuple[cuda_driver.DriverDevice | nvml.NvmlGpu, ...] = driver.devices
    if not driver.devices:
        listed = tuple(gpu for gpu in nvml_state.gpus if gpu.accessible)
    for gpu in listed:
        if gpu.capability is not None:
            yield Gpu(label=f"GPU {gpu.index} ({gpu.name})", capability=gpu.capability)
    for number, gfx in enumerate(detected.architectures):
        yield Gpu(label=f"AMD GPU {number}", gfx=gfx)
