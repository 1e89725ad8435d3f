"""Who imports whom: the service never torch, a probe never the service nor another probe."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.catalog import CATALOG

ROOT = Path(__file__).parents[1]
PROBES = {spec.name for spec in CATALOG}
SERVICE = sorted((ROOT / "validator").glob("*.py"))
SERVICE_MODULES = [f"validator.{file.stem}" for file in SERVICE if file.stem[0] != "_"]
CHECKERS = sorted((ROOT / "probes").rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "import_module"
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


@pytest.mark.parametrize("file", SERVICE, ids=lambda file: file.name)
def test_the_service_imports_of_the_probes_only_what_is_data(file: Path) -> None:
    """Torch, NumPy and NVML may hang or crash: they stay out of the process that serves."""
    allowed = ("probes.contract", "probes.catalog", "probes.faults", "probes.pidfd")
    for name in imported(file):
        assert name.split(".")[0] not in {"torch", "numpy", "pynvml"}
        assert name == "probes" or not name.startswith("probes.") or name.startswith(allowed)
        assert not name.startswith("probes.faults.inject")


@pytest.mark.parametrize("file", CHECKERS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_probe_imports_neither_the_service_nor_another_probe(file: Path) -> None:
    """What two probes share is in a module of its own."""
    own = file.relative_to(ROOT / "probes").parts[0].removesuffix(".py")
    for name in imported(file):
        assert name.split(".")[0] not in {"validator", "tests"}
        parts = name.split(".")
        if parts[0] == "probes" and len(parts) > 1 and parts[1] in PROBES and own in PROBES:
            assert parts[1] == own


def modules_after(program: str) -> set[str]:
    """Names of the modules in a fresh interpreter after a program."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", [f"validator.{file.stem}" for file in SERVICE if file.stem[0] != "_"]
)
def test_no_module_of_the_service_brings_torch_in(module: str) -> None:
    """Said of a real interpreter, not of the source alone."""
    assert not {"torch", "numpy", "pynvml"} & modules_after(f"import {module}")


def test_the_daemon_brings_no_library_of_the_command_line_in() -> None:
    """Rich and typer are for commands (uvicorn brings click itself): memory is budgeted."""
    assert not {"rich", "typer"} & modules_after("import validator.daemon")


def test_the_probe_of_each_name_has_its_module_and_its_tests() -> None:
    """One name in many places: module, catalogue, check id, test file."""
    for spec in CATALOG:
        assert spec.module == f"probes.{spec.name}"
        assert list((ROOT / "tests/probes").glob(f"test_{spec.name}*.py")), spec.name
