"""What is another in a report than in the one before it."""

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from probes.contract import Result
from validator.render.console import clean, mark
from validator.report import Report

#: More are counted: a driver that goes takes every probe of every device with it.
_MOST: Final = 12

_Pair = tuple[str, str]


def lines(before: Report, after: Report) -> list[Text]:
    """A line for each probe on a device that has another status, or other checks that do not hold.

    What is new or gone is a line too; without a difference there is none.
    """
    old, new = _by_pair(before), _by_pair(after)
    for lost in after.not_run:  # cut off: it is not gone
        old.pop((lost.probe, lost.device), None)
    found = [
        line
        for pair in dict.fromkeys((*old, *new))
        if (line := _change(pair, old.get(pair), new.get(pair))) is not None
    ]
    more = len(found) - _MOST
    return found if more <= 0 else [*found[:_MOST], Text(f"  and {more} more")]


def _by_pair(report: Report) -> dict[_Pair, Result]:
    return {(result.probe, result.device): result for result in report.results}


def _change(pair: _Pair, old: Result | None, new: Result | None) -> Text | None:
    where = f"  {pair[0]} on {clean(pair[1])}: "
    if old is None or new is None:
        result, word = (new, "new: ") if new is not None else (old, "gone: was ")
        return None if result is None else Text.assemble(where, word, mark(result.status))
    was, now = set(_bad(old)), list(_bad(new))
    if old.status == new.status and was == set(now):
        return None
    told = f" ({', '.join(now)})" if now else ""
    return Text.assemble(where, mark(old.status), " -> ", mark(new.status), clean(told))


def _bad(result: Result) -> Iterator[str]:
    """The checks of a result that do not hold, without their probe."""
    for finding in result.findings:
        if finding.status in {"fail", "error", "warn"}:
            yield finding.id.partition(".")[2]
