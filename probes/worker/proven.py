"""Which check has passed on which type of hardware, and what a failure means where none has.

`proven.json` is made from the recordings in tests/golden/reports/ (`make proven`). The x86-64 CPU
is proven by every run of the tests.
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

#: How the message of a failure begins that is none until it was proven.
UNPROVEN: Final = "unproven"

_ASK: Final = (
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
    """Whether a check has passed on a type of back-end; of a family, any operation that is wrong.

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


#: `ProbeSpec.certain`: check -> the ways of being wrong that fail on hardware of every kind.
Certain = Mapping[str, Sequence[Wrong]]


def soften(findings: Iterable[Finding], certain: Certain, backend: str) -> Iterator[Finding]:
    """The findings, a failure that nobody has proven on this hardware as a warning that says so."""
    for finding in findings:
        if finding.status != "fail" or _is_certain(finding, certain, backend):
            yield finding
            continue
        changes = {
            "status": "warn",
            "message": f"{UNPROVEN} on {backend}: {finding.message}",
            "hint": f"{_ASK}; {finding.hint}" if finding.hint else _ASK,
            "action": "investigate",
        }
        yield finding.model_copy(update=changes)


def is_softened(finding: Finding) -> bool:
    """Whether a finding is a failure that `soften` made a warning."""
    return finding.status == "warn" and finding.message.startswith(f"{UNPROVEN} on ")


def _is_certain(finding: Finding, certain: Certain, backend: str) -> bool:
    """Whether it fails on this hardware: proven there, or ruled out by arithmetic or a promise."""
    if is_proven(finding.id, finding.wrong, backend):
        return True
    ways = certain.get(finding.id.partition(".")[2])
    if ways is None:
        return False
    return not finding.wrong or not set(ways).isdisjoint(finding.wrong.values())
