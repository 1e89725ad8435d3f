"""The command `healthcheck`: asks a running daemon whether it is well, in bounded time."""

import time
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError, say
from validator.cli.options import (
    Action,
    ConfigFile,
    DaemonUrl,
    ListenAddress,
    after_help,
    flags_of,
    settings_of,
)
from validator.cli.values import path_of, refuse_server
from validator.in_time import in_time
from validator.render.console import clean, emit
from validator.service import readyfile
from validator.service.ask import UNIX, Answer, NoAnswerError, get, url_of
from validator.settings.values import host_port

_DEADLINE_S: Final = 5.0


EPILOG: Final = after_help(
    (
        "healthcheck           # of the daemon on this machine",
        "healthcheck --ready   # of the daemon and of its node",
        "healthcheck --url unix:/run/gpu-validator/api.sock",
        "healthcheck --ready-file /status/gpu-validator-ready",
    ),
    {
        "0": "The daemon works (/healthz is 200), whatever it says of the node.",
        "": "With --ready the node is ready too (/readyz is 200).",
        "1": "It is not so, or nobody answered within 5 s.",
        "2": "The command line is wrong.",
    },
)


def command(
    url: DaemonUrl = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file",
            metavar="FILE",
            parser=path_of("--ready-file"),
            help="Ask no daemon, but whether this file of `files.ready` vouches for the node now.",
        ),
    ] = None,
    ready: Annotated[
        bool,
        typer.Option(
            "--ready", help="Exit with 1 where the daemon is well and its node not ready."
        ),
    ] = False,
    listen_address: ListenAddress = None,
    config_file: ConfigFile = None,
) -> Action:
    """Ask the running daemon whether it is well, and say whether its node is ready.

    A daemon that works is well on a sick node too: to restart it would heal nothing.
    """

    def action(_: EarlyWorker) -> int:
        refuse_server("--url", url)
        for option, is_given in (("--url", url is not None), ("--ready", ready)):
            if ready_file is not None and is_given:
                raise UsageError(f"--ready-file asks no daemon: it cannot go with {option}")
        if ready_file is not None:
            return _of_file(ready_file)
        if url is not None:
            return _of_daemon(url, ready=ready)
        settings = settings_of(config_file, flags_of(web={"listen_address": listen_address}))
        return _of_daemon(url_of(*host_port(settings.web.listen_address[0])), ready=ready)

    return action


def _of_file(ready_file: Path) -> int:
    """Whether a ready file vouches for the node."""
    wrong = _objection(ready_file)
    if wrong:
        say(wrong)
        return 1
    emit(f"ready: {ready_file} vouches for the node\n")
    return 0


def _objection(ready_file: Path) -> str:
    """Why a ready file does not vouch; a file system that does not answer is a reason."""
    try:
        return in_time(lambda: readyfile.objection(ready_file), _DEADLINE_S)
    except TimeoutError as error:
        return f"{ready_file}: {error}"


def _of_daemon(server: str, *, ready: bool) -> int:
    """Whether a daemon is well, and what it says of its node; of a page with a path, that page."""
    path = "" if server.startswith(UNIX) else urlsplit(server).path
    if path not in {"", "/"} and ready:
        raise UsageError(f"--ready asks for /readyz: write --url without {path}")
    deadline_s = time.monotonic() + _DEADLINE_S
    try:
        well = get(server, path if path not in {"", "/"} else "/healthz", _DEADLINE_S)
    except NoAnswerError as error:
        say(str(error))
        return 1
    if well.status != 200:
        say(f"{server} answered {well.status}: {_first_line(well)}")
        return 1
    if path not in {"", "/"}:
        emit(f"{server} answered 200: {_first_line(well)}\n")
        return 0
    node_is_ready, told = _readiness(server, max(0.1, deadline_s - time.monotonic()))
    emit(f"the daemon is well; {told}\n")
    return 1 if ready and not node_is_ready else 0


def _readiness(server: str, deadline_s: float) -> tuple[bool, str]:
    """Whether a daemon says that its node is ready, and that in words."""
    try:
        answer = get(server, "/readyz", deadline_s)
    except NoAnswerError as error:
        return False, f"whether its node is ready is not known: {error}"
    word = {200: "ready", 503: "not ready"}.get(answer.status, "not known to be ready")
    return (
        answer.status == 200,
        f"its node is {word} (/readyz {answer.status}): {_first_line(answer)}",
    )


def _first_line(answer: Answer) -> str:
    return clean(answer.body[:200].decode(errors="replace").partition("\n")[0])
