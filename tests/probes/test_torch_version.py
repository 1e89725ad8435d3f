"""The installation probe: a CPU image that is here, GPU images built by hand, and broken ones."""

import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from probes.catalog import TORCH_VERSION
from probes.contract import Comparison, Finding
from probes.node import cuda_driver, hardware, nvml
from probes.node.copies import Copy
from probes.node.cuda_driver import CudaDriver, DriverDevice
from probes.node.hardware import Hardware
from probes.torch_version import driver, installed, mapped, probe
from probes.torch_version.observation import Build, Distribution, Gpu, Module, Need
from tests import fakes
from tests.probes.edits import edited
from tests.probes.verdicts import tripped

SITE = "/opt/venv/lib/python3.12/site-packages"
RIGHT = (Comparison(operation="some dtype", elements=3),)
WRONG = (Comparison(operation="some dtype", elements=3, problem="expected 1, observed 2"),)

#: Built by hand from the models and public version tables; no recording of a machine.
H100_NODE = probe.Observation(
    torch=Module(
        version="2.6.0+cu124",
        folder=f"{SITE}/torch",
        compiled=f"{SITE}/torch/_C.cpython-312-x86_64-linux-gnu.so",
    ),
    numpy=Module(
        version="2.1.2",
        folder=f"{SITE}/numpy",
        compiled=f"{SITE}/numpy/_core/_multiarray_umath.cpython-312-x86_64-linux-gnu.so",
    ),
    build=Build(
        cuda="12.4",
        compiled_torch="2.6.0",
        compiled_cuda=12040,
        compiled_for_gpu=True,
        arch_flags=("sm_50", "sm_80", "sm_86", "sm_90"),
    ),
    variables={},
    distributions=(
        Distribution(name="torch", version="2.6.0", folder=SITE),  # PyPI drops the local part
        Distribution(name="numpy", version="2.1.2", folder=SITE),
    ),
    needs=(
        Need(name="filelock", specifier="", installed="3.16.1"),
        Need(name="nvidia-cudnn-cu12", specifier="==9.1.0.70", installed="9.1.0.70"),
    ),
    hardware=Hardware(
        vendors=("nvidia",), evidence=("PCI 0000:0f:00.0 is 10de:2330 of class 0302",)
    ),
    kernel_module="550.54.15",
    driver=CudaDriver(
        loaded=True,
        path="/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15",
        init_code=0,
        init_name="CUDA_SUCCESS",
        driver_version=12040,
        device_count=2,
    ),
    nvml_driver="550.54.15",
    gpus=(
        Gpu(label="GPU 0 (NVIDIA H100 80GB HBM3)", capability=(9, 0)),
        Gpu(label="GPU 1 (NVIDIA H100 80GB HBM3)", capability=(9, 0)),
    ),
    cudnn_version=90100,
    nccl_compiled=(2, 21, 5),
    nccl_loaded=(2, 21, 5),
    libraries=(
        mapped.Library(
            family="cuda",
            path="/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15",
            version="550.54.15",
        ),
        mapped.Library(family="cudnn", path=f"{SITE}/nvidia/cudnn/lib/libcudnn.so.9", version="9"),
        mapped.Library(
            family="cudnn_graph",
            path=f"{SITE}/nvidia/cudnn/lib/libcudnn_graph.so.9",
            version="9",
        ),
        mapped.Library(family="nccl", path=f"{SITE}/nvidia/nccl/lib/libnccl.so.2", version="2"),
        mapped.Library(family="stdc++", path="/usr/lib/libstdc++.so.6.0.30", version="6.0.30"),
    ),
    copies=(
        Copy(name="torch", path=f"{SITE}/torch", place="own"),
        Copy(name="numpy", path=f"{SITE}/numpy", place="own"),
    ),
    runtimes=(
        f"{SITE}/torch/lib/libgomp-a34b3233.so.1",
        f"{SITE}/numpy.libs/libscipy_openblas64_-32a4b2a6.so",
    ),
    numpy_to_torch=RIGHT,
    torch_to_numpy=RIGHT,
    numpy_scalars=RIGHT,
)

#: An MI300X node, built by hand as well.
MI300X_NODE = edited(
    H100_NODE,
    {
        "torch.version": "2.6.0+rocm6.2.4",
        "distributions.0.version": "2.6.0+rocm6.2.4",
        "build": Build(
            hip="6.2.41134-65d174c3e",
            compiled_torch="2.6.0",
            compiled_for_gpu=True,
            arch_flags=("gfx90a", "gfx942:sramecc+:xnack-"),
        ),
        "hardware": Hardware(vendors=("amd",), evidence=("KFD node 2 is gfx942",)),
        "kernel_module": None,
        "driver": CudaDriver(load_error="libcuda.so.1: cannot open shared object file"),
        "nvml_error": "Failed to initialize NVML: NVML Shared Library Not Found",
        "nvml_driver": None,
        "gpus": (Gpu(label="AMD GPU 0", gfx="gfx942"), Gpu(label="AMD GPU 1", gfx="gfx942")),
        "libraries": (),
    },
)


def library(family: str, path: str, **more: Any) -> mapped.Library:
    """A mapped library."""
    return mapped.Library(family=family, path=path, **more)


def added(*libraries: mapped.Library) -> dict[str, Any]:
    """The change of an observation that adds mapped libraries."""
    return {"libraries": (*H100_NODE.libraries, *libraries)}


SYSTEM_CUDNN = "/usr/lib/x86_64-linux-gnu/libcudnn_ops.so.9.5.1"
FOREIGN_CUBLAS = library(
    "cublas",
    "/usr/local/cuda/lib64/libcublas.so.12.1.0.26",
    own=f"{SITE}/nvidia/cublas/lib/libcublas.so.12",
)

# (check, its status, changes that trip this check and no other)
FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    ("imports", "fail", {"torch.compiled": "/usr/lib/python3/dist-packages/torch/_C.so"}),
    ("imports", "warn", {"numpy.compiled": "/src/numpy/build/cp312/numpy/_core/_multiarray.so"}),
    ("imports", "fail", {"numpy.compiled": None}),
    ("metadata", "fail", {"distributions.0.version": "2.5.1"}),
    ("metadata", "fail", {"distributions.1.version": ""}),
    (
        "metadata",
        "fail",
        {"distributions": (*H100_NODE.distributions, H100_NODE.distributions[0])},
    ),
    ("metadata", "warn", {"distributions.0.folder": "/usr/lib/python3/dist-packages"}),
    (
        "metadata",
        "warn",
        {
            "distributions": (
                Distribution(name="numpy", version="1.26.4", folder="/home/user/.local/lib"),
                *H100_NODE.distributions,
            )
        },
    ),
    ("compiled_version", "fail", {"build.compiled_torch": "2.5.1"}),
    ("compiled_version", "fail", {"build.compiled_cuda": 12010}),
    ("compiled_version", "fail", {"build.compiled_for_gpu": False, "cudnn_version": None}),
    ("requirements", "warn", {"needs.0.installed": None}),
    ("requirements", "warn", {"needs.1.installed": "9.5.1.17"}),
    (
        "version",
        "warn",
        {
            "torch.version": "2.1.2+cu124",
            "distributions.0.version": "2.1.2",
            "build.compiled_torch": "2.1.2",
        },
    ),
    ("build_kind", "fail", {"hardware.vendors": ("amd",)}),
    (
        "local_tag",
        "fail",
        {"torch.version": "2.6.0+cu118", "distributions.0.version": "2.6.0+cu118"},
    ),
    ("local_tag", "fail", {"torch.version": "2.6.0+cpu"}),
    ("local_tag", "fail", {"torch.version": "2.6.0+rocm6.2"}),
    ("local_tag", "fail", {"torch.version": "2.6.0+xpu"}),
    ("driver_cuda", "fail", {"driver.driver_version": 11080}),
    ("driver_files", "fail", {"kernel_module": "535.129.03"}),
    ("driver_files", "fail", {"nvml_driver": "570.86.10"}),
    (
        "driver_files",
        "fail",
        {"driver.path": "/usr/lib/x86_64-linux-gnu/libcuda.so.535.54.03"},
    ),
    (
        "driver_files",
        "fail",
        {
            "nvml_error": "Failed to initialize NVML: Driver/library version mismatch",
            "nvml_driver": None,
        },
    ),
    ("architectures", "fail", {"gpus.1.capability": (10, 0)}),
    ("architectures", "fail", {"build.arch_flags": ("sm_80", "sm_86")}),
    (
        "architectures",
        "fail",
        # Only code to compile is left, and the driver cannot read code of a newer CUDA.
        {"build.arch_flags": ("compute_80",), "driver.driver_version": 12020},
    ),
    ("libcuda", "fail", {"driver.path": "/usr/local/cuda/lib64/stubs/libcuda.so"}),
    ("libcuda", "warn", {"driver.path": "/usr/local/cuda/compat/libcuda.so.560.35.03"}),
    (
        "cudnn",
        "fail",
        {
            "cudnn_version": None,
            "cudnn_error": "RuntimeError: cuDNN version incompatibility: PyTorch was compiled  "
            "against (9, 1, 0) but found runtime version (8, 9, 7).",
        },
    ),
    ("cudnn_libraries", "fail", added(library("cudnn_ops", SYSTEM_CUDNN, version="9.5.1"))),
    (
        "cudnn_libraries",
        "fail",
        added(library("cudnn_ops", "/opt/conda/lib/libcudnn_ops.so.9", version="9")),
    ),
    ("nccl", "warn", {"nccl_loaded": (2, 18, 1)}),
    ("nccl", "fail", {"nccl_loaded": (3, 0, 0)}),
    ("loaded_once", "fail", added(library("cuda", "/usr/local/nvidia/lib64/libcuda.so.1"))),
    ("loaded_once", "warn", added(library("stdc++", "/opt/conda/lib/libstdc++.so.6.0.29"))),
    ("foreign_libraries", "warn", added(FOREIGN_CUBLAS)),
    (
        "foreign_libraries",
        "fail",
        added(library("torch_cpu", "/opt/libtorch/libtorch_cpu.so", own=f"{SITE}/torch/lib/l.so")),
    ),
    ("foreign_libraries", "warn", {"ahead": ("/usr/local/cuda/lib64/libcudnn",)}),
    ("defaults", "warn", {"changed_defaults": {"torch.get_default_dtype()": "torch.float64"}}),
    (
        "one_copy",
        "warn",
        {
            "copies": (
                Copy(
                    name="numpy",
                    path="/home/user/.local/lib/python3.12/site-packages/numpy",
                    place="user site",
                ),
                *H100_NODE.copies,
            )
        },
    ),
    ("one_openmp", "warn", {"runtimes": (*H100_NODE.runtimes, "/opt/conda/lib/libiomp5.so")}),
    ("one_openmp", "warn", {"variables": {"KMP_DUPLICATE_LIB_OK": "TRUE"}}),
    (
        "one_blas",
        "warn",
        {"runtimes": ("/usr/lib/libopenblas.so.0", "/opt/conda/lib/libopenblas.so.0")},
    ),
    ("numpy_to_torch", "fail", {"numpy_to_torch": WRONG}),
    ("numpy_to_torch", "fail", {"numpy_to_torch": ()}),
    ("torch_to_numpy", "fail", {"torch_to_numpy": WRONG}),
    ("numpy_scalars", "fail", {"numpy_scalars": WRONG}),
]


def findings_by_check(observation: probe.Observation, **limits: Any) -> dict[str, Finding]:
    """The findings by check name, without the probe's prefix."""
    findings = probe.judge(observation, probe.Limits(**limits))
    return {finding.id.partition(".")[2]: finding for finding in findings}


def check_ids(*checks: str) -> set[str]:
    """The full ids of checks."""
    return {f"torch_version.{check}" for check in checks}


def test_this_image_is_sound() -> None:
    """No check trips on this machine, and the findings are in the catalogue's order."""
    findings = list(probe.judge(probe.observe("cpu")))

    assert tripped(findings) == set()
    assert tuple(finding.id for finding in findings) == TORCH_VERSION.check_ids


@pytest.mark.parametrize("observation", [H100_NODE, MI300X_NODE], ids=["H100", "MI300X"])
def test_a_healthy_node_passes(observation: probe.Observation) -> None:
    """No check trips on a healthy GPU node, and no check that applies is skipped."""
    findings = findings_by_check(observation)
    skips = {name for name, finding in findings.items() if finding.status == "skip"}

    assert tripped(findings.values()) == set()
    assert skips <= {"driver_cuda", "driver_files", "libcuda", "cudnn_libraries"}
    assert (observation is H100_NODE) == (skips == set())


@pytest.mark.parametrize(("check", "status", "fault"), FAULTS)
def test_a_fault_trips_its_check_alone(check: str, status: str, fault: dict[str, Any]) -> None:
    """Breaking one promise trips that check and no other, and says what to do."""
    findings = findings_by_check(edited(H100_NODE, fault))

    assert tripped(findings.values()) == check_ids(check)
    assert findings[check].status == status
    assert findings[check].hint
    assert findings[check].action not in {"none", "investigate"}
    assert len(findings[check].message) < 1000


def test_every_check_has_a_fault() -> None:
    """Each check has a fault that trips it, and all are in the catalogue's order."""
    assert set(TORCH_VERSION.checks) == {check for check, _, _ in FAULTS}
    assert tuple(f.id for f in probe.judge(H100_NODE)) == TORCH_VERSION.check_ids


def test_a_library_without_a_version_is_no_pass() -> None:
    """Without a version in the compiled library nothing can be compared: skip, never pass."""
    silent = {"build.compiled_torch": None}

    assert findings_by_check(edited(H100_NODE, silent))["compiled_version"].status == "skip"
    assert (
        findings_by_check(edited(H100_NODE, silent | {"build.compiled_cuda": 11080}))[
            "compiled_version"
        ].status
        == "fail"
    )


def test_a_folder_without_code_fails_the_import() -> None:
    """A folder named torch in the working directory is imported as a namespace: no torch."""
    findings = findings_by_check(edited(H100_NODE, {"torch.folder": None, "distributions": ()}))

    assert tripped(findings.values()) == check_ids("imports")
    assert "folder without code" in findings["imports"].message
    assert findings["metadata"].status == "skip"


@pytest.mark.parametrize(
    ("version", "wanted", "status"),
    [
        ("2.13.0+cpu", "==2.13.0", "pass"),
        ("2.13.0+cu130", "==2.13.0+cu130", "pass"),
        ("2.13.0+cpu", "==2.13.0+cu130", "fail"),
        ("2.6.0+cu124", ">=2.6,<3", "pass"),
        ("2.9.0a0+50eac811a6.nv25.09", ">=2.8,<3", "pass"),
        ("2.14.0.dev20260101+cu130", ">=2.13", "pass"),
        ("2.13.0rc1", ">=2.13", "fail"),
        ("2.5.1", ">=2.6", "fail"),
        ("2.5.1", "!=2.5.*", "fail"),
        ("2.5.1", "", "pass"),
        ("2.2.0a0+81ea7a4", None, "pass"),
        ("1.13.1", None, "warn"),
        ("mine", None, "skip"),
        ("mine", ">=2.6", "error"),
    ],
)
def test_versions_meet_their_specifier(version: str, wanted: str | None, status: str) -> None:
    """Local parts need not be named, pre-releases are ordered, an invalid version does not pass."""
    observation = edited(H100_NODE, {"torch.version": version})

    assert findings_by_check(observation, torch=wanted)["version"].status == status


def test_a_wrong_specifier_is_refused() -> None:
    """A limit that is no specifier set is an error with an example, not a check that passes."""
    with pytest.raises(ValidationError, match="write a PEP 440 specifier"):
        probe.Limits(torch="newest")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2.6.0", "2.6.0+cu124", True),
        ("2.6.0+cu124", "2.6.0+cu118", False),
        ("2.6", "2.6.0", True),
        ("2.5.1.post3", "2.5.1", True),
        ("2.6.0a0+ab.nv24.08", "2.6.0a0+ab.nv24.8", True),
        ("2.6.0", "2.6.0rc1", False),
        ("2.6.0.dev20250101", "2.6.0.dev20250102", False),
        ("mine", "mine", True),
        ("mine", "2.6.0", False),
    ],
)
def test_spellings_of_one_version(first: str, second: str, *, same: bool) -> None:
    """Changes that package indexes and distributors make to a version are no contradiction."""
    assert installed.same_version(first, second) is same
    assert installed.same_version(second, first) is same


@pytest.mark.parametrize(
    ("flag", "capability", "fits"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 9), True),
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_90", (8, 9), False),
        ("compute_80", (9, 0), True),
        ("compute_90", (8, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (9, 1), False),
        ("compute_90a", (10, 0), False),
        ("sm_100f", (10, 3), True),
        ("sm_100f", (10, 1), False),
        ("sm_103f", (10, 0), False),
        ("sm_120", (12, 1), True),
        ("sm_120", (10, 0), False),
        ("gfx942", (9, 4), False),
    ],
)
def test_which_code_fits_a_gpu(flag: str, capability: tuple[int, int], *, fits: bool) -> None:
    """Machine code fits later GPUs of its major version, intermediate code all later GPUs."""
    assert driver.code_fits(flag, capability) is fits


@pytest.mark.parametrize(
    ("wheel", "number", "status"),
    [
        ("12.4", 12020, "pass"),  # minor-version compatibility
        ("12.4", 13000, "pass"),  # drivers run what is older
        ("13.0", 12080, "fail"),
        ("11.8", 11040, "pass"),
        ("12.1", None, "skip"),
    ],
)
def test_the_driver_and_the_wheel(wheel: str, number: int | None, status: str) -> None:
    """Only an older major version of CUDA in the driver is too old."""
    observation = edited(H100_NODE, {"build.cuda": wheel, "driver.driver_version": number})

    assert findings_by_check(observation)["driver_cuda"].status == status


def test_a_compat_libcuda_is_right_where_it_is_wanted() -> None:
    """The limit accepts it; its version may always differ from the kernel module's."""
    observation = edited(H100_NODE, {"driver.path": "/usr/local/cuda/compat/libcuda.so.560.35.03"})
    findings = findings_by_check(observation, forward_compat=True)

    assert tripped(findings.values()) == set()
    assert "forward_compat" in findings_by_check(observation)["libcuda"].hint


def test_a_cpu_build_on_a_gpu_node() -> None:
    """It fails with the index to install from, unless no GPU is to be used here."""
    cpu = {
        "torch.version": "2.6.0+cpu",
        "build": Build(compiled_torch="2.6.0"),
        "cudnn_version": None,
        "nccl_compiled": None,
    }
    observation = edited(H100_NODE, cpu)
    finding = findings_by_check(observation)["build_kind"]

    assert tripped(findings_by_check(observation).values()) == check_ids("build_kind")
    assert (finding.status, finding.action) == ("fail", "fix_image")
    assert "the CPU alone" in finding.message
    assert "10de:2330" in finding.message
    assert "https://download.pytorch.org/whl/cu" in finding.hint
    assert tripped(findings_by_check(observation, gpus=0).values()) == set()


@pytest.mark.parametrize(
    ("check", "change", "why"),
    [
        ("metadata", {"distributions": ()}, "neither"),
        ("compiled_version", {"build.compiled_torch": None}, "tells no version"),
        ("requirements", {"needs": ()}, "requires nothing"),
        ("build_kind", {"hardware.vendors": ()}, "every build fits"),
        ("local_tag", {"torch.version": "2.6.0"}, "no tag"),
        ("driver_cuda", {"build.cuda": None}, "no CUDA build"),
        ("driver_files", {"kernel_module": None, "nvml_driver": None}, "fewer than two"),
        ("architectures", {"build.arch_flags": ()}, "no architectures"),
        ("architectures", {"gpus": ()}, "no GPU of this build's kind"),
        ("libcuda", {"driver.path": None}, "no libcuda.so.1 is loaded"),
        ("cudnn", {"cudnn_version": None}, "without cuDNN"),
        ("cudnn_libraries", {"libraries": ()}, "no cuDNN is mapped"),
        ("nccl", {"nccl_compiled": None}, "has no NCCL"),
        ("nccl", {"nccl_loaded": None}, "no library of its own"),
    ],
)
def test_what_is_unknown_is_skipped(check: str, change: dict[str, Any], why: str) -> None:
    """A missing value is neither a pass nor a failure; the skip gives the reason."""
    finding = findings_by_check(edited(H100_NODE, change))[check]

    assert finding.status == "skip"
    assert why in finding.message


def test_findings_say_what_was_seen() -> None:
    """A passing finding is short; a failing one names what is wrong."""
    sound = {name: finding.observed for name, finding in findings_by_check(H100_NODE).items()}
    stub = {"driver.path": "/usr/local/cuda/lib64/stubs/libcuda.so"}
    forced = {"gpus.0.gfx": "gfx1031", "variables": {"HSA_OVERRIDE_GFX_VERSION": "9.4.2"}}
    no_gpu = findings_by_check(H100_NODE, gpus=0)["build_kind"]

    assert sound["metadata"] == ["torch 2.6.0", "numpy 2.1.2"]
    assert sound["requirements"] == "2 requirements met"
    assert sound["build_kind"] == "nvidia (12.4)"
    assert sound["cudnn_libraries"] == "2 libraries"
    assert sound["architectures"] == [gpu.label for gpu in H100_NODE.gpus]
    assert "toolkit's stub" in findings_by_check(edited(H100_NODE, stub))["libcuda"].message
    message = findings_by_check(edited(MI300X_NODE, forced))["architectures"].message
    assert "HSA_OVERRIDE_GFX_VERSION=9.4.2" in message
    assert no_gpu.message == "no GPU is expected here"


def test_one_vendor_of_two_is_enough() -> None:
    """A CUDA build is right on a node that has an Intel GPU beside NVIDIA's."""
    observation = edited(H100_NODE, {"hardware.vendors": ("nvidia", "intel")})

    assert findings_by_check(observation)["build_kind"].status == "pass"


def test_amd_architectures() -> None:
    """A missing architecture fails; with forced or hidden GPUs it is only a warning."""
    old = {"gpus.1": Gpu(label="AMD GPU 1", gfx="gfx1031")}
    forced = {"variables": {"HSA_OVERRIDE_GFX_VERSION": "9.4.2"}}
    hidden = {"variables": {"HIP_VISIBLE_DEVICES": "0"}}
    both = {"gpus.0": Gpu(label="AMD GPU 0", gfx="gfx1031")}

    def status(*changes: dict[str, Any]) -> str:
        merged = {path: value for change in changes for path, value in change.items()}
        return findings_by_check(edited(MI300X_NODE, merged))["architectures"].status

    assert status(old) == "fail"
    assert status(old, forced) == "warn"
    assert status(old, hidden) == "warn"
    assert status(old, hidden, both) == "fail"


def test_two_libcudas_are_right_on_wsl() -> None:
    """WSL's libcuda is a loader for the driver's own."""
    observation = edited(
        H100_NODE,
        added(
            library("cuda", "/usr/lib/wsl/lib/libcuda.so.1"),
            library("cuda", "/usr/lib/wsl/drivers/nv_dispi.inf_amd64/libcuda.so.1.1"),
        ),
    )

    assert tripped(findings_by_check(observation).values()) == set()


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("libcuda.so.535.129.03", ("cuda", "535.129.03")),
        ("libcudart-d0da41ae.so.11.0", ("cudart", "11.0")),
        ("libcudnn_engines_precompiled.so.9", ("cudnn_engines_precompiled", "9")),
        ("libcublasLt.so.12", ("cublasLt", "12")),
        ("libstdc++.so.6.0.30", ("stdc++", "6.0.30")),
        ("libtorch_cpu.so", ("torch_cpu", None)),
        ("libMIOpen.so.1", ("MIOpen", "1")),
        ("libcudadebugger.so.1", None),
        ("libnvrtc-builtins.so.12.4", None),
        ("libcuda.so.1.py", None),
        ("libc.so.6", None),
    ],
)
def test_library_names(name: str, parsed: tuple[str, str | None] | None) -> None:
    """A family is found from the whole file name."""
    assert mapped.parse(name) == parsed


def test_maps_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system copy is foreign where a wheel brought its own, and search paths are looked through.

    Each file counts once, spaces and deleted files are read, the wheel's own copy is not foreign.
    """
    site, system = tmp_path / "site", tmp_path / "my system"
    for folder in (site / "torch/lib", site / "nvidia/cudnn/lib", system):
        folder.mkdir(parents=True)
    for path in (
        site / "torch/lib/libtorch_cpu.so",
        site / "nvidia/cudnn/lib/libcudnn.so.9",
        system / "libcudnn.so.9.5.1",
        system / "libcudart.so.12",
    ):
        path.touch()
    monkeypatch.setattr(sys, "path", [str(site)])
    line = "7f00-7f01 r-xp 00000000 fe:00 42                     "
    maps = "\n".join(
        [
            f"{line} {system}/libcudnn.so.9.5.1",
            f"{line} {system}/libcudnn.so.9.5.1",
            f"{line} {system}/libcudart.so.12 (deleted)",
            f"{line} {site}/torch/lib/libtorch_cpu.so",
            f"{line} [heap]",
            "7f00-7f01 rw-p 00000000 00:00 0",
        ]
    )
    found, ahead = mapped.libraries(str(site / "torch"), f"{system}:{site}/torch/lib:", maps)

    assert found == (
        library(
            "cudnn",
            f"{system}/libcudnn.so.9.5.1",
            version="9.5.1",
            own=f"{site}/nvidia/cudnn/lib/libcudnn.so.9",
        ),
        library("cudart", f"{system}/libcudart.so.12", version="12"),
        library("torch_cpu", f"{site}/torch/lib/libtorch_cpu.so"),
    )
    assert ahead == (f"{system}/libcudnn",)


# ---- broken from outside, below observe

Break = Callable[[pytest.MonkeyPatch, Path], object]


def _installed(patch: pytest.MonkeyPatch, folder: Path, name: str, version: str) -> None:
    """Put metadata of a distribution before all others on sys.path."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}")
    patch.syspath_prepend(str(folder))


def _gpu_tree(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Show a PCI tree with an H100 in it to a CPU build."""
    patch.setattr(torch.version, "cuda", None)
    patch.setattr(torch.version, "hip", None)
    entry = folder / "sys/bus/pci/devices/0000:0f:00.0"
    entry.mkdir(parents=True)
    for name, value in {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}.items():
        entry.joinpath(name).write_text(value)
    patch.setattr(hardware, "detect", partial(hardware.detect, folder))


def _raising(text: str) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:
        raise RuntimeError(text)

    return call


def _warning(call: Callable[..., Any]) -> Callable[..., Any]:
    def warn(*arguments: Any, **named: Any) -> Any:
        warnings.warn("Failed to initialize NumPy: _ARRAY_API not found", stacklevel=2)
        return call(*arguments, **named)

    return warn


def _tensor_numpy(change: Callable[[Any], Any]) -> Break:
    original = torch.Tensor.numpy

    def broken(tensor: torch.Tensor, **named: Any) -> Any:
        return change(original(tensor, **named))

    return lambda patch, _: patch.setattr(torch.Tensor, "numpy", broken)


def _from_numpy(change: Callable[[Any], Any]) -> Break:
    original = torch.from_numpy
    return lambda patch, _: patch.setattr(torch, "from_numpy", lambda a: original(change(a)))


def _tensor_of_scalars(patch: pytest.MonkeyPatch, _: Path) -> None:
    """Make torch refuse NumPy's scalars, as a torch without NumPy does."""
    original = torch.tensor

    def broken(data: Any, **named: Any) -> torch.Tensor:
        first = data[0] if isinstance(data, list) else data
        refuse = _raising(f"Could not infer dtype of numpy.{type(first).__name__}")
        answer: torch.Tensor = (refuse if isinstance(first, np.generic) else original)(
            data, **named
        )
        return answer

    patch.setattr(torch, "tensor", broken)


def _last_element_lost(array: Any) -> Any:
    changed = array.copy()
    changed.reshape(-1)[-1] = 0
    return changed


def _bit_flipped(array: Any) -> Any:
    changed = array.copy()
    if array.dtype == np.float64:
        changed.view(np.uint64)[1] ^= np.uint64(1)
    return changed


def _older_capability(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give torch the flags of a wheel without this GPU's architecture."""
    device = DriverDevice(index=0, name="Old GPU", capability=(5, 2))
    patch.setattr(torch._C, "_cuda_getArchFlags", lambda: "sm_80 sm_90", raising=False)
    patch.setattr(cuda_driver, "read", lambda: CudaDriver(devices=(device,)))


def _cudnn_refuses(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(torch.backends.cuda, "is_built", lambda: True)
    patch.setattr(torch.version, "cuda", "12.4")
    patch.setattr(torch.backends.cudnn, "version", _raising("cuDNN version incompatibility"))


BREAKS: dict[str, tuple[set[str], Break]] = {
    "version file of another build": (
        {"metadata", "compiled_version"},
        lambda patch, _: patch.setattr(torch, "__version__", "2.4.1+cpu"),
    ),
    "version file of another CUDA": (
        {"compiled_version", "local_tag"},
        lambda patch, _: patch.setattr(torch.version, "cuda", "9.9"),
    ),
    "NumPy's files overwritten": (
        {"metadata"},
        lambda patch, _: patch.setattr(np, "__version__", "1.21.0"),
    ),
    "torch's core of another folder": (
        {"imports"},
        lambda patch, _: patch.setattr(torch._C, "__file__", "/usr/lib/python3/torch/_C.so"),
    ),
    "a namespace in torch's place": (
        {"imports"},
        lambda patch, _: patch.setattr(torch, "__file__", None),
    ),
    "stale metadata of torch": (
        {"metadata"},
        lambda patch, folder: _installed(patch, folder, "torch", "1.9.9"),
    ),
    "an old requirement": (
        {"requirements"},
        lambda patch, folder: _installed(patch, folder, "typing_extensions", "3.7"),
    ),
    "a GPU node under a CPU build": ({"build_kind"}, _gpu_tree),
    "a GPU without code": ({"architectures"}, _older_capability),
    "cuDNN refuses": ({"cudnn"}, _cudnn_refuses),
    "NVML of another version": (
        {"driver_files"},
        lambda patch, _: patch.setattr(
            nvml,
            "read",
            lambda: nvml.Nvml(error="RM has detected an NVML/RM version mismatch."),
        ),
    ),
    "NumPy is not available": (
        {"torch_to_numpy"},
        lambda patch, _: patch.setattr(torch.Tensor, "numpy", _raising("Numpy is not available")),
    ),
    "from_numpy warns": (
        {"numpy_to_torch"},
        lambda patch, _: patch.setattr(torch, "from_numpy", _warning(torch.from_numpy)),
    ),
    "from_numpy loses an element": ({"numpy_to_torch"}, _from_numpy(_last_element_lost)),
    "from_numpy flips a bit of doubles": ({"numpy_to_torch"}, _from_numpy(_bit_flipped)),
    "from_numpy reverses booleans": (
        {"numpy_to_torch"},
        _from_numpy(lambda a: a[::-1].copy() if a.dtype == np.bool_ else a),
    ),
    "from_numpy ignores strides": (
        {"numpy_to_torch"},
        _from_numpy(lambda a: np.asarray(a.base if a.ndim == 2 else a).reshape(-1)[: a.size]),
    ),
    "numpy() swaps bytes": ({"torch_to_numpy"}, _tensor_numpy(lambda a: a.byteswap())),
    "numpy() widens": ({"torch_to_numpy"}, _tensor_numpy(lambda a: a.astype(np.float64))),
    "numpy() flips a bit of doubles": ({"torch_to_numpy"}, _tensor_numpy(_bit_flipped)),
    "scalars are unknown": ({"numpy_scalars"}, _tensor_of_scalars),
}


@pytest.mark.parametrize(("checks", "break_it"), BREAKS.values(), ids=BREAKS.keys())
def test_broken_from_outside(
    checks: set[str], break_it: Break, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A break below observe trips the check that names it."""
    break_it(monkeypatch, tmp_path)

    assert check_ids(*checks) <= tripped(probe.judge(probe.observe("cpu")))


def test_numpy_that_torch_cannot_use_is_diagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding names both versions and what to install."""
    monkeypatch.setattr(torch.Tensor, "numpy", _raising("Numpy is not available"))
    finding = findings_by_check(probe.observe("cpu"))["torch_to_numpy"]

    assert f"NumPy {np.__version__}" in finding.message
    assert "numpy<2" in finding.hint
    assert finding.action == "fix_image"


# ---- broken from outside, in a child that loads fake libraries


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake drivers in it."""
    return fakes.build(tmp_path_factory.mktemp("drivers"))


def in_child(libraries: Path, **environment: str | int) -> set[str]:
    """The checks that trip in a child process that loads the fake drivers."""
    answer: Any = fakes.ask(
        "probe.observe('cpu').model_dump_json()", libraries, "probes.torch_version", **environment
    )
    return tripped(probe.judge(probe.Observation.model_validate(answer)))


@pytest.mark.slow
def test_stub_and_old_module_in_a_real_process(libraries: Path, tmp_path: Path) -> None:
    """A libcuda in stubs/, of another version than NVML and mapped twice, trips each check."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        shutil.copy(libraries / name, stubs / name)
    stubs.joinpath("libcuda.so.1").rename(stubs / "libcuda.so.535.54.03")
    stubs.joinpath("libcuda.so.1").symlink_to("libcuda.so.535.54.03")

    # New enough for any build: that is not what is broken here.
    assert in_child(stubs, FAKE_CUDA_VERSION=99000) == check_ids("libcuda", "driver_files")
    assert check_ids("loaded_once") <= in_child(stubs, LD_PRELOAD=str(libraries / "libcuda.so.1"))


@pytest.mark.slow
def test_mixed_cudnn_in_a_real_process(libraries: Path, tmp_path: Path) -> None:
    """Parts of cuDNN from two folders are found in the maps of the process."""
    preload = []
    for name in ("one/libcudnn.so.9", "two/libcudnn_ops.so.9"):
        path = tmp_path / name
        path.parent.mkdir()
        shutil.copy(libraries / "libcuda.so.1", path)
        preload.append(str(path))

    assert check_ids("cudnn_libraries") <= in_child(libraries, LD_PRELOAD=" ".join(preload))


@pytest.mark.slow
def test_nccl_is_asked_for_its_version(tmp_path: Path) -> None:
    """The version comes from the mapped library, whatever torch was compiled with."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for a fake NCCL")
    source, path = tmp_path / "nccl.c", tmp_path / "libnccl.so.2"
    source.write_text("int ncclGetVersion(int *v) { *v = 22105; return 0; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True)

    mapping = f"mapped.Library(family='nccl', path={str(path)!r})"
    version = fakes.ask(f"mapped.nccl_loaded(({mapping},))", tmp_path, "probes.torch_version")

    assert version == [2, 21, 5]
    assert mapped.nccl_loaded(()) is None


# ---- no false alarm


def test_nothing_trips_whatever_the_state() -> None:
    """Fifty runs with other seeds, threads, dtypes and grad modes trip no check.

    The exception is the check of the defaults, which reports the dtype.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    found: set[str] = set()
    try:
        for seed in range(50):
            random.seed(seed)
            torch.manual_seed(seed)
            torch.set_num_threads(1 + seed % 2)
            torch.set_default_dtype(torch.float64 if seed % 5 == 4 else torch.float32)
            with torch.set_grad_enabled(seed % 3 > 0):
                found |= tripped(probe.judge(probe.observe("cpu")))
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)

    assert found == {"torch_version.defaults"}


def test_an_observation_is_small_and_survives_json() -> None:
    """It round-trips, and stays far under 20 KiB on a GPU node as well."""
    for observation in (probe.observe("cpu"), H100_NODE):
        text = observation.model_dump_json(exclude_defaults=True)

        assert probe.Observation.model_validate_json(text) == observation
        assert len(text) < 8 * 1024
