"""Failures that follow from another one: the cause is told once, what depends on it is skipped.

Only what failed is skipped, never what passed, and only beside a cause that fails itself: a report
is as bad as before, and shorter.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from probes.contract import COMPLETES, Finding, Reason, Result
from validator.report import CPU

#: Ends that a missing dependency brings about. A hang or a crash is told for itself.
_FOLLOWS: Final[frozenset[Reason]] = frozenset(
    {"check_failed", "torch_raised", "import_failed", "internal_error"}
)


@dataclass(frozen=True)
class _Cause:
    """A check whose failure, told in such words, leaves nothing for others to judge."""

    check: str  # a regular expression for the whole id
    words: str  # one that the finding's text must hold
    lost: str  # what the others need and do not get
    everywhere: bool  # on all devices, not on its own alone


_CAUSES: Final = (
    _Cause(
        check=r"torch_version\.(numpy_to_torch|torch_to_numpy)",
        words=r"Numpy is not available|_ARRAY_API|compiled using NumPy 1|binary incompatibility",
        lost="NumPy and torch that work together",
        everywhere=True,
    ),
    _Cause(
        check=r"cuda_available\.(device_nodes|driver_starts|torch_starts)",
        words="",
        lost="a GPU that torch can use",
        everywhere=False,
    ),
    _Cause(
        check=r"cuda_available\.(kernel|completes)",
        words=r"\b\w*Error\b|no kernel image|CUDA_ERROR|HIP error|CUDA error",
        lost="a GPU that runs a kernel",
        everywhere=False,
    ),
)


def without_consequences(results: Sequence[Result]) -> list[Result]:
    """The results, in their order; a failure that follows from another one points to it instead."""
    found: list[Result] = []
    for result in results:
        cause = _cause_of(result, results)
        found.append(result if cause is None else _pointing(result, *cause))
    return found


def _cause_of(result: Result, others: Sequence[Result]) -> tuple[str, str] | None:
    """The check that tells what a result follows from, and what is lost; None: it is its own."""
    if result.status not in {"fail", "error"} or result.reason not in _FOLLOWS:
        return None
    if any(finding.computed_wrong for finding in result.findings):
        return None  # it shows something of its own
    for other in others:
        if other.probe == result.probe or other.status not in {"fail", "error"}:
            continue
        for finding in other.findings:
            for cause in _CAUSES:
                if _is(finding, cause) and (cause.everywhere or _on_same_gpu(other, result)):
                    return finding.id, cause.lost
    return _first_with_the_same_end(result, others)


def _is(finding: Finding, cause: _Cause) -> bool:
    told = f"{finding.message} {finding.observed}"
    return (
        finding.status in {"fail", "error"}
        and re.fullmatch(cause.check, finding.id) is not None
        and re.search(cause.words, told) is not None
    )


def _on_same_gpu(one: Result, other: Result) -> bool:
    return one.device == other.device != CPU.name


def _first_with_the_same_end(result: Result, others: Sequence[Result]) -> tuple[str, str] | None:
    """A GPU that is lost, or in an error that only a reset ends, says so to every probe."""
    if result.reason != "torch_raised":
        return None
    for other in others:
        if other is result:
            return None
        same = (other.reason, other.summary) == (result.reason, result.summary)
        if same and other.findings and _on_same_gpu(other, result):
            return other.findings[0].id, "a GPU that still answers"
    return None


def _pointing(result: Result, check: str, lost: str) -> Result:
    """A skip in place of a result, that names the check which tells the cause."""
    text = f"needs {lost}: see {check}"
    finding = Finding(id=f"{result.probe}.{COMPLETES}", status="skip", message=text)
    return result.model_copy(
        update={
            "status": "skip",
            "reason": "dependency",
            "summary": text,
            "findings": (finding,),
            "observation": None,
            "measurements": (),
            "error": None,
            "log_tail": "",
        }
    )
