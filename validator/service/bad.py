"""The findings of a report that are neither passed nor skipped, in a document of bounded size."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import AwareDatetime, Field

from probes.contract import COMPLETES, RANKING, Action, Frozen, Pattern, Reason, Result, Status
from validator.piecewise import Pieces
from validator.report import Report
from validator.shortened import Room, cut_text, fit, text

#: The document as JSON, in bytes.
MOST_BYTES: Final = 64 * 1024

#: Of the document, for findings of which check and device alone are told.
_NAMED_SHARE: Final = 0.625

_ROOM: Final = Room(listed=0, patterns=1, characters=240, whole=False)
_GOOD: Final = ("pass", "skip")


class TriageInShort(Frozen):
    """What the retries of a failed check told: as in the report, without each try."""

    kind: str
    retries: int
    failures: int
    location: str


class BadFinding(Frozen):
    """One finding: as in the report, with texts that are cut and at most one pattern."""

    id: str
    device: str
    status: Status
    reason: Reason | str  # of the result that it is in, or why there is none
    message: str = ""
    hint: str = ""
    action: Action = "none"
    patterns: dict[str, Pattern] = Field(default_factory=dict)
    triage: TriageInShort | None = None


class BadFindings(Frozen):
    """Everything that is wrong on a node: worst first, and each check before its repetitions."""

    run_id: str
    host: str
    status: Status
    summary: str
    finished_at: AwareDatetime
    devices: dict[str, str | None]  # those of the findings: name -> UUID
    findings: tuple[BadFinding, ...]
    #: Check -> devices of further findings, of which there is no room for more.
    others: dict[str, tuple[str, ...]]
    left_out: int = 0  # findings that are not even there


def bad_findings(report: Report) -> Pieces[str]:
    """The document about a report, as JSON of at most 64 KiB."""
    found: list[dict[str, Any]] = []
    for result in report.results:
        found.extend(_entries(result))
        yield
    entries = _ordered([*found, *_missed(report)])
    yield
    uuids = {device.name: device.uuid for device in report.devices}
    content: dict[str, Any] = {
        "run_id": report.run_id,
        "host": report.host,
        "status": report.status,
        "summary": cut_text(report.summary, _ROOM.characters),
        "finished_at": json.loads(report.model_dump_json(include={"finished_at"}))["finished_at"],
        "devices": {name: uuids.get(name) for name in sorted({one["device"] for one in entries})},
        "findings": [],
        "others": {},
        "left_out": len(entries),
    }
    left = MOST_BYTES - _bytes(content)
    named = yield from _named(entries, int(_NAMED_SHARE * left))
    left -= sum(named.values())
    for place, entry in enumerate(entries):
        yield
        needs = _bytes(entry) + 1
        if needs <= left:
            left -= needs
            content["findings"].append(entry)
        elif named[place]:
            content["others"].setdefault(entry["id"], []).append(entry["device"])
        else:
            continue
        content["left_out"] -= 1
    return text(content)


def _named(entries: list[dict[str, Any]], left: int) -> Pieces[Counter[int]]:
    """Place -> bytes to name a finding by check and device alone; 0 where there is no room."""
    found: Counter[int] = Counter()
    seen: set[str] = set()
    for place, entry in enumerate(entries):
        yield
        needs = _bytes(entry["device"]) + 1
        if entry["id"] not in seen:
            needs += _bytes(entry["id"]) + len(":[],")
        if needs <= left:
            seen.add(entry["id"])
            left -= needs
            found[place] = needs
    return found


def _bytes(content: Any) -> int:
    return len(text(content).encode())


def _entries(result: Result) -> Iterator[dict[str, Any]]:
    """The bad findings of a result in its order, as JSON; without one it is one itself."""
    place = {"device": result.device, "reason": result.reason}
    bad = [each for each in result.findings if each.status not in _GOOD]
    for finding in bad:
        content = json.loads(finding.model_dump_json(exclude={"observed", "expected", "wrong"}))
        fit(content, _ROOM)
        kept = {key: value for key, value in content.items() if value not in (None, "", "none")}
        yield {"id": kept.pop("id"), **place, **kept}
    if not bad and result.status not in _GOOD:
        message = cut_text(result.summary, _ROOM.characters)
        check = f"{result.probe}.{COMPLETES}"
        yield {"id": check, **place, "status": result.status, "message": message}


def _missed(report: Report) -> Iterator[dict[str, Any]]:
    """What had no chance."""
    for one in report.not_run:
        check = f"{one.probe}.{COMPLETES}"
        yield {"id": check, "device": one.device, "reason": one.reason, "status": "error"}


def _ordered(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Worst first; of each status all checks on one device before the same on others."""
    counts: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, int, dict[str, Any]]] = []
    for entry in entries:
        key = entry["status"], entry["id"]
        ranked.append((RANKING.index(entry["status"]), counts[key], entry))
        counts[key] += 1
    return [entry for _, _, entry in sorted(ranked, key=lambda each: each[:2])]
