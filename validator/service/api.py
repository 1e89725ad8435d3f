"""The HTTP interface: metrics, liveness, readiness, the merged report, the probes, a small page."""

import functools
import html
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from prometheus_client.exposition import choose_encoder
from starlette.routing import Route

from probes.contract import Frozen, Profile, Reason, Status
from validator import __version__
from validator.report import Report
from validator.service.bad import BadFindings
from validator.service.latest import Readiness
from validator.service.metrics import Form
from validator.service.trust import NO_RUN, NONCE, PROOF, is_nonce, prove

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
#: The parameter of the report's path.
_Findings = Annotated[
    Literal["bad"] | None,
    Query(description="`bad`: only findings that are neither passed nor skipped, in 64 KiB"),
]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

#: For every answer: nothing of it is a page's to run, to frame, to guess at or to keep.
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class ProbeOnDevice(Frozen):
    """What counts now of one probe on one device; None before the first result."""

    device: str
    status: Status | None = None
    reason: Reason | None = None
    summary: str = ""
    ended_at: datetime | None = None
    age_s: float | None = None
    failed: tuple[str, ...] = ()  # ids of its checks
    left_out: tuple[str, ...] = ()  # the same, of a pass


class ProbeState(Frozen):
    """One probe of the catalogue: what it checks, when it is due, what it last said."""

    name: str
    profile: Profile
    needs: str
    enabled: bool
    timeout_s: float
    interval_s: float
    cron: str | None = None
    due_at: datetime | None = None  # None: while it runs, or when it is not scheduled
    checks: dict[str, str]  # id -> promise
    devices: tuple[ProbeOnDevice, ...] = ()


class Problem(Frozen):
    """Why there is no answer."""

    detail: str


class Node(Protocol):
    """What the HTTP interface asks of the daemon. Nothing here may hold the loop."""

    def alive(self) -> str:
        """Empty while the scheduler makes progress, else what it is stuck on."""

    def readiness(self) -> Readiness:
        """Whether work may come, and why not."""

    async def report(self) -> bytes | None:
        """The merged report as JSON; None before the first run has ended."""

    async def bad_findings(self) -> bytes | None:
        """What is wrong in that report, as JSON of at most 64 KiB; None before the first run."""

    def token(self) -> bytes | None:
        """The secret shared with those who want a report proved, if there is one."""

    def probes(self) -> list[ProbeState]:
        """All probes, in the catalogue's order."""

    def metrics(self, form: Form) -> bytes | None:
        """The exposition; None where it must be made anew."""

    async def new_metrics(self, form: Form) -> bytes:
        """The exposition, made anew where it must be."""


@functools.lru_cache(maxsize=64)
def negotiate(accept: str, accept_encoding: str) -> Form:
    """The form of exposition that a client asks for; plain text where that cannot be read."""
    codings = (coding.partition(";") for coding in accept_encoding.lower().split(","))
    gzipped = any(
        name.strip() in {"gzip", "*"} and weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.000"}
        for name, _, weight in codings
    )
    try:
        kind = choose_encoder(accept)[1]
    except (TypeError, ValueError):  # of a version that is no number
        kind = ""
    return Form("openmetrics" in kind, gzipped)


def application(node: Node) -> FastAPI:
    """The paths and what they answer."""
    app = FastAPI(
        title="gpu-validator",
        version=__version__,
        summary="Does the PyTorch in this image compute correctly on every GPU of this node?",
        docs_url=None,  # these pages load from a CDN, and clusters are offline
        redoc_url=None,
        redirect_slashes=False,  # to whatever the Host header says
    )
    unavailable: dict[int | str, dict[str, Any]] = {
        503: {"description": "No; the reason is the body"}
    }
    not_ready: dict[int | str, dict[str, Any]] = {
        503: {
            "description": "No; the first line is the reason. Its first word is `fail:` where a "
            "probe failed, and only then: every other reason blames no node"
        }
    }

    @app.get("/", response_class=HTMLResponse, summary="A page with state and links")
    async def page() -> HTMLResponse:
        return HTMLResponse(_page(node))

    @app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus or OpenMetrics text")
    async def metrics(request: Request) -> Response:
        form = negotiate(
            request.headers.get("accept", ""), request.headers.get("accept-encoding", "")
        )
        headers = {"vary": "accept, accept-encoding"}
        if form.gzipped:
            headers["content-encoding"] = "gzip"
        return Response(await node.new_metrics(form), headers=headers, media_type=form.content_type)

    @app.get(
        "/healthz",
        response_class=PlainTextResponse,
        responses=unavailable,
        summary="Whether the scheduler makes progress",
    )
    async def healthz() -> PlainTextResponse:
        stuck = node.alive()
        return PlainTextResponse(f"{stuck or 'ok'}\n", 503 if stuck else 200)

    @app.get(
        "/readyz",
        response_class=PlainTextResponse,
        responses=not_ready,
        summary="Whether every probe has a fresh result and none is bad; `fail:` if one failed",
    )
    async def readyz() -> PlainTextResponse:
        readiness = node.readiness()
        # A condition takes the first line; the second is whole where the first is shortened.
        body = f"{readiness.reason}\n" + (f"{readiness.whole}\n" if readiness.whole else "")
        return PlainTextResponse(body, 200 if readiness.ready else 503)

    @app.get(
        "/api/v1/report",
        response_model=Report | BadFindings,
        responses={503: {"model": Problem, "description": "No run has ended yet"}},
        summary="The newest result of each probe and device; `?findings=bad`: what is wrong alone",
    )
    async def report(request: Request, findings: _Findings = None) -> Response:
        content = await (node.report() if findings is None else node.bad_findings())
        status = 200
        if content is None:
            content, status = Problem(detail=NO_RUN).model_dump_json().encode(), 503
        nonce, token, headers = request.headers.get(NONCE, ""), node.token(), {}
        if findings is None and token is not None and is_nonce(nonce):
            headers[PROOF] = prove(token, nonce, content)
        return Response(content, status, headers=headers, media_type="application/json")

    @app.get("/api/v1/probes", summary="The catalogue, with due times and what each last said")
    async def probes() -> list[ProbeState]:
        return node.probes()

    return app


def make_app(node: Node) -> _App:
    """The application as ASGI, with HEAD and the headers of every answer."""
    app = application(node)
    return _front(app, frozenset(route.path for route in app.routes if isinstance(route, Route)))


def _front(app: _App, paths: frozenset[str]) -> _App:
    """HEAD as GET without its body, `/metrics/` as `/metrics`, the headers that every answer has.

    A redirect names no host: what the client calls us may be anything.
    """

    async def front(scope: _Scope, receive: _Receive, send: _Send) -> None:
        head = scope["type"] == "http" and scope["method"] == "HEAD"

        async def answer(message: _Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *HEADERS]
                if message["status"] == 405:
                    headers = [one for one in headers if one[0] != b"allow"]
                    headers.append((b"allow", b"GET, HEAD"))
                message = {**message, "headers": headers}
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        path = scope["path"].rstrip("/") if scope["type"] == "http" else ""
        if path in paths and path != scope["path"]:
            found = RedirectResponse(path, status_code=307)
            await found(scope, receive, answer)
            return
        await app({**scope, "method": "GET"} if head else scope, receive, answer)

    return front


def _page(node: Node) -> str:
    heads = ("probe", "device", "status", "what it found")
    readiness, rows = node.readiness(), ["".join(f"<th>{head}</th>" for head in heads)]
    for probe in node.probes():
        for one in probe.devices:
            cells = (probe.name, one.device, one.status or "not yet", one.summary)
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    links = ("metrics", "healthz", "readyz", "api/v1/report", "api/v1/probes", "openapi.json")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>gpu-validator</title>"
        "<style>body{font:15px sans-serif;margin:2em}"
        "td,th{padding:.2em 1em .2em 0;text-align:left}</style>"
        f"<h1>gpu-validator {html.escape(__version__)}</h1>"
        f"<p><b>{'ready' if readiness.ready else 'not ready'}</b>: {html.escape(readiness.text)}"
        f"<p>{' · '.join(f'<a href={link}>/{link}</a>' for link in links)}"
        f"<table>{''.join(f'<tr>{row}' for row in rows)}</table>\n"
    )
