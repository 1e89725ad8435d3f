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
        ready = _ready_text(state) if state.ready else None
        nfd = None if state.status is None else _nfd_text(state)
        return [
            *_write_or_remove(self._files.ready, ready),
            *_write_or_remove(self._files.nfd, nfd),
        ]

    def remove(self) -> list[str]:
        """Remove the files, so that none vouches for this node; return what went wrong, by path."""
        return [
            *_write_or_remove(self._files.ready, None),
            *_write_or_remove(self._files.nfd, None),
        ]


def _ready_text(state: NodeState) -> str:
    return f"{_rfc3339(state.at)}\n{state.reason}\n"


def _nfd_text(state: NodeState) -> str:
    """A feature file: https://kubernetes-sigs.github.io/node-feature-discovery/ (local source).

    The expiry is read when the file is: a daemon that is gone takes its labels with it.
    """
    expiry = datetime.now(timezone.utc) + timedelta(seconds=state.lasts_s)
    return (
        f"# +expiry-time={_rfc3339(expiry)}\n"
        f"{LABEL}.ready={'true' if state.ready else 'false'}\n"
        f"{LABEL}.status={state.status}\n"
    )


def _rfc3339(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write_or_remove(path: Path | None, text: str | None) -> list[str]:
    """Replace a file in one step, or remove it where `text` is None; return what went wrong."""
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
