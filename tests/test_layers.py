"""Who imports whom: arrows run one way, between wings and between modules, and none runs back."""

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from probes.catalog import CATALOG

ROOT = Path(__file__).parents[1]
PROBES = frozenset(spec.name for spec in CATALOG)

#: Wing of the service -> the wings that it may import beside itself; "" is what all share.
SERVICE: Final[dict[str, set[str]]] = {
    "cli": {"service", "selftest", "render", "engine", ""},
    "service": {"engine", ""},
    "selftest": {"engine", "render", ""},
    "render": {""},
    "engine": {""},
    "": set(),
}

#: What the service knows of the probes: data that needs no torch, and one call of the kernel's
#: that both sides of the process boundary make.
KNOWN: Final = {"probes", "probes.contract", "probes.catalog", "probes.legible", "probes.pidfd"}
#: The selftest knows which faults there are as well, but nothing that injects them.
FAULTS: Final = {"probes.faults", "probes.faults.fault", "probes.faults.table"}

#: Room of the probes -> the rooms that it may import beside itself; PROBE is a probe's own folder.
ROOMS: Final[dict[str, set[str]]] = {
    "contract": set(),
    "catalog": {"contract", "SPEC"},
    "kit": {"contract", "legible"},
    "node": {"contract", "kit", "legible"},
    "legible": set(),
    "pidfd": set(),
    "SPEC": {"contract"},
    "FAULTS": {"contract", "faults"},
    "PROBE": {"contract", "kit", "legible", "node", "pidfd", "SPEC"},
    "faults": {"contract", "kit", "node", "worker", "FAULTS"},
    "worker": {"contract", "kit", "legible", "node", "faults", "pidfd"},
}

#: Injectors replace what a probe reads, so that they have to import it.
INJECTORS: Final = "probes.faults.inject"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file of every module of the product."""
    files = [file for top in ("probes", "validator") for file in (root / top).rglob("*.py")]
    dotted = {".".join(file.relative_to(root).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in dotted.items()}


@functools.cache
def nodes(text: str) -> tuple[ast.AST, ...]:
    """All of a source's syntax tree."""
    return tuple(ast.walk(ast.parse(text)))


def imported(text: str, known: Iterable[str]) -> Iterator[str]:
    """Full names of what a source imports, wherever it does; a module by its own name."""
    for node in nodes(text):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in known else str(node.module)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "import_module"
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def arrows(root: Path = ROOT, planted: Mapping[str, str] = {}) -> dict[str, set[str]]:
    """Module -> what it imports; `planted` adds source to a module."""
    files = modules(root)
    return {
        name: {
            target
            for target in imported(file.read_text(encoding="utf-8") + planted.get(name, ""), files)
            if target != name
        }
        for name, file in files.items()
    }


def wing(name: str) -> str:
    """The wing of a module of the service."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in SERVICE else ""


def room(name: str) -> str:
    """The room of a module of the probes."""
    parts = name.split(".")
    if len(parts) == 1 or parts[1] not in PROBES:
        return parts[1] if len(parts) > 1 else "contract"
    last = parts[-1].rpartition("_")[2]
    return {"spec": "SPEC", "faults": "FAULTS"}.get(last, "PROBE")


def violations(graph: Mapping[str, set[str]]) -> list[str]:
    """Every arrow that runs where none may."""
    return [
        f"{name} -> {target}"
        for name, targets in sorted(graph.items())
        for target in sorted(targets)
        if not (
            _of_service(name, target) if name.startswith("validator") else _of_probes(name, target)
        )
    ]


def _of_service(name: str, target: str) -> bool:
    top = target.split(".", maxsplit=1)[0]
    if top == "validator":
        own, other = wing(name), wing(target)
        return own == other or other in SERVICE[own] or name == "validator.__main__"
    if top == "probes":
        return target in KNOWN or (wing(name) == "selftest" and target in FAULTS)
    return top not in {"torch", "numpy", "pynvml", "tests", "tools"}


def _of_probes(name: str, target: str) -> bool:
    top = target.split(".", maxsplit=1)[0]
    if top != "probes":
        return top not in {"validator", "tests", "tools"}
    own, other = room(name), room(target)
    if target == "probes":
        return True
    if name.startswith(INJECTORS):
        return True
    same_folder = name.split(".")[1] == target.split(".")[1]
    if {own, other} <= {"PROBE", "SPEC", "FAULTS"}:
        return same_folder and (own == other or other in ROOMS[own])
    return own == other or other in ROOMS[own]


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by way of whatever others."""
    reach = {name: _reached(name, graph) for name in graph}
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach.get(other, set())))
        for name in graph
        if name in reach[name]
    }
    return [list(group) for group in sorted(groups)]


def _reached(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph.get(name, ())
    return seen


def test_every_arrow_runs_where_it_may() -> None:
    """No wing above its place, no probe beside another, torch on its own side."""
    assert violations(arrows()) == []


def test_no_two_modules_import_each_other() -> None:
    """Not by way of others either."""
    assert circles(arrows()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("validator.engine.run", "import validator.service.daemon"),
        ("validator.engine.run", "from validator.cli import check"),
        ("validator.service.daemon", "from validator.selftest.trials import run"),
        ("validator.render.text", "from validator.service.metrics import PREFIX"),
        ("validator.report", "from validator.engine import plan"),
        ("validator.service.api", "import torch"),
        ("validator.engine.job", "def late():\n    import numpy"),
        ("validator.cli.check", "from probes.kit.tensors import bits"),
        ("validator.service.api", "from probes.faults.table import FAULTS"),
        ("validator.selftest.trials", "from probes.faults.inject import apply"),
        ("probes.autograd.probe", "from probes.linalg.matrices import bound"),
        ("probes.autograd.probe", "from probes.tensor_ops.spec import SPEC"),
        ("probes.autograd.faults", "from probes.train_eval import faults"),
        ("probes.autograd.spec", "from probes.kit.tensors import bits"),
        ("probes.kit.tensors", "from probes.node import nvml"),
        ("probes.node.nvml", "from probes.worker.main import main"),
        ("probes.worker.main", "import probes.autograd.probe"),
        ("probes.worker.main", 'importlib.import_module("validator.report")'),
        ("probes.contract", "from probes.catalog import CATALOG"),
    ],
)
def test_a_planted_import_is_seen(module: str, source: str) -> None:
    """Each rule turns red when it is broken."""
    assert violations(arrows(planted={module: f"\n{source}\n"})) != []


def test_a_planted_circle_is_seen() -> None:
    """Through a third module too."""
    planted = {"validator.engine.spawn": "\nfrom validator.engine import runner\n"}

    assert any("validator.engine.spawn" in circle for circle in circles(arrows(planted=planted)))


@pytest.mark.parametrize(
    "folder", [f.parent for f in modules().values() if f.name == "__init__.py"]
)
def test_each_package_says_what_it_is_for(folder: Path) -> None:
    """A docstring alone: reading order for people, and nothing that an import would cost."""
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    allowed = 1 if folder.name != "validator" else len(tree.body)  # it holds the version

    assert ast.get_docstring(tree)
    assert len(tree.body) <= allowed or folder.name == "inject"


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


def test_the_service_brings_no_torch_in() -> None:
    """Said of a real interpreter that has imported all of it, not of the source alone."""
    names = [name for name in modules() if name.startswith("validator") and "__main__" not in name]
    loaded = modules_after(f"import {', '.join(sorted(names))}")

    assert not {"torch", "numpy", "pynvml"} & loaded


def test_specifications_and_faults_bring_no_torch_in() -> None:
    """`list`, `explain` and the selftest's table work where torch is the thing that is broken."""
    assert not {"torch", "numpy"} & modules_after("import probes.catalog, probes.faults.table")


def test_the_daemon_brings_no_library_of_the_command_line_in() -> None:
    """Rich and typer are for commands (uvicorn brings click itself): memory is budgeted."""
    assert not {"rich", "typer"} & modules_after("import validator.service.daemon")


def test_a_probe_is_one_folder() -> None:
    """One name in many places: folder, catalogue, check id, test file, page of the reference."""
    for spec in CATALOG:
        folder = ROOT / "probes" / spec.name
        there = {file.name for file in folder.glob("*.py")}
        assert spec.module == f"probes.{spec.name}.probe"
        assert there >= {"__init__.py", "spec.py", "probe.py"}, spec.name
        assert list((ROOT / "tests/probes").glob(f"test_{spec.name}*.py")), spec.name
        assert (ROOT / "docs" / "reference" / f"{spec.name}.md").exists()
