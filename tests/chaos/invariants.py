"""What must hold of a life of the daemon, by what it said: pure functions that name what fails.

Each returns the violations as texts, none where the promise is kept.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Line = Mapping[str, Any]
Pair = tuple[str, str]

#: A sample of a counter in the text format: its name, its labels, its value.
_COUNTER: Final = re.compile(r"^(\w+_total(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)

RUNS: Final = re.compile(r'gpu_validator_probe_runs_total\{.*?probe="(\w+)"')

#: In a status file, what makes it count for a while only.
_TERMS: Final = re.compile(r"^(until: \d+|# \+expiry-time=\S+)$", re.MULTILINE)


def counters(exposition: str) -> dict[str, float]:
    """The counters of an exposition, by name and labels."""
    return {name: float(value) for name, value in _COUNTER.findall(exposition)}


def fallen(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Counters that went down within one life, and those of ours that went away.

    Those of the process are read from /proc, and are not there while it cannot be read.
    """
    away = 0.0
    return [
        f"the counter {name} fell from {value:g} to {after.get(name, away):g}"
        for name, value in before.items()
        if after.get(name, value if name.startswith("process_") else away) < value
    ]


def wrong_verdicts(results: Iterable[Line], sick: Mapping[str, frozenset[str]]) -> list[str]:
    """Verdicts that are not those of the hardware.

    Args:
        results: lines of the log, or results of a report.
        sick: the devices with a fault, and the probes that it trips there.
    """
    found = []
    for one in results:
        where = f"{one['probe']} on {one['device']}"
        told = f"{one['status']} ({one['reason']}): {one['summary']}"
        trips = one["probe"] in sick.get(one["device"], ())
        if one["status"] == "fail" and not trips:
            found.append(f"{where} is sound, and was told to be {told}")
        if one["status"] in {"pass", "warn"} and trips:
            found.append(f"{where} is broken, and was told to be {told}")
    return found


@dataclass(frozen=True)
class Runs:
    """The finished runs of a log: what each told of each probe and device last."""

    ids: tuple[str, ...]
    told: tuple[dict[Pair, Line], ...]

    @staticmethod
    def of(lines: Iterable[Line]) -> "Runs":
        """Read them from the lines of a log."""
        ids: list[str] = []
        told: list[dict[Pair, Line]] = []
        now: dict[Pair, Line] = {}
        for line in lines:
            if line["event"] == "run_started":
                now = {}
            elif line["event"] == "result":
                now[line["probe"], line["device"]] = line
            elif line["event"] == "run_finished":
                ids.append(line["run_id"])
                told.append(now)
                now = {}
        return Runs(tuple(ids), tuple(told))


def lost(runs: Runs, report: Mapping[str, Any]) -> list[str]:
    """Results that a finished run told of and that the report has not, nor a newer one.

    A probe's own run replaces all that was known of it, so that a device which vanished may; what
    is said in the report may have become a pointer to its cause.
    """
    if report["run_id"] not in runs.ids:
        return []  # its last line is still to come
    upto = runs.ids.index(report["run_id"]) + 1
    newest: dict[str, dict[str, Line]] = {}
    for told in runs.told[:upto]:
        by_probe: dict[str, dict[str, Line]] = {}
        for (probe, device), line in told.items():
            by_probe.setdefault(probe, {})[device] = line
        newest.update(by_probe)
    known = {(one["probe"], one["device"]): one for one in report["results"]}
    found = []
    for probe, by_device in newest.items():
        for device, line in by_device.items():
            mine = known.get((probe, device))
            if mine is None:
                found.append(f"the result of {probe} on {device} was told, and is in no report")
            elif mine["status"] != line["status"] and not _may_differ(mine):
                found.append(
                    f"{probe} on {device} was told to be {line['status']}, "
                    f"and the report says {mine['status']}: {mine['summary']}"
                )
    return found


def _may_differ(result: Line) -> bool:
    """Whether a report may say something else than its run did: a pointer, or what is too old."""
    return result["reason"] == "dependency" or str(result["summary"]).startswith("stale: ")


def miscounted(runs: Runs, now: Mapping[str, float]) -> list[str]:
    """Probes of which the metrics count fewer results than finished runs have told."""
    told = Counter(probe for each in runs.told for probe, _ in each)
    counted: Counter[str] = Counter()
    for name, value in now.items():
        if matched := RUNS.match(name):
            counted[matched[1]] += int(value)
    return [
        f"{count} results of {probe} were told, and {counted[probe]} are counted"
        for probe, count in told.items()
        if counted[probe] < count
    ]


def unclear_end(code: int | None, took_s: float, last_words: str) -> list[str]:
    """What is wrong with the end of a life that was asked to stop, or that could not go on.

    0 is a stop; 2 with one line that says why is an end that somebody can act on.
    """
    if code is None:
        return [f"it did not end within {took_s:.0f} s"]
    if code == 0:
        return []
    if code != 2:
        return [f"it ended with {code}: {last_words[:300]}"]
    if not last_words.startswith(("gpu-validator: ", "{")):
        return [f"its last word is no line of ours: {last_words[:300]!r}"]
    if "internal error" in last_words:
        return [f"it calls what was refused a bug: {last_words[:300]}"]
    return []


def vouching(files: Mapping[str, str]) -> list[str]:
    """Status files after an orderly end, and what looks like a draft; contents by name."""
    found = [f"the draft {name} was left" for name in files if "draft" in name]
    return found + [
        f"the status file {name} was left, and says {content[:60]!r}"
        for name, content in files.items()
        if "draft" not in name and _TERMS.search(content)
    ]


def unfounded(files: Mapping[str, str]) -> list[str]:
    """Status files that vouch for a node which was never ready; contents by name."""
    return [
        f"the status file {name} vouches for a node that fails: {content[:60]!r}"
        for name, content in files.items()
        if "gpu-validator.ready=true" in content or (name == "ready" and _TERMS.search(content))
    ]


def everlasting(files: Mapping[str, str]) -> list[str]:
    """Status files of a daemon that is gone which count for ever; contents by name.

    The ready file counts for nothing without its term; a feature file for ever.
    """
    return [
        f"the labels in {name} never expire: {content[:60]!r}"
        for name, content in files.items()
        if "gpu-validator.ready=" in content and not _TERMS.search(content)
    ]


@dataclass(frozen=True)
class Sample:
    """What a quiet daemon held at a moment, in seconds since its start."""

    at_s: float
    rss_kib: int
    descriptors: int


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope of values over seconds, an hour."""
    count = len(points)
    if count < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return 0.0
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def grown(samples: Sequence[Sample], *, most_kib: int, most_descriptors: int) -> list[str]:
    """Growth from the first quiet samples to the last ones; the least of three counts of each."""
    if len(samples) < 6:
        return []
    return [*_grown(samples, most_kib, most_descriptors)]


def _grown(samples: Sequence[Sample], most_kib: int, most_descriptors: int) -> Iterator[str]:
    first, last = samples[:3], samples[-3:]
    rss = min(one.rss_kib for one in last) - min(one.rss_kib for one in first)
    open_more = min(one.descriptors for one in last) - min(one.descriptors for one in first)
    if rss > most_kib:
        yield f"the daemon's memory grew by {rss} KiB"
    if open_more > most_descriptors:
        yield f"the daemon holds {open_more} descriptors more than in the beginning"
