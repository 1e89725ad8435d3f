"""The command `healthcheck`: asks a running daemon whether it is well, in bounded time."""

from typing import Final
from urllib.parse import urlsplit

from validator.ask import UNIX, NoAnswerError, get

_DEADLINE_S: Final = 5.0


def ask(server: str) -> str:
    """GET a daemon's /healthz; what is wrong, or an empty text when it is well."""
    path = "" if server.startswith(UNIX) else urlsplit(server).path
    try:
        answer = get(server, path if path not in {"", "/"} else "/healthz", _DEADLINE_S)
    except NoAnswerError as error:
        return str(error)
    line = answer.body[:200].decode(errors="replace").partition("\n")[0]
    return "" if answer.status == 200 else f"{server} answered {answer.status}: {line}"
