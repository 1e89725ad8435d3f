"""Counts the rounds of a burn: the worst result of each probe, and what the boards said."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from probes.contract import RANKING, Result, Status
from validator.burn import BurnCount, BurnDevice, Range
from validator.engine.plan import Event
from validator.report import CPU, Device, NotRun, Report

TELEMETRY: Final = "telemetry"

#: Counters of a board, by the names that the observation of `telemetry` gives them.
COUNTERS: Final = (
    *("volatile_uncorrected", "volatile_corrected", "sram_volatile_uncorrected", "rows_remapped"),
    *("pages_retired", "pcie_replays", "pcie_fatal_errors", "nvlink_replays", "nvlink_recoveries"),
    *("nvlink_crc_errors", "thermal_violation_s", "power_violation_s"),
)
_RANGES: Final = ("temperature_c", "memory_temperature_c", "power_w", "clock_mhz")
_GOOD: Final = ("pass", "warn")
_HOUR_S: Final = 3600.0


@dataclass
class _Count:
    """One probe on one device."""

    worst: Result
    round: int
    runs: int = 0
    failures: int = 0
    errors: int = 0
    tested_s: float = 0.0

    def take(self, result: Result, number: int) -> None:
        """Count a result, and keep it where it is worse, or as good and newer."""
        if result.status != "skip":
            self.runs += 1
            self.tested_s += result.duration_s
        self.failures += result.status == "fail"
        self.errors += result.status == "error"
        new, old = RANKING.index(result.status), RANKING.index(self.worst.status)
        if new < old or (new == old and result.status in (*_GOOD, "skip")):
            self.worst, self.round = result, number


@dataclass
class _Board:
    """What is known of the board of one device."""

    ranges: dict[str, Range] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
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
        """Take in its counters; the first that are told are those of before."""
        told = {name: float(board[name]) for name in COUNTERS if board.get(name) is not None}
        self.first = {**told, **self.first}
        self.last = {**self.last, **told}


@dataclass(frozen=True)
class Round:
    """What a round came to, for whoever watches."""

    number: int
    statuses: Mapping[Status, int]
    failed: tuple[str, ...] = ()  # probe on device
    ranges: Mapping[str, Range] = field(default_factory=dict)  # of all boards, in this round

    @property
    def tested(self) -> bool:
        """Whether anything came to a verdict on a device."""
        return any(count for status, count in self.statuses.items() if status != "skip")


class Tally:
    """All rounds until now."""

    def __init__(self, *, observations: bool = False) -> None:
        """Begin; `observations` keeps those of what passed too."""
        self._observations = observations
        self._counts: dict[tuple[str, str], _Count] = {}
        self._boards: dict[str, _Board] = {}
        self._not_run: dict[tuple[str, str], NotRun] = {}
        self._in_round: _Board = _Board()
        self._of_round: list[Result] = []  # without those of telemetry
        self._failed: list[str] = []
        self._newest: Report | None = None
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
        self._newest = report
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
            if result.probe != TELEMETRY:
                self._of_round.append(result)
        for missed in report.not_run:
            if (missed.probe, missed.device) not in self._counts:
                self._not_run[missed.probe, missed.device] = missed

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
        return any(board.first for board in self._boards.values())

    def round(self) -> Round:
        """What the round came to until now."""
        return Round(
            number=self.rounds,
            statuses=Counter(result.status for result in self._of_round),
            failed=tuple(self._failed),
            ranges=self._in_round.ranges,
        )

    def busy(self) -> bool:
        """Whether others kept the round from testing anything."""
        return any(result.reason == "gpu_busy" for result in self._of_round)

    def shortest_s(self) -> float:
        """How long the shortest probe of the round took on a device."""
        took = [result.duration_s for result in self._of_round if result.status != "skip"]
        return min(took, default=0.0)

    # ---- in the end

    @property
    def newest(self) -> Report | None:
        """The newest report: what it says of the environment."""
        return self._newest

    def results(self) -> tuple[Result, ...]:
        """The worst result of each probe and device."""
        return tuple(count.worst for count in self._counts.values())

    def not_run(self) -> tuple[NotRun, ...]:
        """What never had a chance."""
        return tuple(self._not_run.values())

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
                worst=count.worst.status,
                worst_round=count.round,
                worst_at=count.worst.started_at,
            )
            for (probe, device), count in self._counts.items()
        )

    def by_device(self) -> tuple[BurnDevice, ...]:
        """Each device."""
        return tuple(self._device(device) for device in self.devices or (CPU,))

    def _device(self, device: Device) -> BurnDevice:
        own = [
            count
            for (probe, name), count in self._counts.items()
            if name == device.name and probe != TELEMETRY
        ]
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
            counters=_rises(board.first, board.last),
            xids=board.xids,
            **board.ranges,
        )


def _rises(first: Mapping[str, float], last: Mapping[str, float]) -> dict[str, float]:
    return {name: last[name] - value for name, value in first.items()}


def _is_of(xid: Mapping[str, Any], gpu: Mapping[str, Any], since_s: float) -> bool:
    """Whether an error line is of that board, and was written since the burn began."""
    age_s = xid.get("age_s")
    address = str(gpu.get("pci_bus_id") or "").rpartition(".")[0]
    return age_s is not None and age_s < since_s and xid.get("address") == address
