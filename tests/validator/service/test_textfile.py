"""A run's metrics as a file: the daemon's families where one run can know them, fit to be read."""

import os
import re
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from probes.contract import Finding, Measurement
from tests.deploy.components import get, node_exporter, tool
from tests.validator.service.fake_runner import NOON, everything, gpus, report, result
from validator.cli import document as render_module
from validator.cli.files import write_whole
from validator.cli.options import REPORT_FORMS
from validator.report import NotRun, Report
from validator.service.latest import Latest
from validator.service.metrics import Exposition, Form, Shown, families
from validator.service.textfile import render

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

#: Of the daemon alone: counters, and what its schedule says.
COUNTED_OR_SCHEDULED = {
    f"gpu_validator_{name}"
    for name in (
        "probe_timeout_seconds",
        "probe_interval_seconds",
        "probe_runs_total",
        "probe_skips_total",
        "worker_restarts_total",
        "verified_seconds_total",
        "log_lines_dropped_total",
        "run_in_progress",
    )
}


def samples(text: str) -> Samples:
    """Name and labels -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Label values, by the labels' names in order -> value, of one of our families."""
    return {
        tuple(value for _, value in labels): number
        for (one, labels), number in samples(text).items()
        if one == f"gpu_validator_{name}"
    }


def daemon(*reports: Report) -> str:
    """What the daemon says after these runs, its process left out."""
    latest = Latest()
    latest.limit(dict.fromkeys((one.probe for one in reports[0].results), float("inf")))
    for one in reports:
        latest.accept(one)
    made = Exposition(lambda: families(latest, Shown(), reports[0].tool))
    return made.read(Form()).decode()


def mixed() -> Report:
    """Two GPUs; on the second one probe fails, one is skipped, and one was not reached."""
    devices = gpus(2)
    rates = (Measurement(name="host_to_device_bytes_per_second", value=5e10, unit="x"),)
    said: dict[tuple[str, str], dict[str, Any]] = {
        ("tensor_ops", "cuda:1"): {"status": "fail", "reason": "check_failed"},
        ("train_eval", "cuda:1"): {"status": "skip", "reason": "gpu_busy"},
        ("device_transfer", "cuda:0"): {"measurements": rates},
    }
    results = [
        one.model_copy(update=said.get((one.probe, one.device), {}))
        for one in everything(devices)
        if (one.probe, one.device) != ("autograd", "cuda:1")
    ]
    lost = NotRun(probe="autograd", device="cuda:1", reason="run_timeout")
    return report(results, devices, not_run=[lost])


@pytest.mark.parametrize("made", [report(everything()), mixed()], ids=["sound", "mixed"])
def test_says_what_the_daemon_says(made: Report) -> None:
    """Every series is the daemon's, and of the daemon's only its own are missing."""
    of_run, of_daemon = samples(render(made)), samples(daemon(made))
    never = {key for key, value in of_daemon.items() if "last_success" in key[0] and value == 0}
    own = {key for key in of_daemon if key[0] in COUNTED_OR_SCHEDULED or key[0][:8] == "process_"}

    assert of_run.items() <= of_daemon.items()
    assert of_daemon.keys() - of_run.keys() == never | own
    assert {name for name, _ in own} >= COUNTED_OR_SCHEDULED


def test_verdicts() -> None:
    """What failed, was skipped and had no chance reads so."""
    text = render(mixed())
    success, ran = of(text, "probe_success"), of(text, "probe_last_run_timestamp_seconds")

    assert success["cuda:0", "tensor_ops"] == 1
    assert success["cuda:1", "tensor_ops"] == 0
    assert success["cuda:1", "train_eval"] == 0
    assert success["cuda:1", "autograd"] == 0
    assert ran["cuda:1", "tensor_ops"] == (NOON + timedelta(seconds=0.5)).timestamp()
    assert ran["cuda:1", "autograd"] == 0
    assert of(text, "probe_status")["tensor_ops", "fail"] == 1
    assert of(text, "node_healthy") == {(): 0}
    assert of(render(report(everything())), "node_healthy") == {(): 1}
    assert of(text, "transfer_bytes_per_second") == {("cuda:0", "host_to_device"): 5e10}


def test_nothing_is_healthy_when_nothing_could_be_told() -> None:
    """All skipped, or no result at all: absence is never health."""
    skipped = [result("autograd", status="skip", reason="dependency")]
    lost = [NotRun(probe="autograd", device="cpu", reason="cancelled")]

    assert of(render(report(skipped)), "node_healthy") == {(): 0}
    assert of(render(report([], not_run=lost)), "node_healthy") == {(): 0}


def test_last_success_is_told_only_of_a_success() -> None:
    """0 would say that there never was one, which a run that failed cannot know."""
    succeeded = of(render(mixed()), "probe_last_success_timestamp_seconds")

    assert ("cuda:0", "tensor_ops") in succeeded
    assert not succeeded.keys() & {
        ("cuda:1", "tensor_ops"),
        ("cuda:1", "train_eval"),
        ("cuda:1", "autograd"),
    }
    assert 0 not in succeeded.values()


def test_no_timestamps() -> None:
    """The textfile collector refuses the whole file for one."""
    lines = [line for line in render(mixed()).splitlines() if not line.startswith("#")]

    assert lines
    assert all(re.fullmatch(r'\w+(\{(\w+="[^"]*",?)*\})? \S+', line) for line in lines)


def test_help_does_not_speak_of_a_schedule() -> None:
    """A run from a timer or a prolog is no scheduled one of ours."""
    assert "scheduled" not in render(mixed())
    assert "Cached from the last run." in render(mixed())


@pytest.mark.parametrize("made", [report(everything()), mixed()], ids=["sound", "mixed"])
def test_promtool_has_nothing_to_say(made: Report) -> None:
    """`promtool check metrics` takes the file without a word."""
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=render(made).encode(),
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_node_exporter_hands_it_out(tmp_path: Path) -> None:
    """The real collector reads the file, and refuses one with a timestamp."""
    (tmp_path / "gpu-validator.prom").write_text(render(mixed()), encoding="utf-8")
    with node_exporter(tmp_path, tmp_path / "log") as address:
        first = get(f"http://{address}/metrics")
        (tmp_path / "wrong.prom").write_text("wrong 1 1700000000000\n", encoding="utf-8")
        second = get(f"http://{address}/metrics")

    assert first is not None
    assert second is not None
    shown = samples(first.decode())
    assert samples(render(mixed())).items() <= shown.items()
    assert shown["node_textfile_scrape_error", ()] == 0
    assert any(name == "node_textfile_mtime_seconds" for name, _ in shown)
    assert samples(second.decode())["node_textfile_scrape_error", ()] == 1


def _check(*argv: str, umask: int = 0o077) -> subprocess.CompletedProcess[str]:
    """A real run of the cheapest probe, with a umask as strict as systemd's may be."""
    program = (
        f"import os, sys; os.umask({umask}); from validator.cli.main import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "check", "--probe", "torch_version", *argv],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "GPU_VALIDATOR_EXPECT__GPUS": "0"},
    )


@pytest.mark.torch
def test_the_file_is_whole_and_can_be_read_by_others(tmp_path: Path) -> None:
    """A run under a strict umask leaves one file, readable by node_exporter's user."""
    file = tmp_path / "gpu-validator.prom"
    done = _check("--output", "prom", "--output-file", str(file))

    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]
    assert of(file.read_text(encoding="utf-8"), "node_healthy") == {(): 1}
    assert "torch_version" in done.stdout  # people still see the text


def test_other_files_keep_what_the_umask_says(tmp_path: Path) -> None:
    """A report names paths and logs of the node: only the metrics are for everyone."""
    before = os.umask(0o077)
    try:
        for form in get_args(render_module.Output):
            write_whole(tmp_path / form, "content", render_module.FILE_MODES.get(form))
    finally:
        os.umask(before)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes) == set(REPORT_FORMS), "what the command line offers is what can be made"
    assert modes == {"text": 0o600, "json": 0o600, "junit": 0o600, "prom": 0o644}


@pytest.mark.torch
def test_on_stdout_it_is_the_metrics_alone() -> None:
    """For `| sponge`, `| curl`: nothing else is on stdout."""
    done = _check("--output", "prom")

    assert done.stdout.startswith("# HELP gpu_validator_build_info")
    assert of(done.stdout, "node_healthy") == {(): 1}


def test_failed_checks_are_in_the_file_while_they_fail() -> None:
    """By name, with the reason; a run that found nothing wrong writes none of these series."""
    finding = Finding(id="autograd.shapes", status="fail")
    failed = result("autograd", status="fail", reason="check_failed", findings=(finding,))
    sick, well = render(report([failed])), render(report([result("autograd")]))

    assert of(sick, "check_failed") == {("shapes", "cpu", "autograd"): 1}
    assert of(sick, "probe_reason") == {("autograd", "check_failed"): 1}
    assert of(well, "check_failed") == of(well, "probe_reason") == {}
    assert of(well, "checks_left_out") == {("fail",): 0, ("warn",): 0}
