"""What must trip each check of this probe: images, installations, and imports that fail."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.pretended import (
    COMPAT_UNSUPPORTED,
    DRIVER_UPGRADED,
    STUB_FOUND,
    event_of,
    on_node,
)


def _image(name: str, checks: str, event: Event, changes: dict[str, Any]) -> Fault:
    return on_node(f"image.{name}", checks, event, changes, where="host")


def _broken_installation(
    name: str, checks: str, event: Event, function: str, **arguments: Any
) -> Fault:
    """A fault in what the real installation shows, without a pretended node."""
    return Fault(
        name=f"image.{name}",
        kind="environment",
        where="host",
        event=event,
        inject=(Injection(f"installations.{function}", arguments),),
        trips=tuple(f"torch_version.{check}" for check in checks.split()),
    )


_SITE: Final = "/opt/venv/lib/python3/site-packages"
_HALF: Final = event_of("an upgrade that left files of two builds", "111469")
_MIXED: Final = event_of("cuDNN of two installations in one process", "188892")
_SYSTEM: Final = event_of("a system library in the place of a wheel's own", "134929")
_TWICE: Final = event_of("two copies of one C++ or GPU library in a process", "157709")

_IMAGES: Final = (
    _image(
        "driver_too_old",
        "driver_cuda",
        event_of(
            "a driver that is older than the wheel's CUDA",
            "https://github.com/weaviate/Verba/issues/72",
        ),
        {"driver.driver_version": 11040},
    ),
    _image("kernel_module_older", "driver_files", DRIVER_UPGRADED, {"kernel_module": "535.129.03"}),
    _image(
        "nvml_mismatch",
        "driver_files",
        DRIVER_UPGRADED,
        {"nvml": {"error": "Failed to initialize NVML: Driver/library version mismatch"}},
    ),
    _image(
        "architecture_missing",
        "architectures",
        event_of("a wheel without code for this GPU", "31285"),
        {"torch.arch_flags": "sm_80 sm_86"},
    ),
    _image(
        "libcuda_stub",
        "libcuda",
        STUB_FOUND,
        {"driver.path": "/usr/local/cuda/lib64/stubs/libcuda.so"},
    ),
    _image(
        "libcuda_compat",
        "libcuda",
        COMPAT_UNSUPPORTED,
        {"driver.path": "/usr/local/cuda/compat/libcuda.so.560.35.03"},
    ),
    _image(
        "cudnn_incompatible",
        "cudnn",
        event_of("a cuDNN of another version than torch was compiled for", "80637"),
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
        event_of(
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
        event_of(
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
        event_of("MKL's OpenMP beside GNU's", "37377"),
        {"runtimes.2": "/opt/conda/lib/libiomp5.so"},
    ),
    _image(
        "openmp_alarm_silenced",
        "one_openmp",
        event_of("the alarm for a second OpenMP runtime is switched off", "44282"),
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
    _broken_installation("core_of_another_folder", "imports", _HALF, "core_of_another_folder"),
    _broken_installation(
        "folder_named_torch",
        "imports",
        event_of(
            "a folder named torch in the working directory",
            "https://docs.python.org/3/tutorial/modules.html",
        ),
        "namespace_in_its_place",
    ),
    _broken_installation(
        "version_of_another_build",
        "metadata compiled_version",
        _HALF,
        "version_of_another_build",
        version="2.4.1",
    ),
    _broken_installation("too_old", "version", _HALF, "version_of_another_build", version="1.13.1"),
    _broken_installation("numpy_overwritten", "metadata", _HALF, "numpy_overwritten"),
    _broken_installation(
        "requirement_missing",
        "requirements",
        event_of(
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
        event=event_of(text, source),
        inject=(),
        trips=("torch_version.imports",),
        reason="import_failed",
        files=files,
        **fields,
    )


#: Modules that a worker imports in place of the real ones.
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

FAULTS: Final[tuple[Fault, ...]] = (*_IMAGES, *_IMPORTS)
