"""Signals to the command: what was decided is kept, no process is left."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.validator.cli.fakes import SICK, SOUND, Call, Runner
from validator.cli import one_burn, one_run
from validator.engine.plan import Plan, make_plan
from validator.engine.spawn import MARKER
from validator.engine.stopping import SIGNALS
from validator.render.console import emit
from validator.report import Report

pytestmark = pytest.mark.slow


def test_a_signal_is_the_exit_code_whatever_was_decided(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 + SIGTERM, with the report; --fail-open and --strict turn nothing into a verdict."""
    monkeypatch.setattr(Runner, "signals", (signal.SIGTERM,))
    codes = [
        call("check", "--output", "json", *options, answer=answer)
        for answer in (SOUND, SICK)
        for options in ([], ["--strict"], ["--fail-open"])
    ]
    told = capsys.readouterr()

    assert codes == [143] * 6
    assert len(told.out.splitlines()) == 6
    assert told.err.splitlines()[-1] == "gpu-validator: stopped by SIGTERM: 6 of 7 decided"


def test_a_second_signal_leaves_the_report_unwritten(
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Whoever asks twice wants the prompt back; the exit code is that of the first signal."""
    monkeypatch.setattr(Runner, "signals", (signal.SIGINT, signal.SIGTERM))
    file = tmp_path / "report"
    code = call("check", "--output", "json", "--output-file", str(file))
    told = capsys.readouterr()

    assert code == 130
    assert told.out == ""
    assert not file.exists()
    assert "stopped by SIGINT, and by a second signal" in told.err


@pytest.mark.parametrize("command", ["check", "burn"])
def test_a_signal_while_the_report_is_written_costs_nothing(
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """The run is over, and what it found is worth more than some milliseconds."""
    handlers = [signal.getsignal(number) for number in SIGNALS]

    def interrupted(text: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        emit(text)

    async def burn(*_: object) -> Report:
        return SOUND

    monkeypatch.setattr(one_burn, "burn", burn)
    monkeypatch.setattr(one_run, "emit", interrupted)
    code = call(command, "--output", "json", "--quiet")

    assert code == 0
    assert Report.model_validate_json(capsys.readouterr().out) == SOUND
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


_BLOCKED = """
import os, signal
from validator.cli import early
early._WRITE_S = early._WRITE_ALL_S = 1
signals = early.EarlySignals()
if stopped:
    signals.resume(signal.SIGTERM)
else:
    signals.resume(None)
    os.kill(os.getpid(), 15)
end = os.pipe()[1]
while True:
    os.write(end, bytes(65536))
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_signal_ends_a_report_that_nobody_reads(*, stopped: bool) -> None:
    """One is enough, as `timeout` sends no second, also where it came in the run."""
    program = f"stopped = {stopped}{_BLOCKED}"
    child = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)

    assert child.returncode == -signal.SIGTERM


def processes_of(parent: int) -> list[int]:
    """The worker that a command started, and all that came of it."""
    mark = f"{MARKER}={parent}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def until(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.01)
    return True


@pytest.mark.torch
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process(number: signal.Signals) -> None:
    """A real run, stopped while its worker imports torch: soon over, and all of it."""
    run = subprocess.Popen(
        [sys.executable, "-m", "validator", "check", "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert until(lambda: processes_of(run.pid))
    run.send_signal(number)
    out, err = run.communicate(timeout=30)

    assert run.returncode == 128 + number
    assert "Traceback" not in err
    assert {one.reason for one in Report.model_validate_json(out).not_run} == {"cancelled"}
    assert until(lambda: not processes_of(run.pid), 2)


def test_signals_are_kept_until_a_run_heeds_them(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that comes while libraries are imported is the run's; afterwards all is as it was."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupted(*args: Any, **options: Any) -> Plan:
        os.kill(os.getpid(), signal.SIGTERM)
        return make_plan(*args, **options)

    monkeypatch.setattr(one_run, "make_plan", interrupted)

    assert call("check", "--output", "json") == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_early_signal_ends_it_by_itself() -> None:
    """Whatever is being imported, and however long that takes."""
    program = (
        "import os, signal\n"
        "from validator.cli.early import EarlySignals\n"
        "EarlySignals().listen()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('still here', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('never')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "still here\n")
