"""`check --watch`: run after run at a terminal, what changed, and the worst as the exit code."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.validator import reports
from tests.validator.cli.fakes import ROOT, SICK, SOUND, Call, Runner
from tests.validator.cli.test_signals import processes_of, until
from validator.cli import one_run, watching
from validator.engine.stopping import Stop
from validator.report import NotRun, Report

pytestmark = pytest.mark.slow

WELL = reports.report([reports.result("autograd", "cpu")])
WARNS = reports.report([reports.result("autograd", "cpu", "warn")])
CUT_OFF = reports.report([], not_run=[NotRun(probe="autograd", device="cpu", reason="cancelled")])


@pytest.fixture
def watch(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Watch runs that end in these reports; a signal stops it in the run after them."""
    monkeypatch.setattr(watching, "_LEAST_S", 0.0)

    def watched(
        *answers: Report,
        by: signal.Signals = signal.SIGINT,
        last: Report = CUT_OFF,
        options: str = "",
    ) -> tuple[int, str, str]:
        left = list(answers)

        class Several(Runner):
            async def run(self, *asked: Any) -> Report:
                if left:
                    return left.pop(0)
                stop: Stop = asked[-1]
                stop.take(by)
                return last

        monkeypatch.setattr(one_run, "Runner", Several)
        monkeypatch.setattr(watching, "Runner", Several)
        code = call("check", "--watch", "0.001", *options.split())
        told = capsys.readouterr()
        return code, told.out, told.err

    return watched


@pytest.mark.parametrize(
    ("answers", "options", "code"),
    [
        ((SOUND, SOUND), "", 0),
        ((SOUND, SICK, SOUND), "", 1),
        ((SOUND, SICK, SOUND), "--exit-style nagios", 2),
        ((SOUND, WARNS, SOUND), "", 0),
        ((SOUND, WARNS, SOUND), "--strict", 1),
        ((SOUND, CUT_OFF), "", 2),
        ((SOUND, CUT_OFF), "--fail-open", 0),
        ((CUT_OFF, SICK), "", 1),
        ((), "", 130),
    ],
)
def test_the_worst_run_is_the_exit_code(
    watch: Callable[..., tuple[int, str, str]],
    answers: tuple[Report, ...],
    options: str,
    code: int,
) -> None:
    """A GPU that failed once in a night is told in the morning; a run cut off by Ctrl-C is none."""
    ended, _, err = watch(*answers, options=options)

    assert ended == code
    assert f"watched {len(answers)} run" in err or not answers


def test_a_failure_in_the_run_that_is_cut_off_counts(
    watch: Callable[..., tuple[int, str, str]],
) -> None:
    """It was seen."""
    code, out, _ = watch(SOUND, last=SICK)

    assert code == 1
    assert "✗ fail: " in out


def test_sigterm_is_the_exit_code(watch: Callable[..., tuple[int, str, str]]) -> None:
    """As of one run: whoever supervises it asked for the end."""
    assert watch(SOUND, SICK, by=signal.SIGTERM)[0] == 143


def test_what_changed_is_told(watch: Callable[..., tuple[int, str, str]]) -> None:
    """Nothing after the first run; then a line a probe, or that there is none."""
    _, out, err = watch(WELL, WARNS, WARNS, WELL)
    told = [line for line in out.splitlines() if "since run" in line or " -> " in line]

    assert told == [
        "changed since run 1:",
        "  autograd on cpu: ✓ pass -> ! warn",
        "nothing changed since run 2",
        "changed since run 3:",
        "  autograd on cpu: ! warn -> ✓ pass",
    ]
    assert err.splitlines()[-1] == "gpu-validator: watched 4 runs: 2 pass, 2 warn"


def test_in_a_pipe_nothing_is_redrawn(watch: Callable[..., tuple[int, str, str]]) -> None:
    """Report after report, as `kubectl get --watch` does."""
    _, out, _ = watch(SOUND, SOUND)

    assert "\x1b" not in out
    assert out.count("✓ pass: ") == 2
    assert "Ctrl-C" not in out


#: Ctrl-C goes to whom the terminal is the controlling one of.
_ON_ITS_TERMINAL: Final = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@contextmanager
def terminal(rows: int, columns: int, *argv: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A `check` on a terminal of that size; its master's descriptor, and its process."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    run = subprocess.Popen(
        [sys.executable, "-c", _ON_ITS_TERMINAL, sys.executable, "-m", "validator", "check", *argv],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield master, run
    finally:
        run.kill()
        run.wait(10)
        os.close(master)


def read_until(master: int, wanted: str, seconds: float = 30) -> str:
    """What the terminal was sent until a text came, or the end."""
    seen = b""
    deadline = time.monotonic() + seconds
    while wanted.encode() not in seen and time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:  # nobody has the other end open any more
                break
    return seen.decode(errors="replace")


def test_at_a_terminal() -> None:
    """Redrawn after each run and at another size, no wider than it is; Ctrl-C gives it back."""
    line = ("--probe", "container", "-v", "--watch", "1s")
    with terminal(24, 80, *line) as (master, run):
        before = termios.tcgetattr(master)
        told = read_until(master, "run 1 is over; the next in 1 s; Ctrl-C ends")
        told += read_until(master, "run 2 is over; the next in 1 s; Ctrl-C ends")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 50, 0, 0))
        resized = read_until(master, "run 2 is over")
        os.write(master, b"\x03")
        ended = read_until(master, "\0")
        after = termios.tcgetattr(master)

        assert run.wait(20) == 0
        assert until(lambda: not processes_of(run.pid), 5)
    drawn = resized.rpartition("\x1b[H\x1b[J")[2].splitlines()

    assert told.count("\x1b[H\x1b[J") == 2
    assert "nothing changed since run 1" in told
    assert len(drawn) <= 9 - 3
    assert "do not fit" in drawn[0]
    assert "watched 2 runs: 2 pass" in ended
    assert "7 checks passed" in ended  # the whole report is left behind
    assert before == after
    everything = told + resized + ended
    assert everything.rfind("\x1b[?25h") >= everything.rfind("\x1b[?25l")
    assert "\x1b[?1049h" not in everything


@pytest.mark.parametrize("more", ["--watch 1ms", "--watch 5s -o json", "--watch 5s --record r"])
def test_the_check_of_a_configuration_refuses_it_too(
    more: str, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused without --config.check."""
    assert call("check", "--config.check", *more.split()) == 2
    assert "--watch" in capsys.readouterr().err


@pytest.mark.torch
def test_ctrl_c_in_a_run_ends_it_soon() -> None:
    """A run is stopped, its worker ended, and the terminal given back."""
    with terminal(24, 80, "--probe", "autograd", "--watch", "1h") as (master, run):
        assert until(lambda: processes_of(run.pid))
        read_until(master, "importing torch")
        os.write(master, b"\x03")
        ended = read_until(master, "\0")

        assert run.wait(30) == 130
        assert until(lambda: not processes_of(run.pid), 5)
    assert ended.rfind("\x1b[?25h") > ended.rfind("\x1b[?25l")
