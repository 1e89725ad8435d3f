"""Faults of the node and of the installation, on a pretended node of two GPUs."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_GIB: Final = 1024**3
_PYTORCH: Final = "https://github.com/pytorch/pytorch/issues"
_DRIVER_API: Final = "https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html"


def _event(text: str, source: str) -> Event:
    return Event(text, source if source.startswith("http") else f"{_PYTORCH}/{source}")


def _on(
    name: str,
    checks: str,
    event: Event,
    changes: dict[str, Any],
    *more: Injection,
    **fields: Any,
) -> Fault:
    probe = "torch_version" if fields.get("where") == "host" else "cuda_available"
    return Fault(
        name=name,
        kind="environment",
        event=event,
        inject=(Injection("node.pretends", {"changes": changes}), *more),
        trips=tuple(each if "." in each else f"{probe}.{each}" for each in checks.split()),
        **{"where": "node", **fields},
    )


_BEFORE: Final = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
    "NumCudaDevices() that might have already set an error? Error "
)

_UNKNOWN_TEXT: Final = (
    "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
    "variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero."
)

#: cuInit's code -> its name, what torch then raises, and where that was seen.
_STARTS: Final[dict[int, tuple[str, str, Event]]] = {
    3: (
        "CUDA_ERROR_NOT_INITIALIZED",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
        _event("MIG is on without an instance, or the driver is broken", "98885"),
    ),
    34: (
        "CUDA_ERROR_STUB_LIBRARY",
        f"{_BEFORE}34: CUDA driver is a stub library",
        _event("the toolkit's stub of libcuda is found first", "35418"),
    ),
    46: (
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
        f"{_BEFORE}46: CUDA-capable device(s) is/are busy or unavailable",
        _event("a device that says busy though nobody uses it", _DRIVER_API),
    ),
    802: (
        "CUDA_ERROR_SYSTEM_NOT_READY",
        f"{_BEFORE}802: system not yet initialized",
        _event("the fabric manager does not run", "35710"),
    ),
    803: (
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        f"{_BEFORE}803: system has unsupported display driver / cuda driver combination",
        _event(
            "libraries of the image shadow the driver's",
            "https://github.com/NVIDIA/nvidia-docker/issues/1256",
        ),
    ),
    804: (
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        f"{_BEFORE}804: forward compatibility was attempted on non supported HW",
        _event(
            "a compat library on hardware that has no forward compatibility",
            "https://github.com/NVIDIA/nvidia-docker/issues/1515",
        ),
    ),
    999: (
        "CUDA_ERROR_UNKNOWN",
        _UNKNOWN_TEXT,
        _event("nvidia-uvm is missing, or the machine was suspended", "49327"),
    ),
}


def _dead(code: int, name: str, text: str) -> dict[str, Any]:
    return {
        "driver.init_code": code,
        "driver.init_name": name,
        "driver.device_count": None,
        "driver.devices": [],
        "torch.error": text,
        "torch.available": False,
    }


_CODES: Final = tuple(
    _on(f"cuda.error_{code}", "driver_starts torch_starts", event, _dead(code, name, text))
    for code, (name, text, event) in _STARTS.items()
)

_UNKNOWN: Final = _dead(999, "CUDA_ERROR_UNKNOWN", _STARTS[999][1])
_CLOSED: Final = {
    f"nodes./dev/{name}": "EPERM: Operation not permitted"
    for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1")
}
_TOO_OLD: Final = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx"
)
_LOST_GPU: Final = _event(
    "a GPU that has fallen off the bus",
    "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1151",
)
_NODES_LOST: Final = _event(
    "a container that lost access after `systemctl daemon-reload`",
    "https://github.com/NVIDIA/nvidia-container-toolkit/issues/48",
)
_MISMATCH: Final = _event(
    "the driver was upgraded under a running node",
    "https://github.com/NVIDIA/nvidia-container-toolkit/issues/394",
)
_DISAGREE: Final = _event("torch, driver and NVML see different devices", "102715")
_IDENTITY: Final = _event("a device that is not the one it is said to be", "23544")
_BAD_KERNEL: Final = _event("a first kernel that is wrong, zero or raises", "57347")
_MEMORY: Final = _event(
    "memory that a lost process still holds", "https://docs.pytorch.org/docs/stable/notes/cuda.html"
)

_GPUS: Final = (
    _on(
        "node.lost_access",
        "device_nodes",
        _NODES_LOST,
        {**_UNKNOWN, **_CLOSED, "nvml": {"error": "Failed to initialize NVML: Unknown Error"}},
        reason="lost_access",
    ),
    _on(
        "node.without_uvm",
        "device_nodes torch_starts",
        _STARTS[999][2],
        {**_UNKNOWN, "nodes./dev/nvidia-uvm": "ENOENT: No such file or directory"},
    ),
    _on(
        "node.driver_too_old",
        "torch_starts",
        _event(
            "a driver that is older than the wheel's CUDA",
            "https://github.com/weaviate/Verba/issues/72",
        ),
        {"driver.driver_version": 11040, "torch.error": _TOO_OLD, "torch.available": False},
    ),
    _on(
        "node.nvml_mismatch",
        "nvml_answers",
        _MISMATCH,
        {"nvml": {"error": "Failed to initialize NVML: Driver/library version mismatch"}},
    ),
    _on(
        "node.gpu_lost",
        "nvml_answers",
        _LOST_GPU,
        {"nvml.gpus.1.error": "nvmlDeviceGetMemoryInfo: GPU is lost"},
    ),
    _on(
        "node.third_gpu_lost",
        "counts_agree",
        _LOST_GPU,
        {"nvml.gpus.2": {"index": 2, "error": "GPU is lost"}},
    ),
    _on(
        "node.gpus_gone_from_the_bus",
        "all_gpus",
        _LOST_GPU,
        {
            "pci.2": {"address": "0000:2f:00.0", "model": 0x2330, "driver": "nvidia", "minor": 2},
            "nodes./dev/nvidia2": "EIO: Input/output error",
        },
    ),
    _on(
        "node.gpu_that_no_driver_took",
        "all_gpus",
        _event(
            "a GPU that the driver could not initialise",
            "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1151",
        ),
        {"pci.2": {"address": "0000:2f:00.0", "model": 0x2330}},
    ),
    _on(
        "node.mig_without_an_instance",
        "mig_instances",
        _event(
            "MIG is on, and the instances were lost with a reboot",
            "https://docs.nvidia.com/datacenter/tesla/mig-user-guide/",
        ),
        {"nvml.gpus.1.mig_enabled": True},
    ),
    _on("node.torch_counts_one", "counts_agree", _DISAGREE, {"torch.device_count": 1}),
    _on("node.driver_counts_one", "counts_agree", _DISAGREE, {"driver.device_count": 1}),
    _on(
        "node.fewer_than_promised",
        "enough_gpus",
        _event(
            "fewer GPUs than the node should have",
            "https://imbue.com/research/70b-infrastructure/",
        ),
        {},
        promised_gpus=8,
    ),
    _on(
        "node.unavailable",
        "is_available",
        _event("is_available() that says no while the back-end works", "85951"),
        {"torch.available": False},
    ),
    _on(
        "node.available_but_dead",
        "is_available torch_starts",
        _event("is_available() by NVML that says yes while CUDA cannot start", "85951"),
        {**_UNKNOWN, "torch.available": True},
    ),
    _on(
        "node.bad_visible_devices",
        "visible_devices",
        _event("an entry of CUDA_VISIBLE_DEVICES that is no device", "23544"),
        {"variables.CUDA_VISIBLE_DEVICES": "0,1,9"},
    ),
    _on(
        "node.no_code_warning",
        "torch_starts",
        _event("a GPU that the build has no code for", "81883"),
        {"torch.warning": "the GPU is not compatible with the current PyTorch installation."},
    ),
    _on(
        "node.accelerator_counts_none",
        "accelerator_api",
        _event(
            "torch.accelerator and the device's own interface disagree",
            "https://docs.pytorch.org/docs/stable/accelerator.html",
        ),
        {"accelerator.device_count": 0},
    ),
    _on(
        "node.accelerator_raises",
        "accelerator_api",
        _event("torch.accelerator raises", "https://docs.pytorch.org/docs/stable/accelerator.html"),
        {"accelerator.error": "invalid device ordinal"},
    ),
    _on("node.other_name", "identity", _IDENTITY, {"torch.name": "NVIDIA A100-SXM4-80GB"}),
    _on("node.other_capability", "identity", _IDENTITY, {"torch.major": 8}),
    _on("node.other_address", "identity", _IDENTITY, {"nvml.gpus.1.pci_bus_id": "0000:0f:00.0"}),
    _on(
        "node.half_the_memory",
        "memory_size",
        _event("a GPU that lost half of its memory", "https://docs.nvidia.com/deploy/xid-errors/"),
        {"torch.total_memory": 40 * _GIB},
    ),
    _on("node.memory_leaked", "memory_free", _MEMORY, {"nvml.gpus.1.memory_free_bytes": _GIB // 4}),
    _on(
        "node.compute_prohibited",
        "compute_mode",
        _event(
            "a compute mode that keeps processes out",
            "https://docs.nvidia.com/deploy/mps/",
        ),
        {"nvml.gpus.1.compute_mode": "prohibited"},
    ),
    _on(
        "node.slow_first_kernel",
        "first_kernel",
        _event("a first kernel that is compiled for minutes", "136951"),
        {"torch.first_kernel_s": 300.0},
    ),
    *(
        _on(
            f"node.kernel_{spoil}",
            "kernel",
            _BAD_KERNEL,
            {},
            Injection("operations.wrong", {"operators": (operator,), "spoil": spoil}),
        )
        for operator, spoil in (
            ("add", "zeros"),
            ("add", "one_bit"),
            ("add", "one_a_warp"),
            ("add", "swapped"),
            ("add", "nan"),
            ("sum", "garbage"),
        )
    ),
    _on(
        "node.kernel_raises",
        "kernel",
        _event("no kernel image is available for execution on the device", "31285"),
        {},
        Injection(
            "operations.raises",
            {
                "operators": ("add",),
                "text": "CUDA error: no kernel image is available for execution on the device",
            },
        ),
    ),
    Fault(
        name="node.cpu_wheel",
        kind="environment",
        where="host",
        event=_event("a resolver picked the CPU build on a GPU node", "28111"),
        inject=(
            Injection(
                "node.pretends",
                {
                    "changes": {
                        "torch.cuda": None,
                        "torch.built": False,
                        "torch.available": False,
                        "torch.device_count": 0,
                        "torch.error": "Torch not compiled with CUDA enabled",
                        "torch.arch_flags": "",
                        "accelerator.type": "",
                        "accelerator.available": False,
                        "accelerator.device_count": 0,
                    }
                },
            ),
        ),
        trips=("torch_version.build_kind", "cuda_available.enough_gpus"),
    ),
    Fault(
        name="node.dead_driver",
        kind="environment",
        where="host",
        event=_event("GPUs on the bus, and a driver that lists none", _DRIVER_API),
        inject=(
            Injection(
                "node.pretends",
                {
                    "changes": {
                        **_dead(100, "CUDA_ERROR_NO_DEVICE", "No CUDA GPUs are available"),
                        "torch.device_count": 0,
                    }
                },
            ),
        ),
        trips=("cuda_available.enough_gpus", "cuda_available.torch_starts"),
    ),
)


def _image(name: str, checks: str, event: Event, changes: dict[str, Any]) -> Fault:
    return _on(f"image.{name}", checks, event, changes, where="host")


def _here(name: str, checks: str, event: Event, function: str, **arguments: Any) -> Fault:
    """A break of the installation that is really there."""
    return Fault(
        name=f"image.{name}",
        kind="environment",
        where="host",
        event=event,
        inject=(Injection(f"installations.{function}", arguments),),
        trips=tuple(f"torch_version.{check}" for check in checks.split()),
    )


_SITE: Final = "/opt/venv/lib/python3/site-packages"
_HALF: Final = _event("an upgrade that left files of two builds", "111469")
_MIXED: Final = _event("cuDNN of two installations in one process", "188892")
_SYSTEM: Final = _event("a system library in the place of a wheel's own", "134929")
_TWICE: Final = _event("two copies of one C++ or GPU library in a process", "157709")

_IMAGES: Final = (
    _image(
        "driver_too_old",
        "driver_cuda",
        _event(
            "a driver that is older than the wheel's CUDA",
            "https://github.com/weaviate/Verba/issues/72",
        ),
        {"driver.driver_version": 11040},
    ),
    _image("kernel_module_older", "driver_files", _MISMATCH, {"kernel_module": "535.129.03"}),
    _image(
        "nvml_mismatch",
        "driver_files",
        _MISMATCH,
        {"nvml": {"error": "Failed to initialize NVML: Driver/library version mismatch"}},
    ),
    _image(
        "architecture_missing",
        "architectures",
        _event("a wheel without code for this GPU", "31285"),
        {"torch.arch_flags": "sm_80 sm_86"},
    ),
    _image(
        "libcuda_stub",
        "libcuda",
        _STARTS[34][2],
        {"driver.path": "/usr/local/cuda/lib64/stubs/libcuda.so"},
    ),
    _image(
        "libcuda_compat",
        "libcuda",
        _STARTS[804][2],
        {"driver.path": "/usr/local/cuda/compat/libcuda.so.560.35.03"},
    ),
    _image(
        "cudnn_incompatible",
        "cudnn",
        _event("a cuDNN of another version than torch was compiled for", "80637"),
        {
            "torch.cudnn_error": "cuDNN version incompatibility: PyTorch was compiled  against "
            "(9, 1, 0) but found runtime version (8, 9, 7)."
        },
    ),
    _image(
        "cudnn_mixed",
        "cudnn_libraries",
        _MIXED,
        {
            "libraries.3": {
                "family": "cudnn_ops",
                "path": "/usr/lib/x86_64-linux-gnu/libcudnn_ops.so.9.5.1",
                "version": "9.5.1",
            }
        },
    ),
    _image(
        "nccl_older",
        "nccl",
        _event(
            "an NCCL that is older than torch's own",
            "https://github.com/NVIDIA/nccl/issues/2001",
        ),
        {"torch.nccl_loaded": (2, 18, 1)},
    ),
    _image(
        "libcuda_twice",
        "loaded_once",
        _TWICE,
        {"libraries.3": {"family": "cuda", "path": "/usr/local/nvidia/lib64/libcuda.so.1"}},
    ),
    _image(
        "libstdcxx_twice",
        "loaded_once",
        _TWICE,
        {
            "libraries.3": {"family": "stdc++", "path": "/usr/lib/libstdc++.so.6.0.30"},
            "libraries.4": {"family": "stdc++", "path": "/opt/conda/lib/libstdc++.so.6.0.29"},
        },
    ),
    _image(
        "cublas_of_the_system",
        "foreign_libraries",
        _SYSTEM,
        {
            "libraries.3": {
                "family": "cublas",
                "path": "/usr/local/cuda/lib64/libcublas.so.12.1.0.26",
                "own": f"{_SITE}/nvidia/cublas/lib/libcublas.so.12",
            }
        },
    ),
    _image(
        "cudnn_ahead",
        "foreign_libraries",
        _SYSTEM,
        {"ahead": ["/usr/local/cuda/lib64/libcudnn"]},
    ),
    _image(
        "second_torch_of_the_user",
        "one_copy",
        _event(
            "pip installed another torch into the user's own folder",
            "https://docs.python.org/3/library/site.html",
        ),
        {
            "copies.2": {
                "name": "torch",
                "path": "/home/user/.local/lib/python3/site-packages/torch",
                "place": "user site",
            }
        },
    ),
    _image(
        "two_openmp_runtimes",
        "one_openmp",
        _event("MKL's OpenMP beside GNU's", "37377"),
        {"runtimes.2": "/opt/conda/lib/libiomp5.so"},
    ),
    _image(
        "openmp_alarm_silenced",
        "one_openmp",
        _event("the alarm for a second OpenMP runtime is switched off", "44282"),
        {"variables.KMP_DUPLICATE_LIB_OK": "TRUE"},
    ),
    _image(
        "openblas_twice",
        "one_blas",
        _TWICE,
        {
            "runtimes.2": "/usr/lib/x86_64-linux-gnu/libopenblas.so.0",
            "runtimes.3": "/opt/conda/lib/libopenblas.so.0",
        },
    ),
    _image("compiled_for_another_cuda", "compiled_version", _HALF, {"torch.compiled_cuda": 12010}),
    _image("version_file_says_cuda", "compiled_version", _HALF, {"torch.built": False}),
    _image("tag_of_another_cuda", "local_tag", _HALF, {"torch.version": "2.6.0+cu118"}),
    _here("core_of_another_folder", "imports", _HALF, "core_of_another_folder"),
    _here(
        "folder_named_torch",
        "imports",
        _event(
            "a folder named torch in the working directory",
            "https://docs.python.org/3/tutorial/modules.html",
        ),
        "namespace_in_its_place",
    ),
    _here(
        "version_of_another_build",
        "metadata compiled_version",
        _HALF,
        "version_of_another_build",
        version="2.4.1",
    ),
    _here("too_old", "version", _HALF, "version_of_another_build", version="1.13.1"),
    _here("numpy_overwritten", "metadata", _HALF, "numpy_overwritten"),
    _here(
        "requirement_missing",
        "requirements",
        _event(
            "a torch installed without its dependencies",
            "https://pip.pypa.io/en/stable/cli/pip_check/",
        ),
        "requirement_missing",
    ),
)


def _import(name: str, text: str, source: str, files: dict[str, str], **fields: Any) -> Fault:
    return Fault(
        name=f"import.{name}",
        kind="import",
        where="worker",
        event=_event(text, source),
        inject=(),
        trips=("torch_version.imports",),
        reason="import_failed",
        files=files,
        **fields,
    )


#: Modules that are found before the real ones, in a worker of their own.
_IMPORTS: Final = (
    _import(
        "no_torch",
        "an image without torch",
        "https://docs.pytorch.org/get-started/locally/",
        {"torch/__init__.py": "raise ModuleNotFoundError(\"No module named 'torch'\")\n"},
    ),
    _import(
        "library_missing",
        "a library of CUDA's that the loader cannot find or link",
        "111469",
        {
            "torch/__init__.py": 'raise ImportError("libcusparse.so.12: undefined symbol: '
            '__nvJitLinkAddData_12_1, version libnvJitLink.so.12")\n'
        },
    ),
    _import(
        "libstdcxx_too_old",
        "a C++ library that is older than torch needs",
        "157709",
        {
            "torch/__init__.py": "raise OSError(\"/lib/libstdc++.so.6: version 'GLIBCXX_3.4.30' "
            'not found (required by libtorch_cpu.so)")\n'
        },
    ),
    _import(
        "illegal_instruction",
        "a CPU without an instruction that torch uses",
        "43300",
        {"torch/__init__.py": "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"},
    ),
    _import(
        "hangs",
        "an import of torch that never ends",
        "https://github.com/rwth-i6/returnn/issues/1756",
        {"torch/__init__.py": "import time\ntime.sleep(3600)\n"},
        timeout_s=1.5,
    ),
    _import(
        "no_numpy",
        "an image without NumPy",
        "107302",
        {"numpy/__init__.py": "raise ModuleNotFoundError(\"No module named 'numpy'\")\n"},
    ),
)

NODES: Final = (*_CODES, *_GPUS, *_IMAGES, *_IMPORTS)
