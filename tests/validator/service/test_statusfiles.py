"""The verdict as files: there exactly while the daemon vouches, whole, and expiring by itself."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from probes.catalog import BY_NAME
from tests.validator.service.fake_runner import NOON, Clock, FakeRunner
from validator.loading import load
from validator.service import logs, readyfile
from validator.service.daemon import Daemon
from validator.service.statusfiles import NodeState, StatusFiles
from validator.settings import Files, Settings, SettingsError

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
    while len(runner.plans) < runs or runner.active or daemon.report() is None:
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
        daemon.reload()
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
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        while_ready = names(folder)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=20)

    assert at_start == []
    assert while_ready == ["gpu-validator", "gpu-validator-ready"]
    assert names(folder) == []
    assert daemon.returncode == 0
