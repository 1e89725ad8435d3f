"""The packages beside torch that are compiled against it, and the findings about them."""

import importlib
import re
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final

import torch
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from probes import contract
from probes.contract import Finding, Frozen, require, skipped
from probes.kit import breadcrumb

__all__ = ["Observation", "judge", "observe"]

#: Packages that are looked for; the first two are imported too, for their operators.
_NAMES: Final = ("torchvision", "torchaudio", "triton")
_IMPORTED: Final = ("torchvision", "torchaudio")
_TEXT_CHARACTERS: Final = 300
#: The version of a package whose metadata cannot be read.
_UNKNOWN: Final = "of an unknown version"

#: What a build is for, at the start of a local version; then a hash of the sources may follow.
_BUILD: Final = re.compile(r"(?:cpu|cu1\d+|rocm\d+(?:\.\d+(?![0-9a-z]))*|xpu)(?![0-9a-z])")

#: Three boxes as (x1, y1, x2, y2) by falling score. The second covers 81 of 119 units of what it
#: and the first cover together, more than half; the third touches none.
_BOXES: Final = ((0.0, 0.0, 10.0, 10.0), (1.0, 1.0, 11.0, 11.0), (20.0, 20.0, 30.0, 30.0))
_SCORES: Final = (0.875, 0.75, 0.5)
_OVERLAP: Final = 0.5
_KEPT: Final = (0, 2)


class Companion(Frozen):
    """One package. `needs` is what it requires of torch, or torch of it, as a specifier."""

    name: str
    version: str
    needs: str = ""
    needed_by: str = ""  # which of the two states it
    error: str = ""  # of its import
    imported: str = ""  # the version that the module itself says


class Observation(contract.Observation):
    """Torch's version, the packages that are installed beside it, and the boxes that were kept."""

    torch: str
    companions: tuple[Companion, ...] = ()
    kept: tuple[int, ...] | None = None  # None: not asked
    nms_error: str = ""


def observe(device: str) -> Observation:  # noqa: ARG001 - the image is the same for each device
    """Read the metadata of each package, and import those with operators of their own."""
    found = []
    for name in _NAMES:
        version = installed(name)
        if version is not None:
            breadcrumb.operation(f"import {name}")
            error = import_error(name) if name in _IMPORTED else ""
            needs, needed_by = _needs(name)
            found.append(
                Companion(
                    name=name,
                    version=version,
                    needs=needs,
                    needed_by=needed_by,
                    error=error,
                    imported=str(getattr(sys.modules.get(name), "__version__", "") or ""),
                )
            )
    kept, nms_error = None, ""
    if any(one.name == "torchvision" and not one.error for one in found):
        breadcrumb.operation("torchvision.ops.nms")
        kept, nms_error = kept_boxes()
    return Observation(
        torch=str(torch.__version__), companions=tuple(found), kept=kept, nms_error=nms_error
    )


def installed(name: str) -> str | None:
    """The version in the package's metadata; None where it is not installed."""
    try:
        return metadata.version(name) or _UNKNOWN
    except metadata.PackageNotFoundError:
        return None
    except (KeyError, ValueError, OSError):  # metadata without a version, or no text at all
        return _UNKNOWN


def requirements(name: str) -> list[str]:
    """What the package's metadata requires."""
    try:
        return metadata.requires(name) or []
    except (metadata.PackageNotFoundError, KeyError, ValueError, OSError):
        return []


def _needs(name: str) -> tuple[str, str]:
    """The versions that the two require of each other, and which of them says so."""
    for owner, other in ((name, "torch"), ("torch", name)):
        for text in requirements(owner):
            try:
                need = Requirement(text)
                applies = need.marker is None or need.marker.evaluate({"extra": ""})
            except ValueError:  # written by an old tool; or a kernel whose release is no version
                continue
            if canonicalize_name(need.name) == other and applies and need.specifier:
                return str(need.specifier), owner
    return "", ""


def import_error(name: str) -> str:
    """What the import of a package raises, in a line; empty when it works."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is the finding
        return " ".join(f"{type(error).__name__}: {error}".split())[:_TEXT_CHARACTERS]
    return ""


def kept_boxes() -> tuple[tuple[int, ...] | None, str]:
    """The indices that torchvision's nms keeps of three boxes, or what it raises."""
    try:
        operations: Any = importlib.import_module("torchvision.ops")
        kept = operations.nms(torch.tensor(_BOXES), torch.tensor(_SCORES), _OVERLAP)
        return tuple(int(index) for index in kept.tolist()), ""
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:_TEXT_CHARACTERS]


_HINT: Final = (
    "confirm with `pip list | grep -iE 'torch|triton'` and `pip check`; install torch, torchvision "
    "and torchaudio together, from one index"
)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield the findings: not every job uses these, so that only a wrong answer is a failure."""
    present = {one.name: one for one in observation.companions}
    if not present:
        for check in ("requirements", "builds", "imports", "nms"):
            yield skipped(f"companions.{check}", f"none of {', '.join(_NAMES)} is installed")
        return
    yield _warning(
        "requirements",
        [
            f"{one.name} {one.version} beside torch {observation.torch}: {one.needed_by} needs "
            f"{one.needs}"
            for one in observation.companions
            if not _fits(one, observation.torch)
        ]
        + [
            f"{one.name} is {one.imported} when it is imported, and {one.version} by its metadata"
            for one in observation.companions
            if not _is_one(one)
        ],
        "versions that belong together",
    )
    own = _local(observation.torch)
    yield _warning(
        "builds",
        [
            f"{one.name} {one.version} beside torch {observation.torch}"
            for one in observation.companions
            if one.name in _IMPORTED
            and None not in {own, _local(one.version)}
            and _local(one.version) != own
        ],
        "one build",
    )
    yield _warning(
        "imports",
        [f"{one.name}: {one.error}" for one in observation.companions if one.error],
        "no error",
    )
    if observation.nms_error:
        yield _warning("nms", [observation.nms_error], "no error")
    elif observation.kept is None:
        yield skipped("companions.nms", "torchvision is not installed, or not imported")
    else:
        yield require(
            "companions.nms",
            observation.kept == _KEPT,
            [*observation.kept],
            [*_KEPT],
            message=f"torchvision.ops.nms keeps {list(observation.kept)} of three boxes",
            hint=_HINT,
            action="fix_image",
        )


def _fits(one: Companion, torch_version: str) -> bool:
    """Whether the version that is required is there; one that is no PEP 440 version is not judged.

    Local parts and what a build is of do not count: images of vendors have their own. Nightly
    builds require each other by the day.
    """
    version = torch_version if one.needed_by == one.name else one.version
    try:
        there = Version(version)
        needed = Requirement(f"x{one.needs}").specifier
        return any(
            needed.contains(Version(text), prereleases=True)
            for text in (there.public, there.base_version)
        )
    except (InvalidVersion, InvalidRequirement):
        return True


def _is_one(one: Companion) -> bool:
    """Whether metadata and module are of one release: two installations may lie in one folder."""
    try:
        return (
            not one.imported
            or Version(one.imported).base_version == Version(one.version).base_version
        )
    except InvalidVersion:
        return True


def _local(version: str) -> str | None:
    """The build that a version names, as `cu130` in 2.11.0+cu130; None for none, or a hash."""
    found = _BUILD.match(version.partition("+")[2])
    return None if found is None else found[0]


def _warning(check: str, problems: list[str], expected: str) -> Finding:
    return require(
        f"companions.{check}",
        not problems,
        [*problems],
        expected,
        message="; ".join(problems),
        hint=_HINT,
        action="fix_image",
        otherwise="warn",
    )
