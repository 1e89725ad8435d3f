"""A fake accelerator for torch, built from `device.cpp`; `faults.h` lists its faults.

`install` returns a folder for PYTHONPATH: every process that imports torch with it has the devices
`fake:0`, `fake:1`, ..., as with the plug-in of a real accelerator.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.version import Version

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / "build"
_SOURCES = ("__init__.py", "device.cpp", "faults.h", "memory.h", "emulator_backend.py")

#: The oldest torch that the source was built for; the interface for such devices still changes.
_OLDEST_TORCH = "2.13"

_PROGRAM = """
import sys, torch
from torch.utils.cpp_extension import include_paths
print(torch.__version__)
print(*include_paths(), sep="\\n")
"""


def install() -> Path:
    """Build the accelerator, once for each source, torch and Python, and return its folder.

    Skips the test where there is no C++ compiler, or where torch is too old.
    """
    compiler = _compiler()
    if compiler is None:
        pytest.skip("no C++ compiler for the fake accelerator")
    torch_paths = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    torch_version, *includes = torch_paths.stdout.split("\n")[:-1]
    if Version(torch_version) < Version(_OLDEST_TORCH):
        pytest.skip(f"torch {torch_version}: the fake accelerator needs {_OLDEST_TORCH}")
    text = "".join((_HERE / name).read_text(encoding="utf-8") for name in _SOURCES)
    key = f"{text}{torch_version}{sys.version}{compiler}"
    folder = _CACHE / f"emulator-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not folder.exists():
        _build(folder, compiler, includes, Path(includes[0]).parent / "lib")
    return folder


def _compiler() -> str | None:
    return shutil.which("c++") or shutil.which("g++")


def _build(folder: Path, compiler: str, includes: list[str], libraries: Path) -> None:
    """Compile into a temporary folder, then rename it, since another test may be building too."""
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    metadata = draft / "emulator_backend-1.dist-info"
    metadata.mkdir(parents=True)
    python = sysconfig.get_path("include")
    try:
        subprocess.run(
            [
                *(compiler, "-shared", "-fPIC", "-O1", "-std=c++20", "-w"),
                "-DTORCH_EXTENSION_NAME=emulator_device",
                *(f"-I{path}" for path in (*includes, python)),
                *("-o", str(draft / "emulator_device.so"), str(_HERE / "device.cpp")),
                *(f"-L{libraries}", "-lc10", "-ltorch", "-ltorch_cpu", "-ltorch_python"),
            ],
            check=True,
            timeout=240,  # 20 s on a free core
        )
        shutil.copy(_HERE / "emulator_backend.py", draft)
        (metadata / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: emulator-backend\nVersion: 1\n"
        )
        (metadata / "entry_points.txt").write_text(
            "[torch.backends]\nemulator = emulator_backend:load\n"
        )
        try:
            draft.rename(folder)
        except OSError:  # another test was first
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
