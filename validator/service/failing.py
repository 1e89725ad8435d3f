"""The checks that fail or warn now, as metrics that exist only so long, of bounded number.

A node where all is well has none of these series; one where everything fails has `SERIES` of them,
and the rest are counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from probes.catalog import BY_NAME
from probes.contract import COMPLETES, Result, worst

#: Most series of checks, failing and warning together. Part of the budget of the exposition.
SERIES: Final = 32

#: In place of a check that the catalogue does not know.
_UNKNOWN: Final = "other"

#: Why a skip is no wait for anything.
_SETTLED: Final = frozenset({"disabled", "not_applicable"})

Told = Literal["fail", "warn"]
TOLD: Final[tuple[Told, ...]] = ("fail", "warn")


class CheckOnDevice(NamedTuple):
    """A check of a probe on a device that fails or warns: the labels of its series."""

    status: Told
    probe: str
    check: str
    device: str


class Checks(NamedTuple):
    """What has a series, and how many of each status have none."""

    shown: tuple[CheckOnDevice, ...]
    left_out: dict[Told, int]


def failing_checks(results: Iterable[Result], most: int = SERIES) -> Checks:
    """The checks that fail or warn, of which `most` are shown.

    Fails come before warnings; of each status every probe and device comes with its first check
    before any comes with its second.
    """
    nth: Counter[tuple[str, ...]] = Counter()
    ranked: list[tuple[int, int, int, CheckOnDevice]] = []
    for one in dict.fromkeys(each for result in results for each in _of(result)):
        check = nth[one.status, one.probe, one.device]
        device = nth[one.status, one.probe] if check == 0 else 0
        nth[one.status, one.probe, one.device] += 1
        nth[one.status, one.probe] += check == 0
        ranked.append((TOLD.index(one.status), check, device, one))
    ordered = [one for *_, one in sorted(ranked, key=lambda each: each[:3])]
    rest = Counter(one.status for one in ordered[most:])
    return Checks(tuple(ordered[:most]), {status: rest[status] for status in TOLD})


def _of(result: Result) -> Iterator[CheckOnDevice]:
    """The failing and warning checks of a result; a bad result that names none did not complete.

    A result that is too old to count, or that could not be told, says nothing of its checks.
    """
    if result.status not in TOLD:
        return
    spec = BY_NAME.get(result.probe)
    known = () if spec is None else spec.promises
    named = False
    for finding in result.findings:
        if finding.status in TOLD:
            check = finding.id.partition(".")[2]
            named |= finding.status == result.status
            yield CheckOnDevice(
                finding.status, result.probe, check if check in known else _UNKNOWN, result.device
            )
    if not named:
        yield CheckOnDevice(result.status, result.probe, COMPLETES, result.device)


def reason_of(results: Iterable[Result]) -> str:
    """The reason of a probe's worst status, on most of its devices; empty where it passes.

    Where all are skips one that may run later comes first: only a probe that runs on no device is
    over and done with.
    """
    known = tuple(results)
    status = worst(one.status for one in known)
    if status == "pass" or not known:
        return ""
    reasons = [one.reason for one in known if one.status == status]
    later = [reason for reason in reasons if status == "skip" and reason not in _SETTLED]
    return Counter(later or reasons).most_common(1)[0][0]
