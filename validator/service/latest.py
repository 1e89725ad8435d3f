"""The newest result of each probe and device, and what they say together about the node now."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import filterfalse
from typing import Any, Final

from probes.catalog import BY_NAME, CATALOG
from probes.contract import Finding, Result, Status
from validator.piecewise import Pieces
from validator.report import (
    CPU,
    Device,
    NotRun,
    Report,
    fitting,
    flat,
    full_summary,
    make_report,
    refuse_faults,
    result_lines,
)
from validator.service.entry import (
    GOOD,
    Entry,
    Pair,
    current,
    end_time,
    find,
    identified,
    is_heavy,
    next_entry,
    on_device,
    renamed,
)
from validator.service.waiting import Waiting, key_of, names_now

_ORDER: Final = {spec.name: place for place, spec in enumerate(CATALOG)}

#: Measurements of which all runs together count.
SUMMED: Final = ("verified_seconds",)


@dataclass(frozen=True)
class Readiness:
    """Whether work may come to this node, and why not."""

    ready: bool
    reason: str  # one line of at most 80 characters
    whole: str = ""  # the same in one line of any length, where it is longer

    @property
    def text(self) -> str:
        """Why, in one line that is not shortened."""
        return self.whole or self.reason


class Latest:
    """The latest result of each probe and device. A GPU is known by its UUID, else by its name."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Create an empty store; `monotonic` gives the seconds that ages are counted in."""
        self._monotonic = monotonic
        self._entries: dict[str, dict[str, Entry]] = {}  # probe -> device key -> entry
        self._planned: dict[str, tuple[str, ...]] = {}  # probe -> device names
        self._missed: dict[Pair, NotRun] = {}  # never had a chance so far
        self._waiting = Waiting()
        self._turns: frozenset[str] = frozenset()
        self._report: Report | None = None  # the newest one taken in
        self._oldest_s: dict[str, float] = {}
        self._shown: tuple[tuple[Pair, Status], ...] = ()
        self.devices: tuple[Device, ...] = ()
        self.runs: Counter[tuple[str, str]] = Counter()  # (probe, status)
        self.skips: Counter[tuple[str, str]] = Counter()  # (probe, reason)
        self.measured: defaultdict[tuple[str, str], float] = defaultdict(float)  # (name, device)
        self.gone: list[Result] = []  # fails whose device is not here, for who tells of them
        self.stood: list[Result] = []  # fails of before that stand again, likewise
        self.version = 0  # grows when something that is shown has changed

    def limit(self, oldest_s: Mapping[str, float], turns: Iterable[str] | None = None) -> None:
        """Set the probes that count, and how old a result of each may be; forget all others.

        `turns`: those of them that are not switched off; by default all. What failed under load
        in a probe without a turn waits until it has one.
        """
        self._oldest_s = dict(oldest_s)
        self._turns = frozenset(oldest_s if turns is None else turns)
        for one in self.standing():
            if one.probe not in oldest_s:
                self._waiting.put(one)
        for known in (self._entries, self._planned):
            for probe in [probe for probe in known if probe not in oldest_s]:
                del known[probe]
        self._missed = {pair: one for pair, one in self._missed.items() if pair.probe in oldest_s}
        self._wake(self.devices)
        self.version += 1

    def plan(
        self,
        planned: Iterable[tuple[str, str]],
        devices: tuple[Device, ...] = (),
        *,
        partly: Collection[str] = (),
    ) -> None:
        """Record what a run is about to do, so that its series exist from then on.

        `partly`: probes that run on some of the devices alone, and stay planned on the others.
        """
        here = {device.name for device in devices}
        devices_of: dict[str, list[str]] = {
            probe: [name for name in self._planned.get(probe, ()) if name in here]
            for probe in partly
        }
        for probe, device in planned:
            if probe not in partly or _lists_some(devices) or probe not in self._planned:
                devices_of.setdefault(probe, []).append(device)
        self._planned.update(
            (probe, tuple(dict.fromkeys(names)))
            for probe, names in devices_of.items()
            if names and probe in self._oldest_s
        )
        self.devices = devices or self.devices
        self._place(devices)
        self.version += 1

    def restore(self, failed: Iterable[Result], away: Iterable[Result] = ()) -> None:
        """Have fails of an earlier daemon stand; the next list of devices tells where they are.

        Those that are `away` stand once their GPU is listed.
        """
        for result in filterfalse(self._has_passed_since, failed):
            if result.probe in self._turns:
                self._stand(result)
            else:
                self._waiting.put(result)
        for result in filterfalse(self._has_passed_since, away):
            self._waiting.put(result)
        self._place(self.devices)
        self.version += 1

    def _has_passed_since(self, failed: Result) -> bool:
        """Whether the probe of a fail that a file kept has passed there since."""
        entry = self._entries.get(failed.probe, {}).get(key_of(failed))
        succeeded_at = None if entry is None else entry.succeeded_at
        return succeeded_at is not None and succeeded_at > end_time(failed)

    def _stand(self, failed: Result) -> None:
        """Have a fail stand."""
        now, known = self._monotonic(), self._entries.setdefault(failed.probe, {})
        entry = find(known, key_of(failed), failed.device) or Entry(failed, now, failed, now)
        if entry.failed is None:
            key = next((key for key, one in known.items() if one is entry), key_of(failed))
            known[key] = replace(entry, failed=failed)
            self.stood.append(failed)

    def _wake(self, devices: Iterable[Device]) -> None:
        """Have those stand that wait no longer."""
        for failed in self._waiting.take(self._turns, devices):
            self._stand(failed)

    def _place(self, devices: tuple[Device, ...]) -> None:
        """Give all that is known the names that the devices have now."""
        if _lists_some(devices):  # else such a run saw none at all
            self._rename(devices)
            self.gone += self._waiting.end(devices)
        self._wake(devices)

    def _rename(self, devices: tuple[Device, ...]) -> None:
        """Give what is known the names of now, and part with that of devices that are not here."""
        taken = {device.name for device in devices}
        for entries in self._entries.values():
            names = names_now({key: identified(one) for key, one in entries.items()}, devices)
            for key, entry in tuple(entries.items()):
                name = names[key]
                failed = entry.failed if is_heavy(entry.newest.probe) else None
                if name is not None:
                    entries[key] = renamed(entry, name)
                elif failed is not None:
                    del entries[key]
                    self._part_with(on_device(entry.newest.device, failed))
                elif entry.newest.device in taken:  # by another one, whose verdict it would hide
                    del entries[key]

    def _part_with(self, failed: Result) -> None:
        """A fail whose device is not here waits for it, if that can be known again."""
        self.gone.append(failed)
        if failed.gpu_uuid is not None:
            self._waiting.put(failed)

    def standing(self) -> tuple[Result, ...]:
        """The fails that a pass of the same probe must follow, of probes that load a device."""
        return tuple(
            on_device(entry.newest.device, entry.failed)
            for probe in filter(is_heavy, self._entries)
            for entry in self._entries[probe].values()
            if entry.failed is not None
        )

    def kept(self) -> tuple[Result, ...]:
        """What a later daemon must know: the fails that stand, and those that wait."""
        return (*self.standing(), *self._waiting.all())

    def accept(self, report: Report, *, partly: Collection[str] = ()) -> None:
        """Take in a finished run: its word on a probe replaces all that was known of that probe.

        So what ran on a GPU that is gone vanishes, and its fails under load wait. What got no
        chance keeps its last entry, and a busy or disabled one its last verdict, and a probe that
        ran `partly`, on some of the devices alone, what is known of it on the others. A fault's
        result raises `ValueError`. Results are `slimmed` before by whoever keeps many of them.
        """
        refuse_faults(report.results)
        pairs = [Pair(one.probe, one.device) for one in report.results]
        pairs += [Pair(one.probe, one.device) for one in report.not_run]
        self.plan(pairs, report.devices, partly=partly)
        reported = {pair.probe for pair in pairs if pair.probe in self._oldest_s}
        known, self._entries = self._entries, {**self._entries, **{one: {} for one in reported}}
        self._missed = {k: v for k, v in self._missed.items() if k.probe not in reported}
        followed = self._take_results(report, known) | self._take_missed(report, known)
        off = {one.probe for one in report.results if one.reason == "disabled"}
        if _lists_some(report.devices):
            followed |= self._keep_others(report, reported.intersection(partly), known)
        else:
            unheard = reported.difference(one.probe for one in report.results)
            followed |= self._keep_unseen(reported - off, unheard.union(partly), known)
        for probe in filter(is_heavy, reported):
            for entry in known.get(probe, {}).values():
                if entry.failed is None or id(entry) in followed:
                    continue
                if probe in off and not _lists_some(report.devices):
                    self._let_wait(entry)
                else:
                    self._part_with(on_device(entry.newest.device, entry.failed))
        kept: dict[str, Any] = {"results": (), "not_run": ()}
        ran = {pair.probe for pair in pairs} - off
        if self._report is not None and not any(map(_needs_torch, ran)):
            kept["environment"] = self._report.environment  # such a run knows less of it
        self._report = report.model_copy(update=kept)
        self.version += 1

    def _take_results(self, report: Report, known: Mapping[str, Mapping[str, Entry]]) -> set[int]:
        """Take in the results; return the earlier entries that one of them comes after."""
        now, followed = self._monotonic(), set()
        uuid_of = {device.name: device.uuid for device in report.devices}
        for result in report.results:
            self.runs[result.probe, result.status] += 1
            if result.status == "skip":
                self.skips[result.probe, result.reason] += 1
            for one in result.measurements:
                if one.name in SUMMED:
                    self.measured[one.name, result.device] += one.value
            if result.probe in self._oldest_s:
                key = result.gpu_uuid or uuid_of.get(result.device) or result.device
                before = find(known.get(result.probe, {}), key, result.device)
                followed.add(id(before))
                if result.reason == "disabled":
                    self._let_wait(before)
                self._entries[result.probe][key] = next_entry(before, result, now)
            elif is_heavy(result.probe):
                self._waiting.hear(result)
        return followed

    def _keep_others(
        self, report: Report, probes: Iterable[str], known: Mapping[str, Mapping[str, Entry]]
    ) -> set[int]:
        """Keep what is known of the devices that a run left out; return those entries."""
        kept = set()
        names = {device.name for device in report.devices}
        for probe in probes:
            left_out = names - {entry.newest.device for entry in self._entries[probe].values()}
            for key, entry in known.get(probe, {}).items():
                if entry.newest.device in left_out:
                    self._entries[probe].setdefault(key, entry)
                    kept.add(id(entry))
        return kept

    def _let_wait(self, entry: Entry | None) -> None:
        """A probe that is switched off leaves its fail for when it is on again."""
        if entry is not None and entry.failed is not None and is_heavy(entry.failed.probe):
            self._waiting.put(on_device(entry.newest.device, entry.failed))

    def _keep_unseen(
        self,
        probes: Iterable[str],
        unheard: Container[str],
        known: Mapping[str, Mapping[str, Entry]],
    ) -> set[int]:
        """Keep what failed under load on devices that a run could not list: it saw none at all.

        Of probes that are `unheard` all that is known: they had no chance, or were to run on some
        of the devices alone. Returns the entries that were kept.
        """
        kept = set()
        for probe in filter(is_heavy, probes):
            for key, entry in known.get(probe, {}).items():
                stays = entry.failed is not None or probe in unheard
                if stays and entry.newest.device != CPU.name:
                    self._entries[probe].setdefault(key, entry)
                    kept.add(id(entry))
        return kept

    def _take_missed(self, report: Report, known: Mapping[str, Mapping[str, Entry]]) -> set[int]:
        """What got no chance keeps what was known of it, or is missing; but for what waits.

        Returns the entries that were kept.
        """
        kept = set()
        uuid_of = {device.name: device.uuid for device in report.devices}
        for missed in report.not_run:
            if missed.probe in self._oldest_s:
                key = uuid_of.get(missed.device) or missed.device
                before = find(known.get(missed.probe, {}), key, missed.device)
                if before is not None:
                    self._entries[missed.probe][key] = before
                    kept.add(id(before))
                elif report.trigger != "schedule" or not _waits(missed):
                    self._missed[Pair(missed.probe, missed.device)] = missed
        return kept

    @property
    def planned(self) -> tuple[Pair, ...]:
        """Every probe and device that a result is due of; `unknown` before the first survey."""
        return tuple(
            Pair(spec.name, device)
            for spec in CATALOG
            if spec.name in self._oldest_s
            for device in self._planned.get(spec.name)
            or tuple(entry.newest.device for entry in self._entries.get(spec.name, {}).values())
            or ("cpu" if spec.needs == "host" else "unknown",)
        )

    @property
    def newest(self) -> Report | None:
        """The newest report taken in, without its results."""
        return self._report

    def entries(self) -> dict[Pair, Entry]:
        """What is known, by the names that the devices have now."""
        return {
            Pair(probe, entry.newest.device): entry
            for probe in sorted(self._entries, key=_ORDER.__getitem__)
            for entry in self._entries[probe].values()
        }

    def results(self) -> dict[Pair, Result]:
        """What counts now: each entry's verdict, or that it is too old to tell."""
        now = self._monotonic()
        return {
            pair: current(entry, now, self._oldest_s[pair.probe])
            for pair, entry in self.entries().items()
        }

    def has_aged(self) -> bool:
        """Whether time alone has changed a status since this was last asked."""
        shown = tuple((pair, result.status) for pair, result in self.results().items())
        changed, self._shown = shown != self._shown, shown
        self.version += changed
        return changed

    def merged_report(self) -> Report | None:
        """All that counts now as one report; None before the first run has ended."""
        return self._merged(tuple(self.results().values()))

    def _merged(self, results: tuple[Result, ...]) -> Report | None:
        newest = self._report
        if newest is None:
            return None
        return make_report(
            run_id=newest.run_id,
            trigger="merged",
            profile=newest.profile,
            results=results,
            not_run=tuple(self._missed.values()),
            started_at=min([result.started_at for result in results], default=newest.started_at),
            finished_at=newest.finished_at,
            duration_s=newest.duration_s,
            environment=newest.environment,
            devices=self.devices,
        )

    def readiness(self, results: Mapping[Pair, Result] | None = None) -> Readiness:
        """Ready when every planned probe has a result and the worst is a pass or a warning.

        A probe that loads a device, and so waits for its turn, may have none yet. `results`: what
        counts, for who has asked for it already and says more about the same moment.
        """
        results = self.results() if results is None else results
        missing = [
            pair
            for pair in self.planned
            if pair not in results and not BY_NAME[pair.probe].is_heavy
        ]
        report = self._merged(tuple(results.values()))
        if missing:
            failed = next((one for one in results.values() if one.status == "fail"), None)
            if failed is not None:
                return _readiness(False, *result_lines(failed))
            first = missing[0]
            line = f"not ready: no result yet of {first.probe}"
            place = "" if first.device == "unknown" else f" on {first.device}"
            more = f" (+{len(missing) - 1} more)" if len(missing) > 1 else ""
            return _readiness(False, f"{line}{place}{more}", f"{line}{more}")
        if report is None:
            waiting = f"no result yet of {self.planned[0].probe}" if self.planned else ""
            return Readiness(False, f"not ready: {waiting or 'nothing is planned'}")
        whole = full_summary(report.results, report.not_run)
        return _readiness(report.status in GOOD, whole, report.summary)


def _waits(missed: NotRun) -> bool:
    """Whether a probe that had no chance waits for its next turn, and has not run yet."""
    return is_heavy(missed.probe) and missed.reason in {"run_timeout", "cancelled"}


def _lists_some(devices: Iterable[Device]) -> bool:
    """Whether a list of devices has any that is not the CPU: a run without such saw none."""
    return any(device.type != CPU.type for device in devices)


def _needs_torch(probe: str) -> bool:
    return probe not in BY_NAME or BY_NAME[probe].needs_torch


def _readiness(ready: bool, whole: str, *shorter: str) -> Readiness:  # noqa: FBT001 - the verdict
    """The reason in the longest form that fits, and the whole of it where that is none of them."""
    reason, text = fitting(whole, *shorter), flat(whole)
    return Readiness(ready, reason, "" if reason == text else text)


def slimmed(report: Report) -> Pieces[Report]:
    """A report as it is kept between runs: findings equal on several devices are one object."""
    known: dict[str, Finding] = {}
    results = []
    for result in report.results:
        shared = (known.setdefault(one.model_dump_json(), one) for one in result.findings)
        results.append(result.model_copy(update={"findings": tuple(shared)}))
        yield
    return report.model_copy(update={"results": tuple(results)})
