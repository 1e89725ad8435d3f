"""Run the unit tests with the lowest and the newest versions of what the package depends on.

Each set has an environment of its own below build/versions, without torch: tests that run real
probes are left out, and `make test` runs those. What is told at the end is one line a set.
"""

import argparse
import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "build" / "versions"
PACKAGE: Final = "gpu-env-validator"

#: What the tests need beside the package itself; the fuzzer of the HTTP interface, which needs
#: newer libraries than our lowest, is left out with its test.
TEST_TOOLS: Final = ("pytest>=8.2", "pytest-timeout>=2.3", "httpx>=0.27", "jsonschema-rs>=0.26")

#: The typer on which options without a spelled-out name once had another one.
TYPER: Final = "typer==0.27.*"

TESTS: Final = ROOT / "tests" / "validator"
FUZZER: Final = TESTS / "service" / "test_api_schema.py"


def imports_torch(file: Path) -> bool:
    """Whether a module of tests imports torch itself, so that it cannot even be read without."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.partition(".")[0] == "torch" for name in names):
            return True
    return False


def left_out() -> list[Path]:
    """Modules of tests that need what the environments do not have."""
    return [FUZZER, *(file for file in sorted(TESTS.rglob("test_*.py")) if imports_torch(file))]


def requirements() -> list[Requirement]:
    """What the installed package always depends on."""
    declared = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
    return [one for one in declared if one.marker is None]


def lowest(requirement: Requirement) -> str:
    """The requirement at its lower bound.

    Raises:
        SystemExit: it has none, so that nobody knows what works.
    """
    bounds = [one.version for one in requirement.specifier if one.operator == ">="]
    if len(bounds) != 1:
        raise SystemExit(
            f"{requirement}: has no lower bound in pyproject.toml; write name>=version"
        )
    return f"{requirement.name}=={bounds[0]}"


def sets() -> dict[str, list[str]]:
    """What each set installs, by its name."""
    needed = requirements()
    return {
        "lowest": [lowest(one) for one in needed],
        "newest": [str(one) for one in needed],
        "typer-0.27": [str(one) for one in needed if one.name != "typer"] + [TYPER],
    }


def oldest_python() -> str:
    """An interpreter of the oldest version that we support, or else the one that runs this."""
    wanted = os.environ.get("OLDEST_PYTHON", "python3.10")
    found = shutil.which(wanted)
    if found is not None:
        works = subprocess.run([found, "-c", ""], capture_output=True, check=False)
        if works.returncode == 0:
            return found
    say(f"{wanted} is not here: taking {sys.executable} in its place")
    return sys.executable


def environment(name: str, python: str, requirements: list[str]) -> Path:
    """The interpreter of a new environment that holds these requirements.

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
    done = subprocess.run([*pip, *requirements, *TEST_TOOLS], check=False)
    if done.returncode != 0:
        raise SystemExit(f"versions: {name}: cannot be installed together: {requirements}")
    return inside


def passes(inside: Path, arguments: list[str]) -> bool:
    """Whether the tests pass there."""
    # What libraries of different ages warn each other of is no fault of ours.
    quiet = ["-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider", "-q"]
    ignored = [f"--ignore={file}" for file in left_out()]
    command = [str(inside), "-m", "pytest", str(TESTS), "-m", "not torch", *quiet, *ignored]
    return subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode == 0


def say(line: str) -> None:
    """One line of ours, in its place among those of pip and pytest."""
    sys.stdout.write(f"versions: {line}\n")
    sys.stdout.flush()


def main() -> int:
    """Install and test the sets that are asked for, and say what became of each."""
    known = sets()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", choices=list(known), dest="names")
    parser.add_argument("arguments", nargs="*", help="go to pytest")
    asked = parser.parse_args()
    told = {}
    for name in asked.names or known:
        python = oldest_python() if name == "lowest" else sys.executable
        inside = environment(name, python, known[name])
        say(f"{name}: {', '.join(known[name])}")
        told[name] = passes(inside, asked.arguments)
    for name, passed in told.items():
        say(f"{name}: {'passed' if passed else 'FAILED'}")
    return 0 if all(told.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
