"""What is known of one probe on one device, and what of it counts now."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from probes.catalog import BY_NAME
from probes.contract import Result
from validator.report import without_chance

GOOD: Final = ("pass", "warn")


class Pair(NamedTuple):
    """A probe and a device's name in this process, as they label reports and metrics."""

    probe: str
    device: str


def is_heavy(probe: str) -> bool:
    """Whether a probe loads a device, and so runs seldom and not at start."""
    return probe in BY_NAME and BY_NAME[probe].is_heavy


@dataclass(frozen=True)
class Entry:
    """What is known of one probe on one device. Ages are of the monotonic clock, in seconds."""

    newest: Result
    received_s: float
    conclusive: Result | None  # newest that says something about the machine
    conclusive_received_s: float
    succeeded_at: datetime | None = None  # end of the last pass or warn
    failed: Result | None = None  # the last fail, until what failed in it passes

    @property
    def ended_at(self) -> datetime:
        """The time at which the newest result's probe ended (UTC)."""
        return end_time(self.newest)


def end_time(result: Result) -> datetime:
    """The time at which a result's probe ended (UTC)."""
    return result.started_at + timedelta(seconds=result.duration_s)


def identified(entry: Entry) -> Result:
    """The result that tells whose an entry is: its fail where the newest could not tell the UUID.

    Under the name of now. What stands of a GPU must not become that of another one in its place.
    """
    if entry.newest.gpu_uuid is not None or entry.failed is None:
        return entry.newest
    return on_device(entry.newest.device, entry.failed)


def renamed(entry: Entry, device: str) -> Entry:
    """An entry under another name of its device."""
    if entry.newest.device == device:
        return entry
    newest = entry.newest.model_copy(update={"device": device})
    others: dict[str, Any] = {
        name: newest if one is entry.newest else one.model_copy(update={"device": device})
        for name in ("conclusive", "failed")
        if (one := getattr(entry, name)) is not None
    }
    return replace(entry, newest=newest, **others)


def on_device(device: str, result: Result) -> Result:
    """A result with the name that its device has now; itself, where it has that already."""
    return result if result.device == device else result.model_copy(update={"device": device})


def find(entries: Mapping[str, Entry], key: str, device: str) -> Entry | None:
    """An earlier entry by key, or by name when one of the two runs could not tell the UUID."""
    if key in entries:
        return entries[key]
    named = (
        entry
        for entry in entries.values()
        if entry.newest.device == device and (entry.newest.gpu_uuid is None or key == device)
    )
    return next(named, None)


def next_entry(before: Entry | None, result: Result, now: float) -> Entry:
    """What is known after a result that came at `now`, seconds of the monotonic clock."""
    failed = fail_after(None if before is None else before.failed, result)
    evades = failed is not None and result.status in GOOD
    return replace(_with_verdict(before, result, now, evades=evades), failed=failed)


def fail_after(failed: Result | None, result: Result) -> Result | None:
    """The fail that a pass must follow; whoever switches the probe off has decided."""
    if result.reason == "disabled":
        return None
    if result.status == "fail":
        return result
    if failed is None or (result.status in GOOD and not _evades(result, failed)):
        return None
    return failed


def _evades(result: Result, failed: Result) -> bool:
    """Whether a check that failed was left out now: for others on the device, or want of memory."""
    wrong = {one.id for one in failed.findings if one.status == "fail"}
    return any(one.status == "skip" and one.id in wrong for one in result.findings)


def _with_verdict(before: Entry | None, result: Result, now: float, *, evades: bool) -> Entry:
    entry = Entry(result, now, result, now, None if before is None else before.succeeded_at)
    if evades or without_chance(result.reason):
        if before is None:
            return replace(entry, conclusive=None)
        return replace(
            entry, conclusive=before.conclusive, conclusive_received_s=before.conclusive_received_s
        )
    return replace(entry, succeeded_at=end_time(result)) if result.status in GOOD else entry


def current(entry: Entry, now: float, oldest_s: float) -> Result:
    """What counts: a fail until what failed in it passes, else the last verdict.

    Of a probe that loads no device any other verdict ends it but a pass that left out what failed.
    """
    if entry.failed is not None and (is_heavy(entry.newest.probe) or entry.newest.status in GOOD):
        return on_device(entry.newest.device, entry.failed)
    return _verdict(entry, now, oldest_s)


def _verdict(entry: Entry, now: float, oldest_s: float) -> Result:
    newest, conclusive = entry.newest, entry.conclusive
    fresh = now - entry.received_s <= oldest_s
    if conclusive is None or conclusive is newest:
        return (
            newest if fresh or newest.status == "fail" else _stale(newest, now - entry.received_s)
        )
    here = on_device(newest.device, conclusive)
    if now - entry.conclusive_received_s <= oldest_s:
        return here
    # Too old to vouch for a device that is busy or left out. But a GPU found broken does not
    # become whole by being busy: that verdict falls only to a better one.
    if conclusive.status == "fail" and (newest.reason == "gpu_busy" or not fresh):
        return here
    return newest if fresh else _stale(here, now - entry.conclusive_received_s)


def _stale(result: Result, age_s: float) -> Result:
    """A result too old to count, as one that could not be told."""
    return result.model_copy(
        update={
            "status": "error",
            "reason": "internal_error",
            "summary": f"stale: no new result for {age_s:.0f} s, last was {result.status}",
        }
    )
