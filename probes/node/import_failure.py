"""Explains a failed import of torch or NumPy from the files found: missing, shadowed, incomplete.

Imports neither of them.
"""

import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final, NamedTuple

from probes.contract import Action
from probes.kit.symptoms import diagnose
from probes.node.copies import Copy, found_on
from probes.node.hardware import detect, wheel_index

#: Package folders of other interpreters.
_OTHER_FOLDERS: Final = (
    *("usr/lib/python3*/*-packages", "usr/local/lib/python3*/*-packages"),
    *("opt/*/lib/python3*/*-packages", "opt/conda/envs/*/lib/python3*/site-packages"),
    *("root/.local/lib/python3*/site-packages", "home/*/.local/lib/python3*/site-packages"),
)


class Explanation(NamedTuple):
    """The cause, a command that confirms it and the remedy, and the action."""

    cause: str
    hint: str
    action: Action


def explain(module: str, error: Exception, root: Path = Path("/")) -> Explanation:
    """Explain an import error from the files found, else from its text.

    The cause is empty if neither explains it.
    """
    text = f"{type(error).__name__}: {error}"
    explanation = (
        _missing_package(module, root)
        or _shadowed_package(module)
        or _missing_requirement(module, error)
        or _shadowed_standard_module()
    )
    symptom = diagnose(text)
    if explanation is not None:
        return explanation
    if symptom is not None:
        return Explanation(symptom.cause, symptom.hint, symptom.action)
    return Explanation("", "", "fix_image")


def _install_command(module: str) -> str:
    """The command that installs the module for this machine's GPUs."""
    if module != "torch":
        return f"`{sys.executable} -m pip install {module}`"
    index = wheel_index(detect().vendors)
    return f"`{sys.executable} -m pip install torch --index-url {index}`"


def _missing_package(module: str, root: Path) -> Explanation | None:
    """Explain that no folder searched by this interpreter has the package or module, else None."""
    spec = PathFinder.find_spec(module)
    if spec is not None and spec.origin is not None:
        return None
    others = sorted(
        str(path)
        for folder in _OTHER_FOLDERS
        for path in root.glob(f"{folder}/{module}")
        if (path / "__init__.py").is_file()
    )
    cause = f"{module} is not installed for {sys.executable}"
    if spec is not None:  # a namespace package: a folder without code
        folders = ", ".join(map(str, spec.submodule_search_locations or ()))
        cause += f"; {folders} is a folder of that name without code"
    if others:
        cause += f"; another interpreter's is at {', '.join(others[:4])}"
    hint = f"confirm with `{sys.executable} -m pip show {module}`; install it: "
    hint += _install_command(module)
    return Explanation(cause, hint, "fix_image")


def _shadowed_package(module: str) -> Explanation | None:
    """Explain that the first copy has no compiled core: it is incomplete or hides a real copy."""
    copies = found_on(sys.path, (module,))
    if not copies or copies[0].compiled:
        return None
    first, whole = copies[0], next((copy for copy in copies if copy.compiled), None)
    if whole is None:
        cause = f"{_kind_of_copy(first)} at {first.path}, without {module}'s compiled core"
        hint = f"confirm with `ls {first.path}`; remove it, and install {module}: "
        return Explanation(cause, hint + _install_command(module), "fix_image")
    return Explanation(
        f"{_kind_of_copy(first)} at {first.path} ({first.place}) hides the installed {module} at "
        f"{whole.path}",
        f"confirm with `ls {first.path}`; rename or remove it, or take its folder out of "
        "PYTHONPATH",
        "fix_config",
    )


def _kind_of_copy(copy: Copy) -> str:
    return f"a file {copy.name}.py" if copy.path.endswith(".py") else f"a folder {copy.name}"


def _missing_requirement(module: str, error: Exception) -> Explanation | None:
    """Explain that a package required by the module is missing, else None."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name in {"", module}:
        return None
    return Explanation(
        f"{module} needs {name!r}, which is not installed for {sys.executable}",
        f"confirm with `{sys.executable} -m pip check`; install {module} with what it requires",
        "fix_image",
    )


def _shadowed_standard_module() -> Explanation | None:
    """Explain that another file replaces a module of Python's standard library, else None."""
    own = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    packages = Path(sysconfig.get_path("purelib")).resolve()
    for name in sorted(sys.stdlib_module_names & sys.modules.keys() - {"distutils"}):
        file = getattr(sys.modules[name], "__file__", None)
        if file is None:
            continue
        path = Path(file).resolve()
        inside = any(path.is_relative_to(folder) for folder in own)
        if not inside or path.is_relative_to(packages):
            return Explanation(
                f"{path} stands in the place of Python's own module {name!r}",
                f"confirm with `ls {path}`; rename it, or take its folder out of PYTHONPATH",
                "fix_config",
            )
    return None
