"""Explanations of failed imports, by real workers with real files, and from files only."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from probes.node import import_failure
from probes.node.hardware import Hardware
from probes.node.import_failure import explain

ROOT = Path(__file__).parents[3]
TORCH = str(Path(torch.__file__).parent)


def checked(folder: Path) -> dict[str, Any]:
    """The first result of a check whose worker searches a folder before all others."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "validator",
            "check",
            "--probe",
            "torch_version",
            "--output",
            "json",
        ],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    result: dict[str, Any] = report["results"][0]
    return result


def test_a_folder_of_source_hides_torch(tmp_path: Path) -> None:
    """A checkout of torch's source in PYTHONPATH: both folders are named, and what to do."""
    (tmp_path / "torch/_C").mkdir(parents=True)
    (tmp_path / "torch/__init__.py").write_text("from torch._C import nothing\n")
    result = checked(tmp_path)
    (finding,) = result["findings"]

    assert (result["status"], result["reason"]) == ("fail", "import_failed")
    assert (
        f"a folder torch at {tmp_path}/torch (PYTHONPATH) hides the installed torch at {TORCH}"
        in (finding["message"])
    )
    assert finding["action"] == "fix_config"
    assert "rename or remove it" in finding["hint"]


def test_a_file_of_that_name_hides_torch(tmp_path: Path) -> None:
    """A script called torch.py beside the job's own."""
    (tmp_path / "torch.py").write_text("print('my first network')\n")
    (finding,) = checked(tmp_path)["findings"]

    assert f"a file torch.py at {tmp_path}/torch.py (PYTHONPATH) hides" in finding["message"]
    assert TORCH in finding["message"]


def test_a_file_hides_a_module_of_pythons_own(tmp_path: Path) -> None:
    """A script called pickletools.py: torch is fine, but cannot be imported."""
    (tmp_path / "pickletools.py").write_text("print('mine')\n")
    before = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pickletools"

    assert f"{tmp_path}/pickletools.py stands in the place of Python's own module" in (
        _in_a_child(before, "torch")
    )


def _in_a_child(before: str, module: str) -> str:
    """The explanation in a new interpreter, after running some lines."""
    program = (
        f"{before}\nfrom probes.node.import_failure import explain\n"
        f"print(explain({module!r}, AttributeError('module has no attribute')).cause)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_sound_interpreter_is_not_blamed() -> None:
    """If torch is installed properly, only the error's text can explain it."""
    assert _in_a_child("", "torch").strip() == ""
    assert "GLIBCXX" in explain("torch", OSError("version `GLIBCXX_3.4.30' not found")).hint


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the only one on sys.path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(import_failure, "detect", Hardware)
    return tmp_path


def test_torch_that_is_not_installed_is_said_how_to_install(nowhere: Path) -> None:
    """With the interpreter, the command, and the copy of another interpreter."""
    other = nowhere / "usr/local/lib/python3.9/dist-packages/torch"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    explanation = explain(
        "torch", ModuleNotFoundError("No module named 'torch'", name="torch"), nowhere
    )

    assert explanation.cause == (
        f"torch is not installed for {sys.executable}; another interpreter's is at {other}"
    )
    assert f"`{sys.executable} -m pip install torch --index-url" in explanation.hint
    assert "whl/cpu`" in explanation.hint
    assert explanation.action == "fix_image"


def test_a_folder_without_code_is_no_torch(nowhere: Path) -> None:
    """It is a namespace package: the import works, but it is empty."""
    (nowhere / "torch").mkdir()
    explanation = explain("torch", AttributeError("module 'torch' has no attribute '__version__'"))

    assert f"{nowhere}/torch is a folder of that name without code" in explanation.cause
    assert "pip install torch" in explanation.hint


def test_a_torch_without_its_core_is_installed_again(nowhere: Path) -> None:
    """There is no other copy, so it is incomplete."""
    (nowhere / "torch").mkdir()
    (nowhere / "torch/__init__.py").touch()
    explanation = explain("torch", ImportError("Failed to load PyTorch C extensions"))

    assert explanation.cause == f"a folder torch at {nowhere}/torch, without torch's compiled core"
    assert "install torch" in explanation.hint


def test_what_torch_needs_is_named() -> None:
    """Torch is installed, but a package that it imports is not."""
    error = ModuleNotFoundError("No module named 'typing_extensions'", name="typing_extensions")
    explanation = explain("torch", error)

    assert explanation.cause.startswith(
        "torch needs 'typing_extensions', which is not installed for"
    )
    assert "pip check" in explanation.hint


def test_numpy_that_is_not_installed(nowhere: Path) -> None:
    """The same for NumPy, from the usual index."""
    explanation = explain(
        "numpy", ModuleNotFoundError("No module named 'numpy'", name="numpy"), nowhere
    )

    assert explanation.cause == f"numpy is not installed for {sys.executable}"
    assert f"`{sys.executable} -m pip install numpy`" in explanation.hint
