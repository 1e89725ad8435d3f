"""`healthcheck`: it asks the daemon, and waits for a bounded time."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.validator.cli.fakes import Call
from validator.cli import healthcheck
from validator.service import ask, readyfile

pytestmark = pytest.mark.slow


class Health(BaseHTTPRequestHandler):
    """A daemon that is well at /healthz and ill at /ill; its node is ready as `ready` says."""

    ready = 200

    def do_GET(self) -> None:
        """Answer by the path."""
        answers = {
            "/healthz": (200, b"ok\n"),
            "/readyz": (self.ready, b"fail: matmul on cuda:3\x1b[31m: exact\nand more"),
        }
        status, body = answers.get(self.path, (503, b"the scheduler stands still\nand more"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def daemon() -> Iterator[str]:
    """Its URL."""
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_healthcheck(
    daemon: str, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 when the daemon is well, 1 with its words when not; a proxy is none of its business."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    well = [
        call("healthcheck", "--url", daemon),
        call("healthcheck", "--url", f"{daemon}/"),
        call("healthcheck", "--web.listen-address", daemon.removeprefix("http://")),
    ]
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith("the daemon is well; its node is ready (/readyz 200): ")
    ill = call("healthcheck", "--url", f"{daemon}/ill")

    assert well == [0, 0, 0]
    assert ill == 1
    assert "answered 503: the scheduler stands still\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "options", "code", "text"),
    [
        (200, [], 0, "its node is ready (/readyz 200): fail: matmul on cuda:3·[31m: exact"),
        (503, [], 0, "its node is not ready (/readyz 503): fail: matmul on cuda:3·[31m: exact"),
        (200, ["--ready"], 0, "its node is ready (/readyz 200)"),
        (503, ["--ready"], 1, "its node is not ready (/readyz 503)"),
        (404, [], 0, "its node is not known to be ready (/readyz 404)"),
        (404, ["--ready"], 1, "its node is not known to be ready (/readyz 404)"),
    ],
)
def test_a_daemon_that_is_well_on_a_sick_node(
    daemon: str,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    options: list[str],
    code: int,
    text: str,
) -> None:
    """Its 0 is the daemon's, and says so; that of --ready is the node's as well."""
    monkeypatch.setattr(Health, "ready", status)

    assert call("healthcheck", "--url", daemon, *options) == code
    assert capsys.readouterr().out.startswith(f"the daemon is well; {text}")


def test_one_page_is_asked_for_alone(
    daemon: str, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address with a path is that page's."""
    monkeypatch.setattr(Health, "ready", 503)
    codes = [call("healthcheck", "--url", f"{daemon}/{page}") for page in ("healthz", "readyz")]
    told = capsys.readouterr()

    assert codes == [0, 1]
    assert told.out.endswith("/healthz answered 200: ok\n")
    assert "/readyz answered 503: fail: matmul on cuda:3" in told.err


def test_healthcheck_finds_the_daemon_by_its_settings(
    daemon: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon on every interface is asked on the loopback."""
    port = daemon.rpartition(":")[2]
    monkeypatch.setenv("GPU_VALIDATOR_WEB__LISTEN_ADDRESS", f":{port}")

    assert call("healthcheck") == 0


def test_healthcheck_without_a_daemon(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = call("healthcheck", "--url", f"http://127.0.0.1:{unused.getsockname()[1]}")

    assert refused == 1
    assert "cannot be asked" in capsys.readouterr().err


def test_healthcheck_is_bounded(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon that sends a byte now and then does not hold it for longer."""
    monkeypatch.setattr(healthcheck, "_DEADLINE_S", 0.3)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while not stop.wait(0.05):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        code = call("healthcheck", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
        took = time.monotonic() - started
        stop.set()
        thread.join()

    assert code == 1
    assert took < 2
    assert "gave no answer in 0.3 s" in capsys.readouterr().err


def test_a_ready_file_in_place_of_a_daemon(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 while it counts; 1 once it expired, where it is not there, and where it is a pipe."""
    ready, pipe = tmp_path / "ready", tmp_path / "pipe"
    at = datetime.now(timezone.utc)
    os.mkfifo(pipe)
    codes = []
    for lasts_s in (60, -1):
        ready.write_text(readyfile.text(at, "pass: 7 probes", lasts_s))
        codes.append(call("healthcheck", "--ready-file", str(ready)))
    codes += [call("healthcheck", "--ready-file", str(path)) for path in (tmp_path / "none", pipe)]

    assert codes == [0, 1, 1, 1]
    told = capsys.readouterr()
    err = told.err.splitlines()
    assert told.out == f"ready: {ready} vouches for the node\n"
    assert "expired" in err[0]
    assert [line.rpartition(": ")[2] for line in err[1:]] == [
        "No such file or directory",
        "is no regular file",
    ]


def test_a_ready_file_that_is_never_answered(
    call: Call, dead_disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system is gone: no, and soon."""
    monkeypatch.setattr(healthcheck, "_DEADLINE_S", 0.2)

    assert call("healthcheck", "--ready-file", str(dead_disk / "ready")) == 1
    assert "ready: no answer within 0.2 s" in capsys.readouterr().err


def test_a_ready_file_or_a_daemon(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """Not both."""
    assert call("healthcheck", "--ready-file", "/x", "--url", "http://127.0.0.1:1") == 2
    assert "cannot go with --url" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("fe80::1", "http://[fe80::1]:1"),
        ("gpu-17", "http://gpu-17:1"),
    ],
)
def test_where_a_daemon_is_asked(host: str, url: str) -> None:
    """Every form of a listening address."""
    assert ask.url_of(host, 1) == url
