"""What probe tests share: the ids of the checks that did not pass."""

from collections.abc import Iterable
from typing import Final

from probes.contract import Comparison, Finding


def tripped(findings: Iterable[Finding]) -> set[str]:
    """Ids of the findings that failed or warned."""
    return {finding.id for finding in findings if finding.status not in {"pass", "skip"}}


def tripped_checks(findings: Iterable[Finding]) -> set[str]:
    """The checks that failed or warned, without the probe's prefix."""
    return {check.partition(".")[2] for check in tripped(findings)}


#: What a family observed that one operation got wrong.
PLANTED: Final = (Comparison(operation="planted", elements=9, mismatches=1),)


def tripped_alone(findings: Iterable[Finding], check: str) -> Finding:
    """The check's failed finding, which names the planted operation; no other check tripped."""
    found = list(findings)
    assert tripped(found) == {check}
    (failed,) = [finding for finding in found if finding.status == "fail"]
    assert "planted" in failed.message
    return failed


def ids(findings: Iterable[Finding]) -> set[str]:
    """Ids of all findings; each may come once."""
    listed = [finding.id for finding in findings]
    assert len(listed) == len(set(listed)), listed
    return set(listed)
