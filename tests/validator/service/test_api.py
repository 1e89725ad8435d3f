"""The HTTP interface answers what it promises, on its short way and its long one."""

import asyncio
import contextlib
import gzip
import json
import re
from datetime import datetime, timezone
from typing import Any

import h11
import httpx
import pytest

from tests.validator.service.fake_runner import everything, report, result
from validator import __version__
from validator.piecewise import at_once
from validator.report import Report
from validator.service.api import ProbeOnDevice, ProbeState, make_app, negotiate
from validator.service.bad import BadFindings, bad_findings
from validator.service.latest import Readiness
from validator.service.listen import listen
from validator.service.metrics import Form
from validator.service.server import _server
from validator.service.trust import NONCE, PROOF

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PAGES = ("/", "/metrics", "/healthz", "/readyz", "/api/v1/report", "/api/v1/probes")


class FakeNode:
    """A node that answers what a test has set."""

    def __init__(self) -> None:
        self.stuck = ""
        self.ready = Readiness(True, "pass: 7 probes")
        self.content: bytes | None = report(everything()).model_dump_json().encode()
        self.secret: bytes | None = None
        self.scrapes: list[Form] = []
        self.is_made = True

    def alive(self) -> str:
        """Set."""
        return self.stuck

    def readiness(self) -> Readiness:
        """Set."""
        return self.ready

    async def report(self) -> bytes | None:
        """Set."""
        return self.content

    async def bad_findings(self) -> bytes | None:
        """Of the report that is set."""
        if self.content is None:
            return None
        return at_once(bad_findings(Report.model_validate_json(self.content))).encode()

    def token(self) -> bytes | None:
        """Set."""
        return self.secret

    def probes(self) -> list[ProbeState]:
        """One probe, with markup where text should be."""
        return [
            ProbeState(
                name="autograd",
                profile="quick",
                needs="device",
                enabled=True,
                timeout_s=60,
                interval_s=300,
                due_at=datetime(2030, 1, 2, tzinfo=timezone.utc),
                checks={"autograd.runs": "it runs"},
                devices=(
                    ProbeOnDevice(device="cpu", status="fail", summary="<script>alert(1)</script>"),
                    ProbeOnDevice(device="cuda:0"),
                ),
            )
        ]

    def metrics(self, form: Form) -> bytes | None:
        """The text, unless it is to be made anew."""
        return self.text(form) if self.is_made else None

    async def new_metrics(self, form: Form) -> bytes:
        """The same."""
        return self.text(form)

    def text(self, form: Form) -> bytes:
        """A text that says which form it is."""
        self.scrapes.append(form)
        text = f"metrics openmetrics={form.openmetrics}\n".encode()
        return gzip.compress(text) if form.gzipped else text


def ask(
    node: FakeNode, path: str, method: str = "GET", headers: dict[str, Any] | None = None
) -> httpx.Response:
    """One request to the application, without a server."""

    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(node))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(one())


@pytest.mark.parametrize(("stuck", "status"), [("", 200), ("stuck: a run has not ended", 503)])
def test_healthz(stuck: str, status: int) -> None:
    """200 while there is progress, else 503 and what it is stuck on."""
    node = FakeNode()
    node.stuck = stuck
    answer = ask(node, "/healthz")

    assert (answer.status_code, answer.text) == (status, f"{stuck or 'ok'}\n")


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_readyz(ready: bool, status: int) -> None:  # noqa: FBT001 - a table
    """The status says whether, the first line says why."""
    node = FakeNode()
    node.ready = Readiness(ready, "the reason")
    answer = ask(node, "/readyz")

    assert (answer.status_code, answer.text) == (status, "the reason\n")


def test_readyz_tells_the_whole_reason_in_its_second_line() -> None:
    """The first line is for what shows 80 characters; nothing of the text is lost."""
    node = FakeNode()
    node.ready = Readiness(ready=False, reason="fail: short", whole="fail: " + "long " * 40)

    assert ask(node, "/readyz").text == f"fail: short\nfail: {'long ' * 40}\n"
    assert "fail: " + "long " * 40 in ask(node, "/").text


def test_report() -> None:
    """The bytes are a report; before the first there is 503 and JSON that says why."""
    node = FakeNode()
    there = ask(node, "/api/v1/report")
    node.content = None
    missing = ask(node, "/api/v1/report")

    assert Report.model_validate_json(there.content).status == "pass"
    assert (missing.status_code, missing.json()) == (503, {"detail": "no run has ended yet"})


def test_what_is_bad_alone() -> None:
    """As the schema says; without a proof, which is for the whole report alone."""
    node = FakeNode()
    failed = result("autograd", "cpu", "fail", "check_failed")
    node.content = report([failed]).model_dump_json().encode()
    node.secret = b"secret"
    headers = {NONCE: "ab" * 16}
    whole = ask(node, "/api/v1/report", headers=headers)
    bad = ask(node, "/api/v1/report?findings=bad", headers=headers)
    node.content = None

    found = BadFindings.model_validate_json(bad.content)
    assert [one.id for one in found.findings] == ["autograd.completes"]
    assert PROOF in whole.headers
    assert PROOF not in bad.headers
    assert ask(node, "/api/v1/report?findings=bad").status_code == 503
    assert ask(node, "/api/v1/report?findings=all").status_code == 422


def test_probes() -> None:
    """Typed, with due time and what each device last said."""
    [probe] = ask(FakeNode(), "/api/v1/probes").json()

    assert ProbeState.model_validate(probe) == FakeNode().probes()[0]
    assert probe["due_at"] == "2030-01-02T00:00:00Z"


def test_page_loads_nothing_and_escapes() -> None:
    """Version and state are there, markup of a probe is text, and no other host is named."""
    text = ask(FakeNode(), "/").text

    assert __version__ in text
    assert "<b>ready</b>" in text
    assert "<th>probe</th><th>device</th>" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|url\(", text)


def test_openapi_names_the_pages_and_no_cdn() -> None:
    """Every page is described; the pages that would load from a CDN do not exist."""
    node = FakeNode()

    assert set(ask(node, "/openapi.json").json()["paths"]) == set(PAGES)
    assert ask(node, "/docs").status_code == 404
    assert ask(node, "/redoc").status_code == 404


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json"])
def test_head_is_get_without_its_body(path: str) -> None:
    """Same status and headers, nothing after them."""
    node = FakeNode()
    get, head = ask(node, path), ask(node, path, "HEAD")

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers == get.headers


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method_is_405(path: str, method: str) -> None:
    """JSON, and the methods that are right."""
    answer = ask(FakeNode(), path, method)

    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/nope", "/api/v1", "/metrics/x", "/%2e%2e/etc"])
def test_an_unknown_path_is_404(path: str) -> None:
    """JSON, with the headers that every answer has."""
    answer = ask(FakeNode(), path)

    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [*PAGES, "/nope"])
def test_headers_of_every_answer(path: str) -> None:
    """No sniffing, no framing, no caching, no foreign content."""
    headers = ask(FakeNode(), path).headers

    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("accept", "encoding", "form"),
    [
        ("", "", Form()),
        ("*/*", "identity", Form()),
        (PROMETHEUS, "gzip", Form(openmetrics=True, gzipped=True)),
        ("application/openmetrics-text", "", Form(openmetrics=True)),
        ("text/plain;version=0.0.4", "deflate, gzip;q=1.0, *;q=0.5", Form(gzipped=True)),
        ("text/html", "GZIP", Form(gzipped=True)),
        ("", "gzip;q=0", Form()),
        ("", "gzip; q=0.0, br", Form()),
        ("", "xgzip", Form()),
    ],
)
def test_negotiation(accept: str, encoding: str, form: Form) -> None:
    """OpenMetrics and gzip when asked for, plain text otherwise."""
    assert negotiate(accept, encoding) == form


@pytest.mark.parametrize("version", ["1.a.0", "1.0.0.x", "", "-1", "1" * 5000, "\u0661"])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
def test_an_odd_version_gets_an_answer(kind: str, version: str) -> None:
    """Not an error with a traceback at each scrape."""
    answer = ask(FakeNode(), "/metrics", headers={"accept": f"{kind};version={version}".encode()})

    assert answer.status_code == 200
    assert answer.text.startswith("metrics openmetrics=")


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/metrics/", "/metrics"),
        ("/healthz//", "/healthz"),
        ("/api/v1/report/", "/api/v1/report"),
        ("//elsewhere/", None),
        ("//elsewhere/metrics/", None),
        ("/metrics/x/", None),
    ],
)
def test_a_slash_too_many_redirects_to_us(path: str, location: str | None) -> None:
    """Whatever host the client says that we are."""
    answer = ask(FakeNode(), f"http://node{path}", headers={"host": "elsewhere"})

    assert answer.status_code == (404 if location is None else 307)
    assert answer.headers.get("location") == location


def test_metrics_on_the_long_way() -> None:
    """Through the application: the form that was asked for, and what it is called."""
    answer = ask(FakeNode(), "/metrics", headers={"accept": PROMETHEUS, "accept-encoding": "gzip"})

    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "metrics openmetrics=True\n"


# -- over a socket: the protocol with its short way ---------------------------------------------


def over_socket(
    node: FakeNode, chunks: list[bytes], answers: int, keep_alive_s: int = 75
) -> list[tuple[int, Any, bytes]]:
    """Send chunks on one connection, each in a segment of its own; parse what comes with h11."""

    async def exchange(port: int) -> list[tuple[int, Any, bytes]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = bytearray()
        try:
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0.02)  # a segment of its own; right when they merge, too
            while len(_parsed(bytes(got))) < answers:
                data = await asyncio.wait_for(reader.read(65536), 10)
                if not data:
                    return _parsed(bytes(got), at_end=True)
                got += data
            return _parsed(bytes(got))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):  # the server was first
                await writer.wait_closed()

    async def talk() -> list[tuple[int, Any, bytes]]:
        [listening] = listen(["127.0.0.1:0"])
        server = _server(node, lambda: None)
        server.config.timeout_keep_alive = keep_alive_s
        serving = asyncio.ensure_future(server.serve([listening]))
        try:
            return await exchange(listening.getsockname()[1])
        finally:
            server.stopping.set()
            await serving

    return asyncio.run(talk())


def _parsed(data: bytes, *, at_end: bool = False) -> list[tuple[int, Any, bytes]]:
    """Whole answers in what was read, by a strict parser that shares nothing with the server's."""
    answers: list[tuple[int, Any, bytes]] = []
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        if at_end:
            client.receive_data(b"")
        head, body = client.next_event(), b""
        if head is h11.NEED_DATA:
            break
        assert isinstance(head, h11.Response)
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            break
        headers = {name.decode(): value.decode() for name, value in head.headers}
        answers.append((head.status_code, headers, body))
        data = client.trailing_data[0]
    return answers


SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nAccept: */*\r\n\r\n"
PLAIN = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
LONG_WAY = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def test_the_short_way_answers_as_the_long_one() -> None:
    """Same status, headers and body; only the Date may differ."""
    [short], [long] = (over_socket(FakeNode(), [sent], 1) for sent in (PLAIN, LONG_WAY))
    for answer in (short, long):
        assert re.fullmatch(r"\w{3}, .* GMT", answer[1].pop("date"))

    assert short == long
    assert short[2] == b"metrics openmetrics=False\n"


def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain scrape does not touch the application; another request does."""

    async def broken(_scope: object, _receive: object, _send: object) -> None:
        raise AssertionError("the application was called")

    monkeypatch.setattr("validator.service.server.make_app", lambda _node: broken)
    [short] = over_socket(FakeNode(), [SCRAPE], 1)

    assert short[0] == 200
    assert gzip.decompress(short[2]) == b"metrics openmetrics=False\n"


def test_what_is_to_be_made_anew_goes_the_long_way() -> None:
    """It answers the same; a scrape never has all of a large node rendered at once."""
    node = FakeNode()
    node.is_made = False
    answers = over_socket(node, [SCRAPE, SCRAPE, PLAIN], 3)

    assert [one[0] for one in answers] == [200] * 3
    assert gzip.decompress(answers[0][2]) == b"metrics openmetrics=False\n"


def test_many_scrapes_on_one_connection() -> None:
    """The connection stays open, with other requests between."""
    chunks = [SCRAPE, HEALTH, SCRAPE, LONG_WAY, PLAIN, HEALTH]
    answers = over_socket(FakeNode(), chunks, 6)

    assert [one[0] for one in answers] == [200] * 6
    assert [one[2][:2] for one in answers] == [b"\x1f\x8b", b"ok", b"\x1f\x8b", b"me", b"me", b"ok"]


@pytest.mark.parametrize(
    "chunks",
    [
        [PLAIN[:10], PLAIN[10:]],
        [PLAIN[:-1], PLAIN[-1:]],
        [PLAIN + PLAIN],
        [PLAIN + HEALTH[:9], HEALTH[9:]],
        [HEALTH + PLAIN],
    ],
    ids=["split", "last byte late", "two at once", "one and a half", "behind another"],
)
def test_segments_do_not_matter(chunks: list[bytes]) -> None:
    """Requests cut and glued anywhere get their answers, in their order."""
    whole = b"".join(chunks).count(b"\r\n\r\n")
    answers = over_socket(FakeNode(), chunks, whole)
    wanted = [
        b"metrics openmetrics=False\n" if b"/metrics" in one else b"ok\n"
        for one in b"".join(chunks).split(b"\r\n\r\n")[:-1]
    ]

    assert [one[2] for one in answers] == wanted


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"GET /metrics?name=x HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
        (b"BREW /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
def test_odd_requests_get_what_the_long_way_says(request_: bytes, status: int) -> None:
    """The short way takes none of them; h11 decides."""
    [answer] = over_socket(FakeNode(), [request_], 1)

    assert answer[0] == status


@pytest.mark.parametrize(
    "framing", [b"Content-Length: %d" % len(PLAIN), b"Transfer-Encoding: chunked"]
)
@pytest.mark.parametrize("merged", [True, False])
def test_a_body_ends_the_connection(framing: bytes, *, merged: bool) -> None:
    """The request is answered; what looks like another one after it is that body."""
    head = b"GET /metrics HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing
    node = FakeNode()
    [answer] = over_socket(node, [head + PLAIN + HEALTH] if merged else [head, PLAIN, HEALTH], 2)

    assert answer[0] == 200
    assert len(node.scrapes) == 1


def test_connection_close_closes() -> None:
    """The server ends the connection after its answer: a second one never comes."""
    request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    assert len(over_socket(FakeNode(), [request], 2)) == 1


def test_an_idle_connection_is_closed() -> None:
    """After a scrape on the short way, too, a silent client is let go."""
    assert len(over_socket(FakeNode(), [SCRAPE], 2, keep_alive_s=0)) == 1


def test_head_sends_no_body_to_any_server() -> None:
    """The application itself leaves it out: not every server would."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "HEAD", "path": "/healthz", "headers": []}
    scope |= {"query_string": b"", "http_version": "1.1", "root_path": "", "scheme": "http"}

    async def call() -> None:
        await make_app(FakeNode())(scope, receive, send)

    asyncio.run(call())

    assert sent[0]["status"] == 200
    assert b"".join(message.get("body", b"") for message in sent) == b""


def test_headers_without_end_are_refused() -> None:
    """More than 16 KiB of headers, and still no end of them."""
    chunks = [b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: ", b"y" * 10_000, b"y" * 10_000]
    [answer] = over_socket(FakeNode(), chunks, 1)

    assert answer[0] == 400


def test_a_body_of_a_scrape_is_not_the_next_request() -> None:
    """What looks like a scrape inside a body is a body: no request is smuggled."""
    inner = PLAIN
    outer = b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(inner)
    node = FakeNode()
    answers = over_socket(node, [outer, inner, HEALTH], 2)

    assert [one[2] for one in answers] == [b"ok\n"]
    assert node.scrapes == []


def test_report_json_is_small_on_the_wire() -> None:
    """The report is sent as it was made, not made again."""
    node = FakeNode()

    assert ask(node, "/api/v1/report").content is not None
    assert json.loads(ask(node, "/api/v1/report").content) == json.loads(node.content or b"")
