"""Checks of torch's build: one version throughout, the expected one, made for this hardware."""

import re
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from probes.contract import Finding, expect, require, skipped
from probes.node.hardware import wheel_index
from probes.torch_version.installed import REINSTALL, parsed
from probes.torch_version.observation import NO_GPU_ASKED, Observation
from probes.torch_version.spec import Limits

#: The first major version of ROCm whose number differs from HIP's.
_ROCM_DIFFERS_FROM_HIP: Final = 7

#: The oldest torch that the probes support.
OLDEST: Final = "2.2"


def cuda_numbers(version: str | int | None) -> tuple[int, int] | None:
    """Major and minor of `12.4`, `12.4.1` or 12040; None for 0, which is no version."""
    if isinstance(version, int):
        return (version // 1000, version % 1000 // 10) if version else None
    parts = re.match(r"(\d+)\.(\d+)", version or "")
    return None if parts is None else (int(parts[1]), int(parts[2]))


def _build_differences(observation: Observation) -> list[str]:
    """Where the compiled library contradicts the Python files around it; empty when it does not."""
    build, differences = observation.build, []
    version = parsed(observation.torch.version)
    if version is not None and build.compiled_torch is not None:
        compiled = parsed(build.compiled_torch)
        if compiled is not None and compiled.release[:3] != _release_numbers(version):
            differences.append(f"Python files of {version}, compiled library of {compiled}")
    if build.compiled_cuda is not None and cuda_numbers(build.compiled_cuda) != cuda_numbers(
        build.cuda
    ):
        differences.append(
            f"torch.version.cuda is {build.cuda}, compiled with {build.compiled_cuda}"
        )
    if build.compiled_for_gpu != (build.cuda is not None or build.hip is not None):
        version_file = build.cuda or build.hip
        differences.append(
            f"the version file says {version_file}, GPU code is in: {build.compiled_for_gpu}"
        )
    return differences


def _release_numbers(version: Version) -> tuple[int, ...]:
    """Major, minor and patch; 0 for a part that the version leaves out."""
    return (*version.release, 0, 0)[:3]


def compiled_version(observation: Observation) -> Finding:
    """Python files and compiled library are of one build: no upgrade stopped half-way."""
    differences = _build_differences(observation)
    if not differences and observation.build.compiled_torch is None:
        return skipped("torch_version.compiled_version", "the compiled library tells no version")
    return require(
        "torch_version.compiled_version",
        not differences,
        "; ".join(differences) or observation.build.compiled_torch,
        "one build",
        message="torch is a mix of builds: " + "; ".join(differences),
        hint="confirm with `python -c 'import torch; print(torch.__version__, "
        "torch.__config__.show())'`; remove torch's folder from site-packages and install it again",
        action="fix_image",
    )


def version(observation: Observation, limits: Limits) -> Finding:
    """The version is in the expected set; a local part such as +cpu need not be named there.

    Pre-releases are ordered as PEP 440 says, since distributors name builds so (2.9.0a0+nv25.9).
    """
    check = "torch_version.version"
    parsed_version, wanted = parsed(observation.torch.version), limits.torch or f">={OLDEST}"
    if parsed_version is None:
        return Finding(
            id=check,
            status="error" if limits.torch else "skip",
            message=f"{observation.torch.version!r} is no PEP 440 version: it cannot be compared",
            observed=observation.torch.version,
            expected=wanted,
            hint="confirm with `python -c 'import torch; print(torch.__version__)'`; give the "
            "build a PEP 440 version, or expect no version",
            action="fix_config" if limits.torch else "none",
        )
    compared = parsed_version if limits.torch else Version(parsed_version.base_version)
    return require(
        check,
        SpecifierSet(wanted).contains(compared, prereleases=True),
        observation.torch.version,
        wanted,
        message=f"torch {observation.torch.version} is not in {wanted}"
        + ("" if limits.torch else ", the versions that these checks are made for"),
        hint="confirm with `python -c 'import torch; print(torch.__version__)'`; install "
        f"`torch{wanted}`, or change expect.torch",
        action="fix_image",
        otherwise="fail" if limits.torch else "warn",
    )


def build_kind(observation: Observation, limits: Limits) -> Finding:
    """The build has a back-end for a GPU of this node; the hardware is detected without torch."""
    check = "torch_version.build_kind"
    vendors = observation.hardware.vendors
    if limits.gpus == 0 or not vendors:
        why = "no GPU is expected here" if limits.gpus == 0 else "no GPU here: every build fits"
        return skipped(check, why)
    if NO_GPU_ASKED in observation.variables.values():
        return skipped(check, "the Slurm job asked for no GPU")
    build = observation.build
    backends = {"nvidia": build.cuda, "amd": build.hip, "intel": build.xpu or None}
    kinds = [f"{vendor} ({version})" for vendor, version in backends.items() if version is not None]
    return require(
        check,
        any(backends[vendor] is not None for vendor in vendors),
        ", ".join(kinds) or "no GPU back-end",
        f"a build for {' or '.join(vendors)}",
        message=f"torch {observation.torch.version} is built for "
        f"{', '.join(kinds) or 'the CPU alone'}, and this node has: "
        f"{'; '.join(observation.hardware.evidence[:3])}",
        hint="confirm with `python -c 'import torch; print(torch.__version__)'`; install and pin "
        "the build for this GPU, as in `pip install torch --index-url "
        f"{wheel_index(vendors)}`",
        action="fix_image",
    )


def local_tag(observation: Observation) -> Finding:
    """The tag of the version (+cpu, +cu130, +rocm6.4, +xpu) names the build that it is."""
    check = "torch_version.local_tag"
    parsed_version, build = parsed(observation.torch.version), observation.build
    tag = (parsed_version and parsed_version.local) or ""
    kind = re.match(r"(cpu$|xpu$|cu(?=\d{3,4}$)|rocm(?=\d))", tag)
    if kind is None:
        return skipped(check, f"the version has no tag that names a build ({tag or 'none'})")
    rest = tag[kind.end() :]
    if kind[1] == "cu":  # cu118 is 11.8, cu1210 would be 12.10
        expected, observed = f"CUDA {rest[:2]}.{rest[2:]}", _backend_version("CUDA", build.cuda)
    elif kind[1] == "rocm":
        return _rocm_tag(observation, check, rest)
    else:
        expected = "XPU" if kind[1] == "xpu" else "CPU"
        observed = "XPU" if build.xpu else _backend_version("CUDA", build.cuda)
        observed = observed if build.hip is None else _backend_version("ROCm", build.hip)
    return expect(
        check,
        observed,
        expected,
        message=f"torch {observation.torch.version} is a build for {observed}",
        hint=REINSTALL,
        action="fix_image",
    )


def _rocm_tag(observation: Observation, check: str, tag: str) -> Finding:
    """The tag names ROCm's version, which newer builds have in `torch.version.rocm`.

    Older builds have only HIP's version. Up to ROCm 6 both are the same; from ROCm 7 on they
    differ, so a difference is a warning.
    Source: https://github.com/pytorch/pytorch/pull/168097
    """
    named = cuda_numbers(f"{tag}.0")
    if named is None:
        return skipped(check, f"the tag names no version of ROCm ({tag})")
    build, expected = observation.build, _backend_version("ROCm", f"{tag}.0")
    built_for = build.rocm or build.hip
    only_hip = build.rocm is None and build.hip is not None
    observed = _backend_version("HIP" if only_hip else "ROCm", built_for)
    return require(
        check,
        cuda_numbers(built_for) == named,
        observed,
        expected,
        message=f"torch {observation.torch.version} is a build for {observed}",
        hint=REINSTALL,
        action="fix_image",
        otherwise="warn" if only_hip and named[0] >= _ROCM_DIFFERS_FROM_HIP else "fail",
    )


def _backend_version(kind: str, version: str | None) -> str:
    """`CUDA 12.4`, or `CPU` without a version."""
    numbers = cuda_numbers(version)
    return "CPU" if numbers is None else f"{kind} {numbers[0]}.{numbers[1]}"
