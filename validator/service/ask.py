"""Ask a running daemon over TCP or its unix socket, in bounded time. Standard library only."""

import http.client
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final
from urllib.parse import urlsplit

#: Before the path of a unix socket, where else `http://host:port` stands.
UNIX: Final = "unix:"

#: The report of a node of eight GPUs is 256 KiB at most; what is far more is none.
_MOST_BYTES: Final = 8 * 1024 * 1024


class NoAnswerError(Exception):
    """The daemon gave none; the text names it and says why."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path; the host is only the Host header."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(server: str, path: str, deadline_s: float) -> Answer:
    """GET a path of the daemon at `http://host:port` or `unix:/path`.

    http.client and not urllib: a proxy named in the environment knows nothing of this host.

    Raises:
        NoAnswerError: nobody listens, it took too long, or what came is no HTTP.
    """
    connection = _connection(server, deadline_s)
    try:
        with _deadline(deadline_s):
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read(_MOST_BYTES + 1)
    except TimeoutError as error:
        raise NoAnswerError(f"{server} gave no answer in {deadline_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"{server} cannot be asked: {error}") from error
    finally:
        connection.close()
    if len(body) > _MOST_BYTES:
        raise NoAnswerError(f"{server} answered with more than {_MOST_BYTES} bytes")
    return Answer(response.status, body)


def _connection(server: str, deadline_s: float) -> http.client.HTTPConnection:
    if server.startswith(UNIX):
        return _UnixConnection(server.removeprefix(UNIX), deadline_s)
    return http.client.HTTPConnection(urlsplit(server).netloc, timeout=deadline_s)


@contextmanager
def _deadline(deadline_s: float) -> Iterator[None]:
    """Raise TimeoutError when all of it takes too long; a socket's own limit is for each step."""

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, deadline_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def usable(server: str) -> bool:
    """Whether it names a host over plain HTTP, or a unix socket by its absolute path."""
    if server.startswith(UNIX):
        return server.startswith(f"{UNIX}/")
    parts = urlsplit(server)
    try:
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        return False


def url_of(host: str, port: int) -> str:
    """Where to ask a daemon that listens there; every interface is asked on the loopback."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
