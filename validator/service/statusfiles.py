"""The node's verdict as files: a `*-ready` file, and a feature file that labels the node.

Both are there only while a daemon that knows vouches for them: absence is never health. What cannot
be renewed is taken away, and expires by itself where that is impossible too. Only regular files
that a daemon of ours wrote are touched.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from probes.contract import Status
from validator import whole_file
from validator.service import readyfile
from validator.service.readyfile import LEASE_S, rfc3339
from validator.settings.model import Files

#: Labels in the namespace that Node Feature Discovery lets anyone use.
LABEL = "feature.node.kubernetes.io/gpu-validator"

_READABLE: Final = 0o644  # whatever the umask: others are to read them


@dataclass(frozen=True)
class NodeState:
    """What the files say about this node."""

    ready: bool
    reason: str  # one line
    status: Status | None  # None before the first run has ended
    at: datetime  # when the newest run ended
    lasts_s: float  # how long that counts if nothing more is heard


class StatusFiles:
    """Writes the configured files. An error of the file system is returned, never raised."""

    def __init__(self, files: Files) -> None:
        """Create it for these paths; no file is touched yet."""
        self._files = files

    @property
    def wanted(self) -> bool:
        """Whether any file is configured."""
        return self._files.ready is not None or self._files.nfd is not None

    def show(self, state: NodeState) -> list[str]:
        """Write the files that hold now and remove the others; return what went wrong, by path."""
        lasts_s = min(state.lasts_s, LEASE_S)
        ready = readyfile.text(state.at, state.reason, lasts_s) if state.ready else None
        nfd = None if state.status is None else _nfd_text(state, lasts_s)
        return self._keep(ready, nfd)

    def remove(self) -> list[str]:
        """Remove the files, so that none vouches for this node; return what went wrong, by path.

        There may be no later try, so what went wrong is tried again at once.
        """
        return self._keep(None, None) and self._keep(None, None)

    def problems(self) -> list[str]:
        """What is in the way of the files, by path; nothing is written."""
        return [f"{path}: {why}" for path, kind in self._owned() if (why := obstacle(path, kind))]

    def _owned(self) -> list[tuple[Path, "Kind"]]:
        both = ((self._files.ready, _READY), (self._files.nfd, _NFD))
        return [(path, kind) for path, kind in both if path is not None]

    def _keep(self, ready: str | None, nfd: str | None) -> list[str]:
        texts = {self._files.ready: ready, self._files.nfd: nfd}
        return [
            problem
            for path, kind in self._owned()
            for problem in write_or_remove(path, texts[path], kind)
        ]


def _nfd_text(state: NodeState, lasts_s: float) -> str:
    """A feature file: https://kubernetes-sigs.github.io/node-feature-discovery/ (local source).

    The expiry is read when the file is: a daemon that is gone takes its labels with it.
    """
    expiry = datetime.now(timezone.utc) + timedelta(seconds=lasts_s)
    return (
        f"# +expiry-time={rfc3339(expiry)}\n"
        f"{LABEL}.ready={'true' if state.ready else 'false'}\n"
        f"{LABEL}.status={state.status}\n"
    )


def _is_nfd(content: str) -> bool:
    """Whether a feature file has something, and nothing but what is ours."""
    lines = content.splitlines()
    return bool(lines) and all(line.startswith((f"{LABEL}.", "# +expiry-time=")) for line in lines)


def _nfd_without_labels(content: str) -> str:
    return content.partition("\n")[0] + "\n" if content.startswith("#") else ""


@dataclass(frozen=True)
class Kind:
    """One of the files that a daemon keeps."""

    is_ours: Callable[[str], bool]  # of the first 64 KiB of its content
    revoked: Callable[[str], str]  # the beginning of its content that says nothing of the node
    vouches: bool = True  # what cannot be renewed is removed
    mode: int = _READABLE  # of a new file


_READY: Final = Kind(readyfile.is_ours, readyfile.without_term)
_NFD: Final = Kind(_is_nfd, _nfd_without_labels)


def write_or_remove(path: Path, text: str | None, kind: Kind) -> list[str]:
    """Replace a file in one step, or remove it where `text` is None; return what went wrong."""
    left = whole_file.sweep(path.parent)
    if why := obstacle(path, kind):
        # Where there is no folder there is no file either.
        return [f"{path}: {why}"] if text is not None or path.parent.exists() else []
    try:
        with whole_file.at(path) as place:
            if text is None:
                _take_away(place, kind)
            elif left:  # each try would leave one more
                raise PermissionError(errno.EPERM, "what was put there cannot be removed")
            else:
                place.write(text.encode(errors="backslashreplace"), mode=kind.mode, durable=True)
    except OSError as error:
        problem = f"{path}: {error.strerror}"
        if text is None or not kind.vouches:
            return [problem]
        return [f"{problem}{_not_renewed(path, kind)}"]
    return []


def _take_away(place: whole_file.Place, kind: Kind) -> None:
    if place.status() is None:
        return
    content = place.read(readyfile.MOST_BYTES).decode(errors="replace")
    place.take_away(keep=len(kind.revoked(content).encode()))


def _not_renewed(path: Path, kind: Kind) -> str:
    """Take away what could not be renewed, which needs no space; return how that went."""
    try:
        with whole_file.at(path) as place:
            if place.status() is None:
                return ""
            _take_away(place, kind)
    except OSError as error:
        return f", nor can it be removed: {error.strerror}"
    return ": removed, since it cannot be renewed"


def obstacle(path: Path, kind: Kind) -> str:
    """Why the file at a path is not ours to replace or remove; empty where it is, or is none."""
    try:
        with whole_file.at(path) as place:
            seen = place.status()
            if seen is None:
                return ""
            if not stat.S_ISREG(seen.st_mode):
                return "is no regular file: left alone"
            if seen.st_uid not in {os.geteuid(), place.folder_status().st_uid}:
                return f"belongs to user {seen.st_uid}: left alone"
            content = place.read(readyfile.MOST_BYTES).decode(errors="replace")
    except OSError as error:
        return error.strerror or str(error)
    return "" if kind.is_ours(content) else "was not written by gpu-validator: left alone"
