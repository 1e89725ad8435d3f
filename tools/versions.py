"""Run the unit tests with the lowest and the newest versions of what the package depends on.

Each set has its own environment in build/versions, without torch, so tests that run real probes
are left out; `make test` runs them. At the end the result of each set is printed on one line.
"""

import argparse
import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "build" / "versions"
PACKAGE: Final = "gpu-env-validator"

#: What the tests need besides the package.
TEST_TOOLS: Final = (
    "hypothesis>=6.100",
    "httpx>=0.27",
    "jsonschema-rs>=0.26",
    "pytest>=8.2",
    "pytest-timeout>=2.3",
)

#: What the environments lack; test modules that import it, themselves or through others of ours,
#: are left out. Schemathesis, the fuzzer of the HTTP interface, needs newer libraries than the
#: lowest.
LACKING: Final = frozenset({"torch", "numpy", "schemathesis"})

#: The typer in which options without an explicit name once had another name.
TYPER: Final = "typer==0.27.*"

#: Those that `make test` runs and that need no torch.
MARKS: Final = "not torch and not long and not lab and not gpu"

TESTS: Final = ROOT / "tests" / "validator"


class Imports(NamedTuple):
    """What a module imports when it is itself imported."""

    own: frozenset[Path]  # files of this repository
    others: frozenset[str]  # packages


@cache
def imports(file: Path) -> Imports:
    """What a module imports itself."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    others = {name.partition(".")[0] for name in names if not own_files(name)}
    return Imports(frozenset().union(*map(own_files, names)), frozenset(others))


@cache
def own_files(name: str) -> frozenset[Path]:
    """The files of this repository that are run to import a dotted name; none of another's."""
    parent, _, _ = name.rpartition(".")
    stem = ROOT.joinpath(*name.split("."))
    files = (stem.with_suffix(".py"), stem / "__init__.py")
    own = frozenset(file for file in files if file.is_file())
    return own | own_files(parent) if parent else own


def needed_packages(file: Path) -> set[str]:
    """The packages of others that are imported with a module, by it or by ours that it imports."""
    needed: set[str] = set()
    waiting, seen = [file], {file}
    while waiting:
        found = imports(waiting.pop())
        needed |= found.others
        waiting += found.own - seen
        seen |= found.own
    return needed


def left_out() -> list[Path]:
    """The test modules that need something that the environments do not have."""
    return [file for file in sorted(TESTS.rglob("test_*.py")) if needed_packages(file) & LACKING]


def requirements() -> list[Requirement]:
    """The requirements of the installed package that apply everywhere."""
    declared = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
    return [requirement for requirement in declared if requirement.marker is None]


def lowest(requirement: Requirement) -> str:
    """The requirement pinned to its lower bound, `name==version`.

    Raises:
        SystemExit: the requirement has no lower bound.
    """
    bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
    if len(bounds) != 1:
        raise SystemExit(
            f"{requirement}: has no lower bound in pyproject.toml; write name>=version"
        )
    return f"{requirement.name}=={bounds[0]}"


def sets() -> dict[str, list[str]]:
    """Name of each set -> the requirements that it installs."""
    needed = requirements()
    return {
        "lowest": [lowest(requirement) for requirement in needed],
        "newest": [str(requirement) for requirement in needed],
        "typer-0.27": [str(each) for each in needed if each.name != "typer"] + [TYPER],
    }


def oldest_python() -> str:
    """The path of an interpreter of the oldest supported version, else of the running one."""
    wanted = os.environ.get("OLDEST_PYTHON", "python3.10")
    found = shutil.which(wanted)
    if found is not None:
        works = subprocess.run([found, "-c", ""], capture_output=True, check=False)
        if works.returncode == 0:
            return found
    say(f"{wanted} is not here: taking {sys.executable} in its place")
    return sys.executable


def environment(name: str, python: str, requirements: list[str]) -> Path:
    """Make a new environment with these requirements, and return its interpreter.

    Raises:
        SystemExit: they cannot be installed together.
    """
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    inside = folder / "bin" / "python"
    pip = [
        str(inside),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "--quiet",
    ]
    installed = subprocess.run([*pip, *requirements, *TEST_TOOLS], check=False)
    if installed.returncode != 0:
        raise SystemExit(f"versions: {name}: cannot be installed together: {requirements}")
    return inside


def passes(inside: Path, arguments: list[str]) -> bool:
    """Whether the tests pass with the interpreter `inside`."""
    # Libraries of different ages warn about each other; that is not our fault.
    quiet = ["-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider", "-q"]
    ignored = [f"--ignore={file}" for file in left_out()]
    command = [str(inside), "-m", "pytest", str(TESTS), "-m", MARKS, *quiet, *ignored]
    return subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode == 0


def say(line: str) -> None:
    """Print a line, flushed so that it keeps its place between the output of pip and pytest."""
    sys.stdout.write(f"versions: {line}\n")
    sys.stdout.flush()


def main() -> int:
    """Install and test the chosen sets, and print whether each passed."""
    known = sets()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", choices=list(known), dest="names")
    parser.add_argument("arguments", nargs="*", help="go to pytest")
    options = parser.parse_args()
    results = {}
    for name in options.names or known:
        python = oldest_python() if name == "lowest" else sys.executable
        inside = environment(name, python, known[name])
        say(f"{name}: {', '.join(known[name])}")
        results[name] = passes(inside, options.arguments)
    for name, passed in results.items():
        say(f"{name}: {'passed' if passed else 'FAILED'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
