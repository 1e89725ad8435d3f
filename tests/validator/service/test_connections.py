"""Clients that say nothing, say half or read nothing cost no one else an answer."""

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.validator.service.test_api import HEALTH, PLAIN, FakeNode
from validator.service import logs
from validator.service.api import ProbeState
from validator.service.connections import Connections, Limits, limits_here
from validator.service.listen import listen
from validator.service.metrics import Form
from validator.service.protocol import NodeProtocol
from validator.service.server import _server

#: Long, where a test wants nothing to end by itself.
_LONG_S = 60.0
_READY = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"
_PAGE = b"GET /api/v1/report HTTP/1.1\r\nHost: a\r\n\r\n"
_PROBES = b"GET /api/v1/probes HTTP/1.1\r\nHost: a\r\n\r\n"

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Big(FakeNode):
    """A node whose answers fill every buffer between it and a client."""

    size = 8 << 20

    def metrics(self, form: Form) -> bytes:
        """Many bytes."""
        del form
        return bytes(self.size)

    async def report(self) -> bytes | None:
        """Many bytes."""
        return bytes(self.size)


class Served:
    """A server, and clients of it that end with the test."""

    def __init__(self, port: int, table: Connections) -> None:
        self.port = port
        self.table = table
        self._open: list[Stream] = []

    async def client(self) -> Stream:
        """One more connection."""
        stream = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 16)
        self._open.append(stream)
        return stream

    async def ask(self, request: bytes) -> bytes:
        """All that comes on a connection of its own for one request."""
        stream = await self.client()
        return await answer(stream, request)

    def close(self) -> None:
        """End all clients."""
        for _, writer in self._open:
            writer.transport.abort()


async def answer(stream: Stream, request: bytes) -> bytes:
    """Send a request; its answer, as far as the end of the body."""
    reader, writer = stream
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-l"))
    return head + await asyncio.wait_for(reader.readexactly(int(length.split(b":")[1])), 10)


async def ended(stream: Stream) -> bytes:
    """What still comes until the server ends a connection."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(stream[0].read(), 10)
    return b""


@contextlib.asynccontextmanager
async def served(
    node: FakeNode, *, path: Path | None = None, **limits: Any
) -> AsyncIterator[Served]:
    """A server with these limits, over TCP and at a path, which is swept all the time."""
    long = {"head_s": _LONG_S, "beyond_s": _LONG_S, "idle_s": _LONG_S, "answer_s": _LONG_S}
    table = Connections(Limits(**{**long, **limits}))
    [listening] = listen(["127.0.0.1:0"])
    server = _server(node, lambda: None, table)
    asyncio.get_running_loop().set_exception_handler(server.on_loop_error)
    sockets = [listening]
    if path is not None:
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[-1].bind(str(path))
    serving = asyncio.ensure_future(server.serve(sockets))
    sweeping = asyncio.ensure_future(_sweep(table))
    clients = Served(listening.getsockname()[1], table)
    try:
        yield clients
    finally:
        sweeping.cancel()
        clients.close()
        server.stopping.set()
        await serving


async def _sweep(table: Connections) -> None:
    while True:
        await asyncio.sleep(0.01)
        table.sweep()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so; the test's own deadline bounds it."""
    while not holds():  # noqa: ASYNC110 - of what has no event
        await asyncio.sleep(0.01)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine, in bounded time."""
    asyncio.run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize(
    ("sent", "limit"),
    [(b"", "head_s"), (PLAIN[:9], "head_s"), (HEALTH[:9], "head_s"), (HEALTH, "idle_s")],
    ids=["silent", "half of a scrape", "half of another", "silent after an answer"],
)
def test_who_keeps_us_waiting_is_ended(sent: bytes, limit: str) -> None:
    """Before a first request, in the midst of one, and between two."""

    async def test() -> None:
        limits: dict[str, Any] = {limit: 0.05}
        async with served(FakeNode(), **limits) as clients:
            stream = await clients.client()
            stream[1].write(sent)

            assert (b"200 OK" in await ended(stream)) == (sent == HEALTH)

    run(test)


def test_a_request_by_drops_is_ended_in_the_time_of_one() -> None:
    """Each byte gives no more time."""

    async def test() -> None:
        async with served(FakeNode(), head_s=0.2) as clients:
            stream = await clients.client()
            loop = asyncio.get_running_loop()
            began, over = loop.time(), asyncio.ensure_future(ended(stream))
            while not over.done():
                stream[1].write(b"G")
                await asyncio.wait({over}, timeout=0.02)

            assert loop.time() - began < 5

    run(test)


@pytest.mark.parametrize("sent", [PLAIN, _PAGE], ids=["scrape", "report"])
def test_who_does_not_read_is_ended(sent: bytes) -> None:
    """An answer that is not read is dropped, with its memory."""

    async def test() -> None:
        async with served(Big(), answer_s=0.1) as clients:
            stream = await clients.client()
            stream[1].write(sent)
            await until(lambda: bool(clients.table._unread))
            await until(lambda: not clients.table._ordinary)

            assert not clients.table._unread

    run(test)


def test_who_reads_slowly_gets_all_of_it() -> None:
    """As long as it is read in its time."""

    async def test() -> None:
        async with served(Big(), answer_s=20) as clients:
            stream = await clients.client()
            stream[1].write(PLAIN)
            await until(lambda: bool(clients.table._unread))
            got = 0
            while got < Big.size:
                got += len(await asyncio.wait_for(stream[0].read(1 << 20), 10))

    run(test)


def test_beyond_the_most_health_alone_is_told() -> None:
    """Those who were first go on as before; who comes later learns whether we live."""

    async def test() -> None:
        async with served(FakeNode(), most=2, beyond=2) as clients:
            first, second = await clients.client(), await clients.client()
            assert b"200 OK" in await answer(first, PLAIN)
            assert b"200 OK" in await answer(second, PLAIN)

            for request in (HEALTH, _READY, HEALTH):
                assert b"200 OK" in await clients.ask(request)
            for request in (PLAIN, _PAGE):
                assert b"503 Service Unavailable" in await clients.ask(request)
            assert b"200 OK" in await answer(first, PLAIN)
            assert clients.table.refused == 5

            second[1].close()
            await until(lambda: len(clients.table._ordinary) == 1)
            assert b"200 OK" in await clients.ask(PLAIN)

    run(test)


def test_the_unix_socket_has_places_of_its_own(tmp_path: Path) -> None:
    """Who holds all of the others, from wherever, keeps nobody on this node from asking."""
    path = tmp_path / "s"

    async def asked_over_unix() -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            return await answer((reader, writer), _PAGE)
        finally:
            writer.close()

    async def test() -> None:
        async with served(FakeNode(), path=path, most=2, local=1) as clients:
            for _ in range(5):
                await clients.client()
            await until(lambda: len(clients.table._beyond) == 3)
            assert b"503 Service Unavailable" in await clients.ask(_PAGE)
            for _ in range(3):
                assert b"200 OK" in await asked_over_unix()
                await until(lambda: not clients.table._local)

            holding = await asyncio.open_unix_connection(path)
            await until(lambda: len(clients.table._local) == 1)
            assert b"503 Service Unavailable" in await asked_over_unix()
            holding[1].close()

    run(test)


def test_many_who_come_while_the_loop_is_busy_are_let_in() -> None:
    """Whom the kernel has no room for tries again after a second at the earliest."""

    async def test() -> None:
        async with served(FakeNode()) as clients:
            assert b"200 OK" in await clients.ask(HEALTH)
            with contextlib.ExitStack() as stack:
                for _ in range(300):  # the loop is ours meanwhile
                    one = socket.create_connection(("127.0.0.1", clients.port), 0.5)
                    stack.enter_context(one)
                assert b"200 OK" in await clients.ask(HEALTH)

    run(test)


def test_a_request_for_health_in_pieces_beyond_the_most() -> None:
    """It is answered when it is whole, and then that connection is over."""

    async def test() -> None:
        async with served(FakeNode(), most=0, beyond=2) as clients:
            stream = await clients.client()
            for piece in (HEALTH[:3], HEALTH[3:15], HEALTH[15:-1]):
                stream[1].write(piece)
                await asyncio.sleep(0.02)

            assert b"200 OK" in await answer(stream, HEALTH[-1:])
            assert await ended(stream) == b""

    run(test)


def test_silent_ones_beyond_the_most_make_room_for_who_asks() -> None:
    """However many they are, the newest is heard."""

    async def test() -> None:
        async with served(FakeNode(), most=1, beyond=3) as clients:
            silent = [await clients.client() for _ in range(20)]

            for _ in range(5):
                assert b"200 OK" in await clients.ask(HEALTH)
            assert len(clients.table._beyond) <= 3
            assert all([await ended(each) == b"" for each in silent[1:15]])

    run(test)


def test_much_that_is_not_read_refuses_pages_and_not_health() -> None:
    """The memory of answers is bounded over all connections."""

    async def test() -> None:
        async with served(Big(), unread_bytes=Big.size) as clients:
            for _ in range(3):
                (await clients.client())[1].write(PLAIN)
            await until(clients.table.owes_too_much)

            assert b"503 Service Unavailable" in await clients.ask(PLAIN)
            assert b"503 Service Unavailable" in await clients.ask(_PAGE)
            assert b"200 OK" in await clients.ask(HEALTH)

    run(test)


def test_much_that_is_asked_at_once_is_bounded_too() -> None:
    """Each page is looked at when it is its turn, and not when it was asked for."""

    async def test() -> None:
        async with served(Big(), unread_bytes=Big.size) as clients:
            with contextlib.ExitStack() as stack:
                for _ in range(12):
                    stack.enter_context(deaf(clients)).sendall(_PAGE * 3)
                await until(clients.table.owes_too_much)
                await asyncio.sleep(0.5)

                unread = sum(each.unread_bytes() for each in clients.table._unread)
                assert unread < 3 * Big.size

    run(test)


def deaf(clients: Served) -> socket.socket:
    """A client that reads nothing, and whose kernel takes little."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(("127.0.0.1", clients.port))
    return one


def test_the_kernel_keeps_little_of_what_is_not_read() -> None:
    """What it keeps would be ours to pay for in a control group, and nobody would count it."""

    async def test() -> None:
        async with served(Big()) as clients:
            with deaf(clients) as one:
                one.sendall(PLAIN)
                await until(lambda: bool(clients.table._unread))
                [mine] = clients.table._unread
                await asyncio.sleep(0.1)

                assert Big.size - mine.unread_bytes() < 1 << 20

    run(test)


def test_who_asks_for_health_waits_for_no_pages() -> None:
    """Fifty pages are asked for at once, and a few are told before health is."""

    class Slow(FakeNode):
        told = 0
        told_before_health = 0

        def probes(self) -> list[ProbeState]:
            time.sleep(0.01)
            self.told += 1
            return []

        def alive(self) -> str:
            self.told_before_health = self.told
            return ""

    async def test() -> None:
        node = Slow()
        async with served(node) as clients:
            streams = [await clients.client() for _ in range(50)]
            for stream in streams:
                stream[1].write(_PROBES * 2)
            assert b"200 OK" in await clients.ask(HEALTH)
            assert node.told_before_health < 25

            assert all([b"200 OK" in await answer(stream, b"") for stream in streams * 2])
            assert node.told == 100

    run(test)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n",
    ],
)
def test_an_endless_body_is_answered_and_not_read(request_: bytes) -> None:
    """Chunks of one byte are dear to parse: none is."""

    async def test() -> None:
        async with served(FakeNode(), beyond_s=0.2) as clients:
            stream = await clients.client()
            over = asyncio.ensure_future(ended(stream))
            stream[1].write(request_)
            while not clients.table._ordinary:  # noqa: ASYNC110 - of what has no event
                await asyncio.sleep(0.01)
            [one] = clients.table._ordinary
            while clients.table._ordinary:
                stream[1].write(b"1\r\nx\r\n" * 1000)
                await asyncio.sleep(0.01)

            assert b"HTTP/1.1 " in await over
            assert isinstance(one, NodeProtocol)
            assert len(one.conn.trailing_data[0]) < 10_000

    run(test)


@pytest.mark.parametrize("sent", [b"X: y\r\n" * 300, b"X: " + b"y" * 70_000])
def test_a_request_of_many_lines_is_refused(sent: bytes) -> None:
    """Each costs time, and nobody needs them."""

    async def test() -> None:
        async with served(FakeNode()) as clients:
            stream = await clients.client()
            stream[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n" + sent + b"\r\n\r\n")

            assert b" 400 " in (await stream[0].readline())

    run(test)


def test_what_is_no_request_while_another_is_answered_ends_the_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer in the midst of another, and without a traceback."""
    comes = asyncio.Event()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        await comes.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})

    monkeypatch.setattr("validator.service.server.make_app", lambda _: slow)

    async def test() -> None:
        async with served(FakeNode()) as clients:
            stream = await clients.client()
            stream[1].write(_PAGE)
            await until(lambda: any(one.cycle for one in clients.table._ordinary))  # type: ignore[attr-defined]
            stream[1].write(b"\n" * 300)
            assert await ended(stream) == b""
            comes.set()
            await asyncio.sleep(0.05)

    run(test)
    assert "Exception" not in caplog.text


def test_memory_comes_back_from_who_does_not_read() -> None:
    """What forty of them took is the system's again."""

    async def test() -> None:
        async with served(Big(), unread_bytes=1 << 40) as clients:
            before = _resident_bytes()
            for _ in range(40):
                (await clients.client())[1].write(PLAIN)
            await until(lambda: len(clients.table._unread) == 40)
            taken = _resident_bytes() - before
            clients.table.limits = replace(clients.table.limits, answer_s=0.0)
            await until(lambda: not clients.table._ordinary)

            assert taken > 100 << 20
            assert _resident_bytes() - before < taken / 4

    run(test)


class Reader:
    """A connection that is no more than what it does not read."""

    def __init__(self, unread: int) -> None:
        self.unread = unread

    def is_overdue(self, now_s: float) -> bool:
        """It has time."""
        del now_s
        return False

    def unread_bytes(self) -> int:
        """What it does not read."""
        return self.unread

    def drop(self) -> None:
        """Nobody does."""
        raise AssertionError


@pytest.mark.parametrize("leaves", [False, True], ids=["reads it in the end", "leaves"])
@pytest.mark.parametrize(("unread", "given_back"), [(3 << 20, 0), (5 << 20, 1)])
def test_memory_comes_back_whoever_ends_it(
    monkeypatch: pytest.MonkeyPatch, *, unread: int, given_back: int, leaves: bool
) -> None:
    """Once, and not for little."""
    trims: list[None] = []
    monkeypatch.setattr("validator.service.connections._trim", lambda: trims.append(None))
    table, one = Connections(Limits()), Reader(unread)
    table.join(one)
    table.record_unread(one)
    table.sweep()
    before = len(trims)
    if leaves:
        table.leave(one)
    one.unread = 0
    for _ in range(3):
        table.sweep()

    assert (before, len(trims)) == (0, given_back)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("soft", "most"), [(1024, 352), (1 << 20, 512), (256, 88), (20, 6)])
def test_half_of_the_descriptors_are_the_runs(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    """Few descriptors are few connections."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    limits = limits_here()
    assert limits.most == most
    assert limits.beyond >= 1
    assert limits.at_once >= 1
    assert limits.local >= 1
    assert limits.most + limits.local + limits.beyond + limits.at_once <= soft / 2


def test_without_descriptors_it_is_said_once_and_served_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A flood of errors would fill a disk; when there are some again, clients come in."""

    async def test() -> None:
        async with served(FakeNode()) as clients:
            loop = asyncio.get_running_loop()
            stream = await clients.client()
            assert b"200 OK" in await answer(stream, HEALTH)
            held: list[int] = []
            waiting = socket.socket()
            waiting.setblocking(False)
            try:
                with contextlib.suppress(OSError):
                    while True:
                        held.append(os.dup(0))
                await loop.sock_connect(waiting, ("127.0.0.1", clients.port))
                await asyncio.sleep(1.2)
                assert b"200 OK" in await answer(stream, HEALTH)
            finally:
                for descriptor in held:
                    os.close(descriptor)
                waiting.close()
            assert b"200 OK" in await clients.ask(HEALTH)

    logs.configure()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        run(test)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert capfd.readouterr().err.count("no_descriptors") == 1
