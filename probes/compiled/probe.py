"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

from pydantic import Field

from probes.compiled import (
    cached,
    drawing,
    forward,
    gradients,
    guards,
    half_types,
    in_place,
    scatters,
    shapes,
)
from probes.compiled.toolchain import why_not
from probes.compiled.workspace import has_code, workspace
from probes.contract import Finding, skipped
from probes.kit import families
from probes.kit.capabilities import back_end
from probes.kit.families import Families, family_finding
from probes.kit.gradients import recording
from probes.kit.precision import read

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "forward": forward.forward,
    "gradients": gradients.gradients,
    "views_and_scatters": scatters.views_and_scatters,
    "in_place": in_place.in_place,
    "dynamic_shapes": shapes.dynamic_shapes,
    "recompiles": guards.recompiles,
    "graph_breaks": guards.graph_breaks,
    "half_types": half_types.half_types,
    "random": drawing.random,
    "cache": cached.cache,
}

#: Families whose loops are long enough to be divided among the host's threads.
_THREADED: Final = ("forward",)

#: Families that generate no code.
_CAPTURED_ONLY: Final = ("graph_breaks",)

_HINT: Final = (
    "compile with backend='aot_eager': right there, the code generator (inductor, Triton, the "
    "compiler) is wrong, else the capture is; train without torch.compile until torch is changed, "
    "and drain a device only where the same image is right on a second one"
)


class Observation(families.Observation):
    """Comparisons by check; `skip` says why nothing was compiled."""

    skip: str = Field(default="")
    #: Whether code was generated; what is right without it says nothing of a compiler.
    generated: bool = True


def observe(device: str) -> Observation:
    """Compile every family, where a compiler is there, into a folder that is removed."""
    try:
        with workspace() as folder:
            if why := why_not(device, folder):
                return _nothing(device, why)
            with recording():
                found = families.observe(
                    FAMILIES, device, precision=read(device), threaded=_THREADED
                )
            generated = has_code(folder)
    except FileNotFoundError as error:
        return _nothing(device, f"there is no folder for generated code: {error.strerror}")
    return Observation(**found.model_dump(), generated=generated)


def _nothing(device: str, why: str) -> Observation:
    return Observation(device=device, families={}, back_end=back_end(device), skip=why)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    for name in FAMILIES:
        check = f"compiled.{name}"
        if observation.skip:
            yield skipped(check, f"nothing is compiled here: {observation.skip}")
            continue
        finding = family_finding(check, observation, hint=_HINT)
        if finding.status == "pass" and not observation.generated and name not in _CAPTURED_ONLY:
            finding = skipped(check, "torch.compile generated no code: functions ran as they are")
        yield finding
