"""What a selftest says: a verdict for each fault, and how many of them were caught."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal

from pydantic import AwareDatetime

from probes.catalog import AUTOGRAD, BY_NAME, GRADCHECK
from probes.contract import COMPLETES, Frozen, ProbeSpec, Reason, Result, Status
from probes.faults.fault import Fault
from probes.faults.table import BY_NAME as FAULT_BY_NAME
from validator.report import Tool

#: How a fault went: `elsewhere`, what it must trip does not apply on that device.
Verdict = Literal["caught", "survived", "elsewhere", "not_run"]

#: Rivals are the pass rules of other tools, on the same faults: here as a probe that is in no
#: catalogue. Then the kinds of faults that they are scored on.
RIVALS: Final = ProbeSpec(
    name="rivals",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=60,
    memory_bytes=0,
    checks={
        "finite": "no NaN and no infinity in the results",
        "allclose_1e-2": "results within 1 % of a reference",
        "gpu_burn": "gpu-burn: later results within 1e-3 of the first",
        "assert_close": "torch.testing.assert_close with its defaults",
        "gradcheck": "torch.autograd.gradcheck with its defaults (on gradients alone)",
    },
    module="probes.faults.rivals",
)
SCORED: Final = ("operation", "transfer")
OF_GRADIENTS: Final = "gradcheck"
#: The probes of gradients, on whose faults that rule is scored.
ABOUT_GRADIENTS: Final = frozenset({AUTOGRAD.name, GRADCHECK.name})

#: Ids of checks whose warning is about a known defect of a released torch.
_MAY_WARN: Final = frozenset(
    f"{spec.name}.{check}" for spec in BY_NAME.values() for check in spec.may_warn
)


class Trial(Frozen):
    """One fault on one device, and what came of it."""

    fault: str
    kind: str
    device: str
    verdict: Verdict
    expected: tuple[str, ...]  # check ids that had to trip
    missed: tuple[str, ...] = ()  # those of them that did not
    also: tuple[str, ...] = ()  # check ids that tripped beside them
    text: str = ""  # why it survived or was not run
    rivals: tuple[str, ...] | None = None  # rules of others that raised an alarm; None: not asked
    met: bool = False  # whether the others' own work called what the fault is about
    duration_s: float = 0.0


class Score(Frozen):
    """How many faults were caught, of how many."""

    name: str
    caught: int
    faults: int
    met: int | None = None  # of a rule of others: faults in what its own work calls


class Selftest(Frozen):
    """All trials of one selftest, and the scores that follow from them."""

    schema_version: int = 1
    tool: Tool = Tool()
    host: str
    started_at: AwareDatetime
    duration_s: float
    passed: bool
    complete: bool = True  # False: it was stopped before every fault was judged
    summary: str
    control: tuple[str, ...]  # what tripped without a fault; empty when healthy
    control_status: Status
    devices: tuple[str, ...]
    trials: tuple[Trial, ...]
    scores: tuple[Score, ...]  # a probe, and "all"
    rivals: tuple[Score, ...]


def tripped(results: Iterable[Result]) -> list[str]:
    """Ids of the checks that failed, warned or were errors; not of warnings of a known defect."""
    return [
        finding.id
        for result in results
        for finding in result.findings
        if finding.status in {"fail", "error"}
        or (finding.status == "warn" and finding.id not in _MAY_WARN)
    ]


def make_trial(
    fault: Fault,
    device: str,
    expected: tuple[str, ...],
    results: Sequence[Result],
    *,
    duration_s: float = 0.0,
    rivals: tuple[str, ...] | None = None,
    met: bool = False,
    reached: bool = True,
) -> Trial:
    """Return the trial: caught when each check that must trip did, and none that must not.

    A check that is skipped under the fault has judged nothing: it is neither. `reached` says
    whether anything was called that the fault is about.
    """
    found = tripped(results)
    skips = {f.id: f.message for result in results for f in result.findings if f.status == "skip"}
    missed = tuple(check for check in expected if check not in found and check not in skips)
    text = _why(fault, missed, found, [result.reason for result in results])
    verdict: Verdict = "survived" if text else "caught"
    if missed and not reached and not found:  # else it ended before it got there
        verdict, text = "elsewhere", "nothing that it is about is called on this device"
    elif expected and not text and not set(expected) & set(found):
        verdict, text = "elsewhere", skips[expected[0]]
    return Trial(
        fault=fault.name,
        kind=fault.kind,
        device=device,
        verdict=verdict,
        expected=expected,
        missed=missed,
        also=tuple(check for check in dict.fromkeys(found) if check not in expected),
        text=text,
        rivals=rivals,
        met=met,
        duration_s=duration_s,
    )


def _why(
    fault: Fault, missed: Sequence[str], found: Sequence[str], reasons: Sequence[Reason]
) -> str:
    """Why a fault was not caught; empty when it was."""
    blamed = [check for check in fault.spares if check in found]
    if missed:
        return f"not tripped: {', '.join(missed)}"
    if blamed:
        return f"tripped, and must not: {', '.join(blamed)}"
    if fault.reason and fault.reason not in reasons:
        return f"reason {', '.join(reasons) or 'none'} where {fault.reason} is right"
    return ""


def scores(judged: Sequence[Trial]) -> tuple[Score, ...]:
    """A probe's faults are those that name a check of it; then all."""
    found = []
    for name in (*BY_NAME, "all"):
        own = [
            trial
            for trial in judged
            if name == "all" or any(check.startswith(f"{name}.") for check in _checks_of(trial))
        ]
        if own:
            caught = sum(trial.verdict == "caught" for trial in own)
            found.append(Score(name=name, caught=caught, faults=len(own)))
    return tuple(found)


def _checks_of(trial: Trial) -> tuple[str, ...]:
    """The checks that a trial is about."""
    return trial.expected or FAULT_BY_NAME[trial.fault].spares


def _probes_of(trial: Trial) -> set[str]:
    """The probes whose checks had to trip."""
    return {check.partition(".")[0] for check in trial.expected}


def rivals(judged: Sequence[Trial], unfit: Collection[str] = ()) -> tuple[Score, ...]:
    """Our checks and the rules of others on the same faults, but for rules that alarm without."""
    asked = [trial for trial in judged if trial.rivals is not None]
    if not asked:
        return ()
    ours = sum(trial.verdict == "caught" for trial in asked)
    found = [Score(name="gpu-validator", caught=ours, faults=len(asked))]
    for rule in (rule for rule in RIVALS.checks if rule not in unfit):
        rows = asked
        if rule == OF_GRADIENTS:
            rows = [trial for trial in asked if ABOUT_GRADIENTS & _probes_of(trial)]
        caught = sum(rule in (trial.rivals or ()) for trial in rows)
        if rows:
            met = sum(trial.met for trial in rows)
            found.append(Score(name=rule, caught=caught, faults=len(rows), met=met))
    return tuple(found)


def summarize(faults: int, survived: int, control: int) -> str:
    """One line: how many were caught, and whether the control was quiet."""
    line = f"{faults - survived} of {faults} faults caught"
    if control:
        line += f"; the healthy control raised {control}"
    return line


def rival_alarms(fault: Fault, results: Iterable[Result]) -> tuple[str, ...]:
    """Which rules of others raised an alarm under the same fault."""
    theirs = tripped(result for result in results if result.probe == RIVALS.name)
    names = [check.partition(".")[2] for check in theirs]
    if COMPLETES in names:  # what raises or hangs nobody overlooks
        names = list(RIVALS.checks)
    return tuple(name for name in names if is_about_gradients(fault) or name != OF_GRADIENTS)


def is_about_gradients(fault: Fault) -> bool:
    """Whether the rule for gradients is scored on it."""
    return not ABOUT_GRADIENTS.isdisjoint(fault.probes)


def injection_counts(results: Iterable[Result]) -> dict[str, float]:
    """What the injection counted: operations seen, those it was about, those in others' work."""
    return {
        each.name: each.value
        for result in results
        for each in result.measurements
        if result.probe == RIVALS.name
    }
