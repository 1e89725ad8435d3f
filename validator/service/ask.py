"""Ask a running daemon over TCP or its unix socket, in bounded time."""

import contextlib
import http.client
import socket
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from validator.service.trust import NONCE, PROOF, Trust, UntrustedError, new_nonce
from validator.settings.values import ABSTRACT, socket_address

#: Before the path of a unix socket, where else `http://host:port` stands.
UNIX: Final = "unix:"

#: The report of a node of eight GPUs is 256 KiB at most; what is far more is none.
_MOST_BYTES: Final = 8 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024


class NoAnswerError(Exception):
    """The daemon gave none; the text names it and says why."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, whose owner is asked for first."""

    def __init__(self, path: str, timeout: float, trust: Trust | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._trust = trust

    def connect(self) -> None:
        """Connect to the path; the host is only the Host header."""
        if self._trust is not None and not self._path.startswith(ABSTRACT):
            self._trust.refuse_folder(Path(self._path))
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(socket_address(self._path))
        if self._trust is not None:
            self._trust.refuse_peer(self.sock)


@dataclass
class _Question:
    """One request, asked in a thread of its own: a name server may be silent for a minute."""

    server: str
    path: str
    deadline_s: float
    trust: Trust | None
    answer: Answer | None = None
    error: Exception | None = None
    _socket: socket.socket | None = field(default=None, init=False)

    def ask(self) -> None:
        """Fill in `answer` or `error`."""
        try:
            self.answer = self._answer()
        except Exception as error:  # noqa: BLE001 - told by whoever waits for this thread
            self.error = error

    def give_up(self) -> None:
        """End the connection, under a thread that still waits too."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is over already
                self._socket.shutdown(socket.SHUT_RDWR)

    def _answer(self) -> Answer:
        nonce = new_nonce()
        headers = {"Connection": "close"}
        if self.trust is not None:
            headers[NONCE] = nonce
        with contextlib.closing(self._new_connection()) as connection:
            connection.connect()
            self._socket = connection.sock
            connection.request("GET", self.path, headers=headers)
            with contextlib.closing(connection.getresponse()) as response:
                body = _read(response)
                proof = response.getheader(PROOF)
        if self.trust is not None and not self.server.startswith(UNIX):
            if proof is None and response.status != HTTPStatus.OK:
                raise ValueError(f"it answered {response.status}, and without a proof")
            self.trust.refuse_body(nonce, proof, body)
        return Answer(response.status, body)

    def _new_connection(self) -> http.client.HTTPConnection:
        if self.server.startswith(UNIX):
            path = self.server.removeprefix(UNIX)
            return _UnixConnection(path, self.deadline_s, self.trust)
        return http.client.HTTPConnection(urlsplit(self.server).netloc, timeout=self.deadline_s)


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body, of bounded size."""
    if not response.chunked:
        body = response.read(_MOST_BYTES + 1)
    else:
        body = b""
        # Not `read`: it takes all that ever comes for a chunk that says it has -1 bytes.
        while len(body) <= _MOST_BYTES and (piece := response.read1(_PIECE_BYTES)):
            body += piece
    if len(body) > _MOST_BYTES:
        raise ValueError(f"it answered with more than {_MOST_BYTES} bytes")
    if response.length:
        raise ValueError(f"its answer ended {response.length} bytes too early")
    return body


def get(server: str, path: str, deadline_s: float, trust: Trust | None = None) -> Answer:
    """GET a path of the daemon at `http://host:port`, `unix:/path` or `unix:@name`.

    http.client and not urllib: a proxy named in the environment knows nothing of this host.
    With `trust` the answer must be the daemon's own.

    Raises:
        NoAnswerError: nobody listens, it took too long, it is a stranger, or what came is no HTTP.
    """
    question = _Question(server, path, deadline_s, trust)
    thread = threading.Thread(target=question.ask, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # a limit on threads or memory
        raise NoAnswerError(f"{server} cannot be asked: {error}") from error
    thread.join(deadline_s)
    if question.answer is not None:
        return question.answer
    if thread.is_alive() or isinstance(question.error, TimeoutError):
        question.give_up()
        raise NoAnswerError(f"{server} gave no answer in {deadline_s:g} s")
    if isinstance(question.error, UntrustedError):
        raise NoAnswerError(f"{server} is not trusted: {question.error}")
    raise NoAnswerError(f"{server} cannot be asked: {question.error}") from question.error


def usable(server: str) -> bool:
    """Whether it names a host over plain HTTP, or a unix socket: an absolute path or `@name`."""
    if server.startswith(UNIX):
        return server.startswith((f"{UNIX}/", f"{UNIX}{ABSTRACT}"))
    parts = urlsplit(server)
    try:
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        return False


def url_of(host: str, port: int) -> str:
    """Where to ask a daemon that listens there; every interface is asked on the loopback."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
