"""Requests without bodies and of few lines, so that what is read of a client costs little."""

from collections.abc import Iterable
from typing import Final

import h11

#: Lines and bytes that a client may be ahead of what is answered: a browser sends 20 lines.
_MOST_LINES: Final = 256
_MOST_BYTES: Final = 64 * 1024


def _announces_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request with these headers, in lower case, comes with a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in headers
    )


class BodilessConnection(h11.Connection):
    """h11's side of a server that asks for no body, and reads none.

    A body of chunks of one byte takes h11 seconds for what a client sends at once. Whoever sends
    one is answered, and its connection ends there: what follows is not looked at.
    """

    def __init__(self, most_bytes: int) -> None:
        """Create it with a bound on a request that is not whole yet."""
        super().__init__(h11.SERVER, most_bytes)
        self.has_body = False  # of the request that came last: nothing follows it
        self._is_too_much = False

    def receive_data(self, data: bytes) -> None:
        """Take in what a client sent, where more is wanted of it."""
        if self.has_body or self._is_too_much:
            return
        super().receive_data(data)
        ahead, _ = self.trailing_data
        self._is_too_much = len(ahead) > _MOST_BYTES or ahead.count(b"\n") > _MOST_LINES

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """What the client has asked.

        Raises:
            h11.RemoteProtocolError: no HTTP, or more of it than anybody needs.
        """
        if self._is_too_much:
            raise h11.RemoteProtocolError("too much at once", error_status_hint=431)
        if self.has_body:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.has_body = _announces_body(event.headers)
        return event
