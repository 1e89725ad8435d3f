"""Logs are one line an event, in both forms, and never in the daemon's way."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.validator.tiny_disk import fill
from validator.service import logs
from validator.service.logqueue import LogQueue

ROOT = Path(__file__).resolve().parents[3]


def test_text_is_one_line_of_keys(capfd: pytest.CaptureFixture[str]) -> None:
    """Newlines and quotes in a value stay within the line; lists are joined."""
    logs.configure("info", "text")
    logs.log().info("result", summary='two\nlines, a "quote"', probes=("a", "b"), n=1)
    out, err = capfd.readouterr()

    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("timestamp=2")
    assert " level=info event=result " in err
    assert "probes=a,b" in err
    assert r"two\nlines" in err


def test_json_is_one_document_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    """It parses, and holds what was given."""
    logs.configure("info", "json")
    logs.log().warning("result", summary="two\nlines", probes=("a", "b"))
    line = json.loads(capfd.readouterr().err)

    assert (line["event"], line["level"], line["probes"]) == ("result", "warning", ["a", "b"])
    assert line["summary"] == "two\nlines"
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("level", "shown"), [("warning", 0), ("info", 1), ("debug", 1)])
def test_the_level_holds_from_its_setting_on(
    level: str, shown: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A logger that was made before follows too."""
    log = logs.log()
    logs.configure(level)  # type: ignore[arg-type]
    log.info("event")

    assert capfd.readouterr().err.count("event=event") == shown


def test_libraries_are_heard(capfd: pytest.CaptureFixture[str]) -> None:
    """A warning of a library is one line of ours, with its traceback when it has one."""
    logs.configure("info", "json")
    logs.configure("info", "json")
    lost = LookupError("lost")
    logging.getLogger("uvicorn.error").error("it failed", exc_info=lost)
    [line] = capfd.readouterr().err.splitlines()
    told = json.loads(line)

    assert (told["event"], told["logger"], told["message"]) == (
        "library",
        "uvicorn.error",
        "it failed",
    )
    assert "LookupError: lost" in told["traceback"]


def test_a_reader_that_went_away_ends_nothing() -> None:
    """Stderr is a pipe that nobody reads any more."""
    code = (
        "from validator.service import logs; logs.configure(); "
        "logs.log().error('event', text='x' * 100_000); print('alive')"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=write,
        check=False,
        timeout=60,
    )
    os.close(write)

    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_rich_is_not_imported_for_logs() -> None:
    """And it can be imported afterwards, by whoever needs it."""
    pytest.importorskip("rich")
    code = (
        "import sys; from validator.service import logs; "
        "assert 'rich' not in sys.modules; import rich"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)

    assert done.returncode == 0


# -- a reader that does not read -------------------------------------------------------------------


class Pipe:
    """A pipe that nobody reads until told."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fill(self) -> None:
        """Leave no room in it."""
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b"." * 4096)
        except BlockingIOError:
            os.set_blocking(self.writer, True)

    def read_until(self, text: bytes) -> bytes:
        """Read until a text comes; fail after 10 s."""
        seen, deadline = b"", time.monotonic() + 10
        os.set_blocking(self.reader, False)
        while text not in seen:
            assert time.monotonic() < deadline, seen[-500:]
            try:
                seen += os.read(self.reader, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
        return seen


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """One, closed at the end."""
    made = Pipe()
    yield made
    os.close(made.reader)
    os.close(made.writer)


def test_a_reader_that_stalls_holds_nobody_up(pipe: Pipe) -> None:
    """Lines wait, what is too much is dropped and counted, and said when it reads again."""
    told: list[int] = []
    pipe.fill()
    queue = LogQueue(pipe.writer, told.append, most_bytes=1000)
    began = time.monotonic()
    for number in range(100):
        queue.put(b"%099d\n" % number)
    took = time.monotonic() - began
    # The writer may have taken one line out of the queue before it was full.
    assert 89 <= queue.dropped <= 90
    flushed = queue.flush(0.01)
    pipe.read_until(b"%099d\n" % 9)
    deadline = time.monotonic() + 10
    while not told:
        assert time.monotonic() < deadline
        queue.put(b"on\n")
        time.sleep(0.005)
    closed = queue.close(10)

    assert took < 1
    assert (flushed, closed) == (False, True)
    assert told == [queue.dropped]


def test_a_line_is_whole_in_a_pipe_that_does_not_block(pipe: Pipe) -> None:
    """Whoever shares stderr may have set O_NONBLOCK, and a line was lost or cut."""
    os.set_blocking(pipe.writer, False)
    queue = LogQueue(pipe.writer, lambda _: None)
    queue.put(b"x" * 300_000 + b"end\n")
    seen = pipe.read_until(b"end\n")

    assert seen == b"x" * 300_000 + b"end\n"
    assert queue.close(10)
    assert queue.dropped == 0


def test_a_long_line_alone_is_taken(pipe: Pipe) -> None:
    """The bound is no limit to a line."""
    queue = LogQueue(pipe.writer, lambda _: None, most_bytes=10)
    queue.put(b"x" * 100 + b"\n")

    assert pipe.read_until(b"\n")
    assert queue.close(10)


def test_a_disk_that_is_full_is_counted() -> None:
    """Stderr is a file there."""
    full = os.open("/dev/full", os.O_WRONLY)
    queue = LogQueue(full, lambda _: None)
    for _ in range(3):
        queue.put(b"line\n")
    assert queue.flush(10)
    os.close(full)

    assert queue.dropped == 3
    assert queue.close(1)


def test_a_line_that_was_cut_off_swallows_no_other(tiny_disk: Path) -> None:
    """A disk that was full in its midst: what comes when there is room stands on a line alone."""
    rest, log = fill(tiny_disk), tiny_disk / "log"
    os.truncate(rest, rest.stat().st_size - 4096)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    queue = LogQueue(descriptor, lambda _: None)
    for size in (5000, 10, 20):
        queue.put(b"a" * size + b"\n")
    assert queue.flush(10)
    rest.unlink()
    for _ in range(2):
        queue.put(b'{"whole": true}\n')
    assert queue.close(10)
    os.close(descriptor)

    assert log.read_bytes() == b"a" * 4096 + b'\n{"whole": true}\n{"whole": true}\n'
    assert queue.dropped == 3


STALLED = """
import sys
from validator.service import logs
logs.configure("info", "json")
with logs.queued():
    for number in range(int(sys.argv[1])):
        logs.log().info("event", number=number, text="x" * 1000)
    print(logs.dropped(), flush=True)
    sys.stdin.readline()
"""


def test_the_end_waits_for_a_stalled_reader_but_not_for_long(pipe: Pipe) -> None:
    """A second, and no interpreter that waits for a thread."""
    with subprocess.Popen(
        [sys.executable, "-c", STALLED, "3000"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=pipe.writer,
    ) as process:
        assert process.stdout is not None
        dropped = int(process.stdout.readline())
        began = time.monotonic()
        process.communicate(timeout=20)
        took = time.monotonic() - began

    assert dropped > 1000
    assert process.returncode == 0
    assert took < 4


def test_what_was_dropped_is_said_by_the_log(pipe: Pipe) -> None:
    """A line of its own, in the form that is set, once the reader reads again."""
    with subprocess.Popen(
        [sys.executable, "-c", STALLED, "3000"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=pipe.writer,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        dropped = int(process.stdout.readline())
        seen = pipe.read_until(b'"event":"log_lines_dropped"'.replace(b":", b": "))
        seen += pipe.read_until(b"\n") if not seen.endswith(b"\n") else b""
        process.communicate(timeout=20)
    lines = [json.loads(line) for line in seen.rpartition(b"\n")[0].splitlines()]
    [told] = [line for line in lines if line["event"] == "log_lines_dropped"]

    numbers = [line["number"] for line in lines if line["event"] == "event"]
    assert told["lines"] == dropped
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3000 - dropped


HOSTILE = {
    "an escape": "a\x1b[2Jb",
    "a carriage return": "a\rlevel=error b",
    "a line end": "a\nlevel=error b",
    "one of eight bits": "a\x9b2Jb",
    "another direction": "a\u202eb",
    "a line separator": "a\u2028b",
    "a bell and a zero": "a\x07\x00b",
    "a byte that is no text": "a\udcffb",
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_steers_a_terminal_or_begins_a_line(
    text: str, form: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a value, a list, an event's name and a library's message; JSON still holds it whole."""
    logs.configure("info", form)
    logs.log().info("told", value=text, several=[text])
    logs.log().info(text)
    logging.getLogger("somebody").warning("%s", text)
    lines = capfd.readouterr().err.removesuffix("\n").split("\n")

    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    if form == "json":
        assert json.loads(lines[0])["value"] == text


def test_a_change_of_level_says_what_was_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    """A reload, too, forgets no repetition."""
    logs.configure("info", "json")
    for _ in range(5):
        logs.log().warning("again")
    logs.configure("error", "json")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    assert [line.get("repeated") for line in lines] == [None, 4]
