"""What probe tests share: the ids of the checks that did not pass."""

from collections.abc import Iterable

from probes.contract import Finding


def tripped(findings: Iterable[Finding]) -> set[str]:
    """Ids of the findings that failed or warned."""
    return {finding.id for finding in findings if finding.status not in {"pass", "skip"}}


def ids(findings: Iterable[Finding]) -> set[str]:
    """Ids of all findings; each may come once."""
    listed = [finding.id for finding in findings]
    assert len(listed) == len(set(listed)), listed
    return set(listed)
