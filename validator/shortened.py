"""What is wrong on a node, in documents of bounded size: details give way, findings do not."""

import json
from typing import Any, Final, NamedTuple

from validator.piecewise import Pieces

#: A report as JSON, in bytes. One of a sound node with 8 GPUs is far from it.
REPORT_BYTES: Final = 1280 * 1024

_Json = dict[str, Any]


class Room(NamedTuple):
    """What a finding may keep."""

    listed: int  # of what was observed, where that is a list; 0: no values at all
    patterns: int
    characters: int  # of each text; 0: what and how bad, and nothing else
    whole: bool  # how each operation is wrong, and each retry


#: Ever less room: for the first finding of a check, and for the same check on other devices.
_STEPS: Final = (
    (Room(16, 3, 4000, whole=True), Room(2, 1, 400, whole=True)),
    (Room(2, 1, 400, whole=True), Room(0, 0, 160, whole=False)),
    (Room(0, 1, 200, whole=False), Room(0, 0, 80, whole=False)),
    (Room(0, 0, 80, whole=False), Room(0, 0, 80, whole=False)),
    (Room(0, 0, 80, whole=False), Room(0, 0, 0, whole=False)),
)
#: Of a finding that may keep no text.
_LEAST: Final = {"id", "status", "action"}
#: Of a triage that is not whole.
_TRIAGE: Final = ("kind", "retries", "failures", "location")
#: Of the indices of a pattern: an output may have any number of axes.
_AXES: Final = 8


def text(content: Any) -> str:
    """JSON in one line."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def fit_results(results: list[str], most_bytes: int) -> Pieces[list[str]]:
    """Results as JSON that have at most so many bytes together, or as few as there can be.

    Each is read and written again, one a piece: all of them together may be large.
    """
    for first, others in _STEPS:
        if sum(len(one.encode()) + 1 for one in results) <= most_bytes:
            break
        seen: set[str] = set()
        fitted = []
        for one in results:
            fitted.append(_fit_result(json.loads(one), first, others, seen))
            yield
        results = fitted
    return results


def _fit_result(result: _Json, first: Room, others: Room, seen: set[str]) -> str:
    """A result with what each of its findings may keep; `seen`: the checks of those before."""
    result["observation"] = None
    result["log_tail"] = result["log_tail"][-first.characters :]
    result["summary"] = cut_text(result["summary"], first.characters)
    if result["error"] is not None:
        result["error"]["message"] = cut_text(result["error"]["message"], first.characters)
        result["error"]["traceback"] = result["error"]["traceback"][-first.characters :]
    for finding in result["findings"]:
        if finding["status"] not in {"pass", "skip"}:
            fit(finding, others if finding["id"] in seen else first)
            seen.add(finding["id"])
    return text(result)


def fit(finding: _Json, room: Room) -> None:
    """Shorten a finding, as JSON, to what it may keep."""
    if not room.characters:
        for name in finding.keys() - _LEAST:
            del finding[name]
    else:
        _fit_values(finding, room)
        _fit_words(finding, room)


def _fit_values(finding: _Json, room: Room) -> None:
    """Shorten what was observed and expected."""
    if not room.listed:
        finding.pop("observed", None)
        finding.pop("expected", None)
    observed = finding.get("observed")
    if isinstance(observed, list) and len(observed) > room.listed:
        more = f"and {len(observed) - room.listed} more"
        finding["observed"] = [*observed[: room.listed], more]
    for name in ("observed", "expected"):
        if name in finding and len(text(finding[name])) > room.characters * (1 + room.listed):
            finding[name] = cut_text(text(finding[name]), room.characters)


def _fit_words(finding: _Json, room: Room) -> None:
    """Shorten the texts, and what else is told of how it is wrong."""
    for name in ("message", "hint"):
        if name in finding:
            finding[name] = cut_text(finding[name], room.characters)
    patterns = list(finding.get("patterns", {}).items())[: room.patterns]
    finding["patterns"] = {
        cut_text(name, room.characters): _with_few_axes(pattern) for name, pattern in patterns
    }
    if not room.whole:
        finding.pop("wrong", None)
        if finding.get("triage"):
            finding["triage"] = {name: finding["triage"][name] for name in _TRIAGE}
    if not finding["patterns"]:
        del finding["patterns"]


def cut_text(whole: str, characters: int) -> str:
    """The text, or its beginning and how much was left out."""
    if len(whole) <= characters:
        return whole
    return f"{whole[:characters]} (and {len(whole) - characters} more characters)"


def _with_few_axes(pattern: _Json) -> _Json:
    """A pattern of an output that has a few axes; without its indices where there are more."""
    if len(pattern["common_index"]) <= _AXES and all(len(at) <= _AXES for at in pattern["first"]):
        return pattern
    return {**pattern, "first": [[]], "last": [], "common_index": []}
