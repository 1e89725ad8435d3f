"""The node's verdict as files: a `*-ready` file, and a feature file that labels the node.

Both are there only while a daemon that knows vouches for them: absence is never health.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from probes.contract import Status
from validator.settings import Files

#: Labels in the namespace that Node Feature Discovery lets anyone use.
LABEL = "feature.node.kubernetes.io/gpu-validator"


@dataclass(frozen=True)
class Verdict:
    """What the files say."""

    ready: bool
    reason: str  # one line
    status: Status | None  # None before the first run has ended
    at: datetime  # when the newest run ended
    lasts_s: float  # how long that counts if nothing more is heard


class StatusFiles:
    """Keeps the configured files true. An error of the file system is told, never raised."""

    def __init__(self, files: Files) -> None:
        """Take paths; touch nothing."""
        self._files = files

    @property
    def wanted(self) -> bool:
        """Whether any file is configured."""
        return self._files.ready is not None or self._files.nfd is not None

    def show(self, verdict: Verdict) -> list[str]:
        """Write what holds now and remove what does not; gives what went wrong, by path."""
        ready = _ready_text(verdict) if verdict.ready else None
        nfd = None if verdict.status is None else _nfd_text(verdict)
        return [*_put(self._files.ready, ready), *_put(self._files.nfd, nfd)]

    def remove(self) -> list[str]:
        """Vouch for nothing: at start, before the first result, and at the end."""
        return [*_put(self._files.ready, None), *_put(self._files.nfd, None)]


def _ready_text(verdict: Verdict) -> str:
    return f"{_rfc3339(verdict.at)}\n{verdict.reason}\n"


def _nfd_text(verdict: Verdict) -> str:
    """A feature file: https://kubernetes-sigs.github.io/node-feature-discovery/ (local source).

    The expiry is read when the file is: a daemon that is gone takes its labels with it.
    """
    expiry = datetime.now(timezone.utc) + timedelta(seconds=verdict.lasts_s)
    return (
        f"# +expiry-time={_rfc3339(expiry)}\n"
        f"{LABEL}.ready={'true' if verdict.ready else 'false'}\n"
        f"{LABEL}.status={verdict.status}\n"
    )


def _rfc3339(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _put(path: Path | None, text: str | None) -> list[str]:
    """Write a file whole, or remove it; a reader sees the old or the new one, never a half."""
    if path is None:
        return []
    # Node Feature Discovery passes over files whose name starts with a dot.
    draft = path.with_name(f".{path.name}.draft")
    try:
        if text is None:
            path.unlink(missing_ok=True)
            return []
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o644)  # whatever the umask: others are to read it
        draft.replace(path)
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return []
