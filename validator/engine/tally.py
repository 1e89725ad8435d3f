"""Counts the rounds of a burn: the worst result of each probe, and what the boards said."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from probes.contract import COMPLETES, RANKING, Finding, Result, Status
from validator.burn import BurnCount, BurnDevice, Range
from validator.engine.plan import Event
from validator.report import CPU, Device, Environment, NotRun, NotRunReason, Report

TELEMETRY: Final = "telemetry"

#: Probes that a burn runs beside those that load a device: they do not count as tests of it.
BESIDE: Final = (TELEMETRY, "cuda_available")

#: Counters of a board, by the names that the observation of `telemetry` gives them.
COUNTERS: Final = (
    *("volatile_uncorrected", "volatile_corrected", "sram_volatile_uncorrected", "rows_remapped"),
    *("pages_retired", "pcie_replays", "pcie_fatal_errors", "nvlink_replays", "nvlink_recoveries"),
    *("nvlink_crc_errors", "thermal_violation_s", "power_violation_s"),
)
_RANGES: Final = ("temperature_c", "memory_temperature_c", "power_w", "clock_mhz")
_GOOD: Final = ("pass", "warn")
_HOUR_S: Final = 3600.0

#: Share of a probe's runs on a device that may end without a verdict, and all of them still prove
#: something: at most one in a hundred. What had fewer is begun anew.
_FEW_ERRORS: Final = 0.01


@dataclass
class _Count:
    """One probe on one device."""

    worst: Result
    round: int
    runs: int = 0
    failures: int = 0
    errors: int = 0
    tested_s: float = 0.0
    newest: Status = "skip"  # of the results that are no skip

    def take(self, result: Result, number: int) -> None:
        """Count a result, and keep it where it is worse, or as good and newer."""
        if result.status != "skip":
            self.runs += 1
            self.tested_s += result.duration_s
            self.newest = result.status
        self.failures += result.status == "fail"
        self.errors += result.status == "error"
        new, old = RANKING.index(result.status), RANKING.index(self.worst.status)
        if new < old or (new == old and result.status in (*_GOOD, "skip")):
            self.worst, self.round = result, number

    def reported(self) -> Result:
        """The worst result; a warning where that is an error that verdicts outweigh."""
        told = self.newest in _GOOD
        few = self.worst.probe in BESIDE or self.errors <= _FEW_ERRORS * self.runs
        if self.worst.status != "error" or not (told and few):
            return self.worst
        return _with_status(
            self.worst,
            "warn",
            f"could not tell in {self.errors} of {self.runs} runs, first in round {self.round}: "
            f"{self.worst.summary}",
        )


@dataclass
class _Board:
    """What is known of the board of one device."""

    ranges: dict[str, Range] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    rises: dict[str, float] = field(default_factory=dict)  # of the counters, since the first look
    xids: int | None = None

    def widen(self, numbers: Mapping[str, Any]) -> None:
        """Take in what a board says of itself now."""
        for name in _RANGES:
            value = numbers.get(name)
            if isinstance(value, (int, float)):
                seen = self.ranges.get(name, Range(least=value, most=value))
                least, most = min(seen.least, value), max(seen.most, value)
                self.ranges[name] = Range(least=least, most=most)

    def count(self, board: Mapping[str, Any]) -> None:
        """Take in its counters; the first that are told are those of before.

        One that fell was set to 0 meanwhile, by a reset of the GPU or of its driver.
        """
        for name in COUNTERS:
            if board.get(name) is None:
                continue
            value = float(board[name])
            before = self.last.get(name, value)
            rise = value - before if value >= before else value
            self.rises[name] = self.rises.get(name, 0.0) + rise
            self.last[name] = value


@dataclass(frozen=True)
class Round:
    """What a round came to, for whoever watches."""

    number: int
    statuses: Mapping[Status, int]
    failed: tuple[str, ...] = ()  # probe on device
    ranges: Mapping[str, Range] = field(default_factory=dict)  # of all boards, in this round


class Tally:
    """All rounds until now."""

    def __init__(self, *, observations: bool = False) -> None:
        """Begin; `observations` keeps those of what passed too."""
        self._observations = observations
        self._counts: dict[tuple[str, str], _Count] = {}
        self._boards: dict[str, _Board] = {}
        self._not_run: dict[tuple[str, str], NotRun] = {}
        self._in_round: _Board = _Board()
        self._of_round: list[Result] = []  # without those of the probes beside
        self._failed: list[str] = []
        self.environment: Environment | None = None  # as a run with torch told it
        self.devices: tuple[Device, ...] = ()
        self.rounds = 0

    def begin(self) -> None:
        """Begin a round."""
        self.rounds += 1
        self._of_round, self._in_round, self._failed = [], _Board(), []

    def sampled(self, event: Event) -> None:
        """Take in what a board says while probes run."""
        self._boards.setdefault(event.device, _Board()).widen(event.numbers)
        self._in_round.widen(event.numbers)

    def take(self, report: Report, since_s: float) -> None:
        """Take in a part of the round; `since_s`: how long ago the burn has begun."""
        if self.environment is None or report.environment.torch is not None:
            self.environment = report.environment
        self.devices = report.devices or self.devices
        for result in report.results:
            key = (result.probe, result.device)
            if result.probe == TELEMETRY and result.observation is not None:
                self._take_telemetry(result.observation, since_s)
            kept = result
            if not self._observations and result.status in (*_GOOD, "skip"):
                kept = result.model_copy(update={"observation": None})
            self._counts.setdefault(key, _Count(kept, self.rounds)).take(kept, self.rounds)
            self._not_run.pop(key, None)
            if result.status == "fail":
                self._failed.append(f"{result.probe} on {result.device}")
            if result.probe not in BESIDE:
                self._of_round.append(result)
        for missed in report.not_run:
            key = (missed.probe, missed.device)
            # A round that was cut before it knew the devices has planned all for the CPU.
            if key not in self._counts and not (missed.device == CPU.name and self._is_known(key)):
                self._not_run[key] = missed

    def _is_known(self, key: tuple[str, str]) -> bool:
        """Whether a probe has run on other devices than the one named."""
        probe, device = key
        return any(other == probe and name != device for other, name in self._counts)

    def has_told(self, probe: str) -> bool:
        """Whether a probe has come to a result, and could tell on every device in the end."""
        told = [one.newest != "error" for (name, _), one in self._counts.items() if name == probe]
        return bool(told) and all(told)

    def _take_telemetry(self, observation: Mapping[str, Any], since_s: float) -> None:
        told = observation.get("health") or {}
        log = observation.get("log") or {}
        for gpu in told.get("gpus") or ():
            for device in self._of_board(gpu):
                board = self._boards.setdefault(device.name, _Board())
                board.widen(gpu)
                board.count(gpu)
                if not log.get("error"):
                    lines = [one for one in log.get("xids") or () if _is_of(one, gpu, since_s)]
                    board.xids = max(board.xids or 0, len(lines))

    def _of_board(self, gpu: Mapping[str, Any]) -> Iterator[Device]:
        """The devices of a board: itself, or its instances."""
        uuid = gpu.get("uuid")
        for device in self.devices:
            if uuid is not None and uuid in {device.uuid, device.parent_uuid}:
                yield device

    @property
    def has_boards(self) -> bool:
        """Whether counters of any board are known."""
        return any(board.last for board in self._boards.values())

    def round(self) -> Round:
        """What the round came to until now."""
        return Round(
            number=self.rounds,
            statuses=Counter(result.status for result in self._of_round),
            failed=tuple(self._failed),
            ranges=self._in_round.ranges,
        )

    def tested(self) -> bool:
        """Whether anything in the round has come to a verdict on a device that is here."""
        return any(
            result.status != "skip" and result.reason != "no_device" for result in self._of_round
        )

    def busy(self) -> bool:
        """Whether others kept the round from testing anything."""
        return any(result.reason == "gpu_busy" for result in self._of_round)

    def shortest_s(self) -> float:
        """How long the shortest probe of the round took on a device."""
        took = [result.duration_s for result in self._of_round if result.status != "skip"]
        return min(took, default=0.0)

    # ---- in the end

    def results(self) -> tuple[Result, ...]:
        """The worst result of each probe and device; an error where a device was never tested.

        One that is outweighed by verdicts is a warning.
        """
        untested = self._untested()
        found = []
        for (probe, device), count in self._counts.items():
            is_skip = probe not in BESIDE and count.worst.status == "skip"
            if device in untested and is_skip:
                untested.remove(device)  # told once
                text = f"nothing was tested here in any round: {count.worst.summary}"
                found.append(_with_status(count.worst, "error", text))
            else:
                found.append(count.reported())
        return tuple(found)

    def _untested(self) -> set[str]:
        """The devices on which no probe has come to a verdict in any round."""
        names = [device.name for device in self.devices or (CPU,)]
        return {name for name in names if not any(count.runs for count in self._own(name))}

    def not_run(self, loads: Iterable[str], reason: NotRunReason) -> tuple[NotRun, ...]:
        """What never had a chance; `reason` is that of probes whose turn never came."""
        known = {**self._counts, **self._not_run}
        pairs = [(probe, device.name) for probe in loads for device in self.devices or (CPU,)]
        never = [
            NotRun(probe=probe, device=device, reason=reason)
            for probe, device in pairs
            if (probe, device) not in known
        ]
        return (*self._not_run.values(), *never)

    def counts(self) -> tuple[BurnCount, ...]:
        """Each probe on each device."""
        return tuple(
            BurnCount(
                probe=probe,
                device=device,
                runs=count.runs,
                failures=count.failures,
                errors=count.errors,
                tested_s=count.tested_s,
                worst=count.reported().status,
                worst_round=count.round,
                worst_at=count.worst.started_at,
            )
            for (probe, device), count in self._counts.items()
        )

    def by_device(self) -> tuple[BurnDevice, ...]:
        """Each device."""
        return tuple(self._device(device) for device in self.devices or (CPU,))

    def _own(self, device: str) -> list[_Count]:
        """The counts of the probes that load a device."""
        return [
            count
            for (probe, name), count in self._counts.items()
            if name == device and probe not in BESIDE
        ]

    def _device(self, device: Device) -> BurnDevice:
        own = self._own(device.name)
        board = self._boards.get(device.name, _Board())
        tested_s = sum(count.tested_s for count in own)
        failures = sum(count.failures for count in own)
        return BurnDevice(
            device=device.name,
            gpu_uuid=device.uuid,
            tested_s=tested_s,
            runs=sum(count.runs for count in own),
            failures=failures,
            failures_per_hour=failures / tested_s * _HOUR_S if tested_s else None,
            counters=board.rises,
            xids=board.xids,
            **board.ranges,
        )


def _with_status(result: Result, status: Status, text: str) -> Result:
    """A result with another status, and a text that says why."""
    finding = Finding(
        id=f"{result.probe}.{COMPLETES}", status=status, message=text, action="investigate"
    )
    changes = {"status": status, "summary": text, "findings": (finding,)}
    return result.model_copy(update=changes)


def _is_of(xid: Mapping[str, Any], gpu: Mapping[str, Any], since_s: float) -> bool:
    """Whether an error line is of that board, and was written since the burn began."""
    age_s = xid.get("age_s")
    address = str(gpu.get("pci_bus_id") or "").rpartition(".")[0]
    return age_s is not None and age_s < since_s and xid.get("address") == address
