"""What is read again is read off the loop: one at a time, bounded in number, and never lost."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.validator.service.fake_runner import Clock, FakeRunner
from validator.service import logs
from validator.service.daemon import Daemon
from validator.service.rereading import Rereading
from validator.settings.loading import load


class Slow:
    """A file that is answered when told; its content is how often it was read."""

    def __init__(self) -> None:
        self.answers, self.reads = threading.Event(), 0

    def __call__(self) -> int:
        """Wait for the answer."""
        self.reads += 1
        assert self.answers.wait(30)
        return self.reads


@pytest.fixture
def slow() -> Iterator[Slow]:
    """One that answers at the end at the latest."""
    made = Slow()
    yield made
    made.answers.set()


def taken(reading: Rereading[Any], seconds: float = 10) -> list[Any]:
    """All that comes of what was asked for."""
    found, deadline = [], time.monotonic() + seconds
    while reading.is_pending:
        assert time.monotonic() < deadline
        found += [one for one in [reading.take()] if one is not None]
        time.sleep(0.001)
    return found


def test_however_often_it_is_asked_for_it_is_read_once_more(slow: Slow) -> None:
    """What was asked for while it was read may have changed since: the second tells."""
    reading = Rereading(slow)
    for _ in range(1000):
        reading.ask()
    early = (reading.take(), slow.reads)
    slow.answers.set()
    found = taken(reading)

    assert early == (None, 1)
    assert found == [1, 2]
    assert reading.take() is None


def test_who_asks_without_end_is_answered() -> None:
    """A storm takes nothing away: each time that is looked, something newer was read."""
    reading, numbers = Rereading(iter(range(100)).__next__), list[int]()
    deadline = time.monotonic() + 10
    while len(numbers) < 3 and time.monotonic() < deadline:
        reading.ask()
        numbers += [one for one in [reading.take()] if one is not None]

    assert numbers[:3] == [0, 1, 2]


def test_what_hangs_is_said_once_and_taken_when_it_comes(slow: Slow) -> None:
    """Nothing more is started meanwhile."""
    clock = Clock()
    reading = Rereading(slow, clock)
    reading.ask()
    clock.now_s += 11
    with pytest.raises(TimeoutError, match="no answer for 10 s"):
        reading.take()
    quiet = [reading.take() for _ in range(3)]
    reads = slow.reads
    slow.answers.set()

    assert (quiet, reads) == ([None] * 3, 1)
    assert taken(reading) == [1]


def test_a_limit_on_threads_is_waited_out(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look is another try."""
    reading = Rereading(slow)
    slow.answers.set()
    with monkeypatch.context() as patch:

        def refused(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refused)
        reading.ask()
        refused_first = (reading.take(), reading.is_pending)

    assert refused_first == (None, True)
    assert taken(reading) == [1]


def _bug() -> None:
    raise LookupError("a bug")


def _no_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("read", "said"), [(_bug, "LookupError: a bug"), (_no_memory, "MemoryError: ")]
)
def test_what_reading_raises_ends_no_daemon(
    read: Callable[[], Any], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said, and the old settings stay."""
    logs.configure()
    daemon = Daemon(load(None, {"run": {"timeout": 7}}), runner=FakeRunner(), reload=read)
    daemon.reload()
    deadline = time.monotonic() + 10
    while daemon.take_settings():
        assert time.monotonic() < deadline

    assert f'event=config_refused error="{said}"' in capfd.readouterr().err
    assert daemon.alive() == ""


def test_a_file_system_that_hangs_is_said(slow: Slow, capfd: pytest.CaptureFixture[str]) -> None:
    """In the log, by the daemon's own tick."""
    logs.configure()
    clock = Clock()

    def read() -> Any:
        slow()
        return load(None, {"run": {"timeout": 9}})

    daemon = Daemon(load(), runner=FakeRunner(), reload=read, monotonic=clock)
    daemon.reload()
    clock.now_s += 11
    daemon.tick()
    daemon.tick()
    late = capfd.readouterr().err
    slow.answers.set()
    deadline = time.monotonic() + 10
    while daemon.take_settings():
        assert time.monotonic() < deadline

    assert late.count("event=config_unread") == 1
    assert "event=config_reloaded" in capfd.readouterr().err
