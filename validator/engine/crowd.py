"""What fails on very many devices, such as 56 instances: the first tell all of it.

The others tell that it fails, and in which operations; details alone would fill the memory of a
small daemon.
"""

from collections import Counter
from typing import Final

from pydantic import JsonValue

from probes.contract import Finding, Result
from validator.shortened import cut_text, text

#: Devices on which a check that is not good is told in full; no node has more whole GPUs but few.
DEVICES: Final = 8

_CHARACTERS: Final = 400


class Crowd:
    """Counts of each check on how many devices it was not good."""

    def __init__(self) -> None:
        """Begin with none."""
        self._told: Counter[str] = Counter()

    def shortened(self, result: Result) -> Result:
        """A result without the details of checks that enough others have told."""
        bad = [finding.id for finding in result.findings if finding.status not in {"pass", "skip"}]
        self._told.update(set(bad))
        crowded = {check for check in bad if self._told[check] > DEVICES}
        if not crowded:
            return result
        findings = tuple(
            _shortened(finding) if finding.id in crowded else finding for finding in result.findings
        )
        observation = result.observation if set(bad) - crowded else None
        return result.model_copy(update={"findings": findings, "observation": observation})


def _shortened(finding: Finding) -> Finding:
    if finding.status in {"pass", "skip"}:
        return finding
    triage = finding.triage
    return finding.model_copy(
        update={
            "message": cut_text(finding.message, _CHARACTERS),
            "observed": _brief(finding.observed),
            "expected": _brief(finding.expected),
            "patterns": {},
            "triage": None if triage is None else triage.model_copy(update={"tries": ()}),
        }
    )


def _brief(value: JsonValue) -> JsonValue:
    """The first of a list; a text, or what else is not small, cut."""
    if isinstance(value, list) and value:
        value = value[0]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return cut_text(value if isinstance(value, str) else text(value), _CHARACTERS)
