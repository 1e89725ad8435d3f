"""Checks of the build: of one version throughout, the one expected, made for this hardware."""

import re
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from probes.contract import Finding, expect, require, skipped
from probes.node.hardware import wheel_index
from probes.torch_version.installed import REINSTALL, parsed
from probes.torch_version.observation import NO_GPU_ASKED, Observation
from probes.torch_version.spec import Limits

#: From this ROCm on its version and HIP's are counted apart.
_ROCM_APART: Final = 7

#: Oldest torch that the probes are made for.
OLDEST: Final = "2.2"


def cuda_numbers(version: str | int | None) -> tuple[int, int] | None:
    """Major and minor of `12.4`, `12.4.1` or 12040; None for 0, which is no version."""
    if isinstance(version, int):
        return (version // 1000, version % 1000 // 10) if version else None
    parts = re.match(r"(\d+)\.(\d+)", version or "")
    return None if parts is None else (int(parts[1]), int(parts[2]))


def _mixed(observation: Observation) -> list[str]:
    """Where the compiled library says something else than the Python files around it."""
    build, found = observation.build, []
    version = parsed(observation.torch.version)
    if version is not None and build.compiled_torch is not None:
        compiled = parsed(build.compiled_torch)
        if compiled is not None and compiled.release[:3] != _padded(version):
            found.append(f"Python files of {version}, compiled library of {compiled}")
    if build.compiled_cuda is not None and cuda_numbers(build.compiled_cuda) != cuda_numbers(
        build.cuda
    ):
        found.append(f"torch.version.cuda is {build.cuda}, compiled with {build.compiled_cuda}")
    if build.compiled_for_gpu != (build.cuda is not None or build.hip is not None):
        told = build.cuda or build.hip
        found.append(f"the version file says {told}, GPU code is in: {build.compiled_for_gpu}")
    return found


def _padded(version: Version) -> tuple[int, ...]:
    return (*version.release, 0, 0)[:3]


def compiled_version(observation: Observation) -> Finding:
    """Python files and compiled library are of one build: no half-done upgrade."""
    found = _mixed(observation)
    if not found and observation.build.compiled_torch is None:
        return skipped("torch_version.compiled_version", "the compiled library tells no version")
    return require(
        "torch_version.compiled_version",
        not found,
        "; ".join(found) or observation.build.compiled_torch,
        "one build",
        message="torch is a mix of builds: " + "; ".join(found),
        hint="confirm with `python -c 'import torch; print(torch.__version__, "
        "torch.__config__.show())'`; remove torch's folder from site-packages and install it again",
        action="fix_image",
    )


def version(observation: Observation, limits: Limits) -> Finding:
    """The version is one of those promised; a local part such as +cpu matches without being named.

    Pre-releases count by their order, as distributors name their builds so (2.9.0a0+nv25.9).
    """
    check = "torch_version.version"
    found, wanted = parsed(observation.torch.version), limits.torch or f">={OLDEST}"
    if found is None:
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
    held = found if limits.torch else Version(found.base_version)
    return require(
        check,
        SpecifierSet(wanted).contains(held, prereleases=True),
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
    """The build has a back-end for a GPU of this node; the hardware is told without torch."""
    check = "torch_version.build_kind"
    vendors = observation.hardware.vendors
    if limits.gpus == 0 or not vendors:
        why = "no GPU is expected here" if limits.gpus == 0 else "no GPU here: every build fits"
        return skipped(check, why)
    if NO_GPU_ASKED in observation.variables.values():
        return skipped(check, "the Slurm job asked for no GPU")
    build = observation.build
    backends = {"nvidia": build.cuda, "amd": build.hip, "intel": build.xpu or None}
    kinds = [f"{vendor} ({made})" for vendor, made in backends.items() if made is not None]
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
        expected, observed = f"CUDA {rest[:2]}.{rest[2:]}", _short("CUDA", build.cuda)
    elif kind[1] == "rocm":
        return _rocm_tag(observation, check, rest)
    else:
        expected = "XPU" if kind[1] == "xpu" else "CPU"
        observed = "XPU" if build.xpu else _short("CUDA", build.cuda)
        observed = observed if build.hip is None else _short("ROCm", build.hip)
    return expect(
        check,
        observed,
        expected,
        message=f"torch {observation.torch.version} is a build for {observed}",
        hint=REINSTALL,
        action="fix_image",
    )


def _rocm_tag(observation: Observation, check: str, tag: str) -> Finding:
    """The tag names ROCm's version, which newer builds tell (`torch.version.rocm`).

    Of others only HIP's version is known: the same as ROCm's up to ROCm 6, and since then counted
    apart, so that a difference may mean nothing.
    Source: https://github.com/pytorch/pytorch/pull/168097
    """
    named = cuda_numbers(f"{tag}.0")
    if named is None:
        return skipped(check, f"the tag names no version of ROCm ({tag})")
    build, wanted = observation.build, _short("ROCm", f"{tag}.0")
    told = build.rocm or build.hip
    only_hip = build.rocm is None and build.hip is not None
    observed = _short("HIP" if only_hip else "ROCm", told)
    return require(
        check,
        cuda_numbers(told) == named,
        observed,
        wanted,
        message=f"torch {observation.torch.version} is a build for {observed}",
        hint=REINSTALL,
        action="fix_image",
        otherwise="warn" if only_hip and named[0] >= _ROCM_APART else "fail",
    )


def _short(kind: str, version: str | None) -> str:
    numbers = cuda_numbers(version)
    return "CPU" if numbers is None else f"{kind} {numbers[0]}.{numbers[1]}"
