"""What a worker says cannot be read: its run goes on, and no machine is blamed."""

import errno
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.validator.runs import ran, write

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes of the plan, all of them sound."""
    for name in ("earlier", "sicken", "later", "host"):
        write(tmp_path, name)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def failing(monkeypatch: pytest.MonkeyPatch, number: int, *at: int) -> None:
    """Have the calls that read a worker's words fail where their count is among `at`."""
    calls, real = iter(range(1, 10**6)), socket.recv_fds

    def recv_fds(*arguments: Any) -> Any:
        if next(calls) in at:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(socket, "recv_fds", recv_fds)


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize("at", [1, 3, 6])
def test_words_that_cannot_be_read_for_a_moment_are_read_later(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Without memory the kernel keeps them."""
    failing(monkeypatch, errno.ENOMEM, at)
    seen = ran()

    assert seen.report.status == "pass"


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize("at", [1, 3])
def test_a_worker_that_cannot_be_heard_is_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Not after the deadline of what it was to say, and the image is not called broken."""
    failing(monkeypatch, errno.ECONNRESET, at)
    began = time.monotonic()
    seen = ran()

    assert {result.status for result in seen.report.results} == {"pass"}
    assert time.monotonic() - began < 25


@pytest.mark.usefixtures("probes")
def test_workers_that_are_never_heard_say_nothing_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice in a row is an error that says what could not be read."""
    failing(monkeypatch, errno.ECONNRESET, *range(1, 1000))
    seen = ran()

    assert "fail" not in {result.status for result in seen.report.results}
    assert "cannot be read: Connection reset by peer" in seen.report.results[0].summary
