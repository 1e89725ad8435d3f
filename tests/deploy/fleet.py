"""Nodes whose metrics over time are those that the product really emits, as input of promtool.

Each node holds the daemon's own `Latest`; a script feeds it reports, minute by minute, and what the
exposition says then becomes the samples of that minute. A renamed metric renames these too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from probes.catalog import BY_NAME
from probes.contract import Finding, Measurement, Reason, Status
from tests.validator.service.fake_runner import Clock, gpus, report, result
from validator.report import CPU, Device, Environment, NotRun, Report, Tool
from validator.service.latest import Latest
from validator.service.metrics import Exposition, Form, Shown, families
from validator.service.textfile import render

INTERVAL_S = 300.0
TIMEOUT_S = 60.0
PROBES = ("torch_version", "tensor_ops", "train_eval")
_TOOL = Tool(version="1.2.3", revision="abc")

#: One series: its name with labels, as text.
Series = str


class _Process(Collector):
    """Stands in for the daemon's process, which started when the node did."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s

    def collect(self) -> Iterator[Metric]:
        """The one metric of a process that a rule asks for."""
        yield GaugeMetricFamily("process_start_time_seconds", "Start.", value=self._started_s)


@dataclass(frozen=True)
class Wrong:
    """What a probe says on one device instead of a pass."""

    probe: str
    status: Status
    reason: Reason = "check_failed"
    device: str | None = None  # None: on every one
    duration_s: float = 0.5
    checks: tuple[str, ...] = ()  # that say so too


class Target(Protocol):
    """Something that Prometheus scrapes."""

    def samples(self, at_s: float) -> dict[Series, float]:
        """All its series of this second, with the labels that Prometheus adds."""


@dataclass
class WantedPods:
    """What kube-state-metrics says of our DaemonSet."""

    count: int

    def samples(self, at_s: float) -> dict[Series, float]:  # noqa: ARG002 - it does not change
        """The number of pods that it wants."""
        labels = {"job": "kube-state-metrics", "daemonset": "gpu-validator"}
        name = "kube_daemonset_status_desired_number_scheduled"
        return {series(name, labels): float(self.count)}


@dataclass
class Node:
    """One daemon. A new object under an old name is a daemon that was started again."""

    name: str
    started_s: float = 0.0
    fingerprint: str = "aaaaaaaaaaaa"
    gpu_count: int = 2
    interval_s: float = INTERVAL_S
    held: str | None = None  # a device that the driver does not give back: nothing runs on it
    restarts: dict[str, int] = field(default_factory=dict)
    up: bool = True
    target: dict[str, str] = field(default_factory=dict)  # further labels: pool, cluster, pod
    probes: tuple[str, ...] = PROBES
    instances: int = 0  # of MIG, that each GPU is cut into
    bus_ids: bool = True  # whether the driver tells them
    verified_s: float = 0.0  # that each run compares products bit by bit, on each device

    def __post_init__(self) -> None:
        """Know nothing yet."""
        self._clock = Clock()
        self._latest = Latest(self._clock)
        self._latest.limit(dict.fromkeys(self.probes, 3 * self.interval_s))
        self._shown: tuple[object, dict[Series, float]] = (None, {})

    def _devices(self) -> tuple[Device, ...]:
        whole = gpus(self.gpu_count)
        if not self.bus_ids:
            whole = tuple(gpu.model_copy(update={"pci_bus_id": None}) for gpu in whole)
        if not self.instances:
            return whole or (CPU,)
        return tuple(
            gpu.model_copy(
                update={
                    "name": f"{gpu.name}:{number}",
                    "uuid": f"MIG-{gpu.index}-{number}",
                    "parent_uuid": gpu.uuid,
                }
            )
            for gpu in whole
            for number in range(self.instances)
        )

    def run(self, at_s: float, *wrong: Wrong) -> None:
        """A run that ended at this second; every probe passed but those named."""
        self._clock.now_s = at_s
        self._latest.accept(self.report(at_s, *wrong))

    def run_without_worker(self, at_s: float, *, imports: bool = True) -> None:
        """A run whose worker did not start, or could not import torch: it lists no device."""
        at = {"started_at": datetime.fromtimestamp(at_s, timezone.utc)}
        said: dict[str, Any] = {"status": "error", "reason": "internal_error", **at}
        results = [result(probe, CPU.name, **said) for probe in self.probes]
        if not imports:
            said |= {"status": "skip", "reason": "dependency"}
            results = [result(probe, CPU.name, **said) for probe in self.probes]
            said |= {"status": "fail", "reason": "import_failed"}
            results[self.probes.index("torch_version")] = result("torch_version", CPU.name, **said)
        self._clock.now_s = at_s
        self._latest.accept(report(results, ()))

    def run_without_torch(self, at_s: float) -> None:
        """A run of the probes that need no torch: it sees no device."""
        whole = self.report(at_s)
        results = [one for one in whole.results if not BY_NAME[one.probe].needs_torch]
        self._clock.now_s = at_s
        self._latest.accept(report(results, ()))

    def report(self, at_s: float, *wrong: Wrong) -> Report:
        """The report of such a run."""
        devices = self._devices()
        results, lost = [], []
        for probe in self.probes:
            on_host = BY_NAME[probe].needs == "host"
            for device in [CPU.name] if on_host else [one.name for one in devices]:
                if device == self.held:
                    lost.append(NotRun(probe=probe, device=device, reason="device_held"))
                    continue
                said = [w for w in wrong if w.probe == probe and w.device in {None, device}]
                fields: dict[str, Any] = {"started_at": datetime.fromtimestamp(at_s, timezone.utc)}
                if said:
                    fields |= {"status": said[0].status, "reason": said[0].reason}
                    fields["duration_s"] = said[0].duration_s
                    fields["findings"] = tuple(
                        Finding(id=f"{probe}.{check}", status=said[0].status)
                        for check in said[0].checks
                    )
                if self.verified_s and not on_host and probe == self.probes[-1]:
                    fields["measurements"] = (
                        Measurement(name="verified_seconds", value=self.verified_s, unit="seconds"),
                    )
                results.append(result(probe, device, **fields))
        environment = Environment(
            torch="2.13.0",
            torch_cuda="12.8",
            numpy="2.1.0",
            python="3.11.7",
            driver="570.1",
            fingerprint=self.fingerprint,
        )
        return report(results, devices, lost, environment=environment)

    def samples(self, at_s: float) -> dict[Series, float]:
        """All series of this second, with the labels that Prometheus adds."""
        labels = {"job": "gpu-env-validator", "instance": self.name, **self.target}
        self._clock.now_s = at_s
        self._latest.has_aged()
        state = (self._latest.version, dict(self.restarts))
        if self._shown[0] != state:
            self._shown = (state, _parsed(self._exposition(), labels))
        own = {series("up", labels): float(self.up)}
        return own | (self._shown[1] if self.up else {})

    def _exposition(self) -> str:
        shown = Shown(
            timeout_s=dict.fromkeys(self.probes, TIMEOUT_S),
            interval_s=dict.fromkeys(self.probes, self.interval_s),
            restarts=self.restarts,
        )
        made = Exposition(
            lambda: families(self._latest, shown, _TOOL), process=_Process(self.started_s)
        )
        return made.read(Form()).decode()


@dataclass
class Stranger:
    """A target that answers, but is not the validator: none of its metrics are ours."""

    name: str

    def samples(self, at_s: float) -> dict[Series, float]:  # noqa: ARG002 - it does not change
        """That it was scraped."""
        return {series("up", {"job": "gpu-env-validator", "instance": self.name}): 1.0}


@dataclass
class TextfileNode(Node):
    """A node without a daemon: a timer writes a file, which node_exporter hands out."""

    written_s: float | None = None  # None: there is no file
    file: str = "/var/lib/node_exporter/gpu-validator.prom"

    def run(self, at_s: float, *wrong: Wrong) -> None:
        """Write the file anew."""
        labels = {"job": "node", "instance": self.name}
        self.written_s = at_s
        self._shown = (None, _parsed(render(self.report(at_s, *wrong)), labels))

    def samples(self, at_s: float) -> dict[Series, float]:  # noqa: ARG002 - a file does not age
        """The file's series, its age as node_exporter tells it, and node_exporter's own start."""
        labels = {"job": "node", "instance": self.name}
        own = {series("up", labels): 1.0, series("process_start_time_seconds", labels): 0.0}
        if self.written_s is None:
            return own
        mtime = series("node_textfile_mtime_seconds", {**labels, "file": self.file})
        return own | {mtime: self.written_s} | self._shown[1]


def series(name: str, labels: Mapping[str, str]) -> Series:
    """A series as PromQL writes it."""
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inner}}}"


def _parsed(text: str, target: Mapping[str, str]) -> dict[Series, float]:
    return {
        series(sample.name, {**sample.labels, **target}): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def record(
    script: Callable[[float], Iterable[Target]], minutes: int, step: int, wanted: Iterable[str]
) -> list[dict[str, str]]:
    """Promtool's `input_series`: what the nodes say every `step` minutes, of the wanted metrics."""
    names = tuple(f"{name}{{" for name in wanted)
    steps: list[dict[Series, float]] = []
    for minute in range(0, minutes + 1, step):
        now: dict[Series, float] = {}
        for node in script(minute * 60.0):
            now |= node.samples(minute * 60.0)
        steps.append({one: value for one, value in now.items() if one.startswith(names)})
    known = dict.fromkeys(one for now in steps for one in now)
    return [{"series": one, "values": _notation([now.get(one) for now in steps])} for one in known]


def _notation(values: list[float | None]) -> str:
    """Values in promtool's notation, where `1+2x3` is 1 3 5 7 and a series that ends is `stale`."""
    parts: list[str] = []
    at = 0
    while at < len(values):
        first = values[at]
        end = at + 1
        if first is None:
            while end < len(values) and values[end] is None:
                end += 1
            gone = ["stale"] if at else []
            blanks = end - at - len(gone)
            parts += gone + ([f"_x{blanks}"] if blanks else [])
        else:
            following = values[end] if end < len(values) else None
            delta = 0.0 if following is None else following - first
            while end < len(values) and values[end] == first + delta * (end - at):
                end += 1
            if end - at < 3 and delta:  # two values are no row
                end, delta = at + 1, 0.0
            parts.append(f"{first:.12g}{delta:+.12g}x{end - at - 1}")
        at = end
    return " ".join(parts)
