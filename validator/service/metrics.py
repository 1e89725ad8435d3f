"""The latest results as Prometheus metrics, rendered once a change and not once a scrape."""

import asyncio
import gzip
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from probes.contract import Result, Status, worst
from validator.piecewise import Pieces, at_once, in_pieces
from validator.report import Environment, Tool
from validator.service.entry import Pair
from validator.service.failing import TOLD, failing_checks, reason_of
from validator.service.latest import Latest

PREFIX: Final = "gpu_validator_"

#: Every status once, for series that exist before the first run.
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

#: Reasons that a skip of any probe can have; others appear when they happen.
SKIP_REASONS: Final = ("gpu_busy", "not_applicable", "disabled", "dependency")

#: Why a worker had to be started again; others appear when they happen.
RESTART_REASONS: Final = ("died", "hung")

#: `environment_info`'s labels, fields of the report's environment.
_ENVIRONMENT: Final = (
    "torch",
    "torch_cuda",
    "cudnn",
    "nccl",
    "numpy",
    "python",
    "driver",
    "fingerprint",
)

_NONE: Final = "none"  # a label's value where there is nothing: an empty one would be no label
_CACHED: Final = "Cached from the last scheduled run."
_PROCESS_MAX_AGE_S: Final = 5.0
#: What changed while it was rendered is rendered again so often, and then all at once.
_TRIES: Final = 3

_Results = Mapping[Pair, Result]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")

#: Measurements of transfers: the direction in their name becomes a label.
_TRANSFER: Final = re.compile(r"([a-z0-9]+_to_[a-z0-9]+)_(bytes_per_second)")


@dataclass(frozen=True)
class Shown:
    """What the metrics say beside the latest results."""

    timeout_s: Mapping[str, float] = field(default_factory=dict)
    interval_s: Mapping[str, float] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    run_in_progress: bool = False
    log_lines_dropped: int = 0


def families(latest: Latest, shown: Shown, tool: Tool) -> Iterator[Metric]:
    """All metric families, in a fixed order; labels are bounded by catalogue and devices.

    What counts is asked for once: a result may grow too old while they are made.
    """
    results = latest.results()
    yield _info(
        "build",
        "Version and source revision of gpu-validator.",
        {"version": tool.version, "revision": tool.revision or _NONE},
    )
    newest = latest.newest
    environment = Environment() if newest is None else newest.environment
    versions = {name: getattr(environment, name) or _NONE for name in _ENVIRONMENT}
    yield _info("environment", f"Software under test. {_CACHED}", versions)
    gpus = _gauge("gpu_info", f"GPUs of this node; always 1. {_CACHED}", _GPU_LABELS)
    for device in latest.devices:
        if device.type != "cpu":
            known = (device.uuid, device.pci_bus_id, device.model_name)
            gpus.add_metric([device.name, *(value or _NONE for value in known)], 1)
    yield gpus
    healthy = "1 when every planned probe has a fresh result and none failed or could not be told"
    ready = float(latest.readiness(results).ready)
    yield _plain("node_healthy", f"{healthy}, else 0. {_CACHED}", ready)
    yield from _of_pairs(latest, results)
    yield from _of_probes(latest, results, shown)
    yield from _of_checks(results)
    yield _plain("run_in_progress", "1 while a run goes on.", float(shown.run_in_progress))
    restarts = _counter("worker_restarts", "Worker processes started again.", ("reason",))
    for reason in sorted({*RESTART_REASONS, *shown.restarts}):
        restarts.add_metric([reason], shown.restarts.get(reason, 0))
    yield restarts
    verified = _counter(
        "verified_seconds", "Seconds in which every product was compared bit by bit.", ("device",)
    )
    for device in latest.devices:
        if device.parent_uuid is None:
            total = latest.measured.get(("verified_seconds", device.name), 0.0)
            verified.add_metric([device.name], total)
    yield verified
    yield CounterMetricFamily(
        f"{PREFIX}log_lines_dropped",
        "Lines of the log that were dropped, since nobody read them in time.",
        value=shown.log_lines_dropped,
    )
    yield from _measurements(latest, results)


_GPU_LABELS: Final = ("device", "gpu_uuid", "pci_bus_id", "model_name")


def _gauge(name: str, text: str, labels: Iterable[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=list(labels))


def _plain(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _counter(name: str, text: str, labels: Iterable[str]) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=list(labels))


def _info(name: str, text: str, value: dict[str, str]) -> InfoMetricFamily:
    return InfoMetricFamily(PREFIX + name, text, value=value)


def _of_pairs(latest: Latest, results: _Results) -> Iterator[Metric]:
    """A series a probe and device. What never ran is no success, and 0 is its time."""
    entries = latest.entries()
    labels = ("probe", "device")
    success = _gauge(
        "probe_success",
        "1 when the last verdict was pass or warn, 0 when it was fail or error, when there is "
        f"none, and when the probe was skipped. {_CACHED}",
        labels,
    )
    ran = _gauge(
        "probe_last_run_timestamp_seconds",
        f"When the probe last ended; 0 if never. {_CACHED}",
        labels,
    )
    succeeded = _gauge(
        "probe_last_success_timestamp_seconds",
        f"When the probe last ended in pass or warn; 0 if never. {_CACHED}",
        labels,
    )
    for pair in dict.fromkeys([*latest.planned, *results]):
        entry, result = entries.get(pair), results.get(pair)
        success.add_metric(pair, result is not None and result.status in {"pass", "warn"})
        ran.add_metric(pair, 0 if entry is None else entry.ended_at.timestamp())
        good = None if entry is None else entry.succeeded_at
        succeeded.add_metric(pair, 0 if good is None else good.timestamp())
    yield from (success, ran, succeeded)


def _of_probes(latest: Latest, results: _Results, shown: Shown) -> Iterator[Metric]:
    """A few series a probe, whatever the number of devices."""
    probes = tuple(dict.fromkeys(pair.probe for pair in latest.planned))
    of_probe = {name: [one for one in results.values() if one.probe == name] for name in probes}
    status = _gauge(
        "probe_status",
        f"1 at the probe's worst status over its devices, 0 at the others. {_CACHED}",
        ("probe", "status"),
    )
    reasons = _gauge(
        "probe_reason",
        "1 at the reason of the probe's worst status, on most of its devices; no series while it "
        f"passes or has no result. {_CACHED}",
        ("probe", "reason"),
    )
    for probe in probes:
        seen = worst(one.status for one in of_probe[probe]) if of_probe[probe] else None
        for one in STATUSES:
            status.add_metric([probe, one], seen == one)
        if why := reason_of(of_probe[probe]):
            reasons.add_metric([probe, why], 1)
    yield from (status, reasons)
    duration = _gauge(
        "probe_duration_seconds",
        f"How long the probe took, on its slowest device; 0 if it never ran. {_CACHED}",
        ("probe",),
    )
    timeout = _gauge("probe_timeout_seconds", "The probe's deadline.", ("probe",))
    interval = _gauge(
        "probe_interval_seconds",
        "Seconds between runs of the probe; of a cron expression its longest gap.",
        ("probe",),
    )
    runs = _counter("probe_runs", "Results of the probe, by status.", ("probe", "status"))
    skips = _counter("probe_skips", "Skips of the probe, by reason.", ("probe", "reason"))
    for probe in probes:
        duration.add_metric([probe], max((one.duration_s for one in of_probe[probe]), default=0))
        timeout.add_metric([probe], shown.timeout_s.get(probe, 0))
        interval.add_metric([probe], shown.interval_s.get(probe, 0))
        for one in STATUSES:
            runs.add_metric([probe, one], latest.runs[probe, one])
        others = {reason for name, reason in latest.skips if name == probe} - {*SKIP_REASONS}
        for reason in (*SKIP_REASONS, *sorted(others)):
            skips.add_metric([probe, reason], latest.skips[probe, reason])
    yield from (duration, timeout, interval, runs, skips)


def _of_checks(results: _Results) -> Iterator[Metric]:
    """A series a check that fails or warns, while it does; how many more there are is counted."""
    checks = failing_checks(results.values())
    labels = ("probe", "check", "device")
    only = f"no series while it does not, and for a bounded number of checks. {_CACHED}"
    metrics = {
        "fail": _gauge("check_failed", f"1 while a check fails; {only}", labels),
        "warn": _gauge("check_warned", f"1 while a check warns; {only}", labels),
    }
    for one in checks.shown:
        metrics[one.status].add_metric([one.probe, one.check, one.device], 1)
    yield from metrics.values()
    left_out = _gauge(
        "checks_left_out",
        f"Checks that fail or warn, and are too many for a series of their own. {_CACHED}",
        ("status",),
    )
    for status in TOLD:
        left_out.add_metric([status], checks.left_out[status])
    yield left_out


def _measurements(latest: Latest, results: _Results) -> Iterator[Metric]:
    """Measured values under their own names, which no name of ours can be.

    A second value of one series is dropped: Prometheus would refuse the whole scrape for it.
    """
    values: dict[str, dict[tuple[str, ...], float]] = {}
    # Of MIG instances the status only: seven a GPU would be too many series.
    instances = {device.name for device in latest.devices if device.parent_uuid is not None}
    for pair, result in results.items():
        if pair.device in instances:
            continue
        for one in result.measurements:
            transfer = _TRANSFER.fullmatch(one.name)
            name = f"transfer_{transfer[2]}" if transfer else one.name
            if not _NAME.fullmatch(name) or name in _OWN_NAMES:
                continue
            series: tuple[str, ...] = (pair.device, transfer[1]) if transfer else (pair.device,)
            values.setdefault(name, {}).setdefault(series, one.value)
    for name, series_values in sorted(values.items()):
        directed = name == "transfer_bytes_per_second"
        metric = _gauge(
            name,
            f"Measured by a probe: {name.replace('_', ' ')}. {_CACHED}",
            ("device", "direction") if directed else ("device",),
        )
        for series, value in series_values.items():
            if len(series) == 1 + directed:
                metric.add_metric(series, value)
        yield metric


_OWN_NAMES: Final = {
    "build_info",
    "environment_info",
    "gpu_info",
    "node_healthy",
    "probe_success",
    "probe_status",
    "probe_reason",
    "check_failed",
    "check_warned",
    "checks_left_out",
    "probe_last_run_timestamp_seconds",
    "probe_last_success_timestamp_seconds",
    "probe_duration_seconds",
    "probe_timeout_seconds",
    "probe_interval_seconds",
    "probe_runs_total",
    "probe_skips_total",
    "worker_restarts_total",
    "verified_seconds",
    "verified_seconds_total",
    "log_lines_dropped_total",
    "run_in_progress",
}


class _Source(Collector):
    """A collector over families that were made before."""

    def __init__(self, made: Iterable[Metric]) -> None:
        self._made = tuple(made)

    def collect(self) -> Iterator[Metric]:
        yield from self._made


@dataclass(frozen=True)
class Form:
    """One of the four forms of an exposition."""

    openmetrics: bool = False
    gzipped: bool = False

    @property
    def content_type(self) -> str:
        """What the form is called in HTTP."""
        if self.openmetrics:
            return "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """The bytes that a scrape gets: each form made at its first use after a change.

    The process's own metrics change all the time; they are read again when they are older than
    5 s, so that fifty scrapers cost no more than one.
    """

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        process: Collector | None = None,
    ) -> None:
        """Create it; `collect` makes our families, `process` collects this process's metrics."""
        self._collect, self._monotonic = collect, monotonic
        self._process = process or ProcessCollector(registry=None)
        self._ours: dict[bool, bytes] = {}  # OpenMetrics or not -> without its end
        self._forms: dict[Form, bytes] = {}
        self._changes = 0
        self._making = asyncio.Lock()
        self._read_s = float("-inf")

    def invalidate(self) -> None:
        """Make every form anew at its next use: what the families say has changed."""
        self._ours.clear()
        self._forms.clear()
        self._changes += 1

    def read(self, form: Form) -> bytes:
        """The exposition in a form, at most 5 s old."""
        if form.openmetrics not in self._ours:
            made = _rendered(self._collect(), openmetrics=form.openmetrics)
            self._ours[form.openmetrics] = at_once(made)
        return self._complete(form)

    def made(self, form: Form) -> bytes | None:
        """The same; None where our families are to be rendered first."""
        return self._complete(form) if form.openmetrics in self._ours else None

    async def renewed(self, form: Form) -> bytes:
        """The same, rendered a family at a time; whoever asks meanwhile waits for it."""
        async with self._making:
            for _ in range(_TRIES):
                if form.openmetrics in self._ours:
                    break
                before = self._changes
                made = _rendered(self._collect(), openmetrics=form.openmetrics)
                text = await in_pieces(made)
                if before == self._changes:
                    self._ours[form.openmetrics] = text
            return self.read(form)

    def _complete(self, form: Form) -> bytes:
        """Our families, the process's own metrics and the end, as the form has them."""
        now = self._monotonic()
        if now - self._read_s >= _PROCESS_MAX_AGE_S:
            self._forms.clear()
            self._read_s = now
        if form not in self._forms:
            plain = Form(openmetrics=form.openmetrics)
            if plain not in self._forms:
                process = _rendered(self._process.collect(), openmetrics=form.openmetrics)
                end = b"# EOF\n" if form.openmetrics else b""
                self._forms[plain] = self._ours[form.openmetrics] + at_once(process) + end
            if form.gzipped:
                self._forms[form] = gzip.compress(self._forms[plain], 6, mtime=0)
        return self._forms[form]


def _rendered(made: Iterable[Metric], *, openmetrics: bool) -> Pieces[bytes]:
    """Families as text, one a piece."""
    texts: list[bytes] = []
    for family in made:
        yield
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Source([family]))
        if openmetrics:
            text: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
            texts.append(text.removesuffix(b"# EOF\n"))
        else:
            texts.append(generate_latest(registry))
        yield
    return b"".join(texts)


def series_count(text: bytes) -> int:
    """How many series an exposition in plain text has."""
    return sum(1 for line in text.splitlines() if line and not line.startswith(b"#"))
