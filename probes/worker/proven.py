"""Which checks have passed on which type of hardware; elsewhere a failure becomes a warning.

`make proven` writes `proven.json` from the recordings in tests/golden/reports/. The x86-64 CPU
counts as proven: the tests run on it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from probes.contract import Finding, Wrong

PROVEN_FILE: Final = Path(__file__).parents[1] / "proven.json"

#: The type of back-end on which the tests run at every change.
TESTED: Final = "cpu-x86_64"

#: Start of the message of a failure that is only a warning, because the check is unproven there.
UNPROVEN: Final = "unproven"

_HINT: Final = (
    "no release was ever run on hardware of this type, so this may be the check's own fault: send "
    "the file that `gpu-validator check --record FILE` writes to this project; "
    "`expect.unproven: fail` makes it a failure"
)


@cache
def _proven() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Back-end type -> check -> what it passed `on`, and the `operations` that it compared."""
    table: dict[str, Any] = json.loads(PROVEN_FILE.read_text(encoding="utf-8"))
    return table


def is_proven(check: str, wrong: Iterable[str], backend: str) -> bool:
    """Whether a check has passed on a type of back-end, for at least one of the wrong operations.

    Args:
        check: the id, `probe.check`.
        wrong: the operations that are wrong now; none where the check compares no operations.
        backend: the type, as `probes.kit.backend` names it.
    """
    if backend == TESTED:
        return True
    entry = _proven().get(backend, {}).get(check)
    operations = list(wrong)
    if entry is None or not operations:
        return entry is not None
    return not set(operations).isdisjoint(entry["operations"])


#: `ProbeSpec.certain`: check -> the values of `Finding.wrong` that are a failure on any hardware.
Certain = Mapping[str, Sequence[Wrong]]


def soften(findings: Iterable[Finding], certain: Certain, backend: str) -> Iterator[Finding]:
    """Yield the findings; a failure of a check unproven on this hardware becomes a warning."""
    for finding in findings:
        if finding.status != "fail" or _is_certain(finding, certain, backend):
            yield finding
            continue
        changes = {
            "status": "warn",
            "message": f"{UNPROVEN} on {backend}: {finding.message}",
            "hint": f"{_HINT}; {finding.hint}" if finding.hint else _HINT,
            "action": "investigate",
        }
        yield finding.model_copy(update=changes)


def is_softened(finding: Finding) -> bool:
    """Whether a finding is a failure that `soften` made a warning."""
    return finding.status == "warn" and finding.message.startswith(f"{UNPROVEN} on ")


def _is_certain(finding: Finding, certain: Certain, backend: str) -> bool:
    """Whether the failure counts here: the check is proven, or certain on any hardware."""
    if is_proven(finding.id, finding.wrong, backend):
        return True
    ways = certain.get(finding.id.partition(".")[2])
    if ways is None:
        return False
    return not finding.wrong or not set(ways).isdisjoint(finding.wrong.values())
