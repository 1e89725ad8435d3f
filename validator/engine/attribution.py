"""Results that a limit of the host brought about: an error that names the limit, never a fail."""

import re
from typing import Final

from probes.contract import Finding, Result, worst
from validator.engine.host_limits import Refusal, refusal

#: Reasons of results that an exception, a signal or a deadline ended.
_ENDED: Final = frozenset({"torch_raised", "timeout", "crashed", "import_failed", "internal_error"})
#: How a finding's operation says that it raised, and did not compute something wrong.
_RAISED: Final = re.compile(r"\b\w*(Error|Exception)\b|std::")
#: A loader whose worker ended or gave nothing: why, the worker has printed.
_OF_A_WORKER: Final = re.compile(r"DataLoader (worker \(pid|timed out)")


def blame_host_limits(result: Result) -> Result:
    """Return the result, as an error that names the limit where the host refused something."""
    if result.status not in {"fail", "error"}:
        return result
    if result.reason in _ENDED:
        refused = refusal(_texts_of_end(result))
        return result if refused is None else _by_limit(result, refused)
    findings = tuple(_blame_in_finding(each, result.log_tail) for each in result.findings)
    status = worst(finding.status for finding in findings)
    if status == result.status:
        return result.model_copy(update={"findings": findings})
    summary = next(finding.message for finding in findings if finding.status == status)
    return result.model_copy(
        update={
            "findings": findings,
            "status": status,
            "reason": "internal_error",
            "summary": summary,
        }
    )


def _texts_of_end(result: Result) -> str:
    """The texts of a result about its end, one a line: summary, exception, log tail."""
    raised = f"{result.error.type}: {result.error.message}" if result.error is not None else ""
    return f"{result.summary}\n{raised}\n{result.log_tail}"


def _by_limit(result: Result, refused: Refusal) -> Result:
    """The result as an error; what passed before the end still stands, and so do wrong values."""
    findings = tuple(
        finding.model_copy(
            update={
                "status": "error",
                "message": f"{finding.message}: {refused}",
                "hint": refused.hint,
                "action": "fix_config",
            }
        )
        if finding.status in {"fail", "error"} and not finding.computed_wrong
        else finding
        for finding in result.findings
    )
    summary = f"{result.summary}: {refused}"
    if any(finding.status == "fail" for finding in findings):
        return result.model_copy(update={"summary": summary, "findings": findings})
    return result.model_copy(
        update={
            "status": "error",
            "reason": "internal_error",
            "summary": summary,
            "findings": findings,
        }
    )


def _blame_in_finding(finding: Finding, log_tail: str) -> Finding:
    """A finding that failed, as an error where every operation in it was refused by the host."""
    if finding.status != "fail":
        return finding
    texts = finding.observed if isinstance(finding.observed, list) else [finding.message]
    refused = [_refusal(text, log_tail) if isinstance(text, str) else None for text in texts]
    first = refused[0] if refused else None
    if first is None or None in refused:
        return finding
    return finding.model_copy(
        update={
            "status": "error",
            "message": f"{finding.message}: {first}",
            "hint": first.hint,
            "action": "fix_config",
        }
    )


def _refusal(text: str, log_tail: str) -> Refusal | None:
    """What the host refused an operation, by its own text or by its worker's."""
    if not _RAISED.search(text):
        return None
    return refusal(f"{text}\n{log_tail}" if _OF_A_WORKER.search(text) else text)
