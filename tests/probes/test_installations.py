"""Other images, healthy and broken: ROCm's versions, compat drivers, copies, runtimes."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probes.node.copies import Copy, found_on
from probes.node.hardware import Hardware
from probes.torch_version import runtimes
from probes.torch_version.observation import Build
from tests.probes.edits import edited
from tests.probes.test_torch_version import (
    H100_NODE,
    MI300X_NODE,
    SITE,
    check_ids,
    findings_by_check,
)
from tests.probes.verdicts import tripped


@pytest.mark.parametrize(
    ("tag", "rocm", "hip", "status"),
    [
        ("rocm6.4", None, "6.4.43482-0f2d60242", "pass"),
        ("rocm6.4", None, "6.2.41134", "fail"),
        ("rocm7.0.0rc20250908", None, "6.5.25290", "warn"),  # HIP has other version numbers
        ("rocm7.1", None, "7.1.25424", "pass"),
        ("rocm10.0.0", "10.0.0", "7.15.26105", "pass"),
        ("rocm7.1.1.lw.git351ff442", "7.1.1", "7.1.52802", "pass"),
        ("rocm7.1", "7.0.2", "7.1.25424", "fail"),
        ("rocm7.1", None, None, "fail"),
        ("rocm7rc20251015", "7.0.0", "7.0.1", "skip"),
    ],
)
def test_rocm_and_hip_have_numbers_of_their_own(
    tag: str, rocm: str | None, hip: str | None, status: str
) -> None:
    """The tag is compared with ROCm's version, and with HIP's only where both are the same."""
    changes = {"torch.version": f"2.9.0+{tag}", "build.hip": hip, "build.rocm": rocm}

    assert findings_by_check(edited(MI300X_NODE, changes))["local_tag"].status == status


@pytest.mark.parametrize(
    ("flags", "gfx", "status"),
    [
        (("gfx9-4-generic",), "gfx942", "pass"),
        (("gfx9-4-generic:sramecc+:xnack-",), "gfx950", "pass"),
        (("gfx9-4-generic",), "gfx90a", "fail"),
        (("gfx11-generic",), "gfx1100", "pass"),
        (("gfx11-generic",), "gfx1151", "pass"),
        (("gfx11-generic",), "gfx1201", "fail"),
        (("gfx12-generic",), "gfx1201", "pass"),
        (("gfx10-3-generic",), "gfx1030", "pass"),
        (("gfx9-generic",), "gfx942", "fail"),
    ],
)
def test_generic_targets_stand_for_their_members(
    flags: tuple[str, ...], gfx: str, status: str
) -> None:
    """A build for a generation runs on its members, and on no others."""
    changes = {"build.arch_flags": flags, "gpus.0.gfx": gfx, "gpus.1.gfx": gfx}

    assert findings_by_check(edited(MI300X_NODE, changes))["architectures"].status == status


@pytest.mark.parametrize(
    ("path", "files", "libcuda"),
    [
        ("/usr/local/cuda/compat/libcuda.so.570.86.10", "pass", "warn"),
        ("/usr/local/cuda-12.8/compat/libcuda.so.570.86.10", "pass", "warn"),
        ("/opt/cuda-compat/libcuda.so.570.86.10", "pass", "warn"),
        ("/usr/local/cuda/compat_orin/libcuda.so.1.1", "pass", "warn"),
        ("/nix/store/abc-cuda12.8/lib/libcuda.so.570.86.10", "pass", "warn"),
        # A libcuda in a driver's own folder must have the version of the kernel module.
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.570.86.10", "fail", "pass"),
        ("/usr/local/nvidia/lib64/libcuda.so.570.86.10", "fail", "pass"),
        # A libcuda older than the module is no forward-compatibility package.
        ("/nix/store/abc-nvidia/lib/libcuda.so.535.54.03", "fail", "pass"),
        ("/nix/store/abc-nvidia/lib/libcuda.so.550.54.15", "pass", "pass"),
    ],
)
def test_a_compat_libcuda_is_no_half_done_upgrade(path: str, files: str, libcuda: str) -> None:
    """By its folder's name, or by being newer and outside the driver's folders."""
    findings = findings_by_check(edited(H100_NODE, {"driver.path": path}))

    assert findings["driver_files"].status == files
    assert findings["libcuda"].status == libcuda


def test_a_job_without_gpus_may_have_any_build() -> None:
    """Slurm hides the GPUs from a job that asked for none: a build for the CPU is right there."""
    cpu = {"build": Build(), "torch.version": "2.6.0+cpu", "cudnn_version": None}
    no_files = {"variables": {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}}

    assert findings_by_check(edited(H100_NODE, cpu))["build_kind"].status == "fail"
    assert findings_by_check(edited(H100_NODE, cpu | no_files))["build_kind"].status == "skip"


# ---- OpenMP and BLAS

CONDA = "/opt/conda/lib"
OPENBLAS = f"{SITE}/numpy.libs/libscipy_openblas64_-32a4b2a6.so"
GOMP = f"{SITE}/torch/lib/libgomp-a34b3233.so.1"

QUIET: dict[str, tuple[str, ...]] = {
    "pip: MKL inside torch, OpenBLAS beside NumPy": (GOMP, OPENBLAS),
    "pip, a newer torch": (f"{SITE}/torch/lib/libgomp.so.1", OPENBLAS),
    "pip, with scikit-learn and SciPy": (
        GOMP,
        f"{SITE}/scikit_learn.libs/libgomp-a34b3233.so.1.0.0",
        f"{SITE}/numpy.libs/libopenblas64_p-r0-742d56dc.3.20.so",
        f"{SITE}/scipy.libs/libopenblasp-r0-41284840.3.18.so",
    ),
    "pip on aarch64": (
        f"{SITE}/torch.libs/libgomp-947d5fa1.so.1.0.0",
        f"{SITE}/torch.libs/libopenblas-d6cb3f1a.so.0",
        OPENBLAS,
    ),
    "conda-forge: three names of one libomp": (
        f"{CONDA}/libomp.so",
        f"{CONDA}/libopenblasp-r0.3.28.so",
    ),
    "conda-forge with MKL": (
        f"{CONDA}/libomp.so",
        f"{CONDA}/libmkl_core.so.2",
        f"{CONDA}/libmkl_rt.so.2",
    ),
    "a distribution's torch": (
        "/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0",
        "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblasp-r0.3.21.so",
    ),
    "nothing": (),
}

TWICE: dict[str, tuple[tuple[str, ...], str]] = {
    "Intel's beside GNU's": ((GOMP, f"{CONDA}/libiomp5.so"), "one_openmp"),
    "LLVM's beside GNU's": (("/usr/lib/libgomp.so.1", f"{CONDA}/libomp.so"), "one_openmp"),
    "LLVM's beside Intel's": (
        (f"{CONDA}/libomp.so", f"{SITE}/torch/lib/libiomp5.so"),
        "one_openmp",
    ),
    "Intel's twice": ((f"{CONDA}/libiomp5.so", f"{SITE}/intel/libiomp5.so"), "one_openmp"),
    "GNU's of the system and of conda": (
        ("/usr/lib/libgomp.so.1.0.0", f"{CONDA}/libgomp.so.1.0.0"),
        "one_openmp",
    ),
    "OpenBLAS of the system and of conda": (
        ("/usr/lib/libopenblas.so.0", f"{CONDA}/libopenblasp-r0.3.28.so"),
        "one_blas",
    ),
    "MKL twice": ((f"{CONDA}/libmkl_core.so.2", "/opt/intel/mkl/lib/libmkl_core.so.2"), "one_blas"),
}


@pytest.mark.parametrize("files", QUIET.values(), ids=QUIET)
def test_a_healthy_install_is_quiet(files: tuple[str, ...]) -> None:
    """Copies that wheels bundle are made to be loaded together."""
    findings = findings_by_check(edited(H100_NODE, {"runtimes": files}))

    assert tripped(findings.values()) == set()


@pytest.mark.parametrize(("files", "check"), TWICE.values(), ids=TWICE)
def test_two_runtimes_are_named(files: tuple[str, ...], check: str) -> None:
    """A warning with every file, and nothing else."""
    findings = findings_by_check(edited(H100_NODE, {"runtimes": files}))

    assert tripped(findings.values()) == check_ids(check)
    assert findings[check].status == "warn"
    assert all(file in findings[check].message for file in files)


@pytest.mark.parametrize(
    ("value", "status"), [("TRUE", "warn"), ("1", "warn"), ("False", "pass"), ("", "pass")]
)
def test_a_silenced_alarm_is_a_warning(value: str, status: str) -> None:
    """The variable lets a second runtime continue where it would have ended the process."""
    finding = findings_by_check(edited(H100_NODE, {"variables": {"KMP_DUPLICATE_LIB_OK": value}}))[
        "one_openmp"
    ]

    assert finding.status == status
    assert ("unset KMP_DUPLICATE_LIB_OK" in finding.hint) == (status == "warn")


def test_a_preloaded_runtime_answers_for_both() -> None:
    """As in PyTorch's tuning guide: Intel's runtime is preloaded, so GNU's is never called."""
    files = (f"{CONDA}/libiomp5.so", GOMP)
    recipe = {"variables": {"LD_PRELOAD": f"/usr/lib/libjemalloc.so:{CONDA}/libiomp5.so"}}
    other = {"variables": {"LD_PRELOAD": "/usr/lib/libjemalloc.so"}}

    assert (
        findings_by_check(edited(H100_NODE, {"runtimes": files, **recipe}))["one_openmp"].status
        == "pass"
    )
    assert (
        findings_by_check(edited(H100_NODE, {"runtimes": files, **other}))["one_openmp"].status
        == "warn"
    )


def test_what_this_process_maps_is_found() -> None:
    """NumPy's BLAS is found, and only OpenMP and BLAS libraries are."""
    found = runtimes.loaded(Path("/proc/self/maps").read_text(encoding="utf-8"))
    listed = [Path(path).name for path in found]

    assert np.__version__
    assert any("blas" in name or "mkl" in name for name in listed)
    assert not [name for name in listed if "torch" in name or "cuda" in name]


# ---- copies


def package(folder: Path, name: str, *files: str) -> Path:
    """A package of a name, with some more files."""
    for file in ("__init__.py", *files):
        target = folder / name / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    return folder / name


def test_copies_are_found_in_the_order_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages and single files are found, each once, with the kind of their folder."""
    ours = package(tmp_path / "own", "torch", "_C.cpython-312-x86_64-linux-gnu.so")
    theirs = package(tmp_path / "path", "torch")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/numpy.py").touch()
    (tmp_path / "other/torch").mkdir()  # without code: no copy
    (tmp_path / "link").symlink_to(tmp_path / "own")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/path{os.pathsep}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "own").removesuffix("/own"))
    path = [str(tmp_path / name) for name in ("path", "own", "link", "other", "absent")]

    assert found_on(path) == (
        Copy(name="torch", path=str(theirs), place="PYTHONPATH", compiled=False),
        Copy(name="torch", path=str(ours), place="own"),
        Copy(name="numpy", path=f"{tmp_path}/other/numpy.py", place="own", compiled=False),
    )


def test_this_interpreters_own_copies_are_found() -> None:
    """One torch and one NumPy, whole, where they were imported from."""
    found = {copy.name: copy for copy in found_on(sys.path)}

    assert found["torch"].path == str(Path(torch.__file__).resolve().parent)
    assert found["numpy"].path == str(Path(np.__file__).resolve().parent)
    assert all(copy.compiled for copy in found.values())


@pytest.mark.parametrize(
    ("second", "status"),
    [
        ({"place": "own"}, "pass"),  # as distributions layer them: one order for all
        ({"place": "user site"}, "warn"),
        ({"place": "PYTHONPATH"}, "warn"),
        ({"place": "elsewhere"}, "warn"),
        ({"place": "own", "compiled": False}, "warn"),  # a half-removed one
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_second_copy_is_judged_by_its_folder(
    second: dict[str, Any],
    status: str,
    first: bool,  # noqa: FBT001
) -> None:
    """Both copies are named; it is a warning only where the choice depends on who starts Python."""
    other = Copy.model_validate({"name": "numpy", "path": "/usr/lib/python3/numpy", **second})
    copies = (other, *H100_NODE.copies) if first else (*H100_NODE.copies, other)
    finding = findings_by_check(edited(H100_NODE, {"copies": copies}))["one_copy"]

    assert finding.status == status
    assert f"{SITE}/numpy" in str(finding.observed)
    assert "/usr/lib/python3/numpy" in str(finding.observed)


def test_other_hardware_keeps_its_own_wheels() -> None:
    """The hint names the package index for the GPUs of this node."""
    for vendor, folder in {"nvidia": "cu126", "amd": "rocm6.4", "intel": "xpu"}.items():
        observation = edited(H100_NODE, {"hardware": Hardware(vendors=(vendor,)), "build": Build()})

        assert f"whl/{folder}`" in findings_by_check(observation)["build_kind"].hint
