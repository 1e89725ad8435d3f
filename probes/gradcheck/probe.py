"""The probe's `observe` and `judge`."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding, agree, skipped
from probes.gradcheck.observation import FACTS, OF_FLOAT64, Observation, observe
from probes.gradcheck.vectors import EXPECTED
from probes.kit.facts import judge_facts

__all__ = ["Observation", "judge", "observe"]

_HINT: Final = (
    "run `gpu-validator check --device cpu --probe gradcheck`: if it fails there too, reinstall "
    "torch in this image and look for what patches it at import; if not, suspect this GPU"
)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every check, in the catalogue's order."""
    lacking = observation.without.get("float64", "")
    for check in (*OF_FLOAT64, "batched"):
        if lacking and check in OF_FLOAT64:
            yield skipped(f"gradcheck.{check}", f"this device has no float64: {lacking}")
        else:
            yield agree(f"gradcheck.{check}", observation.families.get(check, ()), hint=_HINT)
    for check in FACTS:
        yield judge_facts(
            f"gradcheck.{check}", observation.facts.get(check), EXPECTED[check], _HINT
        )
