"""HTTP on one connection: a short way for scrapes, and bounds on what its client may take."""

import asyncio
import functools
import socket
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from validator.service.api import HEADERS, Node, negotiate
from validator.service.connections import Connections
from validator.service.metrics import Form
from validator.service.requests import BodilessConnection
from validator.service.turns import BUSY, BUSY_HEADERS, HEALTH

_HEALTH: Final = frozenset(path.encode() for path in HEALTH)
#: Of a request for health, where nothing else is answered.
_HEALTH_BYTES: Final = 4096
#: A request that is not whole yet.
_HEAD_BYTES: Final = 16 * 1024


@functools.lru_cache(maxsize=64)
def _plain_scrape(request: bytes) -> Form | None:
    """The form that a request asks for if it is a whole, plain GET of the metrics, else None.

    Scrapers send the same bytes each time, so each is parsed once.
    """
    head, end, rest = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not end or rest or lines[0] != b"GET /metrics HTTP/1.1":
        return None
    asked: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        name = name.lower()
        # A name must be a token, and what repeats or changes the framing is h11's to judge.
        if not colon or not name.replace(b"-", b"").isalnum() or name in asked or name in _FRAMING:
            return None
        asked[name] = value.strip(b" \t")
    if b"host" not in asked or not all(
        value.isascii() and _printable(value) for value in asked.values()
    ):
        return None
    return negotiate(
        asked.get(b"accept", b"").decode("ascii"),
        asked.get(b"accept-encoding", b"").decode("ascii"),
    )


_FRAMING: Final = {b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"}


def _printable(value: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte == 0x09 for byte in value)


def _asks_for_health(request: bytes) -> bool:
    """Whether the first line of a request is of a page that tells of health."""
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    return method in {b"GET", b"HEAD"} and path in _HEALTH


class NodeProtocol(H11Protocol):
    """uvicorn's HTTP protocol, with a short way for a plain scrape, and bounds.

    Parsing a request with h11 and passing it through ASGI costs ten times what it takes to write
    an answer that is ready. Whatever is not a whole, plain `GET /metrics`, and an exposition that
    is to be made anew, goes the usual way.
    """

    #: Set on a subclass, since uvicorn makes the instances.
    node: Node
    table: Connections
    conn: BodilessConnection

    # -- bounds -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.conn = BodilessConnection(_HEAD_BYTES)
        self._head = b""  # of a request on a connection that may ask for health alone
        self._unread_since_s: float | None = None
        is_local = transport.get_extra_info("socket").family == socket.AF_UNIX
        self._asks_all = self.table.join(self, is_local=is_local)
        limits = self.table.limits
        self._wait(limits.head_s if self._asks_all else limits.beyond_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the table."""
        self.table.leave(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called when the client does not read."""
        super().pause_writing()
        self.table.record_unread(self)

    def on_response_complete(self) -> None:
        """Wait for the next request, or be done with one that may ask for health alone."""
        self._wait(self.table.limits.idle_s)
        super().on_response_complete()
        if not self._asks_all:
            self.transport.close()
        elif self.conn.has_body:  # to close while it comes would take the answer back
            self._until_s = self.table.monotonic() + self.table.limits.beyond_s
            self.transport.write_eof()

    def is_overdue(self, now_s: float) -> bool:
        """Whether the client has kept us waiting for too long: to read, or to send a request."""
        if self.unread_bytes():
            if self._unread_since_s is None:
                self._unread_since_s = now_s
            return now_s - self._unread_since_s > self.table.limits.answer_s
        self._unread_since_s = None
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # it waits for us
        return now_s > self._until_s

    def unread_bytes(self) -> int:
        """How much of its answers is not sent."""
        return int(self.transport.get_write_buffer_size())

    def drop(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _wait(self, seconds: float) -> None:
        """Give the client so long for what it does next."""
        self._until_s = self.table.monotonic() + seconds
        self._is_between = True  # no byte of a request has come

    # -- requests ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Answer a plain scrape at once when the connection is between requests."""
        if self.conn.has_body:
            return
        if self._is_between:
            self._is_between = False
            if self._asks_all:
                self._until_s = self.table.monotonic() + self.table.limits.head_s
        if not self._asks_all:
            self._answer_health(data)
            return
        idle = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        between = (
            idle and not self.conn.trailing_data[0] and self.transport.get_write_buffer_size() == 0
        )
        form = _plain_scrape(data) if between and len(data) < 4096 else None
        if form is not None and self.table.owes_too_much():
            self._refuse()
        elif form is not None and (body := self.node.metrics(form)) is not None:
            self._answer_scrape(form, body)
        else:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; while another is answered, end the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _answer_scrape(self, form: Form, body: bytes) -> None:
        self._unset_keepalive_if_required()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", form.content_type.encode("ascii")),
            (b"content-length", b"%d" % len(body)),
            (b"vary", b"accept, accept-encoding"),
            *HEADERS,
        ]
        if form.gzipped:
            headers.append((b"content-encoding", b"gzip"))
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + body)
        self.on_response_complete()

    def _answer_health(self, data: bytes) -> None:
        """Answer a request for health, once it is whole; refuse all others."""
        if self.transport.is_closing() or self.cycle is not None:  # one is enough
            return
        self._head += data
        if not _asks_for_health(self._head) and b" HTTP/" in self._head[:_HEALTH_BYTES]:
            self._refuse()
        elif b"\r\n\r\n" in self._head:
            super().data_received(self._head)
        elif len(self._head) > _HEALTH_BYTES:
            self._refuse()

    def _refuse(self) -> None:
        """Say that there is no answer now, in few bytes, and end the connection."""
        headers = (b"%b: %b" % header for header in (*BUSY_HEADERS, *HEADERS))
        lines = (b"HTTP/1.1 503 Service Unavailable", *headers)
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + BUSY)
        self.transport.close()


def protocol_for(node: Node, table: Connections) -> type[NodeProtocol]:
    """The protocol class that answers for one node, with its connections in a table."""
    members: dict[str, Any] = {"node": node, "table": table}
    return type("BoundProtocol", (NodeProtocol,), members)
