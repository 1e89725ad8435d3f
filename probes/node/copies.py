"""The copies of torch and NumPy in the folders that Python searches, found without an import."""

import os
import site
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from probes.contract import Frozen

NAMES: Final = ("torch", "numpy")

#: Where a copy is installed: `own` is a package folder of the interpreter, searched in the same
#: order at every start; the others depend on the user, the environment or the working folder.
Place = Literal["own", "user site", "PYTHONPATH", "elsewhere"]


class Copy(Frozen):
    """One package or module with the name; `compiled`: it has the compiled core."""

    name: str
    path: str  # its folder, or its file if it is a single module
    place: Place
    compiled: bool = True


def found_on(path: Sequence[str], names: Sequence[str] = NAMES) -> tuple[Copy, ...]:
    """All copies that an import could find, in the order of `path`; links count once."""
    return tuple(_copies(path, names))


def _copies(path: Sequence[str], names: Sequence[str]) -> Iterator[Copy]:
    known: set[Path] = set()
    for entry in path:
        folder = Path(entry or ".").resolve()
        for name in names:
            copy = _copy(folder, name)
            if copy is not None and copy not in known:
                known.add(copy)
                yield Copy(
                    name=name,
                    path=str(copy),
                    place=_place(folder),
                    compiled=copy.is_dir() and _has_core(copy, name),
                )


def _copy(folder: Path, name: str) -> Path | None:
    """The package or module of that name in a folder of sys.path; None without code."""
    package, module = folder / name, folder / f"{name}.py"
    # Path.is_file raises where a folder may not be entered, or has a name that none can have.
    if os.path.isfile(package / "__init__.py"):  # noqa: PTH113
        return package.resolve()
    return module.resolve() if os.path.isfile(module) else None  # noqa: PTH113


def _has_core(package: Path, name: str) -> bool:
    """Whether the compiled core is in the package folder."""
    patterns = {"torch": ("_C*.so",), "numpy": ("_core/_multiarray*.so", "core/_multiarray*.so")}
    return any(any(package.glob(pattern)) for pattern in patterns.get(name, ("*.so",)))


def _place(folder: Path) -> Place:
    """Which rule put the folder into sys.path."""
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder in {Path(entry).resolve() for entry in listed if entry}:
        return "PYTHONPATH"
    if site.ENABLE_USER_SITE and folder == Path(site.getusersitepackages()).resolve():
        return "user site"
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix, "/usr")}
    return "own" if prefixes & set(folder.parents) else "elsewhere"
