"""Whole files: nobody's link, pipe or file is harmed by one, whoever can write in the folder."""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.validator.tiny_disk import fill
from validator import whole_file

NOBODY = 65534

root = pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")


def write(path: Path, text: str = "new", mode: int | None = None) -> None:
    """Write a file through its folder."""
    with whole_file.at(path) as place:
        place.write(text.encode(), mode=mode)


def mode_of(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_link_is_replaced_and_what_it_names_is_not_touched(tmp_path: Path) -> None:
    """Also one that names nothing."""
    victim, link, dangling = tmp_path / "victim", tmp_path / "link", tmp_path / "dangling"
    victim.write_text("precious")
    link.symlink_to(victim)
    dangling.symlink_to(tmp_path / "nothing")
    write(link)
    write(dangling)

    assert victim.read_text() == "precious"
    assert [link.is_symlink(), dangling.is_symlink()] == [False, False]
    assert not (tmp_path / "nothing").exists()


def test_every_draft_has_a_name_that_nobody_can_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken anew for each write, and never one that is there."""
    names: list[str] = []
    real = os.open

    def opened(path: str, flags: int, mode: int = 0o777, **options: int) -> int:
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            assert flags & os.O_NOFOLLOW
            names.append(path)
        return real(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", opened)
    for _ in range(3):
        write(tmp_path / "file")

    assert len({*names}) == 3
    assert all(len(name) > 32 and name.startswith(".") for name in names)


@pytest.mark.parametrize("before", [0o600, 0o640, 0o444])
def test_permissions_are_kept(tmp_path: Path, before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither widened nor narrowed, whatever is asked for a new file, and never in between."""
    path, drafts, real = tmp_path / "file", list[int](), os.fchmod
    path.write_text("old")
    path.chmod(before)

    def changed(descriptor: int, mode: int) -> None:
        drafts.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", changed)
    write(path, mode=0o644)

    assert drafts == [0o600]
    assert (mode_of(path), path.read_text()) == (before, "new")


def test_a_new_file_has_what_is_asked_or_what_the_umask_leaves(tmp_path: Path) -> None:
    """Two users' umasks."""
    seen = []
    for umask in (0o077, 0o022):
        old = os.umask(umask)
        try:
            write(tmp_path / f"asked{umask}", mode=0o644)
            write(tmp_path / f"plain{umask}")
        finally:
            os.umask(old)
        seen += [mode_of(tmp_path / f"asked{umask}"), mode_of(tmp_path / f"plain{umask}")]

    assert seen == [0o644, 0o600, 0o644, 0o644]


@root
def test_an_owner_is_kept(tmp_path: Path) -> None:
    """Root writes into a user's file, which stays the user's."""
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, NOBODY, NOBODY)
    write(path)

    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_pipe, _folder])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Neither opened nor replaced; reading is refused too."""
    path = tmp_path / "it"
    make(path)
    with pytest.raises(OSError, match="is no regular file"):
        write(path)
    with (
        whole_file.at(path) as place,
        pytest.raises(OSError, match=r"is no regular file|directory"),
    ):
        place.read(10)

    assert [one.name for one in tmp_path.iterdir()] == ["it"]


def test_reading_follows_no_link(tmp_path: Path) -> None:
    """A file that is to be ours is not somebody else's."""
    (tmp_path / "secret").write_text("x")
    (tmp_path / "link").symlink_to("secret")
    with (
        whole_file.at(tmp_path / "link") as place,
        pytest.raises(OSError, match=os.strerror(errno.ELOOP)),
    ):
        place.read(10)


def test_a_full_disk_leaves_the_old_and_no_draft(tiny_disk: Path) -> None:
    """A real one."""
    path = tiny_disk / "file"
    write(path, "old")
    rest = fill(tiny_disk)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(path, "new" * 10_000)

    assert path.read_text() == "old"
    assert {one.name for one in tiny_disk.iterdir()} == {"file", rest.name}


def test_a_folder_that_is_swapped_is_not_written_to(tmp_path: Path) -> None:
    """The folder is held, not its name."""
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    other.mkdir()
    with whole_file.at(first / "file") as place:
        first.rename(tmp_path / "moved")
        first.symlink_to(other)
        place.write(b"new")

    assert list(other.iterdir()) == []
    assert (tmp_path / "moved" / "file").read_text() == "new"


def test_what_cannot_be_removed_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is still said that it is there."""
    path = tmp_path / "file"
    path.write_text("head|tail")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    with whole_file.at(path) as place, pytest.raises(PermissionError):
        place.take_away(keep=5)

    assert path.read_text() == "head|"


DRAFT = ".gpu-validator-draft-" + "0" * 32


def test_drafts_of_the_dead_are_swept(tmp_path: Path) -> None:
    """Old ones of ours; not a new one, a link, or a name that only begins so."""
    old = time.time() - 3600
    kept = [DRAFT[:-1] + "1", DRAFT + "x", "report"]
    for name in (DRAFT, *kept):
        (tmp_path / name).write_text("half")
    for name in (DRAFT, *kept[1:]):
        os.utime(tmp_path / name, (old, old))
    link = tmp_path / (DRAFT[:-1] + "2")
    link.symlink_to("report")
    os.utime(link, (old, old), follow_symlinks=False)
    whole_file.sweep(tmp_path)
    whole_file.sweep(tmp_path / "none")

    assert {one.name for one in tmp_path.iterdir()} == {*kept, link.name}


@root
def test_a_stranger_s_draft_is_left(tmp_path: Path) -> None:
    """Only files that are ours."""
    (tmp_path / DRAFT).write_text("x")
    os.utime(tmp_path / DRAFT, (1, 1))
    os.chown(tmp_path / DRAFT, NOBODY, NOBODY)
    whole_file.sweep(tmp_path)

    assert (tmp_path / DRAFT).exists()


# -- where a write goes --------------------------------------------------------------------------


def test_links_of_one_s_own_are_followed(tmp_path: Path) -> None:
    """Relative ones, absolute ones, several."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to(tmp_path / "file")

    assert whole_file.target(tmp_path / "a") == tmp_path / "file"
    assert whole_file.target(tmp_path / "file") == tmp_path / "file"


@root
def test_a_stranger_s_link_is_not_followed(tmp_path: Path) -> None:
    """What would have overwritten a victim's file as root."""
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious")
    link.symlink_to(victim)
    os.lchown(link, NOBODY, NOBODY)

    assert whole_file.target(link) == link


def test_a_circle_ends(tmp_path: Path) -> None:
    """As the kernel ends it."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        whole_file.target(tmp_path / "a")


@root
@pytest.mark.parametrize("make", [Path.touch, _pipe])
def test_a_stranger_s_file_where_everybody_writes(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """In a folder as /tmp: neither replaced nor written to; in one of ours it is."""
    open_to_all = tmp_path / "tmp"
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    for folder in (tmp_path, open_to_all):
        make(folder / "file")
        os.chown(folder / "file", NOBODY, NOBODY)

    assert whole_file.target(tmp_path / "file") == tmp_path / "file"
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        whole_file.target(open_to_all / "file")
    assert whole_file.target(open_to_all / "new") == open_to_all / "new"


@pytest.mark.parametrize(
    ("path", "so"),
    [
        ("/dev/stdout", True),
        ("/dev/fd/63", True),
        ("/proc/self/fd/1", True),
        ("/proc/7/task/8/fd/1", True),
        ("/dev/shm/report", False),  # noqa: S108 - only a name
        ("/dev/null", False),
        ("/proc/self/oom_score_adj", False),
    ],
)
def test_what_stands_for_an_open_file(path: str, so: bool) -> None:  # noqa: FBT001
    """A folder in which everybody writes is none, wherever it is."""
    assert whole_file.is_descriptor(Path(path)) is so
