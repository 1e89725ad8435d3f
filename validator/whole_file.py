"""Files written whole: a reader sees all of the old or all of the new, and nothing else is harmed.

A draft has a random name, is created by this write alone and never opened through a link, so that
whoever can write in the folder too makes nobody overwrite what a link or a pipe of theirs names.
"""

import contextlib
import errno
import itertools
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: Node Feature Discovery passes over names that start with a dot.
_DRAFT: Final = ".gpu-validator-draft-"
_DRAFT_NAME: Final = re.compile(re.escape(_DRAFT) + r"[0-9a-f]{32}")

#: A draft of this age was left by a process that was killed.
_LEFT_BEHIND_S: Final = 60.0

#: What is looked at in a folder that is crowded.
_MOST_ENTRIES: Final = 10_000

_MOST_LINKS: Final = 40  # as the kernel's own limit, path_resolution(7)


class Place:
    """A name in a folder that is held open, so that no path is walked twice."""

    def __init__(self, path: Path, folder: int) -> None:
        """Create it for a path whose folder is open as the descriptor `folder`."""
        self.path = path
        self._folder = folder

    def status(self) -> os.stat_result | None:
        """What is there, a link as the link; None where nothing is."""
        try:
            return os.stat(self.path.name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def folder_status(self) -> os.stat_result:
        """The folder's own."""
        return os.fstat(self._folder)

    def link(self, trusted: set[int]) -> str | None:
        """What the link that is there names, where it is a link of one of these users."""
        try:
            descriptor = self._open(os.O_PATH)
        except FileNotFoundError:
            return None
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISLNK(seen.st_mode) or seen.st_uid not in trusted:
                return None
            return os.readlink("", dir_fd=descriptor)  # of the link that was looked at
        finally:
            os.close(descriptor)

    def read(self, most: int) -> bytes:
        """At most so many bytes of the regular file that is there.

        Raises:
            OSError: it is no regular file, or cannot be read.
        """
        descriptor = self._open(os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "is no regular file", str(self.path))
            return stream.read(most)

    def write(self, content: bytes, *, mode: int | None = None, durable: bool = False) -> None:
        """Put a file with this content in the place of what is there, link or regular file.

        A regular file hands on its permissions, and its owner where that is allowed; `mode` is for
        a file that was not there, by default what the umask leaves. `durable`: on the disk first.

        Raises:
            OSError: it could not be written; what was there stays, and no draft is left.
        """
        before = self.status()
        if before is not None and not stat.S_ISREG(before.st_mode):
            if not stat.S_ISLNK(before.st_mode):
                raise OSError(errno.EINVAL, "is no regular file", str(self.path))
            before = None
        draft = _DRAFT + secrets.token_hex(16)
        narrow = before is not None or mode is not None
        descriptor = os.open(
            draft,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600 if narrow else 0o666,
            dir_fd=self._folder,
        )
        try:
            # Closing tells of errors too: a network file system's quota.
            with os.fdopen(descriptor, "wb") as stream:
                if before is not None:
                    _hand_on(before, descriptor)
                elif mode is not None:
                    os.fchmod(descriptor, mode)
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(descriptor)
            os.replace(draft, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:  # stopped by a signal, too: no draft is left
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=self._folder)
            raise

    def take_away(self, keep: int = 0) -> None:
        """Remove the regular file that is there; where that is refused, cut it to `keep` bytes.

        Raises:
            OSError: it is still there, cut or not.
        """
        try:
            os.unlink(self.path.name, dir_fd=self._folder)
        except FileNotFoundError:
            return
        except OSError:
            descriptor = self._open(os.O_WRONLY | os.O_NONBLOCK)
            try:
                if os.fstat(descriptor).st_size > keep:
                    os.ftruncate(descriptor, keep)
            finally:
                os.close(descriptor)
            raise

    def _open(self, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(self.path.name, flags, dir_fd=self._folder)


@contextlib.contextmanager
def at(path: Path) -> Iterator[Place]:
    """Hold the folder of a path open.

    Raises:
        OSError: the folder is not there.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Place(path, folder)
    finally:
        os.close(folder)


def sweep(folder: Path) -> int:
    """Remove drafts of ours that a killed process left in a folder; how many cannot be removed."""
    now, left = time.time(), 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _MOST_ENTRIES):
            if not _DRAFT_NAME.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                seen = entry.stat(follow_symlinks=False)
                old = abs(now - seen.st_mtime) > _LEFT_BEHIND_S
                if old and stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid():
                    left += 1
                    Path(entry.path).unlink()
                    left -= 1
    return left


def target(path: Path) -> Path:
    """Where a write to a path goes: its own links and root's are followed, and nobody else's.

    Raises:
        OSError: the links run in a circle, or a file of somebody else's is in a folder in which
            everybody may put files (what sysctl fs.protected_regular refuses).
    """
    trusted = {0, os.geteuid()}
    for _ in range(_MOST_LINKS):
        if is_descriptor(path):
            return path
        with at(path) as place:
            named = place.link(trusted)
            seen, folder = place.status(), place.folder_status()
        if named is not None:
            path = path.parent / named
            continue
        everybody_s = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if everybody_s and seen is not None and seen.st_uid not in trusted:
            text = "belongs to somebody else, in a folder in which everybody may put files"
            raise PermissionError(errno.EACCES, text, str(path))
        return path
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def write_some(descriptor: int, content: memoryview) -> int:
    """Write what there is room for; how many bytes that was."""
    try:
        return os.write(descriptor, content)
    except BlockingIOError:  # who shares the descriptor made it so, or took the room meanwhile
        return 0


def is_descriptor(path: Path) -> bool:
    """Whether a path stands for a file that a process has open, such as /dev/stdout."""
    named = re.fullmatch(r"/dev/(stdout|stderr|fd/\d+)|/proc/[^/]+(/task/\d+)?/fd/\d+", str(path))
    return named is not None


def _hand_on(before: os.stat_result, descriptor: int) -> None:
    """Give a new file the owner and the permissions of the one whose place it takes."""
    mode = stat.S_IMODE(before.st_mode) & 0o777
    mine = os.fstat(descriptor)
    if (before.st_uid, before.st_gid) != (mine.st_uid, mine.st_gid):
        try:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        except PermissionError:
            try:
                os.fchown(descriptor, -1, before.st_gid)
            except PermissionError:
                mode &= 0o707  # what the file's group was allowed is not for another one
    os.fchmod(descriptor, mode)
