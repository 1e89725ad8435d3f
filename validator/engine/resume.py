"""A probe whose check killed its process goes on without that check, and is judged as a whole.

A check that dies by a signal or hangs fails by that. The checks beside it have done nothing
wrong: the probe runs again in a new process, which does not begin the check that was deadly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from probes.contract import ProbeSpec, Result
from validator.engine.breadcrumb import Breadcrumb

#: Of one probe on one device: what kills its process so often is no matter of single operations.
_DEATHS: Final = 3
#: A device that hangs costs a whole deadline each time, so it gets one more chance only.
_HANGS: Final = 1
_AFTER_HANG_S: Final = 10.0  # then a sick device does not cost a second whole deadline


@dataclass(frozen=True)
class Death:
    """How one check ended its process: the result that says so, which names it."""

    check: str
    result: Result


def add_place(result: Result, at: Breadcrumb, spec: ProbeSpec) -> Result:
    """The result of a dead or hung process, with the place where it was in its text.

    Where that is a failure, its finding becomes that of the check which was running.
    """
    if not any(at):
        return result
    known = result.status == "fail" and at.check in spec.checks
    where = f"{spec.name}.{at}" if at.check else f"{spec.name}: {at}"
    summary = f"{result.summary} in {where}"
    findings = tuple(
        finding.model_copy(
            update={
                "id": f"{spec.name}.{at.check}" if known else finding.id,
                "message": f"{finding.message} in {at.operation or at.check}",
            }
        )
        for finding in result.findings
    )
    return result.model_copy(update={"summary": summary, "findings": findings})


def may_go_on(spec: ProbeSpec, deaths: Sequence[Death]) -> bool:
    """Whether the probe is worth another process, without the checks that were deadly."""
    names = [death.check for death in deaths]
    hangs = [death for death in deaths if death.result.reason == "timeout"]
    return (
        len(set(names)) == len(names)  # one that was left out and died again is not the cause
        and set(names) < set(spec.checks)
        and len(names) <= _DEATHS
        and len(hangs) <= _HANGS
    )


def deadline_s(whole_s: float, deaths: Sequence[Death]) -> float:
    """How long the next process of a probe may take, in seconds."""
    hung = any(death.result.reason == "timeout" for death in deaths)
    return min(whole_s, _AFTER_HANG_S) if hung else whole_s


def merge(deaths: Sequence[Death], rest: Result | None) -> Result | None:
    """One result of all processes: deadly checks first, then what the last process judged."""
    if not deaths:
        return rest
    first = deaths[0].result
    parts = [*(death.result for death in deaths), *([rest] if rest is not None else [])]
    more = f" and in {len(deaths) - 1} more checks" if len(deaths) > 1 else ""
    judged = f"the rest: {rest.summary}" if rest is not None else "the rest was not judged"
    return first.model_copy(
        update={
            "status": "fail",
            "summary": f"{first.summary}{more}; {judged}",
            "duration_s": sum(part.duration_s for part in parts),
            "findings": tuple(finding for part in parts for finding in part.findings),
            "observation": rest.observation if rest is not None else None,
            "measurements": rest.measurements if rest is not None else (),
            "error": rest.error if rest is not None else None,
        }
    )
