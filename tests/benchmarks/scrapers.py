"""Scrapers in a closed loop, in a process of their own: each asks again as soon as it is answered.

A light client on raw sockets, since it shares the cores with the servers that it measures. It
sends what Prometheus sends, keeps connections where the server does, and opens new ones where not.
"""

import asyncio
import gzip
import json
import sys
import time
from dataclasses import asdict, dataclass

from tests.benchmarks import SERIES
from validator.service.metrics import series_count

REQUEST = (
    b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3\r\n"
    b"Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
)

#: What all scrapers have at most for their first answers, before others are told that they have.
_FIRST_S = 2.0


@dataclass
class Seen:
    """What a closed loop saw."""

    rate: float  # answers a second
    p50_ms: float
    p99_ms: float
    max_ms: float
    answers: int
    errors: int
    unanswered: int  # requests open for over a second at the end, one a scraper at most
    connections: int


class Connection(asyncio.Protocol):
    """One connection of a scraper; it asks, and says what came."""

    def __init__(self, scraper: "Scraper") -> None:
        """Belong to a scraper."""
        self._scraper = scraper
        self._buffer = b""
        self._waiting = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request; its time began when the connection was asked for."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(REQUEST)

    def ask_again(self) -> None:
        """Send the next request on the same connection."""
        self._waiting, self._buffer = True, b""
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer, and tell when it is whole."""
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lower = head.lower()
        _, named, after = lower.partition(b"content-length:")
        if named:
            whole = len(body) >= int(after.split(b"\r\n", 1)[0])
        else:
            whole = b"chunked" in lower and body.endswith(b"0\r\n\r\n")
        if whole:
            self._waiting = False
            kept = lower.startswith(b"http/1.1") and b"connection: close" not in lower
            self._scraper.answered(self, head, body, kept=kept)

    def connection_lost(self, _exc: Exception | None) -> None:
        """A connection that ends before its answer is whole is an error."""
        if self._waiting:
            self._waiting = False
            self._scraper.failed()


class Scraper:
    """One scraper: one request at a time, until it is stopped."""

    def __init__(self, port: int) -> None:
        """Ask 127.0.0.1:port."""
        self._port = port
        self._loop = asyncio.get_running_loop()
        self.asked = 0.0
        self._opening: asyncio.Task[None] | None = None
        self.took: list[float] = []
        self.errors = self.connections = 0
        self.body = b""
        self.stopped = False
        self.begun: asyncio.Future[None] = self._loop.create_future()  # done with the first answer

    def open(self) -> None:
        """Connect anew; that takes part in the time of the answer."""
        if self.stopped:
            return
        self.asked = time.perf_counter()
        self.connections += 1
        self._opening = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        except OSError:
            self.failed()

    def failed(self) -> None:
        """Count it and go on, not in a tight loop when nobody listens."""
        self.errors += 1
        self._loop.call_later(0.05, self.open)

    def answered(self, connection: Connection, head: bytes, body: bytes, *, kept: bool) -> None:
        """Take the time, then ask again, where the server lets us on the same connection."""
        now = time.perf_counter()
        self.took.append(now - self.asked)
        if not self.begun.done():
            self.begun.set_result(None)
        self.errors += b" 200 " not in head.split(b"\r\n", 1)[0]
        self.body = body
        if kept and not self.stopped:
            self.asked = now
            connection.ask_again()
        else:
            connection.transport.close()
            self.open()


async def scrape(port: int, seconds: float, clients: int, least: int = SERIES) -> Seen:
    """Run the loop; refuse an answer that has not as many series as it should."""
    scrapers = [Scraper(port) for _ in range(clients)]
    began = time.perf_counter()
    for scraper in scrapers:
        scraper.open()
    await asyncio.wait({one.begun for one in scrapers}, timeout=_FIRST_S)
    sys.stderr.write("all have begun\n")
    sys.stderr.flush()
    await asyncio.sleep(began + seconds - time.perf_counter())
    # Stopped hard: a server that drops connections lets the kernel try again for a minute, and
    # to wait for those would call it slower than it is.
    lasted = time.perf_counter() - began
    for scraper in scrapers:
        scraper.stopped = True
    body = next((one.body for one in scrapers if one.body), b"")
    # Of chunks nothing is counted: that server has the series that it has.
    count = least and series_count(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    if count < least:
        raise SystemExit(f"port {port} served {count} series, not {least}")
    took = sorted(second for one in scrapers for second in one.took)
    return Seen(
        rate=len(took) / lasted,
        p50_ms=_share(took, 0.5) * 1e3,
        p99_ms=_share(took, 0.99) * 1e3,
        max_ms=_share(took, 1) * 1e3,
        answers=len(took),
        unanswered=sum(began + lasted - one.asked > 1 for one in scrapers),
        errors=sum(one.errors for one in scrapers),
        connections=sum(one.connections for one in scrapers),
    )


def _share(took: list[float], share: float) -> float:
    """The time within which so many of the answers came, sorted; NaN where none did."""
    return took[min(int(len(took) * share), len(took) - 1)] if took else float("nan")


if __name__ == "__main__":
    port, seconds, clients, least = sys.argv[1:5]
    seen = asyncio.run(scrape(int(port), float(seconds), int(clients), int(least)))
    json.dump(asdict(seen), sys.stdout)
