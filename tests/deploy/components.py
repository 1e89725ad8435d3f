"""Real components on free ports of this machine, started for a test and ended with it.

Every wait has a deadline; a component that is not installed skips the test by its name.
"""

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

_T = TypeVar("_T")

POLL_S = 0.1


def tool(name: str) -> str:
    """Where a program is, or a skip that names it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody holds now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


def wait_for(what: str, look: Callable[[], _T | None], deadline_s: float) -> _T:
    """The first thing that is found, or a failure that names what was waited for."""
    end = time.monotonic() + deadline_s
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {deadline_s:.0f} s")
        time.sleep(POLL_S)


def get(url: str) -> bytes | None:
    """What a server answers, None when it does not."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http, to ourselves
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


@contextlib.contextmanager
def process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program with its output in a file; ended with its group afterwards."""
    with log.open("wb") as stream:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(timeout=10)


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now; a wrong expression raises."""
        query = urllib.parse.urlencode({"query": expression})
        request = f"{self.url}/api/v1/query?{query}"
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found
        except urllib.error.HTTPError as error:
            with error:
                text = json.load(error).get("error", "")
            raise ValueError(f"{expression}: {text}") from error

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped, with the labels after relabelling."""
        found: list[dict[str, Any]] = self._data("targets")["activeTargets"]
        return found

    def alerts(self) -> set[tuple[str, str]]:
        """Name and state of each alert that is pending or firing."""
        return {
            (one["labels"]["alertname"], one["state"]) for one in self._data("alerts")["alerts"]
        }

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with their health."""
        return [rule for group in self._data("rules")["groups"] for rule in group["rules"]]

    def _data(self, path: str) -> Any:
        content = get(f"{self.url}/api/v1/{path}")
        return (
            {"activeTargets": [], "alerts": [], "groups": []}
            if content is None
            else (json.loads(content)["data"])
        )


@contextlib.contextmanager
def prometheus(configuration: Path) -> Iterator[Prometheus]:
    """A Prometheus with this configuration, that is ready; its data lies beside the file."""
    folder, port = configuration.parent, free_port()
    command = [
        tool("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    running = Prometheus(f"http://127.0.0.1:{port}")
    with process(command, folder / "prometheus.log") as started:
        _ready(started, f"{running.url}/-/ready", folder / "prometheus.log")
        yield running


@contextlib.contextmanager
def alertmanager(configuration: Path) -> Iterator[str]:
    """An Alertmanager with this configuration, that is ready; gives host:port."""
    folder, port = configuration.parent, free_port()
    command = [
        tool("prometheus-alertmanager"),
        f"--config.file={configuration}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with process(command, folder / "alertmanager.log") as started:
        _ready(started, f"http://127.0.0.1:{port}/-/ready", folder / "alertmanager.log")
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def node_exporter(textfiles: Path, log: Path) -> Iterator[str]:
    """A node_exporter that reads a folder of text files and nothing else; gives host:port."""
    port = free_port()
    command = [
        tool("prometheus-node-exporter"),
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfiles}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(command, log) as started:
        _ready(started, f"http://127.0.0.1:{port}/metrics", log)
        yield f"127.0.0.1:{port}"


def _ready(started: subprocess.Popen[bytes], url: str, log: Path) -> None:
    def look() -> bytes | None:
        if started.poll() is not None:
            pytest.fail(f"{started.args!s} ended: {log.read_text()[-2000:]}")
        return get(url)

    wait_for(url, look, 30)


@contextlib.contextmanager
def served(answer: Callable[[str, bytes], bytes | tuple[int, bytes]]) -> Iterator[str]:
    """A server of the test's own: path and body of a request to the answer's body, or its status.

    Where it gives no status that is 200.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = answer(self.path, body)
            status, content = (200, told) if isinstance(told, bytes) else told
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _do  # noqa: N815 - names of the standard library

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - same
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=10)
