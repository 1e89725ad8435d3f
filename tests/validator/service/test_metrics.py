"""Metrics say what DESIGN lists, from the first scrape on, bounded and valid."""

import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import Collector

from probes.catalog import CATALOG
from probes.contract import Finding, Measurement, ProbeSpec, Reason, Status
from tests.validator.reports import QUICK
from tests.validator.service.fake_runner import NOON, Clock, everything, gpus, report, result
from validator.engine.plan import make_plan
from validator.report import Environment, Tool
from validator.service.failing import SERIES
from validator.service.latest import Latest
from validator.service.metrics import Exposition, Form, Shown, families, series_count
from validator.settings.model import Run as RunSettings
from validator.settings.model import Settings

GOLDEN = Path(__file__).parents[2] / "golden" / "metrics.txt"
PROBES = [spec.name for spec in QUICK]
ALL = dict.fromkeys(PROBES, 900.0)
SHOWN = Shown(timeout_s=dict.fromkeys(PROBES, 60), interval_s=dict.fromkeys(PROBES, 300))
TOOL = Tool(version="1.2.3", revision="abc")
FORMS = [Form(openmetrics, gzipped) for openmetrics in (False, True) for gzipped in (False, True)]

#: DESIGN section 8: every family of ours, and its labels.
FAMILIES = {
    "build_info": {"version", "revision"},
    "environment_info": {
        *("torch", "torch_cuda", "cudnn", "nccl", "numpy", "python", "driver", "fingerprint")
    },
    "gpu_info": {"device", "gpu_uuid", "pci_bus_id", "model_name"},
    "node_healthy": set(),
    "probe_success": {"probe", "device"},
    "probe_status": {"probe", "status"},
    "probe_reason": {"probe", "reason"},
    "check_failed": {"probe", "check", "device"},
    "check_warned": {"probe", "check", "device"},
    "checks_left_out": {"status"},
    "probe_last_run_timestamp_seconds": {"probe", "device"},
    "probe_last_success_timestamp_seconds": {"probe", "device"},
    "probe_duration_seconds": {"probe"},
    "probe_timeout_seconds": {"probe"},
    "probe_interval_seconds": {"probe"},
    "probe_runs_total": {"probe", "status"},
    "probe_skips_total": {"probe", "reason"},
    "worker_restarts_total": {"reason"},
    "verified_seconds_total": {"device"},
    "log_lines_dropped_total": set(),
    "run_in_progress": set(),
}


class NoProcess(Collector):
    """A process that has one metric, which a test can move."""

    value = 1.0

    def collect(self) -> Iterator[Metric]:
        """Its one metric."""
        yield GaugeMetricFamily("process_open_fds", "Open descriptors.", value=self.value)


def known(*reports: object) -> Latest:
    """What is latest after some reports."""
    latest = Latest(Clock())
    latest.limit(ALL)
    for one in reports:
        latest.accept(one)  # type: ignore[arg-type]
    return latest


def exposed(latest: Latest, shown: Shown = SHOWN) -> str:
    """The plain exposition, our own families alone."""
    made = Exposition(lambda: families(latest, shown, TOOL), process=NoProcess())
    text = made.read(Form()).decode()
    return text[: text.index("# HELP process_open_fds")]


_ORDER = ("probe", "check", "device", "status", "reason", "direction", "model_name")


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Label values, in the order of `_ORDER` -> value of one of our families."""
    name = f"gpu_validator_{name}"
    return {
        tuple(sample.labels[label] for label in _ORDER if label in sample.labels): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == name
    }


def full() -> Latest:
    """A node of 8 GPUs where much has happened: every kind of series exists."""
    devices = gpus(8)
    results = everything(devices)
    rates = [
        Measurement(name=f"{way}_bytes_per_second", value=5e10, unit="bytes_per_second")
        for way in ("host_to_device", "device_to_host", "device_to_device")
    ]
    seconds = Measurement(name="first_kernel_seconds", value=0.25, unit="seconds")
    measured = {"device_transfer": tuple(rates), "cuda_available": (seconds,)}
    results = [
        one.model_copy(update={"measurements": measured.get(one.probe, ())}) for one in results
    ]
    wrong = tuple(Finding(id=f"tensor_ops.{one}", status="fail") for one in ("views", "item"))
    broken = result("tensor_ops", "cuda:3", "fail", "check_failed", findings=wrong)
    throttled = result(
        *("telemetry", "cpu", "warn", "check_failed"),
        findings=(Finding(id="telemetry.clocks", status="warn"),),
        measurements=tuple(
            Measurement(name=f"gpu_{name}", value=70, unit=unit)
            for name, unit in (
                ("temperature_celsius", "celsius"),
                ("uncorrected_memory_errors", "errors"),
                ("remapped_rows", "rows"),
            )
        ),
    )
    busy = result("train_eval", "cuda:4", "skip", "gpu_busy")
    environment = Environment(
        torch="2.13.0", torch_cuda="12.8", numpy="2.1.0", python="3.11.7", driver="570.1"
    )
    latest = known(report(results, devices, environment=environment))
    others = [one for one in everything(devices) if one.device not in {"cuda:3", "cuda:4"}]
    again = [one for one in others if one.probe in {"tensor_ops", "train_eval"}]
    changed = [broken, busy, throttled]
    latest.accept(report([*again, *changed], devices, environment=environment))
    return latest


@pytest.mark.parametrize("latest", [known(), full()], ids=["before the first run", "8 GPUs"])
def test_every_family_has_its_labels(latest: Latest) -> None:
    """Names and labels are DESIGN's, before the first run and after."""
    text = exposed(latest)
    seen: dict[str, set[str]] = {}
    for family in parse(text):
        for sample in family.samples:
            seen.setdefault(sample.name, set()).update(sample.labels)
    # What is wrong has a series only while it is, a GPU only where there is one.
    only_then = ("gpu_info", "verified_seconds_total", "probe_reason")
    missing = (
        set()
        if latest.devices
        else {f"gpu_validator_{one}" for one in (*only_then, "check_failed", "check_warned")}
    )

    for name, labels in FAMILIES.items():
        full_name = f"gpu_validator_{name}"
        if full_name not in missing:
            assert seen[full_name] == labels, name


def test_every_series_exists_before_the_first_run() -> None:
    """Nothing is healthy, and nothing that can be alerted on is absent."""
    text = exposed(known())

    assert values(text, "node_healthy") == {(): 0}
    assert {probe for probe, _ in values(text, "probe_success")} == set(PROBES)
    for name in ("probe_success", "probe_last_run_timestamp_seconds", "probe_status"):
        assert set(values(text, name).values()) == {0}
    assert len(values(text, "probe_runs_total")) == 5 * len(PROBES)
    assert values(text, "probe_skips_total")["tensor_ops", "gpu_busy"] == 0
    assert set(values(text, "probe_interval_seconds").values()) == {300}
    assert values(text, "worker_restarts_total") == {("died",): 0, ("hung",): 0}
    assert values(text, "run_in_progress") == {(): 0}


@pytest.mark.parametrize(
    ("status", "success"), [("pass", 1), ("warn", 1), ("fail", 0), ("error", 0), ("skip", 0)]
)
def test_success_and_status_of_one_result(status: Status, success: float) -> None:
    """Success is a pass or a warning; exactly the seen status is 1."""
    reason: Reason = "dependency" if status == "skip" else "check_failed"
    text = exposed(known(report([result("autograd", status=status, reason=reason)])))
    states = {k[1]: v for k, v in values(text, "probe_status").items() if k[0] == "autograd"}

    assert values(text, "probe_success")["autograd", "cpu"] == success
    assert {name for name, value in states.items() if value == 1} == {status}
    assert len(states) == 5


def test_status_is_the_worst_over_devices() -> None:
    """One GPU of eight failed: the probe's status is fail, and success is that GPU's alone 0."""
    text = exposed(full())
    success = values(text, "probe_success")

    warned = [result("tensor_ops", "cuda:0"), result("tensor_ops", "cuda:1", "warn")]
    assert values(exposed(known(report(warned))), "probe_status")["tensor_ops", "warn"] == 1
    assert values(text, "probe_status")["tensor_ops", "fail"] == 1
    assert values(text, "probe_status")["tensor_ops", "pass"] == 0
    assert {key for key, value in success.items() if not value} == {("tensor_ops", "cuda:3")}
    assert values(text, "node_healthy") == {(): 0}
    assert values(exposed(known(report(everything()))), "node_healthy") == {(): 1}


def test_times_of_runs_and_successes() -> None:
    """A failing probe's last success stays where it was, its last run moves."""
    latest = known(report(everything()))
    later = NOON.replace(hour=13)
    failed = result("autograd", status="fail", reason="check_failed", started_at=later)
    latest.accept(report([failed]))
    text = exposed(latest)

    ran = values(text, "probe_last_run_timestamp_seconds")["autograd", "cpu"]
    succeeded = values(text, "probe_last_success_timestamp_seconds")["autograd", "cpu"]
    assert succeeded == NOON.timestamp() + 0.5
    assert ran == later.timestamp() + 0.5


def test_counters_and_busy_skips() -> None:
    """A busy GPU counts as a skip by reason, and keeps its success."""
    text = exposed(full())

    assert values(text, "probe_runs_total")["tensor_ops", "fail"] == 1
    assert values(text, "probe_runs_total")["tensor_ops", "pass"] == 8 + 6
    assert values(text, "probe_skips_total")["train_eval", "gpu_busy"] == 1
    assert values(text, "probe_success")["train_eval", "cuda:4"] == 1


def test_verified_seconds_of_all_runs_add_up() -> None:
    """A counter of each device, and no gauge beside it; a device that is gone has none."""
    seconds = Measurement(name="verified_seconds", value=1.5, unit="seconds")
    made = report(
        [result("autograd", one.name, measurements=(seconds,)) for one in gpus(2)], gpus(2)
    )
    latest = known(made)
    assert values(exposed(latest), "verified_seconds_total") == {("cuda:0",): 1.5, ("cuda:1",): 1.5}
    latest.accept(made)
    text = exposed(latest)

    assert values(text, "verified_seconds_total")[("cuda:0",)] == 3
    assert values(text, "verified_seconds") == {}
    latest.accept(report(everything(gpus(1)), gpus(1)))
    assert values(exposed(latest), "verified_seconds_total") == {("cuda:0",): 3}


def test_a_removed_gpu_has_no_series() -> None:
    """After a run that saw one GPU of eight, no series names another."""
    latest = full()
    latest.accept(report(everything(gpus(1)), gpus(1)))

    assert set(re.findall(r'device="([^"]*)"', exposed(latest))) == {"cpu", "cuda:0"}


def test_measured_values_have_names_of_their_own() -> None:
    """The direction of a transfer becomes a label; the device is one as well."""
    text = exposed(full())
    rates = values(text, "transfer_bytes_per_second")

    assert rates["cuda:7", "host_to_device"] == 5e10
    assert 'transfer_bytes_per_second{device="cuda:0",direction="host_to_device"}' in text
    assert len(rates) == 8 * 3
    assert values(text, "first_kernel_seconds")[("cuda:0",)] == 0.25


@pytest.mark.parametrize(
    "names",
    [
        ("node_healthy",),
        ("probe_runs_total",),
        ("Not A Name",),
        ("speed", "speed"),
        ("a_to_b_bytes_per_second", "a_to_b_bytes_per_second"),
        ("a_to_b_bytes_per_second", "transfer_bytes_per_second"),
    ],
)
def test_a_measurement_cannot_break_the_scrape(names: tuple[str, ...]) -> None:
    """A name that is taken, that is none, or that comes twice leaves no second series."""
    measured = tuple(Measurement(name=name, value=7, unit="seconds") for name in names)
    latest = known(report([result("autograd", measurements=measured)]))
    lines = [line.rsplit(" ", 1)[0] for line in exposed(latest).splitlines() if line[0] != "#"]

    assert len(lines) == len(set(lines))
    assert values(exposed(latest), "node_healthy") == {(): 0}


def test_labels_hold_no_message() -> None:
    """What a probe says, an index, a host's name: none of it reaches a label."""
    said = 'quote " backslash \\ newline \n secret'
    failed = result("autograd", status="fail", reason="check_failed", summary=said)

    assert "secret" not in exposed(known(report([failed])))


def test_odd_text_in_a_label_is_escaped() -> None:
    """A GPU's name with quotes and newlines comes back as it was."""
    odd = gpus(1)[0].model_copy(update={"model_name": 'a "b"\n\\c'})
    text = exposed(known(report(everything((odd,)), (odd,))))

    assert next(iter(values(text, "gpu_info")))[-1] == 'a "b"\n\\c'


BUDGET = 1400

SCHEDULED = {
    profile: make_plan(Settings(run=RunSettings(profile=profile)), "schedule").specs
    for profile in ("quick", "standard", "deep")
}


def _series_of_a_node(specs: Sequence[ProbeSpec], *, worst_case: bool) -> int:
    """How many series 8 GPUs have; at worst nothing works, and 28 values of each are measured."""
    devices = gpus(8)
    measured = tuple(Measurement(name=f"value_{n}", value=n, unit="seconds") for n in range(28))
    results = []
    for spec in specs:
        findings = tuple(Finding(id=f"{spec.name}.{one}", status="fail") for one in spec.promises)
        for device in ["cpu"] if spec.needs == "host" else [one.name for one in devices]:
            wrong: dict[str, Any] = {
                "status": "fail",
                "reason": "check_failed",
                "findings": findings,
                "measurements": measured if spec.needs == "device" else (),
            }
            results.append(result(spec.name, device, **(wrong if worst_case else {})))
    latest = Latest(Clock())
    latest.limit({spec.name: 900.0 for spec in specs})
    latest.accept(report(results, devices))
    return series_count(Exposition(lambda: families(latest, SHOWN, TOOL)).read(Form()))


def test_eight_gpus_stay_within_the_budget() -> None:
    """The budget of DESIGN section 12, with the process's own metrics: what a daemon schedules.

    By default that is half the catalogue; of a profile's probes those of `deep` need a timetable.
    """
    assert {spec.name for spec in SCHEDULED["quick"]} == set(PROBES)
    assert SCHEDULED["deep"] == SCHEDULED["standard"]
    assert 300 < _series_of_a_node(SCHEDULED["quick"], worst_case=False) <= BUDGET / 2
    assert _series_of_a_node(SCHEDULED["standard"], worst_case=False) <= BUDGET
    assert _series_of_a_node(CATALOG, worst_case=False) <= BUDGET


def test_a_node_where_nothing_works_stays_within_the_budget() -> None:
    """Every check of every probe fails on each of 8 GPUs, and 28 values of each are measured."""
    assert _series_of_a_node(SCHEDULED["quick"], worst_case=True) <= BUDGET
    assert _series_of_a_node(SCHEDULED["standard"], worst_case=True) <= BUDGET


def test_a_check_has_a_series_only_while_it_fails() -> None:
    """None on a sound node; one while it fails or warns; none after a pass."""
    findings = (
        Finding(id="autograd.shapes", status="fail", message="4 of 7 wrong"),
        Finding(id="autograd.rows", status="warn"),
        Finding(id="autograd.types", status="pass"),
    )
    failed = result("autograd", status="fail", reason="check_failed", findings=findings)
    latest = known(report([failed]))
    text = exposed(latest)

    assert values(text, "check_failed") == {("autograd", "shapes", "cpu"): 1}
    assert values(text, "check_warned") == {("autograd", "rows", "cpu"): 1}
    assert values(text, "probe_reason") == {("autograd", "check_failed"): 1}
    latest.accept(report([result("autograd", findings=findings[2:])]))
    for name in ("check_failed", "check_warned", "probe_reason"):
        assert values(exposed(latest), name) == {}
    assert values(exposed(latest), "checks_left_out") == {("fail",): 0, ("warn",): 0}


@pytest.mark.parametrize(
    ("status", "reason", "named"),
    [
        ("fail", "timeout", [("autograd", "completes", "cpu")]),
        ("error", "internal_error", []),
        ("skip", "gpu_busy", []),
    ],
)
def test_a_fail_without_a_failed_check_did_not_complete(
    status: Status, reason: Reason, named: list[tuple[str, ...]]
) -> None:
    """What was not judged has no failed check: neither an error nor a skip speaks of the GPU."""
    text = exposed(known(report([result("autograd", status=status, reason=reason)])))

    assert [*values(text, "check_failed")] == named
    assert values(text, "probe_reason") == {("autograd", reason): 1}


def test_what_runs_nowhere_alone_is_done_with() -> None:
    """Busy on one device, not applicable to more: it may run yet, and the metrics say so."""

    def reason(*reasons: Reason) -> dict[tuple[str, ...], float]:
        latest = Latest(Clock())
        latest.limit({"tensor_ops": 60.0})
        skips = [
            result("tensor_ops", f"cuda:{number}", status="skip", reason=one)
            for number, one in enumerate(reasons)
        ]
        latest.accept(report(skips, gpus(len(reasons))))
        return values(exposed(latest), "probe_reason")

    assert reason("not_applicable", "not_applicable", "gpu_busy") == {("tensor_ops", "gpu_busy"): 1}
    assert reason("disabled", "disabled") == {("tensor_ops", "disabled"): 1}


def test_a_result_too_old_to_count_names_no_check() -> None:
    """A warning that nobody renewed is an error of the validator, and no longer a warning."""
    warned = result(
        "autograd", "cpu", "warn", findings=(Finding(id="autograd.rows", status="warn"),)
    )
    clock = Clock()
    latest = Latest(clock)
    latest.limit(ALL)
    latest.accept(report([warned]))
    clock.now_s += 901

    assert values(exposed(latest), "check_warned") == {}
    assert values(exposed(latest), "probe_reason") == {("autograd", "internal_error"): 1}


def test_all_of_a_scrape_is_of_one_moment() -> None:
    """A result that grows too old while the families are made is fresh in all of them, or none."""
    clock = Clock()
    latest = Latest(clock)
    latest.limit({"autograd": 900.0})
    latest.accept(report([result("autograd", "cpu", "pass")]))

    def ageing() -> Iterator[Metric]:
        for family in families(latest, SHOWN, TOOL):
            clock.now_s += 300
            yield family

    text = Exposition(ageing, process=NoProcess()).read(Form()).decode()

    assert values(text, "node_healthy") == {(): 1}
    assert values(text, "probe_success") == {("autograd", "cpu"): 1}
    assert values(text, "probe_status")["autograd", "pass"] == 1
    assert values(text, "probe_reason") == {}


def test_a_check_that_the_catalogue_does_not_know_is_another() -> None:
    """A label is one of the catalogue's words, whatever a worker says."""
    odd = tuple(Finding(id=f"autograd.{n} of 9 wrong", status="fail") for n in range(99))
    text = exposed(known(report([result("autograd", "cpu", "fail", findings=odd)])))

    assert values(text, "check_failed") == {("autograd", "other", "cpu"): 1}


def test_every_probe_that_fails_has_a_check_with_a_series() -> None:
    """Where too many fail, each probe comes before the second check of any; the rest is counted."""
    results = [
        result(
            spec.name,
            device,
            "warn" if spec.name == "telemetry" else "fail",
            "check_failed",
            findings=tuple(
                Finding(
                    id=f"{spec.name}.{one}",
                    status="warn" if spec.name == "telemetry" else "fail",
                )
                for one in spec.promises
            ),
        )
        for spec in QUICK
        for device in (["cpu"] if spec.needs == "host" else [one.name for one in gpus(8)])
    ]
    text = exposed(known(report(results, gpus(8))))
    failed, warned = values(text, "check_failed"), values(text, "check_warned")
    left_out = values(text, "checks_left_out")
    checks = sum(len(one.findings) for one in results)

    assert {probe for probe, _, _ in failed} == set(PROBES) - {"telemetry"}
    assert {device for _, _, device in failed} > {"cpu", "cuda:0", "cuda:1", "cuda:2"}
    assert len(failed) + len(warned) == SERIES
    assert warned == {}
    assert SERIES + left_out[("fail",)] + left_out[("warn",)] == checks


def test_an_instance_has_its_status_and_no_measured_values() -> None:
    """A MIG instance goes by its own name; its GPU's whole neighbour is measured as ever."""
    whole = gpus(1)[0]
    names = {"name": "cuda:1:3", "uuid": "MIG-3", "parent_uuid": "GPU-9", "alone": True}
    instance = whole.model_copy(update=names)
    measured = (Measurement(name="first_kernel_seconds", value=0.5, unit="seconds"),)
    results = [
        result("cuda_available", device.name, measurements=measured) for device in (whole, instance)
    ]
    text = exposed(known(report(results, (whole, instance))))

    assert ("cuda_available", "cuda:1:3") in values(text, "probe_success")
    assert values(text, "first_kernel_seconds") == {(whole.name,): 0.5}


def test_help_says_that_values_are_cached() -> None:
    """Whatever comes from a run says so, in words."""
    text = exposed(full())
    for name in ("probe_success", "probe_status", "gpu_info", "probe_duration_seconds"):
        line = next(
            one for one in text.splitlines() if one.startswith(f"# HELP gpu_validator_{name}")
        )
        assert "Cached from the last scheduled run." in line


def test_golden() -> None:
    """The exposition is as recorded: a renamed metric breaks dashboards, so it breaks this.

    Record it again with `python -m tests.validator.service.test_metrics`, and read the difference.
    """
    recorded = GOLDEN.read_text(encoding="utf-8")

    # Parsed, since versions of prometheus_client order labels in their own ways.
    assert list(parse(exposed(full()))) == list(parse(recorded))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("latest", [known(), full()], ids=["before the first run", "8 GPUs"])
def test_promtool_has_nothing_to_say(latest: Latest) -> None:
    """`promtool check metrics` over all of it, the process's metrics included."""
    made = Exposition(lambda: families(latest, SHOWN, TOOL))
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=made.read(Form()),
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_would_say_something() -> None:
    """The check above can fail: a counter without its suffix is found."""
    text = b"# HELP bad A counter.\n# TYPE bad counter\nbad 1\n"
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=30
    )

    assert done.returncode != 0


def test_openmetrics_is_valid_and_says_the_same() -> None:
    """Parsed by the strict parser, with its end mark, and with the values of the plain text."""
    latest = full()
    made = Exposition(lambda: families(latest, SHOWN, TOOL), process=NoProcess())
    text = made.read(Form(openmetrics=True)).decode()
    plain = made.read(Form()).decode()

    def flat(parsed: Any) -> set[tuple[str, str, float]]:
        return {
            (sample.name, str(sorted(sample.labels.items())), sample.value)
            for family in parsed
            for sample in family.samples
        }

    assert text.endswith("\n# EOF\n")
    assert text.count("# EOF") == 1
    families_of: Any = parse_openmetrics  # the library leaves it without types
    assert flat(families_of(text)) == flat(parse(plain))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_four_forms_of_one_text(form: Form) -> None:
    """Gzip is the same bytes packed."""
    latest = full()
    made = Exposition(lambda: families(latest, SHOWN, TOOL), process=NoProcess())
    plain = made.read(Form(openmetrics=form.openmetrics))
    read = made.read(form)

    assert (gzip.decompress(read) if form.gzipped else read) == plain
    assert ("openmetrics" in form.content_type) is form.openmetrics


class Counted:
    """Families that count how often they were made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> Iterator[Metric]:
        """One counter."""
        self.made += 1
        yield CounterMetricFamily("bench", "Made.", value=self.made)


def test_rendered_once_a_change() -> None:
    """A hundred scrapes render once; a change renders once more."""
    counted, clock = Counted(), Clock()
    made = Exposition(counted, monotonic=clock, process=NoProcess())
    first = {made.read(Form()) for _ in range(100)}
    after_first = counted.made
    made.invalidate()
    second = {made.read(Form()) for _ in range(100)}

    assert (after_first, counted.made, len(first), len(second)) == (1, 2, 1, 1)
    assert first != second


def test_process_metrics_are_at_most_five_seconds_old() -> None:
    """They are read again after 5 s, without rendering ours again."""
    counted, clock, process = Counted(), Clock(), NoProcess()
    made = Exposition(counted, monotonic=clock, process=process)
    made.read(Form())
    process.value = 2.0
    clock.now_s += 4.9
    early = made.read(Form())
    clock.now_s += 0.1

    assert b"process_open_fds 1.0" in early
    assert b"process_open_fds 2.0" in made.read(Form())
    assert counted.made == 1


if __name__ == "__main__":
    GOLDEN.write_text(exposed(full()), encoding="utf-8")


def test_a_fail_of_a_gpu_that_no_run_lists_has_its_series() -> None:
    """It is planned nowhere now, and still the node's verdict."""
    latest = Latest(Clock())
    latest.limit({"matmul": 900.0})
    latest.accept(report([result("matmul", "cuda:0", "fail", "check_failed")], gpus(1)))
    latest.accept(report([result("matmul")]))
    text = Exposition(lambda: families(latest, Shown(), Tool(revision="x"))).read(Form()).decode()

    assert values(text, "probe_success") == {("matmul", "cpu"): 1, ("matmul", "cuda:0"): 0}
