"""Checks of the GPU libraries that the process maps: one copy of each, from one place."""

from pathlib import Path
from typing import Final

from probes.contract import Finding, require, skipped
from probes.kit.symptoms import SYMPTOMS, diagnose
from probes.torch_version.driver import is_compat
from probes.torch_version.observation import Observation
from probes.torch_version.spec import Limits

_SYMPTOM_BY_NAME: Final = {symptom.name: symptom for symptom in SYMPTOMS}

#: WSL's libcuda is a loader that maps the driver's own one beside itself.
_WSL: Final = "/usr/lib/wsl/"

_SEARCH_PATH_HINT: Final = (
    "confirm with `echo $LD_LIBRARY_PATH` and `python -c 'import torch; "
    'print(open("/proc/self/maps").read())\' | grep -oE "/.*lib(cu|nv|nccl|stdc).*" | sort -u`; '
    "take the system's copies out of LD_LIBRARY_PATH and LD_PRELOAD"
)


def libcuda(observation: Observation, limits: Limits) -> Finding:
    """The libcuda is the driver's own: no stub, and a compat one only where expected."""
    check = "torch_version.libcuda"
    path = observation.driver.path
    if path is None:
        return skipped(check, "no libcuda.so.1 is loaded here")
    parts = Path(path).parts
    stub, compat = "stubs" in parts, is_compat(observation)
    symptom = _SYMPTOM_BY_NAME["stub_library" if stub else "forward_compatibility"]
    return require(
        check,
        not stub and (not compat or limits.forward_compat),
        path,
        "the driver's own libcuda.so.1",
        message=f"libcuda.so.1 is {path}, the toolkit's stub"
        if stub
        else f"libcuda.so.1 is {path}, of a forward-compatibility package",
        hint=f"{symptom.hint}; where it is wanted, set this probe's limit forward_compat"
        if not stub
        else symptom.hint,
        action=symptom.action,
        otherwise="fail" if stub else "warn",
    )


def cudnn(observation: Observation) -> Finding:
    """The cuDNN that is found loads, and torch accepts its version."""
    check = "torch_version.cudnn"
    if not observation.build.compiled_for_gpu:
        return skipped(check, "this torch is no CUDA or ROCm build")
    if not observation.cudnn_error and observation.cudnn_version is None:
        return skipped(check, "this torch was built without cuDNN")
    symptom = diagnose(observation.cudnn_error)
    return require(
        check,
        not observation.cudnn_error,
        observation.cudnn_error or observation.cudnn_version,
        "a version that torch accepts",
        message=f"cuDNN cannot be used: {observation.cudnn_error[:300]}",
        hint=symptom.hint if symptom else _SEARCH_PATH_HINT,
        action=symptom.action if symptom else "fix_image",
    )


def cudnn_libraries(observation: Observation) -> Finding:
    """All parts of cuDNN are of one installation; mixed ones raise at the first convolution."""
    check = "torch_version.cudnn_libraries"
    parts = [each for each in observation.libraries if each.family.startswith("cudnn")]
    if not parts:
        return skipped(check, "no cuDNN is mapped")
    # Files of wheels have only the major version in their names, so their folders are compared.
    sources = {
        each.version if "." in (each.version or "") else str(Path(each.path).parent)
        for each in parts
    }
    symptom = _SYMPTOM_BY_NAME["cudnn_sublibraries"]
    return require(
        check,
        len(sources) == 1,
        [each.path for each in parts] if len(sources) > 1 else f"{len(parts)} libraries",
        "one version, from one place",
        message="cuDNN's libraries are mixed: " + ", ".join(each.path for each in parts),
        hint=symptom.hint,
        action=symptom.action,
    )


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def nccl(observation: Observation) -> Finding:
    """The loaded NCCL has the major version that torch was built with, and is not older."""
    check = "torch_version.nccl"
    compiled, loaded = observation.nccl_compiled, observation.nccl_loaded
    if compiled is None or loaded is None:
        why = "this torch has no NCCL" if compiled is None else "NCCL is no library of its own here"
        return skipped(check, why)
    return require(
        check,
        loaded[0] == compiled[0] and loaded >= compiled,
        _dotted(loaded),
        f">= {_dotted(compiled)}, < {compiled[0] + 1}",
        message=f"NCCL {_dotted(loaded)} is loaded, and torch was built with {_dotted(compiled)}",
        hint=_SEARCH_PATH_HINT,
        action="fix_image",
        otherwise="fail" if loaded[0] != compiled[0] else "warn",
    )


def loaded_once(observation: Observation) -> Finding:
    """No library is mapped twice: each copy has its own state, and a call may reach either."""
    check = "torch_version.loaded_once"
    paths: dict[str, list[str]] = {}
    for each in observation.libraries:
        if not each.path.startswith(_WSL):
            paths.setdefault(each.family, []).append(each.path)
    duplicates = {family: copies for family, copies in paths.items() if len(copies) > 1}
    text = "; ".join(" and ".join(copies) for copies in duplicates.values())
    return require(
        check,
        not duplicates,
        text or f"{len(paths)} libraries",
        "one copy of each",
        message=f"mapped more than once: {text}",
        hint=_SEARCH_PATH_HINT,
        action="fix_image",
        otherwise="fail" if "cuda" in duplicates else "warn",
    )


def foreign_libraries(observation: Observation) -> Finding:
    """The libraries of torch's wheels are used, not others of that name earlier in a search path.

    Another CUDA library is a warning, since torch may still compute right with it; another libtorch
    is a failure.
    """
    check = "torch_version.foreign_libraries"
    mixed = any(
        each.own and each.family.startswith(("torch", "c10")) for each in observation.libraries
    )
    foreign = [f"{each.path} in place of {each.own}" for each in observation.libraries if each.own]
    foreign += [f"{path} comes first in LD_LIBRARY_PATH" for path in observation.ahead]
    return require(
        check,
        not foreign,
        [*foreign[:16]] or "none",
        "none",
        message=f"{len(foreign)} libraries are not those of torch's wheels: "
        + "; ".join(foreign[:4]),
        hint=_SEARCH_PATH_HINT,
        action="fix_image",
        otherwise="fail" if mixed else "warn",
    )
