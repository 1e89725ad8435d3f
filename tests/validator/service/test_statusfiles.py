"""The verdict as files: there exactly while the daemon vouches, whole, and expiring by itself."""

import asyncio
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from probes.catalog import BY_NAME
from probes.contract import Status
from tests.validator.service.fake_runner import NOON, Clock, FakeRunner, reload
from tests.validator.tiny_disk import fill
from validator.service import logs, readyfile
from validator.service.daemon import Daemon
from validator.service.filekeeper import FileKeeper
from validator.service.statusfiles import NodeState, StatusFiles
from validator.settings.loading import load
from validator.settings.model import Files, Settings
from validator.settings.values import SettingsError

ROOT = Path(__file__).resolve().parents[3]
GOOD = NodeState(ready=True, reason="pass: 7 probes", status="pass", at=NOON, lasts_s=900)


def labels(path: Path) -> dict[str, str]:
    """The labels of a feature file, without their namespace."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    pairs = [line.rpartition("gpu-validator.")[2].split("=") for line in lines]
    return {name: value for name, value in pairs}  # noqa: C416 - each pair is checked to be two


def expiry_s(path: Path) -> float:
    """Seconds from now until a feature file expires."""
    found = re.search(r"^# \+expiry-time=(\S+)$", path.read_text(), re.MULTILINE)
    assert found is not None
    at = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (at - datetime.now(timezone.utc)).total_seconds()


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def files(folder: Path) -> Files:
    """Both files, in one folder."""
    return Files(ready=folder / "gpu-validator-ready", nfd=folder / "gpu-validator")


def test_a_ready_node_has_both_files(tmp_path: Path) -> None:
    """The ready file holds the run's time; the feature file labels, and expires."""
    problems = StatusFiles(files(tmp_path)).show(GOOD)

    assert problems == []
    ready = (tmp_path / "gpu-validator-ready").read_text()
    assert ready.startswith("2030-01-02T12:00:00Z\npass: 7 probes\nby: gpu-validator\n")
    assert readyfile.objection(tmp_path / "gpu-validator-ready") == ""
    assert labels(tmp_path / "gpu-validator") == {"ready": "true", "status": "pass"}
    assert 290 < expiry_s(tmp_path / "gpu-validator") <= 300
    assert names(tmp_path) == ["gpu-validator", "gpu-validator-ready"]


def test_a_sick_node_has_no_ready_file(tmp_path: Path) -> None:
    """The file of an earlier pass goes; the label says why."""
    kept = StatusFiles(files(tmp_path))
    kept.show(GOOD)
    kept.show(NodeState(ready=False, reason="fail: x", status="fail", at=NOON, lasts_s=900))

    assert not (tmp_path / "gpu-validator-ready").exists()
    assert labels(tmp_path / "gpu-validator") == {"ready": "false", "status": "fail"}


def test_before_the_first_result_there_is_no_label(tmp_path: Path) -> None:
    """Nothing is known: a file of an earlier daemon, or of before a reboot, goes."""
    kept = StatusFiles(files(tmp_path))
    kept.show(GOOD)
    kept.show(NodeState(ready=False, reason="not ready", status=None, at=NOON, lasts_s=900))

    assert names(tmp_path) == []


def test_what_is_not_there_need_not_be_removed(tmp_path: Path) -> None:
    """Each start and each sick verdict removes files that mostly are not there."""
    assert StatusFiles(files(tmp_path)).remove() == []


def test_others_may_read_whatever_the_umask(tmp_path: Path) -> None:
    """NFD's worker is another user."""
    before = os.umask(0o077)
    try:
        StatusFiles(files(tmp_path)).show(GOOD)
    finally:
        os.umask(before)

    assert (tmp_path / "gpu-validator").stat().st_mode & 0o777 == 0o644


def test_a_reader_never_sees_a_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until all is written the old content stands, and the draft is hidden from NFD."""
    kept = StatusFiles(files(tmp_path))
    kept.show(GOOD)
    before = (tmp_path / "gpu-validator").read_text()

    seen: list[str] = []

    def look(_: int) -> None:
        seen.append((tmp_path / "gpu-validator").read_text())
        hidden = [name for name in names(tmp_path) if name.startswith(".")]
        seen.extend(hidden)

    monkeypatch.setattr(os, "fsync", look)
    kept.show(NodeState(ready=False, reason="warn: y", status="warn", at=NOON, lasts_s=9))

    assert seen[0] == before
    assert re.fullmatch(r"\.gpu-validator-draft-[0-9a-f]{32}", seen[1])
    assert labels(tmp_path / "gpu-validator")["status"] == "warn"
    assert names(tmp_path) == ["gpu-validator"]


SICK = NodeState(ready=False, reason="fail: x", status="fail", at=NOON, lasts_s=900)


@pytest.mark.parametrize("state", [GOOD, SICK])
def test_somebody_s_file_is_left_alone(tmp_path: Path, state: NodeState) -> None:
    """A path that names another's file: neither overwritten nor removed, and told."""
    for name in ("gpu-validator-ready", "gpu-validator"):
        (tmp_path / name).write_text("precious\n")
    kept = StatusFiles(files(tmp_path))
    at_start = kept.problems()
    problems = [kept.show(state), kept.remove()]

    text = "was not written by gpu-validator: left alone"
    told = [f"{tmp_path / name}: {text}" for name in ("gpu-validator-ready", "gpu-validator")]
    assert at_start == told
    assert problems == [told, told]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"precious\n"}


@pytest.mark.parametrize("name", ["gpu-validator-ready", "gpu-validator"])
@pytest.mark.parametrize("state", [GOOD, SICK])
def test_an_empty_file_is_somebody_s(tmp_path: Path, name: str, state: NodeState) -> None:
    """Such as /etc/nologin."""
    (tmp_path / name).touch()
    problems = StatusFiles(files(tmp_path)).show(state)

    assert [one for one in problems if "left alone" in one]
    assert (tmp_path / name).read_bytes() == b""


def test_labels_of_a_similar_name_are_somebody_s(tmp_path: Path) -> None:
    """A site's own label may begin as ours do."""
    path = files(tmp_path).nfd
    assert path is not None
    path.write_text("feature.node.kubernetes.io/gpu-validator-tier=gold\n")
    problems = StatusFiles(Files(nfd=path)).show(GOOD) + StatusFiles(Files(nfd=path)).remove()

    assert path.read_text() == "feature.node.kubernetes.io/gpu-validator-tier=gold\n"
    assert len(problems) == 2
    assert all("was not written by gpu-validator" in one for one in problems)


def test_a_folder_that_lets_nothing_go_is_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files may be made there and not renamed or removed: after a minute no more is tried."""
    keep = tmp_path / "keep"
    keep.mkdir()
    if os.geteuid() != 0 or subprocess.run(["chattr", "+a", str(keep)], check=False).returncode:
        pytest.skip("no folder can be made append-only here")
    kept, now = StatusFiles(Files(ready=keep / "gpu-validator-ready")), time.time()
    try:
        first = kept.show(GOOD)
        monkeypatch.setattr(time, "time", lambda: now + 90)
        later = [kept.show(GOOD) for _ in range(5)]
        count = len(names(keep))
    finally:
        subprocess.run(["chattr", "-a", str(keep)], check=True)

    assert "Operation not permitted" in first[0]
    assert all("what was put there cannot be removed" in one for [one] in later)
    assert count == 1
    assert kept.show(GOOD) == []
    assert names(keep) == ["gpu-validator-ready"]


NODES = {
    "lines": "n\nfeature.node.kubernetes.io/gpu-validator.ready=true\nuntil: 9999999999",
    "bytes": os.fsdecode(b"n\xff\xfe"),
    "equals": "a=b=c,d=e",
    "long": "n" * 10_000,
    "comment": "# +expiry-time=2999-01-01T00:00:00Z",
    "terminal": "\x1b[2J\u202e",
}


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
@pytest.mark.parametrize("status", ["pass", "fail"])
def test_no_name_of_a_node_forges_a_line(
    node: str, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of a daemon are those of any other name, and read by their readers."""
    monkeypatch.setenv("NODE_NAME", node)
    both = files(tmp_path)
    runner = FakeRunner()
    runner.status = status
    daemon = Daemon(load(flags={"files": both.model_dump()}), runner=runner)

    async def go() -> None:
        task = asyncio.ensure_future(daemon.keep_running())
        await _until(daemon, Clock(), 1, runner)
        assert daemon.settle(10)
        task.cancel()
        await asyncio.wait({task}, timeout=5)

    asyncio.run(go())

    assert both.ready is not None
    assert both.nfd is not None
    good = status == "pass"
    assert labels(both.nfd) == {"ready": "true" if good else "false", "status": status}
    assert len(both.nfd.read_text().splitlines()) == 3
    assert 0 < expiry_s(both.nfd) <= 300
    assert both.ready.exists() is good
    if good:
        names_of_lines = [line.partition(":")[0] for line in both.ready.read_text().splitlines()]
        assert names_of_lines[1:] == ["pass", "by", "boot", "from", "until", "expires"]
        assert readyfile.objection(both.ready) == ""


def test_links_and_pipes_are_left_alone(tmp_path: Path) -> None:
    """What a link names is not touched, a pipe is not opened, and neither is removed."""
    victim = tmp_path / "victim"
    StatusFiles(Files(ready=victim)).show(GOOD)
    before = victim.read_text()
    ready, nfd = tmp_path / "gpu-validator-ready", tmp_path / "gpu-validator"
    ready.symlink_to(victim)
    os.mkfifo(nfd)
    device = Path("/dev/null").stat().st_ino
    null = StatusFiles(Files(ready=Path("/dev/null"))).show(GOOD)
    kept = StatusFiles(files(tmp_path))
    problems = [kept.show(SICK), kept.show(GOOD), kept.remove()]

    text = "is no regular file: left alone"
    assert problems == [[f"{ready}: {text}", f"{nfd}: {text}"]] * 3
    assert victim.read_text() == before
    assert (ready.is_symlink(), nfd.is_fifo()) == (True, True)
    assert null == [f"/dev/null: {text}"]
    assert Path("/dev/null").stat().st_ino == device


def test_nobody_can_plant_a_draft(tmp_path: Path) -> None:
    """The names of earlier versions: a pipe there hung the daemon, a link lost a file to root."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".gpu-validator-ready.draft").symlink_to(victim)
    os.mkfifo(tmp_path / ".gpu-validator.draft")
    problems = StatusFiles(files(tmp_path)).show(GOOD)

    assert problems == []
    assert victim.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
def test_a_stranger_s_file_is_left_alone(tmp_path: Path) -> None:
    """Though it reads as ours."""
    StatusFiles(files(tmp_path)).show(GOOD)
    for name in names(tmp_path):
        os.chown(tmp_path / name, 65534, 65534)
    problems = StatusFiles(files(tmp_path)).show(SICK)

    assert len(problems) == 2
    assert all(one.endswith("belongs to user 65534: left alone") for one in problems)
    assert len(names(tmp_path)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
def test_a_file_of_the_folder_s_owner_is_ours(tmp_path: Path) -> None:
    """An earlier daemon ran as the user whose folder it is."""
    StatusFiles(files(tmp_path)).show(GOOD)
    for path in (tmp_path, *tmp_path.iterdir()):
        os.chown(path, 65534, 65534)

    assert StatusFiles(files(tmp_path)).remove() == []
    assert names(tmp_path) == []


def test_what_an_older_version_wrote_is_ours(tmp_path: Path) -> None:
    """It never expired, so it must go; such a file vouches no more."""
    ready = tmp_path / "gpu-validator-ready"
    ready.write_text("2030-01-02T12:00:00Z\npass: 7 probes\n")
    objection = readyfile.objection(ready)
    problems = StatusFiles(files(tmp_path)).show(SICK)

    assert "is no ready file that says until when" in objection
    assert problems == []
    assert not ready.exists()


def test_permissions_that_were_narrowed_stay(tmp_path: Path) -> None:
    """The administrator's word."""
    kept = StatusFiles(files(tmp_path))
    kept.show(GOOD)
    (tmp_path / "gpu-validator-ready").chmod(0o640)
    kept.show(GOOD)

    assert (tmp_path / "gpu-validator-ready").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["ready", "nfd"])
def test_a_full_disk_takes_away_what_vouches(tiny_disk: Path, name: str) -> None:
    """A real one: what can be written no more is removed, with no draft, and comes again later."""
    path = tiny_disk / "file"
    kept = StatusFiles(Files(**{name: path}))
    kept.show(GOOD)
    rest = fill(tiny_disk)
    problems = kept.show(GOOD if name == "ready" else SICK)
    while_full = names(tiny_disk)
    fill(tiny_disk)  # what the removal has freed
    again = kept.show(GOOD)
    rest.unlink()
    after = kept.show(GOOD)

    text = f"{path}: No space left on device"
    assert problems == [f"{text}: removed, since it cannot be renewed"]
    assert while_full == ["rest"]
    assert again == [text]
    assert after == []
    assert names(tiny_disk) == ["file"]


def test_a_limit_on_a_file_s_size_takes_it_away_too(tmp_path: Path) -> None:
    """EFBIG, in a process of its own; the same for any other error of a write."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from tests.validator.service import test_statusfiles as of\n"
        "kept = of.StatusFiles(of.files(Path(sys.argv[1]))); kept.show(of.GOOD)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8)); print(*kept.show(of.GOOD), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.count("File too large: removed, since it cannot be renewed") == 2
    assert names(tmp_path) == []


def test_what_can_neither_be_renewed_nor_removed_says_nothing_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut: still known as ours, but without a term and without labels."""
    kept = StatusFiles(files(tmp_path))
    kept.show(GOOD)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(os, name, refuse)
        problems = kept.show(GOOD)
    objection = readyfile.objection(tmp_path / "gpu-validator-ready")
    left = labels(tmp_path / "gpu-validator")

    assert len(problems) == 2
    assert all("nor can it be removed: Operation not permitted" in one for one in problems)
    assert "is no ready file that says until when" in objection
    assert left == {}
    assert kept.show(GOOD) == []


@pytest.mark.parametrize(
    ("later_s", "wrong"),
    [
        (0, ""),
        (290, ""),
        (301, "expired 1 s ago"),
        (86400, "expired"),
        (-4, ""),
        (-60, "the clock was changed"),
        (-86400, "the clock was changed"),
    ],
)
def test_a_ready_file_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later_s: int, wrong: str
) -> None:
    """And does not count where the clock was set back behind its beginning."""
    StatusFiles(files(tmp_path)).show(GOOD)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: int(now) + later_s)
    objection = readyfile.objection(tmp_path / "gpu-validator-ready")

    assert wrong in objection
    assert bool(objection) is bool(wrong)


@pytest.mark.parametrize(
    ("pattern", "other", "wrong"),
    [
        (r"until: .*\n", "", "until when it counts"),
        (r"until: .*", "until: 99999999999", "the clock was changed"),
        (r"until: .*", "until: soon", "until when it counts"),
        (r"by: .*", "by: somebody", "until when it counts"),
        (r"boot: .*", "boot: another", "before this node was started"),
    ],
)
def test_a_ready_file_that_is_not_whole(
    tmp_path: Path, pattern: str, other: str, wrong: str
) -> None:
    """Each line that a reader must see."""
    path = tmp_path / "gpu-validator-ready"
    StatusFiles(files(tmp_path)).show(GOOD)
    path.write_text(re.sub(pattern, other, path.read_text()))

    assert wrong in readyfile.objection(path)


def test_a_verdict_forges_no_line(tmp_path: Path) -> None:
    """A reason with newlines is one line."""
    reason = "pass: x\nuntil: 99999999999\nby: gpu-validator"
    state = NodeState(ready=True, reason=reason, status="pass", at=NOON, lasts_s=-10)
    StatusFiles(files(tmp_path)).show(state)

    text = (tmp_path / "gpu-validator-ready").read_text()
    assert text.splitlines()[1] == "pass: x until: 99999999999 by: gpu-validator"
    assert "expired" in readyfile.objection(tmp_path / "gpu-validator-ready")


def test_a_relative_path_is_refused() -> None:
    """A daemon's working folder is nobody's business."""
    with pytest.raises(SettingsError, match=r"files\.nfd: 'x' is no absolute path"):
        load(flags={"files": {"nfd": "x"}})


def test_no_file_is_the_default(tmp_path: Path) -> None:
    """Nothing is written that nobody asked for."""
    kept = StatusFiles(Settings().files)

    assert not kept.wanted
    assert kept.remove() == []
    assert kept.show(GOOD) == []


async def _until(daemon: Daemon, clock: Clock, runs: int, runner: FakeRunner) -> None:
    """Tick until so many runs have begun and none is going on."""
    deadline = time.monotonic() + 10
    while len(runner.plans) < runs or runner.active or daemon._latest.newest is None:
        assert time.monotonic() < deadline, "the run never ended"
        daemon.tick()
        await asyncio.sleep(0.001)
    daemon.tick()
    assert daemon.settle(10)


def test_the_daemon_keeps_them_true(tmp_path: Path) -> None:
    """Left-overs go at start; pass, fail, staleness and the end each show at once."""
    StatusFiles(files(tmp_path)).show(GOOD)  # an earlier daemon's
    clock, runner = Clock(), FakeRunner()
    table = {"interval": 100, "jitter": 0}
    settings = load(
        flags={
            "schedule": {"autograd": table},
            "run": {"profile": "quick"},
            "files": files(tmp_path).model_dump(),
        }
    )
    daemon = Daemon(settings, runner=runner, monotonic=clock)
    assert daemon.settle(10)
    seen: list[list[str]] = [names(tmp_path)]

    async def go() -> None:
        task = asyncio.ensure_future(daemon.keep_running())
        await _until(daemon, clock, 1, runner)
        seen.append(names(tmp_path))
        assert 290 < expiry_s(tmp_path / "gpu-validator") <= 300  # three of the least interval
        runner.status = "fail"
        clock.now_s += 101
        await _until(daemon, clock, 2, runner)
        seen.append(names(tmp_path))
        assert labels(tmp_path / "gpu-validator")["status"] == "fail"
        task.cancel()
        await asyncio.wait({task}, timeout=5)

    asyncio.run(go())
    daemon.withdraw()
    assert daemon.settle(10)
    seen.append(names(tmp_path))
    daemon.tick()
    assert daemon.settle(10)

    both = ["gpu-validator", "gpu-validator-ready"]
    assert seen == [[], both, ["gpu-validator"], []]
    assert names(tmp_path) == []


def test_a_stale_result_takes_the_ready_file_away(tmp_path: Path) -> None:
    """Time alone, without a run: the daemon no longer vouches."""
    clock, runner = Clock(), FakeRunner()
    flags = {"ready": {"max_age": 500}, "files": files(tmp_path).model_dump()}
    daemon = Daemon(load(flags=flags), runner=runner, monotonic=clock)

    async def go() -> None:
        task = asyncio.ensure_future(daemon.keep_running())
        await _until(daemon, clock, 1, runner)
        task.cancel()
        await asyncio.wait({task}, timeout=5)

    asyncio.run(go())
    there = (tmp_path / "gpu-validator-ready").exists()
    clock.now_s += 501
    daemon.tick()
    assert daemon.settle(10)

    assert there
    assert not (tmp_path / "gpu-validator-ready").exists()
    assert labels(tmp_path / "gpu-validator") == {"ready": "false", "status": "error"}


def test_moved_files_leave_nothing_behind(tmp_path: Path) -> None:
    """A reload with other paths removes the old files."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    after = load(flags={"files": files(new).model_dump()})
    runner = FakeRunner()
    daemon = Daemon(
        load(flags={"files": files(old).model_dump()}), runner=runner, reload=lambda: after
    )

    async def go() -> None:
        task = asyncio.ensure_future(daemon.keep_running())
        await _until(daemon, Clock(), 1, runner)
        assert len(names(old)) == 2
        reload(daemon)
        assert daemon.settle(10)
        task.cancel()
        await asyncio.wait({task}, timeout=5)

    asyncio.run(go())

    assert names(old) == []
    assert len(names(new)) == 2


def test_a_folder_that_is_missing_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An event with path and cause; the daemon goes on."""
    logs.configure("info", "text")
    runner = FakeRunner()
    gone = files(tmp_path / "none").model_dump()
    daemon = Daemon(load(flags={"files": gone}), runner=runner)

    async def go() -> None:
        task = asyncio.ensure_future(daemon.keep_running())
        await _until(daemon, Clock(), 1, runner)
        task.cancel()
        await asyncio.wait({task}, timeout=5)

    asyncio.run(go())

    assert "gpu-validator-ready: No such file or directory" in capfd.readouterr().err
    assert daemon.readiness().ready


def _started(kept: Files) -> tuple[Daemon, Clock]:
    """A daemon that keeps these files, and whose first run has ended."""
    runner, clock = FakeRunner(), Clock()
    settings = load(flags={"files": kept.model_dump()})
    daemon = Daemon(settings, runner=runner, monotonic=clock)

    async def go() -> None:
        task = asyncio.ensure_future(daemon.keep_running())
        await _until(daemon, clock, 1, runner)
        task.cancel()
        await asyncio.wait({task}, timeout=5)

    asyncio.run(go())
    return daemon, clock


def test_a_daemon_renews_them_while_nothing_changes(tmp_path: Path) -> None:
    """Long before they expire, and also one that somebody removed."""
    daemon, clock = _started(files(tmp_path))
    for path in tmp_path.iterdir():
        path.unlink()
    daemon.tick()
    assert daemon.settle(10)
    at_once = names(tmp_path)
    clock.now_s += readyfile.LEASE_S / 4
    daemon.tick()
    assert daemon.settle(10)

    assert at_once == []
    assert names(tmp_path) == ["gpu-validator", "gpu-validator-ready"]


def test_a_full_disk_is_said_once_and_its_end_too(
    tiny_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The daemon tries again every few seconds, and is not ready by its files meanwhile."""
    logs.configure("info", "json")
    daemon, clock = _started(Files(ready=tiny_disk / "ready"))
    rest = fill(tiny_disk)
    while_full = []
    for seconds in (61, *[6] * 10):
        clock.now_s += seconds
        daemon.tick()
        assert daemon.settle(10)
        while_full.append(names(tiny_disk))
        fill(tiny_disk)  # what the removal has freed
    rest.unlink()
    clock.now_s += 6
    daemon.tick()
    assert daemon.settle(10)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    told = [line for line in lines if line["event"].startswith("status_file")]

    assert while_full == [["rest"]] * 11
    assert names(tiny_disk) == ["ready"]
    # Removed, then not there to be removed.
    assert [line["event"] for line in told] == [
        "status_file",
        "status_file",
        "status_file_recovered",
    ]


def test_a_start_says_whose_files_it_leaves_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error in the log, and the file as it was; `--config.check` says it before."""
    logs.configure("info", "text")
    path = tmp_path / "gpu-validator-ready"
    path.write_text("precious")
    daemon, _ = _started(files(tmp_path))
    daemon.withdraw()
    assert daemon.settle(10)

    err = capfd.readouterr().err
    assert err.count("was not written by gpu-validator: left alone") == 1
    assert path.read_text() == "precious"


def test_config_check_names_somebody_s_file(tmp_path: Path) -> None:
    """Exit code 2, before a daemon is started."""
    path = tmp_path / "precious"
    path.write_text("precious")
    done = subprocess.run(
        [sys.executable, "-m", "validator", "serve", "--config.check"],
        cwd=ROOT,
        env={**os.environ, "GPU_VALIDATOR_FILES__READY": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert f"files: {path}: was not written by gpu-validator" in done.stderr


# -- the thread that writes ---------------------------------------------------------------------


class Hung:
    """Status files on a file system that answers when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers, self.reached = threading.Event(), threading.Event()
        self.written: list[tuple[str, bool | None]] = []

        def write(kept: StatusFiles, state: NodeState | None) -> list[str]:
            self.reached.set()
            assert self.answers.wait(30)
            name = str(kept._files.ready)
            self.written.append((name, None if state is None else state.ready))
            return []

        monkeypatch.setattr(StatusFiles, "show", write)
        monkeypatch.setattr(StatusFiles, "remove", lambda kept: write(kept, None))


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hung]:
    """One that answers at the end at the latest."""
    made = Hung(monkeypatch)
    yield made
    made.answers.set()


def test_a_file_system_that_hangs_holds_nobody_up(hung: Hung) -> None:
    """The newest state wins, one thing at a time, and it is said that it hangs."""
    clock = Clock()
    keeper = FileKeeper(clock)
    old, new = Files(ready=Path("/old")), Files(ready=Path("/new"))
    keeper.show(old, GOOD)
    assert hung.reached.wait(10)
    for _ in range(1000):
        keeper.show(old, GOOD)
    keeper.show(new, GOOD)
    keeper.remove(old)
    keeper.show(new, SICK)
    early = (keeper.problems(), keeper.settle(0.01))
    clock.now_s += 11
    late = keeper.problems()
    hung.answers.set()
    settled = keeper.settle(10)

    assert early == ([], False)
    assert late == ["the file system does not answer"]
    assert settled
    assert keeper.problems() == []
    assert hung.written == [("/old", True), ("/old", None), ("/new", False)]


def test_paths_that_are_moved_back_and_forth(tmp_path: Path) -> None:
    """Two sets of files that share a path: what was wanted last is what is there."""
    first = files(tmp_path)
    other = Files(ready=first.ready)
    keeper = FileKeeper()
    for _ in range(20):
        keeper.remove(first)
        keeper.show(other, GOOD)
        keeper.remove(other)
        keeper.show(first, GOOD)
        assert keeper.settle(10)

        assert names(tmp_path) == ["gpu-validator", "gpu-validator-ready"]


def test_a_hung_file_system_is_said_once(hung: Hung, capfd: pytest.CaptureFixture[str]) -> None:
    """And said again when it answers."""
    logs.configure("info", "text")
    clock = Clock()
    flags = {"files": {"ready": "/nowhere/ready"}}
    daemon = Daemon(load(flags=flags), runner=FakeRunner(), monotonic=clock)
    assert hung.reached.wait(10)
    for _ in range(30):
        clock.now_s += 1
        daemon.tick()
    while_hung = capfd.readouterr().err
    hung.answers.set()
    assert daemon.settle(10)

    assert while_hung.count("the file system does not answer") == 1
    assert "event=status_file_recovered" in capfd.readouterr().err


def test_a_limit_on_threads_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The daemon goes on without the files, and writes them once it can."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    keeper = FileKeeper()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        keeper.show(files(tmp_path), GOOD)
        problems = keeper.problems()
        settled = keeper.settle(0)
    keeper.show(files(tmp_path), GOOD)

    assert (problems, settled) == (["can't start new thread"], True)
    assert keeper.settle(10)
    assert keeper.problems() == []
    assert len(names(tmp_path)) == 2


def test_a_bug_in_the_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not swallowed: the daemon ends with it, and is started again."""

    def fail(*_: object) -> list[str]:
        raise LookupError("a bug")

    monkeypatch.setattr(StatusFiles, "show", fail)
    keeper = FileKeeper()
    keeper.show(Files(ready=Path("/x")), GOOD)

    assert keeper.settle(10)
    with pytest.raises(LookupError, match="a bug"):
        keeper.problems()


@pytest.mark.slow
@pytest.mark.torch
def test_a_stopped_process_leaves_no_file(tmp_path: Path) -> None:
    """A real daemon: the left-over goes, its own file comes, and SIGTERM takes it away."""
    folder = tmp_path / "node"
    folder.mkdir()
    ready = folder / "gpu-validator-ready"
    StatusFiles(Files(ready=ready)).show(GOOD)  # an earlier daemon's
    others = [name for name in BY_NAME if name != "torch_version"]
    config = {
        "probes": {name: {"enabled": False} for name in others},
        "web": {"listen_address": "127.0.0.1:0"},
        "files": {"ready": str(ready), "nfd": str(folder / "gpu-validator")},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with subprocess.Popen(
        [sys.executable, "-m", "validator", "serve", "--config.file", tmp_path / "config.yaml"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        assert daemon.stderr is not None
        said = iter(daemon.stderr.readline, "")
        assert any("event=listening" in line for line in said)
        deadline = time.monotonic() + 10
        while (at_start := names(folder)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert any("event=run_finished" in line for line in said)
        deadline = time.monotonic() + 10  # the files follow the event
        both = ["gpu-validator", "gpu-validator-ready"]
        while (while_ready := names(folder)) != both and time.monotonic() < deadline:
            time.sleep(0.01)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=20)

    assert at_start == []
    assert while_ready == both
    assert names(folder) == []
    assert daemon.returncode == 0


@pytest.mark.parametrize("call", ["open", "stat"])
def test_a_removal_that_fails_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """It is the last thing that a daemon does: nothing is left that vouches for five minutes."""
    kept = StatusFiles(files(tmp_path))
    kept.show(GOOD)
    real = getattr(os, call)
    failed: list[str] = []

    def failing(path: str, *arguments: int, **more: int) -> object:
        if path == "gpu-validator-ready" and not failed:
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, call, failing)

    assert kept.remove() == []
    assert failed
    assert names(tmp_path) == []
