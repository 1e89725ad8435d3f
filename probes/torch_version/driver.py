"""Checks of the node: its driver is new enough, of one version, and its GPUs have code."""

import re
from pathlib import Path
from typing import Final

from probes.contract import Finding, require, skipped
from probes.kit.symptoms import SYMPTOMS, diagnose
from probes.torch_version.build import cuda_numbers
from probes.torch_version.observation import Gpu, Observation

_SYMPTOM_BY_NAME: Final = {symptom.name: symptom for symptom in SYMPTOMS}

# Which devices run family-specific code (suffix f). Source: CUDA C++ Programming Guide,
# "Family-Specific Features"; a target that is not listed runs on its own device only.
_FAMILIES: Final = {100: {100, 103}, 101: {101, 110}, 120: {120, 121}}


# Which processors run the code of AMD's generic targets. Source: LLVM, AMDGPUUsage,
# "Generic Processors".
_GENERIC: Final[dict[str, set[str]]] = {
    "gfx9-generic": {"gfx900", "gfx902", "gfx904", "gfx906", "gfx909", "gfx90c"},
    "gfx9-4-generic": {"gfx940", "gfx941", "gfx942", "gfx950"},
    "gfx10-1-generic": {"gfx1010", "gfx1011", "gfx1012", "gfx1013"},
    "gfx10-3-generic": {f"gfx103{stepping}" for stepping in range(7)},
    "gfx11-generic": {f"gfx110{stepping}" for stepping in range(4)}
    | {f"gfx115{stepping}" for stepping in range(4)},
    "gfx12-generic": {"gfx1200", "gfx1201"},
}


def driver_cuda(observation: Observation) -> Finding:
    """The driver knows the wheel's CUDA; within one major version an older minor will do."""
    check = "torch_version.driver_cuda"
    wheel = cuda_numbers(observation.build.cuda)
    driver = cuda_numbers(observation.driver.driver_version)
    if wheel is None:
        return skipped(check, "this torch is no CUDA build")
    if driver is None:
        return skipped(check, "no NVIDIA driver here that tells its version")
    symptom = _SYMPTOM_BY_NAME["driver_too_old"]
    return require(
        check,
        driver[0] >= wheel[0],
        f"CUDA {driver[0]}.{driver[1]}",
        f">= CUDA {wheel[0]}.0",
        message=f"torch is built for CUDA {wheel[0]}.{wheel[1]}, and the driver knows CUDA "
        f"{driver[0]}.{driver[1]} at most",
        hint=symptom.hint,
        action=symptom.action,
    )


def _library_version(path: str | None) -> str | None:
    """`535.129.03` of /usr/lib/x86_64-linux-gnu/libcuda.so.535.129.03."""
    match = re.search(r"/libcuda\.so\.(\d{3,}\.\d+(?:\.\d+)?)$", path or "")
    return match[1] if match else None


#: Folders in which a driver's installer, a distribution or a container runtime puts libcuda.
_DRIVER_FOLDERS: Final = (
    *("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/nvidia", "/usr/local/lib"),
    *("/run/nvidia", "/run/opengl-driver", "/.singularity.d", "/opt/nvidia", "/home/kubernetes"),
)


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (version or "").split(".") if part)


def is_compat(observation: Observation) -> bool:
    """Whether libcuda is of a forward-compatibility package, whose version may differ.

    It is in a folder of that name (`compat`, `cuda-compat`, `compat_orin`). Outside a driver's own
    folders (in the Nix store, in a user's folder) one newer than the kernel module counts too.
    """
    path = observation.driver.path
    if path is None:
        return False
    if any(re.search(r"(^|[-_])compat([-_]|$)", part) for part in Path(path).parts[:-1]):
        return True
    in_driver_folder = any(Path(path).is_relative_to(folder) for folder in _DRIVER_FOLDERS)
    library, module = _library_version(path), observation.kernel_module
    return (
        not in_driver_folder
        and None not in (library, module)
        and _numbers(library) > _numbers(module)
    )


def driver_files(observation: Observation) -> Finding:
    """Kernel module, libcuda and NVML are of one driver version; a compat libcuda may differ.

    They differ when the driver was upgraded on a running node, or the image brings its own.
    """
    check = "torch_version.driver_files"
    path = observation.driver.path
    versions = {
        "kernel module": observation.kernel_module,
        "libcuda": None if is_compat(observation) else _library_version(path),
        "NVML": observation.nvml_driver,
    }
    known = {name: number for name, number in versions.items() if number is not None}
    symptom = diagnose(observation.nvml_error)
    nvml_mismatch = symptom is not None and symptom.name == "nvml_version_mismatch"
    if len(known) < 2 and not nvml_mismatch:
        return skipped(check, "fewer than two parts of an NVIDIA driver tell their version")
    text = ", ".join(f"{name} {number}" for name, number in known.items())
    text = f"{text}, NVML: {observation.nvml_error}".lstrip(", ") if nvml_mismatch else text
    return require(
        check,
        len(set(known.values())) <= 1 and not nvml_mismatch,
        text,
        "one version",
        message=f"the parts of the driver are of different versions: {text}",
        hint=_SYMPTOM_BY_NAME["nvml_version_mismatch"].hint,
        action="reboot_node",
    )


def code_fits(flag: str, capability: tuple[int, int]) -> bool:
    """Whether code for `flag` (sm_90, sm_90a, sm_100f, compute_90) runs on that capability.

    Machine code (sm_) runs on its own major version, from its minor version up. Intermediate code
    (compute_) runs on every later device. Suffix `a` limits it to that device, `f` to its family.
    Source: CUDA C++ Programming Guide, "Application Compatibility".
    """
    match = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", flag)
    if match is None:
        return False
    kind, number, suffix = match[1], int(match[2]), match[3]
    device = capability[0] * 10 + capability[1]
    if suffix == "a":
        return device == number
    if suffix == "f":
        return device in _FAMILIES.get(number, {number})
    if kind == "compute":
        return device >= number
    return capability[0] == number // 10 and device >= number


def _why_no_code(observation: Observation, gpu: Gpu) -> str:
    """Why the build has no code for this GPU; empty when it has some."""
    flags = observation.build.arch_flags
    if gpu.gfx is not None:
        targets = {flag.partition(":")[0] for flag in flags}
        covered = targets | {gfx for target in targets for gfx in _GENERIC.get(target, ())}
        return "" if gpu.gfx in covered else f"is {gpu.gfx}"
    if gpu.capability is None:
        return ""
    fitting = [flag for flag in flags if code_fits(flag, gpu.capability)]
    wheel = cuda_numbers(observation.build.cuda)
    driver = cuda_numbers(observation.driver.driver_version)
    name = "sm_{}{}".format(*gpu.capability)
    if not fitting:
        return f"is {name}"
    compiled_here = all(flag.startswith("compute_") for flag in fitting)
    if compiled_here and wheel is not None and driver is not None and driver < wheel:
        return f"is {name}, and the driver is too old to compile {', '.join(fitting)} for it"
    return ""


def architectures(observation: Observation) -> Finding:
    """The build has code for each GPU: machine code, or intermediate code to compile."""
    check = "torch_version.architectures"
    flags = observation.build.arch_flags
    amd = observation.build.hip is not None
    gpus = [gpu for gpu in observation.gpus if (gpu.gfx is not None) == amd]
    if not flags or not gpus:
        why = "this build tells no architectures" if not flags else "no GPU of this build's kind"
        return skipped(check, why)
    wrong = [f"{gpu.label} {why}" for gpu in gpus if (why := _why_no_code(observation, gpu))]
    forced = observation.variables.get("HSA_OVERRIDE_GFX_VERSION") if amd else None
    hidden = amd and {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"} & observation.variables.keys()
    symptom = _SYMPTOM_BY_NAME["hip_no_binary" if amd else "no_kernel_image"]
    text = f"; HSA_OVERRIDE_GFX_VERSION={forced} makes it pass for another" if forced else ""
    # The kernel also lists AMD GPUs that are hidden from torch.
    doubtful = bool(forced) or bool(hidden and len(wrong) < len(gpus))
    return require(
        check,
        not wrong,
        [*wrong] or [gpu.label for gpu in gpus],
        " ".join(flags),
        message=f"torch has code for {' '.join(flags)}, and {'; '.join(wrong[:4])}{text}",
        hint=symptom.hint,
        action=symptom.action,
        otherwise="warn" if doubtful else "fail",
    )
