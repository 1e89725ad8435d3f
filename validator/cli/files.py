"""Files that a command is asked to write: refused before the run, written whole after it."""

import os
from pathlib import Path

from validator.cli.errors import UsageError


def refuse_unwritable(path: Path, option: str = "--output-file") -> None:
    """Tell a wrong path before the run, not after it."""
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a directory")
    if not folder.is_dir():
        raise UsageError(f"{option} {path}: there is no directory {folder}")
    if not os.access(folder if _plain(path) else path, os.W_OK):
        raise UsageError(f"{option} {path}: no permission to write there")


def write_whole(path: Path, content: str, mode: int | None = None) -> None:
    """Write a file so that a reader sees all of it or nothing; a pipe or device is written to.

    `mode` stands in for what the umask would leave.
    """
    # /dev/stdout may be a plain file of somebody else's, which must stay what it is.
    if path.is_relative_to("/dev") or path.is_relative_to("/proc") or not _plain(path):
        with path.open("a", encoding="utf-8") as stream:
            stream.write(content)
        return
    target = path.resolve()  # a link stays a link
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(content, encoding="utf-8")
        if mode is not None:
            draft.chmod(mode)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _plain(path: Path) -> bool:
    return path.is_file() or not path.exists()
