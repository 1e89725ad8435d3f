"""A check that is stopped: what was decided is written, the rest is said to be not run."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.validator.runs import PLAN, marked, write
from validator.engine import run as run_module
from validator.engine import runner as runner_module
from validator.engine.plan import Event
from validator.engine.runner import Runner
from validator.engine.spawn import MARKER
from validator.engine.stopping import Stop
from validator.report import Report
from validator.settings import loading

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ROOT = Path(__file__).parents[3]

#: Put in the worker's way: `tensor_ops` hangs.
SITE = """
import sys, time, types

module = types.ModuleType("probes.tensor_ops.probe")
module.observe = lambda device: time.sleep(600)
sys.modules["probes.tensor_ops.probe"] = module
"""

_DEADLINE_S = 60.0


class Check:
    """A real `gpu-validator check`, one of whose probes hangs until somebody stops it."""

    def __init__(self, folder: Path, *argv: str) -> None:
        (folder / "sitecustomize.py").write_text(SITE)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GPU_VALIDATOR_")}
        command = [sys.executable, "-m", "validator", "check", "--device", "cpu"]
        command += ["--probe", "numpy_sharing", "--probe", "tensor_ops", "--probe", "train_eval"]
        self.process = subprocess.Popen(
            [*command, "--log.level", "debug", *argv],
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until_told(self, *texts: str) -> None:
        """Wait until its log, the event a line, has told each of these; pytest bounds the wait."""
        assert self.process.stderr is not None
        missing = set(texts)
        while missing:
            line = self.process.stderr.readline()
            assert line, f"ended without telling {missing}"
            missing -= {text for text in missing if all(part in line for part in text.split())}

    def until_it_hangs(self) -> None:
        """Wait until one probe has passed and the sick one is under way."""
        self.until_told("event=finished probe=numpy_sharing", "event=started probe=tensor_ops")

    def ended(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=_DEADLINE_S)
        return self.process.returncode, out or "", err

    def left(self) -> list[str]:
        """Processes of its worker that are still there."""
        mark = f"{MARKER}={self.process.pid}".encode()
        return [
            process.name
            for process in Path("/proc").glob("[0-9]*")
            if mark in _environment(process).split(b"\0")
        ]


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # gone meanwhile, or another user's
        return b""


Start = Callable[..., Check]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start checks, and end what is left of them."""
    started: list[Check] = []

    def begin(*argv: str) -> Check:
        started.append(Check(tmp_path, *argv))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_decided(number: signal.Signals, start: Start) -> None:
    """128+n, the results so far as JSON, the rest as not run, and no process left behind."""
    check = start("--output", "json")
    check.until_it_hangs()
    os.kill(check.process.pid, number)
    code, out, err = check.ended()
    report = Report.model_validate_json(out)

    assert code == 128 + number
    assert [(one.probe, one.status) for one in report.results] == [("numpy_sharing", "pass")]
    assert {(one.probe, one.reason) for one in report.not_run} == {
        ("tensor_ops", "cancelled"),
        ("train_eval", "cancelled"),
    }
    assert report.status == "error"
    assert f"gpu-validator: stopped by {number.name}: 1 of 3 decided\n" in err
    assert check.left() == []


def test_every_form_holds_what_was_decided(start: Start, tmp_path: Path) -> None:
    """Text on stdout and the document in its file, as after a run that ended by itself."""
    for form in ("text", "json", "junit", "prom"):
        file = tmp_path / f"report.{form}"
        check = start("--output", form, "--output-file", str(file))
        check.until_it_hangs()
        check.process.send_signal(signal.SIGTERM)
        code, out, _ = check.ended()
        content = file.read_text(encoding="utf-8")

        assert code == 143
        assert "tensor_ops on cpu: cancelled" in out
        assert "error: 2 of 3 not run (cancelled)" in out
        if form == "text":
            assert "numpy_sharing" in content
            assert "tensor_ops on cpu: cancelled" in content
        elif form == "json":
            assert json.loads(content)["not_run"][0]["reason"] == "cancelled"
        elif form == "junit":
            errors = ET.fromstring(content).findall(".//error")  # noqa: S314 - our own
            assert [error.get("type") for error in errors] == ["cancelled", "cancelled"]
        else:
            assert 'gpu_validator_probe_success{device="cpu",probe="numpy_sharing"} 1.0' in content
            assert 'gpu_validator_probe_success{device="cpu",probe="tensor_ops"} 0.0' in content


@pytest.mark.long
def test_the_deadline_of_the_run_does_the_same(start: Start) -> None:
    """`--timeout` without a fail is 2; nothing of what passed is lost."""
    check = start("--output", "json", "--timeout", "12")
    code, out, _ = check.ended()
    report = Report.model_validate_json(out)

    assert code == 2
    passed = {one.probe for one in report.results}
    assert passed - {"train_eval"} == {"numpy_sharing"}  # with two cores it runs beside
    assert {one.reason for one in report.not_run} == {"run_timeout"}


@pytest.mark.long
def test_a_fail_before_the_stop_is_kept(start: Start, tmp_path: Path) -> None:
    """A fail stays a fail, in the report of a stopped run too; `--timeout` then gives 1."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "expect: {gpus: 1}\nprobes: {train_eval: {enabled: false}}", encoding="utf-8"
    )
    check = start(
        *("--probe", "cuda_available", "--config.file", str(settings)),
        *("--timeout", "12", "--output", "json"),
    )
    code, out, _ = check.ended()
    report = Report.model_validate_json(out)

    assert code == 1
    assert report.summary.startswith("fail: cuda_available on cpu")
    assert [(one.probe, one.reason) for one in report.not_run] == [("tensor_ops", "run_timeout")]


def test_a_signal_during_the_import_tells_that_nothing_ran(start: Start, tmp_path: Path) -> None:
    """A report all the same: every probe is planned, and none had a chance."""
    (tmp_path / "torch.py").write_text("import time; time.sleep(600)", encoding="utf-8")
    check = start("--output", "json")
    check.until_told("event=importing")
    check.process.send_signal(signal.SIGINT)
    code, out, _ = check.ended()
    report = Report.model_validate_json(out)

    assert code == 130
    assert report.results == ()
    assert len(report.not_run) == 3
    assert check.left() == []


def test_a_second_signal_leaves_nothing_either(start: Start) -> None:
    """Of two at the same time the kernel says which is the first, and the exit code is its."""
    check = start("--output", "json")
    check.until_it_hangs()
    check.process.send_signal(signal.SIGINT)
    check.process.send_signal(signal.SIGTERM)
    code, out, err = check.ended()

    assert code in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert not out or Report.model_validate_json(out).status == "error"
    assert f"gpu-validator: stopped by {signal.Signals(code - 128).name}" in err
    assert check.left() == []


def test_a_second_signal_waits_for_nothing_and_still_kills(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that does not heed its cancellation gets its five seconds only after a first one."""
    write(folder, "sicken", "    time.sleep(600)")
    execute = run_module.Run.execute
    released: asyncio.Event

    async def stubborn(self: run_module.Run) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await execute(self)
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    monkeypatch.setattr(run_module.Run, "execute", stubborn)

    async def stopped(signals: int) -> float:
        nonlocal released
        released = asyncio.Event()  # of this event loop
        stop, begun_s = Stop(), 0.0

        def on_event(event: Event) -> None:
            nonlocal begun_s
            if event.kind == "started" and event.probe == "sicken":
                begun_s = time.monotonic()
                for _ in range(signals):
                    stop.take(signal.SIGINT)

        report = await Runner().run(PLAN, loading.load(), on_event, stop)
        took_s = time.monotonic() - begun_s
        released.set()
        assert {one.reason for one in report.not_run} == {"cancelled"}
        return took_s

    monkeypatch.setattr(runner_module, "_CLOSE_S", 3.0)
    patient_s = asyncio.run(stopped(1))
    at_once_s = asyncio.run(stopped(2))

    assert marked() == []
    assert at_once_s < 3.0 <= patient_s
