"""What the retries of a failed check told, and where its output was wrong, in words."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from probes.contract import Finding, Pattern, Triage
from validator.report import CPU

#: Fewer wrong elements have a common divisor of their distances by chance.
_FOR_A_STRIDE: Final = 4

#: What a second copy of the device's memory was, in words.
_SECOND_READ: Final = {
    "same": "the same when read again",
    "right": "right when read again",
    "different": "wrong in another way when read again",
}


def summary(findings: Iterable[Finding]) -> str:
    """What the retries of a result's failed checks told, in one line; "" without any."""
    checks: dict[str, list[str]] = {}
    for finding in findings:
        if finding.status == "fail" and finding.triage is not None:
            checks.setdefault(told(finding.triage), []).append(finding.id.partition(".")[2])
    if len(checks) == 1:
        return next(iter(checks))
    return "; ".join(f"{text}, of {', '.join(names)}" for text, names in checks.items() if text)


def lines(finding: Finding) -> Iterator[tuple[str, str]]:
    """What is known of a failed check beside its values: label and text, a line each."""
    if pattern := shape(finding):
        yield "pattern", pattern
    if finding.triage is not None and (text := describe(finding.triage)):
        yield "triage", text


def describe(triage: Triage) -> str:
    """One finding's triage in one line: as in the summary, and how warm the GPU was."""
    parts = [told(triage)]
    # What fails everywhere is not a matter of heat, and is one paragraph for all devices.
    if triage.location != "environment":
        parts.append(_heat(triage))
    return "; ".join(part for part in parts if part)


def told(triage: Triage) -> str:
    """Persistent or intermittent, and where else it fails."""
    again = ""
    if triage.retries:
        again = f"{triage.kind}: failed again in {triage.failures} of {triage.retries} retries"
    return "; ".join(part for part in (again, _where(triage)) if part)


def siblings(devices: Sequence[str]) -> tuple[str, ...]:
    """Those of the devices that are of the kind of the one that failed."""
    return tuple(name for name in devices if name != CPU.name)


def _where(triage: Triage) -> str:
    """Where else the check was made, and what that points to."""
    failing, passing = len(siblings(triage.fails_on)), len(siblings(triage.passes_on))
    parts: list[str] = []
    if CPU.name in triage.raises_on:
        parts.append("raised on the CPU, which tells nothing of the device")
    if triage.unfinished_on:
        parts.append(f"retries on {' and '.join(triage.unfinished_on)} did not end")
    if failing and not passing and triage.location == "environment":
        parts.append(f"fails on all {failing + 1} devices of its kind")
    elif failing:
        parts.append(f"fails on {_others(failing)} too")
    if CPU.name in triage.fails_on:
        parts.append("fails on the CPU too")
    places = ["the CPU"] if CPU.name in triage.passes_on else []
    if passing:
        places.append(_others(passing))
    if places:
        parts.append(f"passes on {' and '.join(places)}")
    text = ", ".join(parts)
    return f"{text}: {triage.location}" if triage.location != "unknown" else text


def _others(count: int) -> str:
    """So many other devices: a summary names the sick one alone."""
    return f"{count} other{'s' if count > 1 else ''} of its kind"


def _heat(triage: Triage) -> str:
    """How warm the GPU was when the check failed and when it was made again; "" if unknown."""
    degrees = [each.temperature_c for each in triage.tries]
    if not degrees or None in degrees:
        return ""
    first, *later = degrees
    return f"at {first} °C" + (f", then {', '.join(map(str, later))} °C" if later else "")


def shape(finding: Finding) -> str:
    """Where and in which bits the first wrong operation was wrong, in one line; "" if unknown."""
    for operation, pattern in finding.patterns.items():
        return f"{operation}: {_shape(pattern)}"
    return ""


def _shape(pattern: Pattern) -> str:
    parts = [_places(pattern), _bits(pattern), _SECOND_READ.get(pattern.second_read, "")]
    return "; ".join(part for part in parts if part)


def _places(pattern: Pattern) -> str:
    """The places of the wrong elements; "" where a report does not have them."""
    if not pattern.first:
        return ""
    first, last = pattern.first[0], (*pattern.first, *pattern.last)[-1]
    if pattern.mismatches == pattern.elements:
        return "every element"
    if pattern.mismatches == 1:
        return f"1 element, {list(first)}"
    where = f"{pattern.mismatches} elements from {list(first)} to {list(last)}"
    if pattern.regular and pattern.stride == 1:
        where += ", one after another"
    elif pattern.stride is not None and pattern.mismatches >= _FOR_A_STRIDE and pattern.stride > 1:
        where += f", {'' if pattern.regular else 'multiples of '}{pattern.stride} apart"
    shared = [
        f"{index} on axis {axis}"
        for axis, index in enumerate(pattern.common_index)
        if index is not None
    ]
    return where + (f", all at {', '.join(shared)}" if shared else "")


def _bits(pattern: Pattern) -> str:
    """The bits that differ."""
    if pattern.bits_any is None:
        return ""
    if pattern.bits_any == pattern.bits_all:
        return f"bits {pattern.bits_any} in each"
    none = set(pattern.bits_all or "") <= set("0x")
    common = "" if none else f", {pattern.bits_all} in each"
    return f"bits {pattern.bits_any} in some{common}"
