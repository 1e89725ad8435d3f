"""The command `serve`: becomes the daemon, without what parsed its arguments."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from validator.cli.early import SERVE, EarlyWorker
from validator.cli.options import (
    Action,
    ConfigCheck,
    ConfigFile,
    ListenAddress,
    LogFormat,
    LogLevel,
    Profile,
    after_help,
    flags_of,
    say_valid,
    settings_of,
)
from validator.engine.plan import schedule_note
from validator.service import startup

EPILOG: Final = after_help(
    (
        "serve                # metrics and readiness on port 8790",
        "serve --config.file settings.yaml",
        "serve --config.check --config.file settings.yaml",
        "serve --web.listen-address 127.0.0.1:8790,[::1]:8790",
    ),
    {
        "0": "It was stopped by SIGTERM or Ctrl-C, or the configuration is valid.",
        "2": "It could not start, or was called or configured wrongly.",
    },
)


def command(
    profile: Profile = None,
    listen_address: ListenAddress = None,
    config_file: ConfigFile = None,
    config_check: ConfigCheck = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> Action:
    """Check this machine on a schedule, and serve metrics and reports over HTTP.

    It serves /metrics, /healthz (the daemon works), /readyz (the node does) and /api/v1/report.
    """
    flags = flags_of(
        run={"profile": profile},
        web={"listen_address": listen_address},
        log={"level": log_level, "format": log_format},
    )

    def action(_: EarlyWorker) -> int:
        if config_check:
            return say_valid(config_file, flags, startup.of_a_daemon, schedule_note)
        settings_of(config_file, flags, startup.of_a_run)
        return _become_daemon(config_file, flags)

    return action


def _become_daemon(config_file: Path | None, flags: dict[str, Any]) -> NoReturn:
    """Run the same command again: the daemon keeps nothing of what parsed its arguments."""
    name = str(config_file) if config_file is not None else None
    os.environ[SERVE] = json.dumps({"config_file": name, "flags": flags})
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command line, no shell
