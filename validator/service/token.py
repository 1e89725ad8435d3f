"""The secret of `web.token_file`, and the users who may keep it."""

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from validator.in_time import in_time
from validator.settings.model import Web
from validator.settings.values import SettingsError

#: The user of the daemon in `deploy/systemd`.
USER: Final = "gpu-validator"

_ANSWER_S: Final = 1.0  # of a file system
_LEAST_BYTES: Final = 16
_MOST_BYTES: Final = 4096


def ids_of(user: str) -> set[int]:
    """The id of a user by name or number; none where there is no such name."""
    if user.isdecimal():
        return {int(user)}
    try:
        return {pwd.getpwnam(user).pw_uid}
    except KeyError:
        return set()


def token_in_time(web: Web) -> bytes | None:
    """The token of these settings; a file system that does not answer holds nobody up.

    Raises:
        SettingsError: as `token_of`, or there is no answer.
    """
    if web.token_file is None:
        return None
    try:
        return in_time(lambda: token_of(web), _ANSWER_S)
    except TimeoutError as error:
        raise SettingsError(f"web.token_file: {web.token_file}: {error}") from error


def token_of(web: Web) -> bytes | None:
    """The token of these settings, without white space around it.

    Raises:
        SettingsError: its file cannot be read, others can read it, it is a stranger's, or it holds
            too little.
    """
    path = web.token_file
    if path is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as stream:
            _refuse_file(path, os.fstat(descriptor), web.socket_owner or USER)
            token = stream.read(_MOST_BYTES + 1).strip()
    except OSError as error:
        raise SettingsError(f"web.token_file: {path}: {error.strerror}") from error
    if not _LEAST_BYTES <= len(token) <= _MOST_BYTES:
        raise SettingsError(
            f"web.token_file: {path} holds {len(token)} bytes; at least {_LEAST_BYTES} are a "
            "secret, such as those of `openssl rand -hex 32`"
        )
    return token


def _refuse_file(path: Path, status: os.stat_result, daemon: str) -> None:
    """Refuse a file that others can read, or whose owner could give it another secret."""
    if not stat.S_ISREG(status.st_mode):
        raise SettingsError(f"web.token_file: {path} is no regular file")
    if status.st_mode & stat.S_IRWXO:
        raise SettingsError(
            f"web.token_file: others can read {path}, mode "
            f"{stat.S_IMODE(status.st_mode):04o}; make it 0640 or less"
        )
    owner = status.st_uid
    if owner not in {0, os.geteuid()} and owner not in ids_of(daemon):
        raise SettingsError(
            f"web.token_file: {path} is of user {owner}, who knows what it holds; make it root's, "
            "and its group that of whoever reads it"
        )
