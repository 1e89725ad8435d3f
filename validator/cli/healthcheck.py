"""The command `healthcheck`: asks a running daemon whether it is well, in bounded time."""

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
    flags_of,
    refuse_server,
    settings_of,
)
from validator.in_time import in_time
from validator.service import readyfile
from validator.service.ask import UNIX, NoAnswerError, get, url_of
from validator.settings import host_port

_DEADLINE_S: Final = 5.0


def command(
    url: DaemonUrl = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file",
            metavar="FILE",
            parser=Path,
            help="Ask no daemon: whether this file of `files.ready` vouches for the node now.",
        ),
    ] = None,
    listen_address: ListenAddress = None,
    config_file: ConfigFile = None,
) -> Action:
    """Ask the running daemon whether it is well: exit code 0 or 1."""

    def action(_: EarlyWorker) -> int:
        refuse_server("--url", url)
        if ready_file is not None and url is not None:
            raise UsageError("--ready-file asks no daemon: it cannot go with --url")
        if ready_file is not None:
            wrong = _objection(ready_file)
        elif url is None:
            settings = settings_of(config_file, flags_of(web={"listen_address": listen_address}))
            wrong = ask(url_of(*host_port(settings.web.listen_address[0])))
        else:
            wrong = ask(url)
        if wrong:
            say(wrong)
        return 1 if wrong else 0

    return action


def _objection(ready_file: Path) -> str:
    """Why a ready file does not vouch; a file system that does not answer is a reason."""
    try:
        return in_time(lambda: readyfile.objection(ready_file), _DEADLINE_S)
    except TimeoutError as error:
        return f"{ready_file}: {error}"


def ask(server: str) -> str:
    """GET a daemon's /healthz; what is wrong, or an empty text when it is well."""
    path = "" if server.startswith(UNIX) else urlsplit(server).path
    try:
        answer = get(server, path if path not in {"", "/"} else "/healthz", _DEADLINE_S)
    except NoAnswerError as error:
        return str(error)
    line = answer.body[:200].decode(errors="replace").partition("\n")[0]
    return "" if answer.status == 200 else f"{server} answered {answer.status}: {line}"
