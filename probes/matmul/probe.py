"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, family_finding
from probes.matmul import adding, batches, narrow, shapes, special

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "shapes": shapes.shapes,
    "layouts": shapes.layouts,
    "many_terms": shapes.many_terms,
    "batches": batches.batches,
    "added": adding.added,
    "not_finite": special.not_finite,
    "float32": special.float32,
    "int8": narrow.int8,
    "float8": narrow.float8,
    "out_dtype": narrow.out_dtype,
}

#: Metal does not promise what NaN and infinities give.
_LOOSE_ON_MPS: Final = ("not_finite",)


class Observation(families.Observation):
    """Comparisons by check, and whether TF32 drops bits where it is allowed; None: has none."""

    tf32_shortens: bool | None = None


def observe(device: str) -> Observation:
    """Try every product of every family on the device."""
    seen = families.observe(FAMILIES, device)
    return Observation(**dict(seen), tf32_shortens=special.tf32_shortens(device))


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    forced = observation.precision.forced_by
    for name in FAMILIES:
        finding = family_finding(
            f"matmul.{name}",
            observation,
            why=f"shortened, as {forced} forces it" if forced and name == "float32" else "",
            inconclusive=observation.back_end_type == "mps" and name in _LOOSE_ON_MPS,
        )
        if name == "float32" and finding.status == "pass":
            finding = finding.model_copy(update={"message": _about_tf32(observation)})
        yield finding


def _about_tf32(observation: Observation) -> str:
    """What is told of TF32, which is no fault either way."""
    if observation.tf32_shortens is None:
        return ""
    kept = "dropped" if observation.tf32_shortens else "kept"
    return f"where TF32 is allowed the lower bits are {kept}"
