"""Two requests to Kubernetes' API server: read a node's conditions, and write some of them."""

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

#: Where a pod finds its token and the cluster's certificate authority.
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_MERGE: Final = "application/strategic-merge-patch+json"
_ANSWER_S: Final = 10.0  # of a whole request
#: A node lists up to 50 images, its volumes and what controllers note there; etcd keeps 1.5 MiB.
_MOST_BYTES: Final = 4 * 1024 * 1024


class ApiError(Exception):
    """The API server did not do what it was asked; the text says why."""


class ApiServer:
    """The API server of the cluster that this pod runs in, by the pod's own account."""

    def __init__(self, account: Path = ACCOUNT) -> None:
        """Find it by the variables that every container of a pod has.

        Raises:
            ApiError: this is no pod, or it has no token.
        """
        self._host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        if not self._host:
            raise ApiError("this is no pod: KUBERNETES_SERVICE_HOST is not set, as in each it is")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        authority = account / "ca.crt"
        try:
            self._port = int(port)
        except ValueError as error:
            raise ApiError(f"KUBERNETES_SERVICE_PORT: {port!r} is no port") from error
        self._account = account
        try:
            _context(account)
        except OSError as error:
            why = error.strerror or error
            text = f"--account: {authority} cannot be read: {why}; see automountServiceAccountToken"
            raise ApiError(text) from error

    def conditions(self, node: str) -> list[dict[str, Any]]:
        """The conditions of a node.

        Raises:
            ApiError: they cannot be read.
        """
        found = self._ask("GET", f"/api/v1/nodes/{quote(node, safe='')}")
        try:
            known = [dict(one) for one in found.get("status", {}).get("conditions", [])]
        except (AttributeError, TypeError, ValueError) as error:
            raise ApiError(f"what came is no node: {error!r}") from error
        if not all({"type", "status"} <= one.keys() for one in known):
            raise ApiError("what came is no node: a condition without type or status")
        return known

    def write(self, node: str, conditions: Sequence[Mapping[str, Any]]) -> None:
        """Put these conditions in place of those of the same type; the others stay.

        Raises:
            ApiError: they cannot be written.
        """
        # Merged by type in the server: what the kubelet writes at the same time is not lost.
        patch = {"status": {"conditions": conditions}}
        self._ask("PATCH", f"/api/v1/nodes/{quote(node, safe='')}/status", patch)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            # Both are read each time: the kubelet replaces the token within the hour, and the
            # authority when the cluster's is rotated.
            token = (self._account / "token").read_text().strip()
            if not token.isascii() or not token.isprintable():  # http.client would quote it
                raise ApiError(f"{self._account / 'token'} holds no token")
            request = _Request(method, path, {"Authorization": f"Bearer {token}"}, body)
            status, content = request.sent(self._host, self._port, _context(self._account))
            if status != 200:
                line = content[:300].decode(errors="replace")
                raise ApiError(f"{method} {path}: the API server answered {status}: {line}")
            return json.loads(content)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise ApiError(f"{method} {path}: {error}") from error


def _context(account: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(account / "ca.crt"))
    # Python 3.13 asks for extensions that the certificate authorities of some clusters lack.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    return context


@dataclass
class _Request:
    """One request, in a thread of its own: who sends a byte now and then would hold it for ever."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    answer: tuple[int, bytes] | None = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)
    _socket: socket.socket | None = field(default=None, init=False)

    def sent(self, host: str, port: int, context: ssl.SSLContext) -> tuple[int, bytes]:
        """The status and content that came.

        Raises:
            TimeoutError: it took too long as a whole.
            Exception: what the connection raised.
        """
        thread = threading.Thread(target=self._send, args=(host, port, context), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a limit on threads or memory
            raise OSError(str(error)) from error
        thread.join(_ANSWER_S)
        if thread.is_alive():
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it is over already
                    self._socket.shutdown(socket.SHUT_RDWR)
            raise TimeoutError(f"no whole answer in {_ANSWER_S:g} s")
        if self.answer is None:
            raise self.error or OSError("nothing came")
        return self.answer

    def _send(self, host: str, port: int, context: ssl.SSLContext) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
        try:
            with contextlib.closing(connection):
                plain = socket.create_connection((host, port), timeout=_ANSWER_S)
                self._socket = connection.sock = context.wrap_socket(
                    plain, server_hostname=host, do_handshake_on_connect=False
                )
                connection.sock.do_handshake()
                text = None if self.body is None else json.dumps(self.body)
                kind = {} if text is None else {"Content-Type": _MERGE}
                connection.request(self.method, self.path, text, self.headers | kind)
                with contextlib.closing(connection.getresponse()) as response:
                    self.answer = response.status, response.read(_MOST_BYTES)
        except Exception as error:  # noqa: BLE001 - raised by whoever waits for this thread
            self.error = error
