"""The whole product on a node of two accelerators without any: one of them sick among the healthy.

Real processes throughout; the accelerators are those of `tests.emulator`.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from probes.catalog import BY_NAME
from probes.contract import PROFILES

pytestmark = [
    pytest.mark.timeout(300),  # the first of them compiles
    pytest.mark.slow,
]

ROOT = Path(__file__).parents[1]
HEALTHY, SICK = "fake:0", "fake:1"

Report = dict[str, Any]


def node(emulator: Path, faults: str) -> dict[str, str]:
    """The environment of a node of two devices with those faults."""
    return {**os.environ, "PYTHONPATH": str(emulator), "EMULATOR_FAULTS": faults}


def checked(emulator: Path, faults: str, *argv: str, timeout_s: float = 270) -> tuple[int, Report]:
    """One `check` of the node: its exit code and report."""
    done = subprocess.run(
        [sys.executable, "-m", "validator", "check", "--output", "json", *argv],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=ROOT,
        env=node(emulator, faults),
    )

    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def verdicts(report: Report, device: str) -> dict[str, tuple[str, str]]:
    """Status and reason of each probe on a device."""
    return {
        result["probe"]: (result["status"], result["reason"])
        for result in report["results"]
        if result["device"] == device
    }


def broken(report: Report, device: str) -> set[str]:
    """The checks that did not hold on a device."""
    return {
        finding["id"]
        for result in report["results"]
        for finding in result["findings"]
        if result["device"] == device and finding["status"] not in {"pass", "skip"}
    }


#: Probes that warn on the emulator: it hands all to the CPU, whose known defects are left out where
#: the device is the CPU alone; and it has no views of group_norm's kind, no random state to fork.
AS_THE_CPU: Final = ("layers", "strided_operands")
#: No autocast and no compiler is made for it, and it runs no kernels of ours.
NOT_HERE: Final = ("amp", "compiled", "tensor_cores")


def test_healthy(emulator: Path) -> None:
    """Every probe passes, those of devices on both."""
    code, report = checked(emulator, "", "--profile", PROFILES[-1])

    device_probes = {name for name, spec in BY_NAME.items() if spec.needs == "device"}
    assert (code, report["status"]) == (0, "warn"), report["summary"]
    expected = dict.fromkeys(device_probes, ("pass", "ok"))
    expected |= dict.fromkeys(AS_THE_CPU, ("warn", "unproven"))
    expected |= dict.fromkeys(NOT_HERE, ("skip", "not_applicable"))
    for device in (HEALTHY, SICK):
        assert verdicts(report, device) == expected
    on_host = dict.fromkeys(BY_NAME.keys() - device_probes, ("pass", "ok"))
    on_host |= dict.fromkeys(("telemetry", "companions"), ("skip", "not_applicable"))
    assert verdicts(report, "cpu") == on_host
    assert [device["name"] for device in report["devices"]] == [HEALTHY, SICK]
    assert len({device["uuid"] for device in report["devices"]}) == 2


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("profile", ["quick", "standard"])
def test_no_false_alarm_in_twenty_runs(emulator: Path, profile: str) -> None:
    """Nothing fails, and nothing but what the emulator is known for warns."""
    for turn in range(20):
        code, report = checked(emulator, "", "--profile", profile, timeout_s=900)
        bad = {
            result["probe"]: result["summary"]
            for result in report["results"]
            if result["status"] not in {"pass", "skip"} and result["probe"] not in AS_THE_CPU
        }

        assert (bad, report["not_run"], code) == ({}, [], 0), f"run {turn + 1}"


@dataclass(frozen=True)
class Sickness:
    """A fault of the second device, the probes that run, and what must be said of them there."""

    faults: str
    expected: dict[str, tuple[str, str]]
    checks: set[str]  # among those that do not hold there
    said: str  # somewhere in the result of the first probe
    code: int = 1
    spared: str = ""  # no check of that prefix may trip
    config: str = ""
    unproven: str = "fail"  # nothing is proven on hardware that does not exist


_FAILED, _CRASHED, _RAISED = ("fail", "check_failed"), ("fail", "crashed"), ("fail", "torch_raised")
_UNPROVEN: tuple[str, str] = ("warn", "unproven")
_PASS, _TIMEOUT, _ERROR = ("pass", "ok"), ("fail", "timeout"), ("error", "internal_error")
_IMPATIENT = "probes: {cuda_available: {timeout: 4s}}"

SICKNESSES = {
    "copies into it flip a bit": Sickness(
        "1:h2d:flip",
        {"device_transfer": _FAILED},
        {
            "device_transfer.host_to_device_sizes",
            "device_transfer.host_to_device_dtypes",
            "device_transfer.host_to_device_pinned",
        },
        "copies into the device arrive wrong",
        spared="device_transfer.device_to_",
    ),
    "copies out of it flip a bit": Sickness(
        "1:d2h:flip@large=2",  # numbers read one at a time are right
        {"device_transfer": _FAILED},
        {
            "device_transfer.device_to_host_sizes",
            "device_transfer.device_to_host_dtypes",
            "device_transfer.device_to_host_pinned",
        },
        "copies out of the device arrive wrong",
        spared="device_transfer.host_to_",
    ),
    "dropout is off on hardware that nobody has proven": Sickness(
        "1:aten::native_dropout:scale:1.001",
        {"train_eval": _UNPROVEN},
        {"train_eval.dropout_train"},
        "send the file that `gpu-validator check --record FILE` writes",
        code=0,
        unproven="warn",
    ),
    "products are off to the bit on hardware that nobody has proven": Sickness(
        "1:aten::mm:flip@every=7",
        {"tensor_ops": _FAILED},
        {"tensor_ops.matmul_exact"},
        "expected",
        unproven="warn",
    ),
    "products are a thousandth too large": Sickness(
        "1:aten::mm:scale:1.001",
        {"tensor_ops": _FAILED, "autograd": _FAILED},
        {"tensor_ops.matmul_exact", "tensor_ops.float32_matmul", "autograd.products"},
        "expected",
    ),
    "products are wrong now and then": Sickness(
        "1:aten::mm:flip@every=7",
        {"tensor_ops": _FAILED},
        {"tensor_ops.matmul_exact"},
        "bits differ by",
    ),
    "dropout lies": Sickness(
        "1:aten::native_dropout:scale:1.001",
        {"train_eval": _FAILED},
        {"train_eval.dropout_train"},
        "p=0.5: values",
        spared="train_eval.batch_norm",
    ),
    "one operation aborts": Sickness(
        "1:aten::erfc:abort",
        # The next probe has a process of its own.
        {"special_functions": _CRASHED, "linalg": _PASS},
        {"special_functions.functions", "special_functions.limits"},  # both use it
        "died by SIGABRT in ",
    ),
    "one operation is a fault of memory": Sickness(
        "1:aten::erfc:segv",
        {"special_functions": _CRASHED, "linalg": _PASS},
        {"special_functions.functions", "special_functions.limits"},
        "died by SIGSEGV in ",
    ),
    "it hangs": Sickness(
        "1:*:hang",
        {"cuda_available": _TIMEOUT},
        {"cuda_available.completes"},
        "no result within 4 s",
        config=_IMPATIENT,
    ),
    "it hangs, and Python with it": Sickness(
        "1:synchronize:hang_gil",
        {"cuda_available": _TIMEOUT},
        {"cuda_available.completes"},
        "no result within 4 s",
        config=_IMPATIENT,
    ),
    "one operation takes the context with it": Sickness(
        "1:aten::native_dropout:sticky:CUDA error: an illegal memory access was encountered",
        {"train_eval": _FAILED, "autograd": _PASS},  # as above
        {"train_eval.dropout_train", "train_eval.first_steps", "train_eval.completes"},
        "an illegal memory access was encountered",
    ),
    "its memory is taken": Sickness(
        "1:alloc:full:100000",
        {"train_eval": _RAISED},
        {"train_eval.completes"},
        "OutOfMemoryError",
    ),
    "its process ends without a word": Sickness(
        "1:aten::native_dropout:exit",
        {"train_eval": _ERROR},
        {"train_eval.completes"},
        "exited with code 0 and left no result",
        code=2,
    ),
}


@pytest.mark.parametrize("name", SICKNESSES)
def test_one_sick_device(emulator: Path, tmp_path: Path, name: str) -> None:
    """The sick one is named, with the check that tells why; the healthy one has all its passes."""
    sick = SICKNESSES[name]
    config = tmp_path / "config.yaml"
    text = f"expect: {{unproven: {sick.unproven}}}\n{sick.config}"
    config.write_text(text, encoding="utf-8")
    probes = [word for probe in sick.expected for word in ("--probe", probe)]
    code, report = checked(emulator, sick.faults, "--config.file", str(config), *probes)

    results = [one for one in report["results"] if one["device"] == SICK]
    first = next(one for one in results if one["probe"] == next(iter(sick.expected)))
    assert verdicts(report, HEALTHY) == dict.fromkeys(sick.expected, _PASS)
    assert verdicts(report, SICK) == sick.expected
    assert broken(report, SICK) >= sick.checks
    assert not [one for one in broken(report, SICK) if sick.spared and one.startswith(sick.spared)]
    assert sick.said in json.dumps(first)
    assert SICK in report["summary"]
    assert HEALTHY not in report["summary"]
    assert code == sick.code


def triages(report: Report, device: str) -> list[dict[str, Any]]:
    """The findings that failed on a device and were tried again."""
    return [
        finding
        for result in report["results"]
        for finding in result["findings"]
        if result["device"] == device and finding["status"] == "fail"
    ]


#: Faults -> where the sick device's failures lie, what a second read gives, and on how many.
TRIAGES = {
    "one is wrong": ("1:aten::mm:scale:1.001", "device", "same", 1),
    "both are wrong": ("0:aten::mm:scale:1.001;1:aten::mm:scale:1.001", "environment", "same", 2),
    "copies out of one are wrong now and then": ("1:d2h:flip@every=7", "device", "right", 1),
}


@pytest.mark.parametrize("name", TRIAGES)
def test_what_the_other_device_came_to(emulator: Path, tmp_path: Path, name: str) -> None:
    """The same run tells the device from what both have in common, and a copy from its source."""
    faults, location, second_read, sick = TRIAGES[name]
    config = tmp_path / "config.yaml"
    config.write_text("expect: {unproven: fail}", encoding="utf-8")
    code, report = checked(emulator, faults, "--config.file", str(config), "--probe", "tensor_ops")
    (wrong, *_) = (
        finding
        for finding in triages(report, SICK)
        if finding["id"] in {"tensor_ops.matmul_exact", "tensor_ops.creation"}
    )
    triage, patterns = wrong["triage"], wrong["patterns"].values()

    assert code == 1
    assert [one["status"] for one in report["results"]].count("fail") == sick
    assert (triage["kind"], triage["retries"], triage["failures"]) == ("persistent", 2, 2)
    assert triage["location"] == location
    assert triage["passes_on"] == ["cpu", *([HEALTHY] if location == "device" else [])]
    assert triage["fails_on"] == ([HEALTHY] if location == "environment" else [])
    assert {pattern["second_read"] for pattern in patterns} == {second_read}
    assert {len(finding["triage"]["tries"]) for finding in triages(report, SICK)} == {3}


_SETTINGS = "log: {format: json}\nexpect: {unproven: fail}\n"


class Daemon:
    """A daemon as a process of its own, on a port of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / "log"
        config = folder / "config.yaml"
        probes = BY_NAME.keys() - {"cuda_available", "train_eval"}
        disabled = "".join(f"  {name}: {{enabled: false}}\n" for name in sorted(probes))
        config.write_text(f"{_SETTINGS}probes:\n{disabled}", encoding="utf-8")
        argv = ("serve", "--web.listen-address", "127.0.0.1:0", "--config.file", str(config))
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "validator", *argv],
                cwd=ROOT,
                stderr=stream,
                env=environment,
            )
        self._address = self._wait_for("listening")["address"]
        self._wait_for("run_finished")

    def _wait_for(self, event: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            text = self._log.read_text(encoding="utf-8")
            lines = [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
            found = [line for line in lines if line["event"] == event]
            if found:
                return found[0]  # type: ignore[no-any-return]
            assert self.process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.02)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one page."""
        address = f"http://{self._address}{path}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


Serve = Callable[[str], Daemon]


@pytest.fixture
def serve(emulator: Path, tmp_path: Path) -> Iterator[Serve]:
    """Start daemons on the node with faults, each once its first run has ended; end them after."""
    started: list[Daemon] = []

    def start(faults: str) -> Daemon:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Daemon(folder, node(emulator, faults)))
        return started[-1]

    yield start
    for daemon in started:
        daemon.process.terminate()
        assert daemon.process.wait(20) == 0


def test_a_daemon_with_one_sick_device(serve: Serve) -> None:
    """Not ready, and why in one line, until the device is well; metrics and report name it alone.

    A worker has the environment of its daemon: the repair takes a restart.
    """
    daemon = serve("1:aten::native_dropout:scale:1.001")
    ready, reason = daemon.get("/readyz")
    metrics = daemon.get("/metrics")[1].splitlines()
    report = json.loads(daemon.get("/api/v1/report")[1])
    well = serve("")

    assert (ready, daemon.get("/healthz")[0]) == (503, 200)
    assert SICK in reason.splitlines()[0]
    assert "dropout_train" in reason.splitlines()[0]
    assert HEALTHY not in reason
    for probe, device, value in (
        ("train_eval", HEALTHY, "1.0"),
        ("train_eval", SICK, "0.0"),
        ("cuda_available", SICK, "1.0"),
    ):
        series = f'gpu_validator_probe_success{{device="{device}",probe="{probe}"}}'
        assert f"{series} {value}" in metrics
    assert "gpu_validator_node_healthy 0.0" in metrics
    assert report["status"] == "fail"
    assert verdicts(report, HEALTHY)["train_eval"] == _PASS
    assert verdicts(report, SICK)["train_eval"] == _FAILED
    assert broken(report, HEALTHY) == set()
    assert broken(report, SICK) == {"train_eval.dropout_train"}
    assert well.get("/readyz")[0] == 200
    assert "gpu_validator_node_healthy 1.0" in well.get("/metrics")[1].splitlines()
