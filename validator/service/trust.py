"""Whose word counts as the daemon's: the owner of a unix socket, or whoever has the token.

While the daemon is down anybody on the node can listen where it did, and answer "pass".
"""

import hashlib
import hmac
import os
import re
import secrets
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from validator.service.token import USER, ids_of, token_in_time
from validator.settings.model import Web

#: Of a request: a number that was never used before, so that no old answer fits.
NONCE: Final = "x-gpu-validator-nonce"
#: Of its answer: that its body is from somebody who has the token, and for this request.
PROOF: Final = "x-gpu-validator-proof"

#: What the daemon says instead of a report before its first result.
NO_RUN: Final = "no run has ended yet"

#: user_namespaces(7): how many there are where none is missing, and who stands for the missing.
_ALL_UIDS: Final = 2**32 - 1
_NOBODY: Final = 65534
_NONCE: Final = re.compile(r"[0-9a-f]{32,128}")
_CREDENTIALS: Final = struct.Struct("3i")  # of unix(7): pid, uid, gid


class UntrustedError(Exception):
    """Who answers need not be the daemon; the text says why, and what would prove it."""


@dataclass(frozen=True)
class Trust:
    """What proves that an answer is the daemon's."""

    owners: frozenset[int]  # user ids, of which one must own the process behind a unix socket
    token: bytes | None = None  # shared with the daemon; what proves an answer over TCP
    users: frozenset[str] = frozenset()  # more owners, by names that a silent server may know

    def ids(self) -> frozenset[int]:
        """All owners; waits for whoever knows the users' names."""
        return self.owners.union(*(ids_of(user) for user in self.users))

    def refuse_folder(self, path: Path) -> None:
        """Refuse a socket that others could have put there.

        Raises:
            UntrustedError: somebody else can write to its folder, or to one above, by the path as
                it is written or as it is without links.
        """
        real = Path(os.path.realpath(path))
        for place in dict.fromkeys((*path.parents, *real.parents)):
            try:
                status = place.stat()
            except OSError:  # it is not there, and who could make it is told by those above
                continue
            # Of a folder such as /tmp nobody can take away what is another's.
            kept = place not in {path.parent, real.parent} and bool(status.st_mode & stat.S_ISVTX)
            foreign = status.st_uid not in self.owners | {0} and status.st_uid not in self.ids()
            if foreign or (status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not kept):
                who = f"user {status.st_uid}" if foreign else "others"
                owner = (
                    ", or say in `web.socket_owner` that the daemon is theirs" if foreign else ""
                )
                raise UntrustedError(
                    f"{place} can be written to by {who}, so that anybody could answer there: "
                    f"use a folder of the daemon's own, with mode 0755{owner}"
                )

    def refuse_peer(self, connected: socket.socket) -> None:
        """Refuse a stranger behind a unix socket.

        Raises:
            UntrustedError: another user listens there.
        """
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid == _foreign_uid():
            raise UntrustedError(
                f"its user has no number here and appears as {uid}, as anybody's of another user "
                "namespace does: use `web.token_file`"
            )
        if uid not in self.owners and uid not in self.ids():
            known = ", ".join(map(str, sorted(self.ids()))) or f"{', '.join(self.users)}, unknown"
            raise UntrustedError(
                f"user {uid} answers there, and the daemon's is {known}: `web.socket_owner` says "
                "whose it is"
            )

    def refuse_body(self, nonce: str, proof: str | None, body: bytes) -> None:
        """Refuse a body that its sender has not proved to be the daemon's.

        Raises:
            UntrustedError: there is no proof, or a wrong one.
        """
        if self.token is None:
            raise UntrustedError(
                "over TCP anybody could answer: ask the daemon's unix socket, or give both sides "
                "one `web.token_file`"
            )
        if proof is None:
            raise UntrustedError("its answer is without proof: give it the same `web.token_file`")
        if not hmac.compare_digest(proof.encode(), prove(self.token, nonce, body).encode()):
            raise UntrustedError("its proof is wrong: its `web.token_file` is another")


def _foreign_uid() -> int | None:
    """As whom users appear that this user namespace has no number for; None where all have one."""
    try:
        mapped = sum(int(line.split()[2]) for line in _read("/proc/self/uid_map"))
        return None if mapped >= _ALL_UIDS else int(_read("/proc/sys/kernel/overflowuid")[0])
    except (OSError, ValueError, IndexError):
        return _NOBODY


def _read(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def new_nonce() -> str:
    """A number that was never used before."""
    return secrets.token_hex(16)


def prove(token: bytes, nonce: str, body: bytes) -> str:
    """What only somebody with the token can say of a body, for one request."""
    digest = hashlib.sha256(body).hexdigest()
    return hmac.new(token, f"{nonce}\n{digest}".encode(), hashlib.sha256).hexdigest()


def is_nonce(text: str) -> bool:
    """Whether a request may have a proof for it."""
    return _NONCE.fullmatch(text) is not None


def trust_of(web: Web, user: Callable[[], int] = os.geteuid) -> Trust:
    """What proves the daemon of these settings.

    Raises:
        SettingsError: the token cannot be told.
    """
    token, owner = token_in_time(web), web.socket_owner
    if owner is None:
        return Trust(frozenset({0, user()}), token, frozenset({USER}))
    if owner.isdecimal():
        return Trust(frozenset({int(owner)}), token)
    return Trust(frozenset(), token, frozenset({owner}))
