"""Checks of the installation: whole packages, installed once, of the version in the metadata."""

from pathlib import Path
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from probes.contract import Finding, require, skipped
from probes.torch_version.observation import Distribution, Module, Observation

REINSTALL: Final = (
    "confirm with `pip list -v | grep -iE '^(torch|numpy) '` and `python -c 'import torch, numpy; "
    "print(torch, numpy)'`; remove all copies, then install both from one lock file"
)


def parsed(version: str) -> Version | None:
    """The version as PEP 440 reads it; None where it is no PEP 440 version."""
    try:
        return Version(version)
    except InvalidVersion:
        return None


def same_version(first: str, second: str) -> bool:
    """Whether two version strings can name one build.

    Wheels on PyPI leave the local part (`+cu130`) out of their metadata, and distributors add
    post-releases. So local parts are compared only where both have one, post-releases never.
    """
    left, right = parsed(first), parsed(second)
    if left is None or right is None:
        return first == second
    locals_differ = None not in (left.local, right.local) and left.local != right.local
    return _identity(left) == _identity(right) and not locals_differ


def _identity(version: Version) -> tuple[Version, tuple[str, int] | None, int | None]:
    return Version(version.base_version), version.pre, version.dev


def _why_not_one_package(name: str, module: Module) -> str:
    """Why the module is not one installed package; empty when it is."""
    if module.folder is None:
        return f"{name} is a folder without code, not a package"
    if module.compiled is None:
        return f"{name}'s compiled core is not loaded"
    if not Path(module.compiled).is_relative_to(module.folder):
        return f"{name} is {module.folder}, its compiled core {module.compiled}"
    return ""


def _built_in_place(module: Module) -> bool:
    """Whether the compiled core is in a build folder, as in an editable installation."""
    if module.folder is None or module.compiled is None:
        return False
    return not {"site-packages", "dist-packages"} & {*Path(module.compiled).parts}


def imports(observation: Observation) -> Finding:
    """Both torch and NumPy are packages, each with the compiled core beside its Python files.

    An editable build keeps its core in another folder, which is only a warning.
    """
    modules = {"torch": observation.torch, "numpy": observation.numpy}
    wrong = [each for name, each in modules.items() if _why_not_one_package(name, each)]
    problems = [
        text for name, each in modules.items() if (text := _why_not_one_package(name, each))
    ]
    return require(
        "torch_version.imports",
        not problems,
        "; ".join(problems)
        or f"torch {observation.torch.version}, numpy {observation.numpy.version}",
        "two packages, each with its compiled core",
        message="; ".join(problems),
        hint=REINSTALL,
        action="fix_image",
        otherwise="warn" if all(map(_built_in_place, wrong)) else "fail",
    )


def _metadata_difference(name: str, module: Module, listed: list[Distribution]) -> tuple[str, bool]:
    """How metadata and module differ, and whether it is a contradiction (True) or only unusual."""
    folder = None if module.folder is None else str(Path(module.folder).parent)
    own = [each for each in listed if each.folder == folder]
    versions = sorted({each.version for each in own})
    if len(own) > 1:
        return f"{name} is installed {len(own)} times in {folder}: {', '.join(versions)}", True
    if own and not same_version(own[0].version, module.version):
        return f"{name} {own[0].version} is installed and {module.version} is imported", True
    if listed and not own:
        return f"{name} is installed in {listed[0].folder} and imported from {folder}", False
    if listed and not same_version(listed[0].version, module.version):
        first = f"{listed[0].version} in {listed[0].folder}"
        return f"{name} {module.version} is imported, and listed first is {first}", False
    return "", False


def metadata(observation: Observation) -> Finding:
    """The package manager lists what is imported: nothing was installed over it or beside it."""
    check = "torch_version.metadata"
    if not observation.distributions:
        return skipped(check, "neither torch nor NumPy has installed metadata")
    differences = [
        _metadata_difference(
            name, module, [each for each in observation.distributions if each.name == name]
        )
        for name, module in (("torch", observation.torch), ("numpy", observation.numpy))
    ]
    text = "; ".join(text for text, _ in differences if text)
    return require(
        check,
        not text,
        text or [f"{each.name} {each.version}" for each in observation.distributions],
        "one installation, of the version that is imported",
        message=text,
        hint=REINSTALL,
        action="fix_image",
        otherwise="fail" if any(contradicts for _, contradicts in differences) else "warn",
    )


def requirements(observation: Observation) -> Finding:
    """What torch's metadata requires is installed, in the versions that it was tested with."""
    check = "torch_version.requirements"
    if not observation.needs:
        return skipped(check, "torch's metadata requires nothing")
    unmet = [
        f"{need.name}{need.specifier} (installed: {need.installed})"
        for need in observation.needs
        if need.installed is None
        or not SpecifierSet(need.specifier).contains(need.installed, prereleases=True)
    ]
    return require(
        check,
        not unmet,
        [*unmet] or f"{len(observation.needs)} requirements met",
        "every requirement met",
        message=f"{len(unmet)} of {len(observation.needs)} requirements of torch are not met: "
        + ", ".join(unmet[:8]),
        hint="confirm with `pip check`; install torch with its dependencies, in one resolution",
        action="fix_image",
        otherwise="warn",
    )
