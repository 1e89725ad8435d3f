"""A fail under load outlives the daemon that found it, until the same probe passes."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from probes.catalog import BY_NAME
from probes.contract import Finding, Result
from tests.validator.service.fake_runner import (
    Clock,
    FakeRunner,
    everything,
    gpu,
    gpus,
    reload,
    report,
    result,
)
from tests.validator.service.test_daemon import Start, start  # noqa: F401 - a fixture
from tests.validator.tiny_disk import fill
from validator.engine.plan import Event
from validator.report import CPU, Device
from validator.service import daemon as daemon_module
from validator.service import failedfile, logs
from validator.service.daemon import Daemon
from validator.service.entry import Pair, end_time
from validator.service.metrics import Form
from validator.settings.loading import load

YESTERDAY = datetime.now(timezone.utc) - timedelta(days=1)
WRONG = Finding(
    id="matmul.float32", status="fail", message="1 of 9 wrong", observed=float("nan"), expected=1.0
)
ALL_WELL = Finding(id="matmul.float32", status="pass")


def failed(probe: str = "matmul", device: str = "cuda:0", **fields: Any) -> Result:
    """A fail of yesterday."""
    known = {"gpu_uuid": f"GPU-{device[-1]}", "started_at": YESTERDAY, "findings": (WRONG,)}
    return result(probe, device, "fail", "check_failed", **{**known, **fields})


def started(path: Path | None, clock: Clock | None = None, **flags: Any) -> Daemon:
    """A daemon of profile standard that has run nothing yet."""
    logs.configure("info", "json")
    files = {"failed": str(path)} if path else {}
    table = {"run": {"profile": "standard"}, "files": files, **flags}
    return Daemon(load(flags=table), runner=FakeRunner(gpus(2)), monotonic=clock or Clock())


def hear(daemon: Daemon, results: Iterable[Result], devices: tuple[Device, ...]) -> None:
    """A run has ended, and what follows is written."""
    daemon._latest.accept(report(results, devices))
    daemon.tick()
    assert daemon.settle(10)


def quick(daemon: Daemon, devices: tuple[Device, ...]) -> None:
    """The first run of a daemon: all that loads no device, and all is well."""
    names = daemon._schedule.timings
    hear(daemon, [one for one in everything(devices) if one.probe in names], devices)
    instant = [name for name in names if BY_NAME[name].profile == "instant"]
    hear(daemon, [result(name) for name in instant], devices)


def kept(path: Path) -> list[str]:
    """The devices of which a file keeps a fail."""
    content = json.loads(path.read_text())
    return [one["device"] for one in content["report"]["results"]]


def told(capfd: pytest.CaptureFixture[str], event: str) -> list[str]:
    """What the log says of an event, and nothing twice."""
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [str(line.get("error") or line.get("why")) for line in lines if line["event"] == event]


def test_a_fail_outlives_its_daemon(tmp_path: Path) -> None:
    """The next one is not ready at once, with the old time and findings, until the pass."""
    path, clock = tmp_path / "failed.json", Clock()
    first = started(path)
    quick(first, gpus(2))
    before = first.readiness()
    hear(first, [failed(), result("matmul", "cuda:1")], gpus(2))
    first.withdraw()
    assert first.settle(10)

    again = started(path, clock, ready={"max_age": 900})
    at_once = again.readiness()
    quick(again, gpus(2))
    clock.now_s += 90 * 86400
    quick(again, gpus(2))
    merged = again._latest.merged_report()
    old = again._latest.results()[Pair("matmul", "cuda:0")]
    exposed = asyncio.run(again.new_metrics(Form())).decode()
    hear(again, [result("matmul", device, findings=(ALL_WELL,)) for device in ("cuda:0", "cuda:1")],
         gpus(2))  # fmt: skip

    assert before.ready
    assert at_once.reason == "fail: matmul on cuda:0: fail of matmul"
    assert merged is not None
    assert merged.status == "fail"
    assert (old.started_at, old.findings) == (YESTERDAY, (WRONG.model_copy(),))
    ran = re.search(r'_last_run_\w+{device="cuda:0",probe="matmul"} (\S+)', exposed)
    assert ran is not None
    assert float(ran[1]) == pytest.approx(end_time(old).timestamp(), abs=1e-3)
    for line in (
        'gpu_validator_check_failed{check="float32",device="cuda:0",probe="matmul"} 1.0',
        'gpu_validator_probe_success{device="cuda:0",probe="matmul"} 0.0',
        'gpu_validator_probe_runs_total{probe="matmul",status="fail"} 0.0',
    ):
        assert line in exposed, [one for one in exposed.splitlines() if "matmul" in one]
    assert again.readiness().ready, again.readiness().text
    assert not path.exists()


def test_a_pass_that_left_the_check_out_heals_nothing(tmp_path: Path) -> None:
    """As without a restart; so do busy, an error and what the daemon could not tell."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed()])
    daemon = started(path)
    quick(daemon, gpus(1))
    left_out = Finding(id="matmul.float32", status="skip")
    for one in (
        result("matmul", "cuda:0", findings=(left_out,)),
        result("matmul", "cuda:0", "skip", "gpu_busy"),
        result("matmul", "cuda:0", "error", "internal_error"),
    ):
        hear(daemon, [one], gpus(1))

        assert daemon.readiness().reason.startswith("fail: matmul on cuda:0")
        assert kept(path) == ["cuda:0"]


def test_a_gpu_is_known_by_its_uuid(tmp_path: Path) -> None:
    """Another order of devices: the fail moves with its GPU, and the pass of another is none."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed(gpu_uuid="GPU-b")])
    daemon = started(path)
    swapped = (gpu(0, "GPU-a"), gpu(1, "GPU-b"))
    quick(daemon, swapped)
    moved = daemon.readiness().reason
    hear(daemon, [result("matmul", "cuda:0"), failed(device="cuda:1", gpu_uuid="GPU-b")], swapped)
    still = kept(path)
    hear(daemon, [result("matmul", "cuda:0"), result("matmul", "cuda:1")], swapped)

    assert moved.startswith("fail: matmul on cuda:1")
    assert still == ["cuda:1"]
    assert daemon.readiness().ready


def test_a_device_without_a_uuid_is_known_by_its_name(tmp_path: Path) -> None:
    """Either of both runs could not tell it."""
    unnamed = tuple(one.model_copy(update={"uuid": None}) for one in gpus(1))
    for uuid, devices in ((None, gpus(1)), ("GPU-0", unnamed)):
        path = tmp_path / "failed.json"
        failedfile.keep(path, [failed(gpu_uuid=uuid)])
        daemon = started(path)
        quick(daemon, devices)
        stands = daemon.readiness()
        hear(daemon, [result("matmul", "cuda:0")], devices)

        assert stands.reason.startswith("fail: matmul on cuda:0")
        assert daemon.readiness().ready


def test_the_fail_of_a_gpu_that_is_gone_waits_for_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Replaced, or fallen off the bus: said once. A run that lists no GPU at all ends nothing."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed(gpu_uuid="GPU-old"), failed(device="cuda:1")])
    daemon = started(path)
    quick(daemon, (CPU,))
    without = daemon.readiness().reason
    for _ in range(2):
        quick(daemon, gpus(2))
    alone = daemon._latest.standing()
    hear(daemon, [result("matmul", one) for one in ("cuda:0", "cuda:1")], gpus(2))
    replaced = daemon.readiness()
    again = started(path)
    quick(again, (gpu(0, "GPU-old"), gpu(1)))
    back = again.readiness().reason
    hear(again, [result("matmul", "cuda:0", gpu_uuid="GPU-old")], (gpu(0, "GPU-old"), gpu(1)))

    assert without.startswith("fail: matmul on cuda:0")
    assert [one.device for one in alone] == ["cuda:1"]
    assert told(capfd, "fail_waits") == [
        "no run lists this GPU now; the fail stands again when one does"
    ]
    assert replaced.ready
    assert back == "fail: matmul on cuda:0: fail of matmul"
    assert not path.exists()


def test_a_gpu_that_falls_off_comes_back_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """While the daemon runs, too; what has no UUID cannot be known again."""
    path = tmp_path / "failed.json"
    daemon = started(path)
    quick(daemon, gpus(2))
    hear(daemon, [failed(), result("matmul", "cuda:1")], gpus(2))
    left = (gpu(0, "GPU-1"),)
    quick(daemon, left)
    hear(daemon, [result("matmul", "cuda:0")], left)
    meanwhile = (daemon.readiness().ready, kept(path))
    quick(daemon, gpus(2))

    assert meanwhile == (True, ["cuda:0"])
    assert daemon.readiness().reason == "fail: matmul on cuda:0: fail of matmul"
    assert len(told(capfd, "fail_waits")) == 1


def test_names_move_with_their_gpus(tmp_path: Path) -> None:
    """Within a daemon's life: no pass of a GPU that is gone hides the fail of one that is here."""
    daemon = started(tmp_path / "failed.json")
    first = (gpu(0, "GPU-a"), gpu(1, "GPU-b"))
    quick(daemon, first)
    sick = failed(gpu_uuid="GPU-a")
    hear(daemon, [sick, result("matmul", "cuda:1", gpu_uuid="GPU-b")], first)
    shown = []
    for devices in ((gpu(0, "GPU-b"), gpu(1, "GPU-a")), (gpu(0, "GPU-a"),)):
        quick(daemon, devices)
        known = daemon._latest.results()
        shown.append({pair.device: known[pair].status for pair in known if pair.probe == "matmul"})

    assert shown == [{"cuda:0": "pass", "cuda:1": "fail"}, {"cuda:0": "fail"}]
    assert daemon.readiness().reason == "fail: matmul on cuda:0: fail of matmul"


def test_an_unnamed_gpu_that_is_gone_ends_its_fail(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever has its name later may be another one."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed(device="cuda:7", gpu_uuid=None)])
    daemon = started(path)
    quick(daemon, gpus(2))
    daemon.tick()
    assert daemon.settle(10)

    assert daemon.readiness().ready
    assert not path.exists()
    assert told(capfd, "fail_ended") == ["this device is not there any more"]


def test_a_container_that_was_made_anew_knows_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its host name is another one. A fail without a UUID may be any host's."""
    path = tmp_path / "failed.json"
    monkeypatch.setenv("NODE_NAME", "3f2a9c")
    failedfile.keep(path, [failed(device="cpu", gpu_uuid=None), failed(), failed(device="cuda:1")])
    monkeypatch.setenv("NODE_NAME", "77d01e")
    daemon = started(path)
    at_once = daemon.readiness().reason
    quick(daemon, (CPU,))
    elsewhere = daemon.readiness().ready
    quick(daemon, gpus(1))
    daemon.tick()

    assert at_once.startswith("not ready: no result yet")
    assert elsewhere
    assert daemon.readiness().reason == "fail: matmul on cuda:0: fail of matmul"
    assert ["is of the host 3f2a9c" in one for one in told(capfd, "failed_file")] == [True]


def test_a_clock_that_is_behind_forgets_nothing(tmp_path: Path) -> None:
    """So it is after a boot without a battery, until the network tells the time."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed(started_at=datetime.now(timezone.utc) + timedelta(days=9000))])
    daemon = started(path)
    quick(daemon, gpus(1))

    assert daemon.readiness().reason == "fail: matmul on cuda:0: fail of matmul"
    hear(daemon, [result("matmul", "cuda:0")], gpus(1))
    assert daemon.readiness().ready
    assert not path.exists()


OFF: dict[str, dict[str, Any]] = {
    "profile": {"run": {"profile": "quick"}},
    "switch": {"probes": {"matmul": {"enabled": False}}},
}


@pytest.mark.parametrize("way", OFF)
@pytest.mark.parametrize("restarts", [False, True])
def test_a_probe_that_is_off_keeps_its_fail_for_later(
    way: str,
    restarts: bool,  # noqa: FBT001 - a table
    tmp_path: Path,
) -> None:
    """It stands again when the probe is on; and after its pass no restart brings it back."""
    path = tmp_path / "failed.json"
    on = {"run": {"profile": "standard"}, "files": {"failed": str(path)}}
    settings = [load(flags=on), load(flags={**on, **OFF[way]})]
    logs.configure("info", "json")
    place = iter([settings[1], settings[0]])
    first = settings[restarts]
    if restarts:
        failedfile.keep(path, [failed()])
        next(place)
    daemon = Daemon(
        first, runner=FakeRunner(gpus(1)), monotonic=Clock(), reload=lambda: next(place)
    )
    quick(daemon, gpus(1))
    if not restarts:
        hear(daemon, [failed()], gpus(1))
        reload(daemon)
    if way == "switch":
        hear(daemon, [result("matmul", "cuda:0", "skip", "disabled")], gpus(1))
    off = (daemon.settle(10), daemon.readiness().ready, kept(path))
    reload(daemon)
    quick(daemon, gpus(1))
    stands = daemon.readiness().reason
    hear(daemon, [result("matmul", "cuda:0")], gpus(1))

    # A verdict of before stands for a while where the probe was switched off since.
    assert off == (True, way == "profile" or restarts, ["cuda:0"])
    assert stands == "fail: matmul on cuda:0: fail of matmul"
    assert daemon.readiness().ready
    assert not path.exists()


def test_more_than_is_read_is_kept_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is wrong everywhere, as on the 56 instances of eight GPUs: no fail is lost."""
    monkeypatch.setattr(failedfile, "_WHOLE_BYTES", 64 * 1024)
    monkeypatch.setattr(failedfile, "_MOST_BYTES", 128 * 1024)
    path = tmp_path / "failed.json"
    heavy = [spec for spec in BY_NAME.values() if spec.is_heavy]
    wrong = {
        spec.name: tuple(
            Finding(id=f"{spec.name}.{check}", status="fail", message="x" * 400)
            for check in spec.promises
        )
        for spec in heavy
    }
    everywhere = [
        failed(name, f"cuda:{index}", findings=(*findings, ALL_WELL), log_tail="y" * 500)
        for name, findings in wrong.items()
        for index in range(4)
    ]
    problems = failedfile.keep(path, everywhere)
    found = failedfile.read(path, 60)

    assert problems == []
    assert found.refused == ()
    assert [(one.probe, one.device) for one in found.failed] == [
        (one.probe, one.device) for one in everywhere
    ]
    for one in found.failed:
        assert [each.id for each in one.findings] == [each.id for each in wrong[one.probe]]


def test_a_fail_is_kept_before_its_run_ends(tmp_path: Path) -> None:
    """A run of profile standard takes minutes, and `kill -9` waits for none. Quick ones are not."""
    path = tmp_path / "failed.json"
    daemon = started(path)
    runner = daemon._runner
    assert isinstance(runner, FakeRunner)
    quick(daemon, gpus(2))
    passed = [failed("autograd"), result("matmul", "cuda:0"), result("linalg", "cuda:0", "warn")]
    for one in passed:
        daemon._on_event(Event("finished", one.probe, one.device, result=one))
    before = (daemon.settle(10), path.exists())
    daemon._on_event(Event("finished", "matmul", "cuda:1", result=failed(device="cuda:1")))
    assert daemon.settle(10)

    found = kept(path)
    runner.verdicts = {"matmul": ("pass", "ok")}
    asyncio.run(daemon._run(("matmul",)))
    assert daemon.settle(10)

    assert before == (True, False)
    assert found == ["cuda:1"]
    assert not path.exists()


def test_without_the_setting_nothing_is_kept(tmp_path: Path) -> None:
    """Off by default."""
    daemon = started(None)
    hear(daemon, [failed()], gpus(1))

    assert list(tmp_path.iterdir()) == []


#: What a result in the file says -> why it does not stand.
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "of a fault": ({"fault": "wrong-bit"}, "made under the fault wrong-bit"),
    "beyond all time": ({"started_at": "9999-12-31T23:59:59-14:00"}, "its time cannot be"),
    "of endless length": ({"duration_s": "Infinity"}, "its time cannot be"),
    "of no length": ({"duration_s": "NaN"}, "its time cannot be"),
    "an unknown probe": ({"probe": "of_tomorrow"}, "there is no such probe"),
    "now of profile quick": ({"probe": "autograd"}, "it runs at once"),
    "a pass": ({"status": "pass"}, "pass is no fail"),
    "an unknown status": ({"status": "doomed"}, "error is no fail"),
}


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a file says, as another version, or nobody, would have written it."""
    content = json.loads(path.read_text())
    change(content["report"])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_count_is_refused_alone(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Said once; what else is in the file stands, and the file stays as it is for another start."""
    fields, why = REFUSED[name]
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed(), failed(device="cuda:1")])
    rewritten(path, lambda one: one["results"][0].update(fields))
    content = path.read_text()
    daemon = started(path)
    assert daemon.settle(10)
    (line,) = told(capfd, "failed_file")

    assert why in line
    assert [one.device for one in daemon._latest.standing()] == ["cuda:1"]
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("change", "stands"),
    [
        (lambda one: one.update(of_tomorrow=1), True),
        (lambda one: one["results"][0].update(of_tomorrow={"a": []}, reason="bent"), True),
        (lambda one: one["results"][0]["findings"][0].update(action="exorcise"), True),
        (lambda one: (one.update(host="another"), one["results"][0].pop("gpu_uuid")), False),
        (lambda one: one.update(schema_version=2), False),
        (lambda one: one["results"][0].pop("started_at"), False),
    ],
)
def test_the_file_of_another_version(
    change: Callable[[dict[str, Any]], object],
    stands: bool,  # noqa: FBT001 - a table
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Unknown fields and words are read; another host, or another schema, is not."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed()])
    rewritten(path, change)
    daemon = started(path)
    assert daemon.settle(10)

    assert bool(daemon._latest.standing()) is stands
    assert len(told(capfd, "failed_file")) == (not stands)
    assert path.exists()


def _of(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


IN_ITS_PLACE: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "somebody's": _of("precious"),
    "nothing": _of(""),
    "half": _of(failedfile._HEAD + '{"results": ['),
    "no report": _of(failedfile._HEAD + "[]}"),
    "deep": _of(failedfile._HEAD + "[" * 100_000),
    "no text": lambda path: path.write_bytes(failedfile._HEAD.encode() + b"\xff"),
    "huge": _of(failedfile._HEAD + " " * failedfile._MOST_BYTES),
    "no folder": lambda path: path.parent.rmdir(),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_no_file_keeps_a_daemon_from_its_start(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said once, turns no verdict, and is left as it is while nothing fails."""
    path = tmp_path / "state" / "failed.json"
    path.parent.mkdir()
    IN_ITS_PLACE[name](path)
    clock = Clock()
    daemon = started(path, clock)
    for _ in range(3):
        clock.now_s += 70
        quick(daemon, gpus(2))

    assert len(told(capfd, "failed_file")) == 1
    assert daemon.readiness().ready
    assert os.path.lexists(path) is (name != "no folder")


def test_what_is_read_is_bounded(tmp_path: Path) -> None:
    """What is written has less."""
    path = tmp_path / "failed.json"
    IN_ITS_PLACE["huge"](path)
    (why,) = failedfile.read(path, 10).refused

    assert why == f"{path}: has more than 8388608 bytes: not read"


def test_a_bug_of_ours_keeps_no_daemon_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What nobody foresaw of a file is said as all else."""

    def fail(_: str) -> tuple[Result, ...]:
        raise LookupError("a bug")

    monkeypatch.setattr(failedfile, "_results", fail)
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed()])
    started(path)

    assert told(capfd, "failed_file") == [f"{path}: LookupError: a bug"]


def test_what_was_emptied_holds_no_fail(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where a file cannot be removed it is cut."""
    path = tmp_path / "failed.json"
    path.write_text(failedfile._HEAD)
    started(path)

    assert told(capfd, "failed_file") == []


def test_a_file_of_ours_keeps_its_mode(tmp_path: Path) -> None:
    """A new one is the daemon's alone."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed()])
    new = path.stat().st_mode & 0o777
    path.chmod(0o640)
    failedfile.keep(path, [failed(), failed(device="cuda:1")])

    assert (new, path.stat().st_mode & 0o777) == (0o600, 0o640)
    assert [one.name for one in tmp_path.iterdir()] == ["failed.json"]


def test_a_full_disk_turns_no_verdict(tiny_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The old fails stay; it is said once, and tried again until there is room."""
    path, clock = tiny_disk / "failed.json", Clock()
    daemon = started(path, clock)
    quick(daemon, gpus(2))
    hear(daemon, [failed(), result("matmul", "cuda:1")], gpus(2))
    rest = fill(tiny_disk)
    hear(daemon, [failed(), failed(device="cuda:1")], gpus(2))
    for _ in range(5):
        clock.now_s += 6
        daemon.tick()
        assert daemon.settle(10)
    while_full = (kept(path), daemon.readiness().reason)
    rest.unlink()
    clock.now_s += 6
    daemon.tick()
    assert daemon.settle(10)

    assert while_full[0] == ["cuda:0"]
    assert while_full[1].startswith("fail: matmul on cuda:0 (+1 more)")
    assert kept(path) == ["cuda:0", "cuda:1"]
    assert told(capfd, "status_file") == [f"{path}: No space left on device"]


def test_a_file_system_that_never_answers(
    dead_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The start waits for it for a while, and the daemon serves."""
    monkeypatch.setattr(daemon_module, "ANSWER_S", 0.2)
    began = time.monotonic()
    daemon = started(dead_disk / "failed.json")
    daemon._latest.accept(report([failed()], gpus(1)))
    daemon.tick()

    assert time.monotonic() - began < 5
    assert "no answer within" in told(capfd, "failed_file")[0]
    assert not daemon.readiness().ready
    assert not daemon.settle(0.1)


def test_a_path_that_moves_takes_its_fails_along(tmp_path: Path) -> None:
    """The old place is left clean; without a path nothing is kept."""
    places: list[dict[str, str]] = [{"failed": str(tmp_path / name)} for name in "ab"]
    places.append({})
    settings = [load(flags={"run": {"profile": "standard"}, "files": one}) for one in places]
    new = iter(settings[1:])
    daemon = Daemon(
        settings[0], runner=FakeRunner(gpus(1)), monotonic=Clock(), reload=lambda: next(new)
    )
    found = []
    hear(daemon, [failed()], gpus(1))
    for _ in places:
        found.append([one.name for one in tmp_path.iterdir()])
        if len(found) < len(places):
            reload(daemon)
            assert daemon.settle(10)

    assert found == [["a"], ["b"], []]


def reloading(*files: dict[str, str]) -> Daemon:
    """A daemon whose paths change with each reload."""
    logs.configure("info", "json")
    settings = [load(flags={"run": {"profile": "standard"}, "files": one}) for one in files]
    new = iter(settings[1:])
    return Daemon(
        settings[0], runner=FakeRunner(gpus(1)), monotonic=Clock(), reload=lambda: next(new)
    )


def test_what_is_at_a_new_path_stands(tmp_path: Path) -> None:
    """Left there by an earlier daemon; but what has passed since does not, and is removed."""
    path = tmp_path / "failed.json"
    failedfile.keep(path, [failed(), failed("linalg")])
    daemon = reloading({}, {"failed": str(path)})
    quick(daemon, gpus(1))
    hear(daemon, [result("linalg", "cuda:0")], gpus(1))
    before = daemon.readiness().ready
    reload(daemon)
    assert daemon.settle(10)

    assert before
    assert daemon.readiness().reason == "fail: matmul on cuda:0: fail of matmul"
    assert [one["probe"] for one in json.loads(path.read_text())["report"]["results"]] == ["matmul"]


def test_a_path_that_cannot_be_written_costs_no_fail(tmp_path: Path) -> None:
    """The old file stays where the new one is not kept."""
    old = tmp_path / "failed.json"
    daemon = reloading({"failed": str(old)}, {"failed": str(tmp_path / "none" / "failed.json")})
    hear(daemon, [failed()], gpus(1))
    reload(daemon)
    assert daemon.settle(10)

    assert kept(old) == ["cuda:0"]


@pytest.mark.slow
@pytest.mark.torch
def test_a_daemon_that_is_killed_forgets_nothing(start: Start, tmp_path: Path) -> None:  # noqa: F811
    """Real probes: a deadline that passes is a fail; `kill -9`; not ready; a pass; ready."""
    path, config = tmp_path / "failed.json", tmp_path / "config.yaml"
    others = {name: {"enabled": False} for name in BY_NAME}
    del others["torch_version"], others["special_functions"]

    def configure(timeout: str, interval: str) -> None:
        ours = {"special_functions": {"timeout": timeout}}
        table = {"special_functions": {"interval": interval, "jitter": 0}}
        content = {
            "run": {"profile": "standard"},
            "probes": {**others, **ours},
            "schedule": table,
            "files": {"failed": str(path)},
        }
        config.write_text(json.dumps(content))

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    configure("10ms", "1s")
    daemon = start(real=True, GPU_VALIDATOR_EXPECT__GPUS="0")
    wait(path.exists)
    daemon.stop(signal.SIGKILL)
    configure("2m", "366d")
    again = start(real=True, GPU_VALIDATOR_EXPECT__GPUS="0")
    again.wait_for("fail_stands")
    at_once = again.get("/readyz")
    again.wait_for("run_finished")
    later = again.get("/readyz")
    (shown,) = [
        one
        for one in json.loads(again.get("/api/v1/report")[1])["results"]
        if one["probe"] == "special_functions"
    ]
    left = json.loads(path.read_text())["report"]["results"][0]
    configure("2m", "1s")
    again.process.send_signal(signal.SIGHUP)
    wait(lambda: again.get("/readyz")[0] == 200)
    wait(lambda: not path.exists())
    code, _ = again.stop()

    assert at_once[0] == later[0] == 503
    assert at_once[1].startswith("fail: special_functions on cpu")
    assert later[1].startswith("fail: special_functions on cpu")
    assert (shown["reason"], shown["started_at"]) == ("timeout", left["started_at"])
    assert code == 0
