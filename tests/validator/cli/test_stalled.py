"""Streams that nobody reads, as of a lost connection: no run waits, and a signal ends it."""

import contextlib
import io
import os
import platform
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.validator.cli.fakes import ROOT, SOUND, Call
from tests.validator.cli.test_signals import processes_of, until
from validator.cli import one_burn
from validator.cli.errors import say
from validator.engine.tally import Round
from validator.render.console import console_for
from validator.render.drawing import Drawing, never_waiting
from validator.report import Report

pytestmark = pytest.mark.slow

#: The command, with a second for what else takes five.
_IMPATIENT: Final = (
    "import sys\n"
    "from validator.cli import early, errors\n"
    "early._WRITE_S = early._WRITE_ALL_S = errors._PATIENCE_S = 1\n"
    "from validator.cli.main import main\n"
    "sys.exit(main())\n"
)


def fill(descriptor: int) -> None:
    """Write until there is no room."""
    os.set_blocking(descriptor, False)
    for size in (512, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * size)
    os.set_blocking(descriptor, True)


@pytest.fixture
def stalled() -> Iterator[int]:
    """A terminal that takes nothing more."""
    master, slave = pty.openpty()
    fill(slave)
    yield slave
    os.close(slave)
    os.close(master)


def started(stdout: int, stderr: int, *argv: str) -> subprocess.Popen[bytes]:
    """A real run of the command."""
    return subprocess.Popen(
        [sys.executable, "-c", _IMPATIENT, *argv],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm"},
    )


def test_a_run_does_not_wait_for_its_terminal(stalled: int) -> None:
    """The progress is left out; the report on stdout is whole."""
    run = started(subprocess.PIPE, stalled, "check", "--probe", "container", "-o", "json")
    try:
        out, _ = run.communicate(timeout=20)
    finally:
        run.kill()
        run.wait(10)

    assert run.returncode == 0
    assert Report.model_validate_json(out).status == "pass"
    assert os.get_blocking(stalled)  # as whoever shares it has it


def is_writing(process: int) -> bool:
    """Whether it is held up in write(2)."""
    number = {"x86_64": "1", "aarch64": "64"}.get(platform.machine())
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/syscall").read_text(encoding="ascii").split()[0] == number
    return False


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_ends_a_watch_that_nobody_reads(stalled: int, *, early: bool) -> None:
    """While the report is written, or just before that."""
    run = started(stalled, stalled, "check", "--probe", "container", "--watch", "1s")
    try:
        assert until(lambda: processes_of(run.pid))
        assert until(lambda: not processes_of(run.pid))
        assert early or until(lambda: is_writing(run.pid))  # to stdout
        run.send_signal(signal.SIGTERM)
        run.wait(30)
    finally:
        run.kill()
        run.wait(10)

    assert run.returncode in ({143, -signal.SIGTERM} if early else {-signal.SIGTERM})


def test_a_frame_is_finished_or_left_out() -> None:
    """Half a sequence of control would garble the next frame."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    drawing = Drawing(writer, "utf-8")
    drawing.write("a" * 65000)
    drawing.write("b" * 1000)
    drawing.write("c" * 1000)
    assert os.read(reader, 8192) == b"a" * 8192
    drawing.write("d")
    os.close(writer)
    with os.fdopen(reader, "rb") as rest:
        seen = rest.read()

    assert seen.strip(b"a") == b"b" * 1000 + b"d"


def test_a_terminal_that_is_gone_takes_everything() -> None:
    """As that of a session whose connection ended."""
    master, slave = pty.openpty()
    stream = os.fdopen(slave, "w", encoding="utf-8")
    console = console_for(stream)
    with never_waiting(console):
        os.close(master)
        console.print("text")
    assert console.file is stream
    with contextlib.suppress(OSError):
        stream.close()


def test_what_is_no_file_of_the_system_is_drawn_on_as_it_is() -> None:
    """Such as what a test reads."""
    stream = io.StringIO()
    with never_waiting(console_for(stream)):
        console_for(stream).print("text")

    assert stream.getvalue() == "text\n"


@contextlib.contextmanager
def full_stderr() -> Iterator[int]:
    """A pipe in place of stderr that is full; gives the end to read."""
    reader, writer = os.pipe()
    fill(writer)
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w", encoding="utf-8") as stream, contextlib.redirect_stderr(stream):
        yield reader
    os.close(reader)


def test_a_line_that_nobody_reads_is_left_out() -> None:
    """And the next one is not, where somebody reads again."""
    with full_stderr() as reader:
        say("lost", patience_s=0.01)
        os.read(reader, 1 << 20)
        say("told")

        assert os.read(reader, 1 << 20) == b"gpu-validator: told\n"


def test_a_burn_goes_on_where_nobody_reads(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of a round waits for nobody: the other devices would wait too."""
    done = Round(number=1, statuses={"pass": 1}, failed=(), ranges={})
    took_s = []

    async def burn(*asked: object) -> Report:
        began_s = time.monotonic()
        asked[-2](done, 5.0)  # type: ignore[operator]
        took_s.append(time.monotonic() - began_s)
        return SOUND

    monkeypatch.setattr(one_burn, "burn", burn)

    with full_stderr():
        assert call("burn", "--output", "json") == 0
    assert took_s[0] < 1
