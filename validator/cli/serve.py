"""The command `serve`: becomes the daemon, without what parsed its arguments."""

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from validator.cli.early import SERVE, EarlyWorker
from validator.cli.options import (
    Action,
    ConfigCheck,
    ConfigFile,
    ListenAddress,
    LogFormat,
    LogLevel,
    Profile,
    flags_of,
    say_valid,
    settings_of,
)
from validator.engine.plan import schedule_note
from validator.service import startup


def command(
    profile: Profile = None,
    listen_address: ListenAddress = None,
    config_file: ConfigFile = None,
    config_check: ConfigCheck = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> Action:
    """Check this machine on a schedule, and serve metrics and reports over HTTP."""
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
