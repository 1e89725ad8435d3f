"""Fake drivers without a GPU, compiled from the C files in this folder.

Environment variables control them; each C file lists its variables at the top.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: C file -> the name by which programs load the library.
LIBRARIES = {"libcuda.c": "libcuda.so.1", "libnvidia_ml.c": "libnvidia-ml.so.1"}


def build(folder: Path) -> Path:
    """Compile the fakes into a folder for LD_LIBRARY_PATH; skip the test without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the fake drivers")
    for source, library in LIBRARIES.items():
        subprocess.run(
            [
                compiler,
                *("-w", "-shared", "-fPIC", "-o", folder / library),
                *(Path(__file__).with_name(source), "-ldl"),
            ],
            check=True,
        )
    return folder


def ask(
    expression: str, libraries: Path, package: str = "probes.node", /, **environment: str | int
) -> Any:
    """The value of `expression`, through JSON, in a new interpreter that loads the fake drivers.

    The expression's first name is imported from the package, as in `nvml.read()`.
    """
    module = expression.partition(".")[0]
    program = f"import json; from {package} import {module}; answer = {expression}; "
    program += "print(answer if isinstance(answer, str) else json.dumps(answer))"
    child = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("CUDA_")},
            "LD_LIBRARY_PATH": str(libraries),
            **{key: str(value) for key, value in environment.items()},
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)
