"""Pages in turns, so that who asks for health waits for none of them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from validator.service.connections import Connections

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

#: What is answered whatever else is going on: that we live, and whether work may come.
HEALTH: Final = frozenset({"/healthz", "/readyz"})

#: For a page that is not told now.
BUSY: Final = b"too many connections, or answers that nobody reads: only health is told now\n"
BUSY_HEADERS: Final = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(BUSY)),
    (b"retry-after", b"10"),
    (b"connection", b"close"),
)


class Turns:
    """One turn of the loop for each who waits, in the order in which they came."""

    def __init__(self) -> None:
        """Create it with nobody waiting."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._goes_on = False

    async def wait(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if not self._goes_on:
            self._goes_on = True
            loop.call_soon(self._next)
            return
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # cancelled, when the daemon stops
                first.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._goes_on = False


def in_turns(app: _App, table: Connections, headers: tuple[tuple[bytes, bytes], ...]) -> _App:
    """An application whose pages are told in turns, and only while its answers are read.

    Args:
        app: what answers.
        table: knows how much is not read.
        headers: of an answer that is refused, beside its own.
    """
    turns = Turns()

    async def bounded(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["path"] not in HEALTH:
            await turns.wait()
            if table.owes_too_much():
                start = {"type": "http.response.start", "status": 503}
                await send({**start, "headers": [*BUSY_HEADERS, *headers]})
                await send({"type": "http.response.body", "body": BUSY})
                return

        await app(scope, receive, send)

    return bounded
