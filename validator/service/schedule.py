"""When each probe is due: at an interval with jitter, or by a cron expression in UTC.

Intervals are counted on the monotonic clock, so a clock that is set moves nothing. An interval
starts when its last run starts: a run that overruns delays the next one, which then comes once.
"""

import hashlib
import random
import re
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Final

from apscheduler.triggers.cron import CronTrigger

from probes.contract import ProbeSpec
from validator.report import host_name
from validator.settings.model import Settings, Timetable
from validator.settings.values import SettingsError

#: Probes due within this many seconds of each other share one run, and its import of torch.
SHARED_S: Final = 10.0

#: What waits for its turn at a start comes no earlier, and so never with the first run.
_SETTLE_S: Final = SHARED_S + 1.0

#: A result older than this many intervals is stale.
STALE_INTERVALS: Final = 3.0

#: What found its device busy, or could not tell, is tried again after this share of its interval.
_AGAIN: Final = 1 / 6
#: How far ahead a time is looked for: one that is further away never comes.
_YEARS: Final = 40

_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_RANGE: Final = re.compile(r"(\*|[0-7]|[a-z]{3})(?:-([0-7]|[a-z]{3}))?(?:/([1-9]\d?))?")


class Cron:
    """A crontab expression of five fields, in UTC."""

    def __init__(self, expression: str) -> None:
        """Read it as cron does: Sunday is 0 or 7, and two restricted day fields are either-or."""
        fields = expression.lower().split()
        if len(fields) != 5:
            raise ValueError(f"{expression!r} has {len(fields)} fields; write five, as '0 3 * * *'")
        minute, hour, day, month, weekday = fields
        weekday = weekday if weekday == "*" else _weekdays(weekday)
        pairs = [(day, weekday)]
        years = f"1970-{datetime.now(timezone.utc).year + _YEARS}"
        if not day.startswith("*") and weekday != "*":
            pairs = [(day, "*"), ("*", weekday)]
        self._triggers = [
            CronTrigger(
                year=years,
                minute=minute,
                hour=hour,
                day=one,
                month=month,
                day_of_week=other,
                timezone=timezone.utc,
            )
            for one, other in pairs
        ]

    def after(self, moment: datetime) -> datetime | None:
        """The first time that it names after a moment; None when there is none."""
        later = moment + timedelta(microseconds=1)
        times = [trigger.get_next_fire_time(None, later) for trigger in self._triggers]
        return min((found for found in times if found is not None), default=None)

    def longest_gap_s(self, moment: datetime) -> float:
        """The longest pause between its next times: what `interval` is to the others."""
        times = [moment]
        while len(times) < 12 and (found := self.after(times[-1])) is not None:
            times.append(found)
        if len(times) == 1:
            raise ValueError("names no time that will come; write one such as '0 3 * * *'")
        return max((later - one).total_seconds() for one, later in pairwise(times))


def _weekdays(field: str) -> str:
    """Cron's numbers as names, since APScheduler 3 counts from Monday."""
    days: list[str] = []
    for part in field.split(","):
        matched = _DAY_RANGE.fullmatch(part)
        if matched is None:
            raise ValueError(f"{part!r} is no day of the week; write 0-7 or sun, mon, ...")
        first, last, step = matched.groups()
        start = 0 if first == "*" else _day(first)
        end = 6 if first == "*" or (step and not last) else _day(last or first)
        length = 6 if (start, end) == (0, 7) else (end - start) % 7
        days += [_DAYS[(start + ahead) % 7] for ahead in range(0, length + 1, int(step or 1))]
    return ",".join(dict.fromkeys(days))


def _day(text: str) -> int:
    if text.isdigit():
        return int(text)
    if text not in _DAYS:
        raise ValueError(f"{text!r} is no day of the week; write 0-7 or sun, mon, ...")
    return _DAYS.index(text)


@dataclass(frozen=True)
class Timing:
    """How often one probe runs."""

    interval_s: float  # of a cron expression: its longest gap
    jitter_s: float = 0.0
    cron: str | None = None
    #: The first run comes at this share of an interval, counted from the epoch, so that a restart
    #: does not put it off; None: at once.
    phase: float | None = None
    #: How long another run may hold it up, where that is much against its interval.
    held_up_s: float = 0.0

    @property
    def stale_after_s(self) -> float:
        """Age at which a result says nothing about now."""
        return STALE_INTERVALS * self.interval_s + self.held_up_s


def timings(settings: Settings, specs: Iterable[ProbeSpec]) -> dict[str, Timing]:
    """The timing of each probe, from settings and its own default.

    Raises:
        SettingsError: a cron expression or a jitter that cannot be, named by its key.
    """
    return {spec.name: _timing(spec, settings) for spec in specs}


def _timing(spec: ProbeSpec, settings: Settings) -> Timing:
    table = settings.schedule.get(spec.name) or Timetable()
    held_up_s = settings.run.timeout if spec.profile == "instant" else 0.0
    heavy = spec.is_heavy
    key = f"schedule.{spec.name}"
    if table.cron is not None:
        try:
            gap = Cron(table.cron).longest_gap_s(datetime.now(timezone.utc))
        except ValueError as error:
            raise SettingsError(f"{key}.cron: {error} (got {table.cron!r})") from error
        # Who writes a time of day means it: no shift unless asked for.
        return Timing(gap, table.jitter or 0.0, table.cron, 0.0 if heavy else None, held_up_s)
    interval = spec.interval_s if table.interval is None else table.interval
    jitter = interval / 10 if table.jitter is None else table.jitter
    if jitter > interval:
        raise SettingsError(
            f"{key}.jitter: {jitter:g} s is longer than the interval {interval:g}; write less"
        )
    phase = _share_of_node() if heavy else None
    return Timing(interval, jitter, phase=phase, held_up_s=held_up_s)


def _share_of_node() -> float:
    """A share from 0 to 1 that follows from the node's name, so that a fleet is spread evenly."""
    digest = hashlib.sha256(host_name().encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


@dataclass(frozen=True)
class _Due:
    monotonic: float | None = None  # seconds
    wall: datetime | None = None
    after: datetime | None = None  # the moment that `wall` was reckoned from


@dataclass(frozen=True)
class _Again:
    """A run of a probe before its turn, on some devices alone."""

    monotonic: float  # seconds
    devices: frozenset[str] | None  # None: on all of them


class Schedule:
    """The due times of all probes.

    A new probe is due at once, but for one that loads a device: that waits for its turn.
    """

    def __init__(
        self,
        table: Mapping[str, Timing],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        shift: Callable[[], float] = lambda: random.SystemRandom().uniform(-1, 1),
    ) -> None:
        """Create it with all probes new; `shift` draws the jitter, a share from -1 to 1."""
        self._monotonic, self._now, self._shift = monotonic, now, shift
        self.timings: dict[str, Timing] = {}
        self._due: dict[str, _Due] = {}
        self._started: dict[str, float] = {}
        self._began: dict[str, float] = {}  # the last run, on whichever devices
        self._again: dict[str, _Again] = {}
        self.replace(table)

    def replace(self, table: Mapping[str, Timing]) -> None:
        """Use other timings from now on; a probe whose timing stays keeps its due time.

        One that loads a device and whose timing is another takes its turn of the new interval, as
        at a start: settings reach all nodes of a fleet at once.
        """
        kept = {name: self._due[name] for name in table if table[name] == self.timings.get(name)}
        self.timings = dict(table)
        self._again = {name: one for name, one in self._again.items() if name in kept}
        for name in table.keys() - kept.keys():
            if table[name].phase is not None:
                self._started.pop(name, None)
        shift = self._shift()
        self._due = {
            name: kept[name] if name in kept else self._next_due(name, shift) for name in table
        }

    def _next_due(self, name: str, shift: float) -> _Due:
        timing = self.timings[name]
        started = self._started.get(name)
        if started is None and timing.phase is None:
            return _Due(monotonic=self._monotonic())
        least_s = _SETTLE_S if started is None else 0.0
        if timing.cron is not None:
            now = self._now()
            if (found := Cron(timing.cron).after(now)) is None:
                return _Due(after=now)
            late = timedelta(seconds=abs(shift) * timing.jitter_s)  # never before its time
            return _Due(wall=max(found + late, now + timedelta(seconds=least_s)), after=now)
        if started is None:
            at_s = (timing.phase or 0.0) * timing.interval_s
            wait_s = (at_s - self._now().timestamp()) % timing.interval_s
            return _Due(monotonic=self._monotonic() + max(wait_s, least_s))
        return _Due(monotonic=started + timing.interval_s + shift * timing.jitter_s)

    def _wait_s(self, name: str) -> float:
        """Seconds until a probe is due, if only on some devices; negative when it is late."""
        again = self._again.get(name)
        wait_s = float("inf") if again is None else again.monotonic - self._monotonic()
        return min(wait_s, self._own_wait_s(name))

    def _own_wait_s(self, name: str) -> float:
        """Seconds until a probe is due on all devices; negative when it is late."""
        due = self._due[name]
        if due.monotonic is not None:
            return due.monotonic - self._monotonic()
        now = self._now()
        if due.after is not None and now < due.after:  # the clock was set back
            due = self._due[name] = self._next_due(name, 0.0)
        return float("inf") if due.wall is None else (due.wall - now).total_seconds()

    def due(self) -> tuple[str, ...]:
        """Probes to run now: none, or those that are due and those that soon will be."""
        waits = {name: self._wait_s(name) for name in self._due}
        if not waits or min(waits.values()) > 0:
            return ()
        return tuple(name for name, wait in waits.items() if wait <= SHARED_S)

    def narrowed(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        """Of probes that are due, those that run before their turn: on which devices alone."""
        early = (name for name in names if name in self._again)
        devices = {name: self._again[name].devices for name in early}
        return {
            name: these
            for name, these in devices.items()
            if these is not None and self._own_wait_s(name) > SHARED_S
        }

    def record_start(self, names: Iterable[str], before_turn: Container[str] = ()) -> None:
        """Record that a run of these began; one draw of jitter moves them all together.

        What runs `before_turn`, as `narrowed` told for this run, keeps that.
        """
        shift, started_s = self._shift(), self._monotonic()
        for name in names:
            self._again.pop(name, None)
            self._began[name] = started_s
            if name in before_turn:
                continue
            self._started[name] = started_s
            if name in self.timings:
                self._due[name] = self._next_due(name, shift)

    def try_again(self, devices: Mapping[str, frozenset[str] | None]) -> None:
        """Have probes run again well before their next turn, on devices where they could not tell.

        `devices` are their names or UUIDs by probe, or None for all; others keep their turn.

        One draw of jitter moves them all together: two daemons that found each other on a device
        must not meet there again. Who gave a probe a time of day means that time: it waits for the
        next.
        """
        shift = self._shift()
        for name, these in devices.items():
            timing, began_s = self.timings.get(name), self._began.get(name)
            if timing is not None and began_s is not None and timing.cron is None:
                wait_s = _AGAIN * timing.interval_s
                late_s = shift * min(timing.jitter_s, wait_s / 2)
                self._again[name] = _Again(began_s + wait_s + late_s, these)

    def late_s(self) -> float:
        """Seconds by which the latest probe is overdue; 0 when none is."""
        return max((0.0, *(-self._wait_s(name) for name in self._due)))

    def due_at(self) -> dict[str, datetime]:
        """The due time of each probe on the wall clock."""
        now = self._now()
        waits = {name: self._wait_s(name) for name in self._due}
        return {
            name: now + timedelta(seconds=max(wait, 0.0))
            for name, wait in waits.items()
            if wait != float("inf")
        }
