"""The command `condition`: keeps a node's conditions in Kubernetes, beside a daemon."""

import re
import signal
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final

import typer

from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError, say
from validator.cli.options import Action, DaemonUrl, after_help, settings_of
from validator.cli.values import path_of, refuse_server, seconds_of
from validator.service.apiserver import ACCOUNT, ApiError, ApiServer
from validator.service.ask import url_of
from validator.service.condition import PREFIX, conditions
from validator.service.word import word_of
from validator.settings.values import host_port

_INTERVAL: Final = "30s"
_PREFIX: Final = re.compile("[A-Za-z][A-Za-z0-9]{0,99}")


EPILOG: Final = after_help(
    ("condition --node gpu-17", "condition --url http://127.0.0.1:8790 --interval 1m"),
    {
        "0": "It was stopped by SIGTERM or Ctrl-C, or wrote what --once asks for.",
        "1": "With --once the conditions could not be read or written.",
        "2": "The command line is wrong, or there is no cluster here.",
    },
)


def command(
    url: DaemonUrl = None,
    node: Annotated[
        str | None,
        typer.Option(
            "--node", metavar="NAME", envvar="NODE_NAME", help="Keep the conditions of this node."
        ),
    ] = None,
    interval: Annotated[
        str,
        typer.Option("--interval", metavar="TIME", help="Ask the daemon this often, such as 30s."),
    ] = _INTERVAL,
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix", metavar="WORD", help="Name the conditions so: WORDReady and WORDFailed."
        ),
    ] = PREFIX,
    account: Annotated[
        Path,
        typer.Option(
            "--account",
            metavar="DIR",
            parser=path_of("--account"),
            help="Read the pod's token and ca.crt here.",
        ),
    ] = ACCOUNT,
    once: Annotated[bool, typer.Option("--once", help="Ask and write once, then end.")] = False,
) -> Action:
    """Keep the node's conditions in Kubernetes as the daemon's verdicts are (a sidecar).

    They are GPUEnvironmentReady and GPUEnvironmentFailed; the second changes with a verdict alone.
    """

    def action(_: EarlyWorker) -> int:
        refuse_server("--url", url)
        if not node:
            raise UsageError("no node is named: give --node, or NODE_NAME in the environment")
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(f"--prefix: {prefix!r} is no word of letters and figures")
        daemon = url or url_of(*host_port(settings_of(None, {}).web.listen_address[0]))
        every_s = seconds_of("--interval", interval) or 0.0
        try:
            server = ApiServer(account)
        except ApiError as error:
            raise UsageError(str(error)) from error
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):  # as process 1 nothing else would end it
            signal.signal(number, lambda *_: stop.set())
        said = ""
        while True:
            wrong = keep_conditions(server, daemon, node, prefix)
            if wrong and wrong != said:
                say(f"error: {wrong}")
            said = wrong
            if once or stop.wait(every_s):
                return 1 if once and wrong else 0

    return action


def keep_conditions(server: ApiServer, daemon: str, node: str, prefix: str) -> str:
    """Ask the daemon and write what changed; what went wrong, or an empty text."""
    try:
        known = server.conditions(node)
        news = conditions(word_of(daemon), known, datetime.now(timezone.utc), prefix)
        if news:
            server.write(node, news)
    except ApiError as error:
        return str(error)
    before = {one["type"]: one["status"] for one in known}
    for one in news:
        if before.get(one["type"]) != one["status"]:
            say(f"{one['type']} is {one['status']}: {one['message']}")
    return ""
