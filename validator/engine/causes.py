"""Failures that follow from another one: the cause is told once, what depends on it is skipped.

Only what failed is skipped, never what passed, and only beside a cause that fails itself: a report
is as bad as before, and shorter.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from probes.contract import COMPLETES, Finding, Reason, Result
from validator.piecewise import Pieces, at_once
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


class _Told(NamedTuple):
    """A finding that tells a cause, and whose it is."""

    check: str
    probe: str
    device: str
    cause: _Cause


def without_consequences(results: Sequence[Result]) -> list[Result]:
    """The results, in their order; a failure that follows from another one points to it instead."""
    return at_once(leaving_out_consequences(results))


def leaving_out_consequences(results: Sequence[Result]) -> Pieces[list[Result]]:
    """The same, a result a piece."""
    told: list[_Told] = []
    for result in results:
        told.extend(_causes(result))
        yield
    found: list[Result] = []
    ends: dict[tuple[str, str, str], Result] = {}  # (device, reason, summary) -> the first with it
    for result in results:
        cause = _cause_of(result, told, ends)
        found.append(result if cause is None else _pointing(result, *cause))
        if result.findings and result.device != CPU.name:
            ends.setdefault((result.device, result.reason, result.summary), result)
        yield
    return found


def _causes(result: Result) -> Iterator[_Told]:
    """The findings of a result that tell a cause, in the order of `_CAUSES`."""
    if result.status in {"fail", "error"}:
        for finding in result.findings:
            for cause in _CAUSES:
                if _is(finding, cause):
                    yield _Told(finding.id, result.probe, result.device, cause)


def _cause_of(
    result: Result, told: Sequence[_Told], ends: dict[tuple[str, str, str], Result]
) -> tuple[str, str] | None:
    """The check that tells what a result follows from, and what is lost; None: it is its own."""
    if result.status not in {"fail", "error"} or result.reason not in _FOLLOWS:
        return None
    if any(finding.computed_wrong for finding in result.findings):
        return None  # it shows something of its own
    for one in told:
        here = one.device == result.device != CPU.name
        if one.probe != result.probe and (one.cause.everywhere or here):
            return one.check, one.cause.lost
    # A GPU that is lost, or in an error that only a reset ends, says so to every probe.
    first = ends.get((result.device, result.reason, result.summary))
    if result.reason != "torch_raised" or first is None:
        return None
    return first.findings[0].id, "a GPU that still answers"


def _is(finding: Finding, cause: _Cause) -> bool:
    if finding.status not in {"fail", "error"} or not re.fullmatch(cause.check, finding.id):
        return False
    return re.search(cause.words, f"{finding.message} {finding.observed}") is not None


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
