"""The daemon runs what is due, answers meanwhile, obeys signals, and leaves nothing behind."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from probes.catalog import BY_NAME
from probes.contract import Finding
from tests.validator.reports import QUICK
from tests.validator.service.fake_runner import Clock, FakeRunner, gpus, reload, report, result
from validator.engine.runner import Event
from validator.report import CPU
from validator.service import logs, readyfile
from validator.service.daemon import Daemon, tell_profile
from validator.service.entry import Pair
from validator.service.metrics import Form
from validator.service.server import EXIT_UNUSABLE, hold, serve
from validator.service.statusfiles import StatusFiles
from validator.settings.loading import load
from validator.settings.model import Settings
from validator.settings.values import SettingsError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


def every(interval_s: float, *names: str, **more: Any) -> Settings:
    """Settings in which the named probes, alone or all, have one interval without jitter."""
    table = {"interval": interval_s, "jitter": 0}
    return load(flags={"schedule": dict.fromkeys(names or BY_NAME, table), **more})


@contextlib.asynccontextmanager
async def running(daemon: Daemon) -> Any:
    """A daemon's scheduler, as long as the block."""
    task = asyncio.ensure_future(daemon.keep_running())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


async def until(condition: Callable[[], bool], daemon: Daemon | None = None) -> None:
    """Tick until a condition holds; fail after 10 s."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        if daemon is not None:
            daemon.tick()
        await asyncio.sleep(0.001)


def test_the_first_run_is_at_once_and_of_everything() -> None:
    """One run holds all probes of the profile; after it the node is ready."""
    runner = FakeRunner(gpus(2))
    daemon = Daemon(Settings(), runner=runner)
    before = daemon.readiness().ready

    async def go() -> None:
        async with running(daemon):
            await until(lambda: daemon.readiness().ready, daemon)

    asyncio.run(go())

    assert not before
    assert len(runner.plans) == 1
    assert len(runner.plans[0]) == len(QUICK)


def test_never_two_runs_at_a_time() -> None:
    """Twenty intervals of different length in a row: one run at a time, none lost."""
    clock = Clock()
    runner = FakeRunner()
    table = {"autograd": {"interval": 30, "jitter": 0}, "tensor_ops": {"interval": 50, "jitter": 0}}
    daemon = Daemon(load(flags={"schedule": table}), runner=runner, monotonic=clock)

    async def go() -> None:
        async with running(daemon):
            for _ in range(20):
                done = len(runner.plans)
                await until(lambda done=done: len(runner.plans) > done, daemon)  # type: ignore[misc]
                clock.now_s += 30

    asyncio.run(go())

    assert runner.most_active == 1
    assert sum("autograd" in names for names in runner.plans) >= 19


def test_an_overrun_delays_and_does_not_pile_up() -> None:
    """A run takes five intervals; exactly one follows at once."""
    clock = Clock()
    runner = FakeRunner()
    runner.hang = True
    daemon = Daemon(every(60), runner=runner, monotonic=clock)
    metrics: list[bytes] = []

    async def go() -> None:
        async with running(daemon):
            await until(lambda: runner.active == 1, daemon)
            for _ in range(5):
                clock.now_s += 60
                daemon.tick()
                await asyncio.sleep(0)
                metrics.append(await daemon.new_metrics(Form()))
            assert len(runner.plans) == 1
            runner.hang = False
            runner.released.set()
            await until(lambda: len(runner.plans) == 2 and not runner.active, daemon)
            for seconds, runs in ((59, 2), (1, 3)):
                clock.now_s += seconds
                daemon.tick()
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(runner.plans) == runs

    asyncio.run(go())

    assert all(b"gpu_validator_run_in_progress 1.0" in text for text in metrics)


def test_what_found_its_device_busy_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of profile standard in ten minutes, one of profile quick at its next turn."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    clock = Clock()
    runner = FakeRunner(gpus(1))
    runner.busy = frozenset({"linalg", "autograd"})
    hour = {"interval": 3600, "jitter": 0}
    flags = {"run": {"profile": "standard"}, "schedule": dict.fromkeys(BY_NAME, hour)}
    daemon = Daemon(load(flags=flags), runner=runner, monotonic=clock)

    async def go() -> None:
        async with running(daemon):
            await until(lambda: len(runner.plans) == 1 and not runner.active, daemon)
            clock.now_s += 3600  # the turn of what loads a device, in the same hour
            await until(lambda: len(runner.plans) == 2 and not runner.active, daemon)
            clock.now_s += 600
            await until(lambda: len(runner.plans) == 3 and not runner.active, daemon)

    asyncio.run(go())

    assert "linalg" not in runner.plans[0]
    assert {"linalg", "optimizer"} <= set(runner.plans[1])
    assert runner.plans[2] == ("telemetry", "linalg")


def test_siblings_of_a_busy_gpu_keep_their_hour_and_their_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the busy one is tried again; the report holds all of them all the time."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    clock = Clock()
    runner = FakeRunner(gpus(3))
    runner.busy, runner.busy_devices = frozenset({"linalg"}), frozenset({"cuda:1"})
    hour = {"interval": 3600, "jitter": 0}
    flags = {"run": {"profile": "standard"}, "schedule": dict.fromkeys(BY_NAME, hour)}
    daemon = Daemon(load(flags=flags), runner=runner, monotonic=clock)
    linalg: list[dict[str, Any]] = []

    def is_linalg(pair: Pair) -> bool:
        return pair.probe == "linalg"

    async def go() -> None:
        async with running(daemon):
            await until(lambda: len(runner.plans) == 1 and not runner.active, daemon)
            for runs, seconds in ((2, 3600), (3, 600), (4, 600)):
                clock.now_s += seconds
                if runs == 4:
                    runner.busy = frozenset()
                    runner.verdicts = {"linalg": ("pass", "ok")}
                    runner.devices = gpus(2)
                await until(lambda n=runs: len(runner.plans) == n and not runner.active, daemon)  # type: ignore[misc]
                await asyncio.sleep(0)
                found = daemon._latest.results()
                linalg.append(
                    {
                        pair.device: one.status
                        for pair, one in found.items()
                        if pair.probe == "linalg"
                    }
                )
                assert {
                    pair.device for pair in daemon._latest.planned if pair.probe == "linalg"
                } == (linalg[-1].keys())

    asyncio.run(go())
    three = {"cuda:0": "pass", "cuda:1": "skip", "cuda:2": "pass"}

    assert runner.only_on[1:] == [{}, *[{"linalg": {"GPU-1"}}] * 2]
    assert linalg == [three, three, {"cuda:0": "pass", "cuda:1": "pass"}]


@pytest.mark.parametrize(("enabled", "watched"), [(True, {"telemetry"}), (False, set[str]())])
def test_the_boards_are_watched_whenever_a_device_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
    enabled: bool,  # noqa: FBT001 - a table
    watched: set[str],
) -> None:
    """Though their own turn is another; what they told under load counts until they tell again."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    clock = Clock()
    runner = FakeRunner(gpus(1))
    hour = {"interval": 3600, "jitter": 0}
    table = {name: hour for name in BY_NAME if name != "telemetry"}
    own = {"telemetry": {"cron": "0 0 1 1 *"}} if enabled else {}
    flags = {"run": {"profile": "standard"}, "schedule": {**table, **own}}
    daemon = Daemon(load(flags=flags), runner=runner, monotonic=clock)
    if not enabled:
        daemon._schedule.replace(
            {name: one for name, one in daemon._schedule.timings.items() if name != "telemetry"}
        )

    async def go() -> None:
        async with running(daemon):
            await until(lambda: len(runner.plans) == 1 and not runner.active, daemon)
            clock.now_s += 3600
            await until(lambda: len(runner.plans) == 2 and not runner.active, daemon)

    asyncio.run(go())

    assert "linalg" in runner.plans[1]
    assert set(runner.plans[1]) & {"telemetry"} == watched


def test_what_could_not_tell_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody killed it: the node is not kept from work for an hour."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    clock = Clock()
    runner = FakeRunner(gpus(1))
    hour = {"interval": 3600, "jitter": 0}
    flags = {"run": {"profile": "standard"}, "schedule": dict.fromkeys(BY_NAME, hour)}
    daemon = Daemon(load(flags=flags), runner=runner, monotonic=clock)
    ready: list[bool] = []

    async def go() -> None:
        async with running(daemon):
            await until(lambda: len(runner.plans) == 1 and not runner.active, daemon)
            for wait_s, verdict in ((3600, ("error", "internal_error")), (600, ("pass", "ok"))):
                runner.verdicts["linalg"] = verdict  # type: ignore[assignment]
                runs = len(runner.plans)
                clock.now_s += wait_s
                await until(
                    lambda runs=runs: len(runner.plans) > runs and not runner.active,  # type: ignore[misc]
                    daemon,
                )
                ready.append(daemon.readiness().ready)

    asyncio.run(go())

    assert runner.plans[2] == ("telemetry", "linalg")
    assert ready == [False, True]


def test_what_runs_once_an_hour_is_not_too_old_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ready.max_age` is of what runs more often: a node would lose its readiness each hour."""
    monkeypatch.setenv("NODE_NAME", "node-17")
    clock = Clock()
    flags = {"run": {"profile": "standard"}, "ready": {"max_age": 900}}
    daemon = Daemon(load(flags=flags), runner=FakeRunner(gpus(1)), monotonic=clock)
    names = daemon._schedule.timings
    quick = [one for one in names if BY_NAME[one].profile in {"instant", "quick"}]

    def accept(these: Iterable[str]) -> tuple[bool, str]:
        results = [
            result(one, "cpu" if BY_NAME[one].needs == "host" else "cuda:0") for one in these
        ]
        daemon._latest.accept(report(results, gpus(1)))
        return daemon.readiness().ready, daemon.readiness().reason

    at_first = accept(names)
    clock.now_s += 3700
    later = accept(quick)
    clock.now_s += 901
    old = daemon.readiness()
    clock.now_s += 3 * 3600
    never_again = accept(quick)

    assert at_first[0]
    assert later[0], later[1]
    assert not old.ready
    assert BY_NAME[re.findall(r": (\w+) on", old.reason)[0]].profile in {"instant", "quick"}
    assert not never_again[0]


def test_a_daemon_of_profile_deep_says_what_it_leaves_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In its log at the start and at a reload, and never runs it."""
    settings = load(flags={"run": {"profile": "deep"}, "log": {"format": "json"}})
    logs.configure("info", "json")
    runner = FakeRunner()
    daemon = Daemon(settings, runner=runner)
    tell_profile(settings)
    line = capfd.readouterr().err.splitlines()[-1]

    async def go() -> None:
        async with running(daemon):
            await until(lambda: len(runner.plans) == 1 and not runner.active, daemon)

    asyncio.run(go())

    assert "memory_full" in json.loads(line)["note"]
    assert "not scheduled without a timetable" in json.loads(line)["note"]
    assert not {name for name in runner.plans[0] if BY_NAME[name].profile == "deep"}


def test_liveness_during_and_after_a_run_beyond_its_bound() -> None:
    """Alive while a run is within its deadline and grace, stuck after, and it says so."""
    clock = Clock()
    runner = FakeRunner()
    runner.hang = True
    daemon = Daemon(every(60, run={"timeout": 100}), runner=runner, monotonic=clock)
    alive: list[str] = []

    async def go() -> None:
        async with running(daemon):
            await until(lambda: runner.active == 1, daemon)
            for seconds in (0, 130, 1):
                clock.now_s += seconds
                alive.append(daemon.alive())

    asyncio.run(go())

    assert alive[:2] == ["", ""]
    assert alive[2].startswith("stuck: a run has not ended")


def test_a_scheduler_that_forgets_a_probe_is_stuck() -> None:
    """Nothing runs though something has been due for a minute."""
    clock = Clock()
    daemon = Daemon(every(60), runner=FakeRunner(), monotonic=clock)
    at_once = daemon.alive()
    clock.now_s += 61

    assert at_once == ""
    assert "overdue" in daemon.alive()


def test_what_was_suspended_is_old_and_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept for an hour vouches for nothing, and looks at once."""
    runner, slept_s = FakeRunner(), 0.0
    read = time.clock_gettime

    def clock_gettime(clock: int) -> float:
        return read(clock) + (slept_s if clock == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    daemon = Daemon(every(60), runner=runner)

    async def go() -> None:
        nonlocal slept_s
        async with running(daemon):
            await until(lambda: daemon.readiness().ready, daemon)
            slept_s = 3600.0
            assert daemon.readiness().reason.startswith("error")
            runner.hang = True
            await until(lambda: len(runner.plans) == 2, daemon)
            slept_s += 36000.0
            assert daemon.alive() == ""
            runner.hang = False
            runner.released.set()
            await until(lambda: daemon.readiness().ready, daemon)

    asyncio.run(go())


def test_an_exception_of_ours_ends_the_scheduler() -> None:
    """It is not swallowed: whoever holds the daemon sees it."""
    runner = FakeRunner()
    runner.error = LookupError("a bug")
    daemon = Daemon(every(60), runner=runner)

    async def go() -> None:
        async with running(daemon) as task:
            await until(task.done, daemon)
            task.result()

    with pytest.raises(LookupError, match="a bug"):
        asyncio.run(go())
    assert b"gpu_validator_run_in_progress 0.0" in asyncio.run(daemon.new_metrics(Form()))


def test_a_reload_reaches_the_next_run() -> None:
    """A shorter interval counts from the last run; the new deadline is the next run's."""
    clock = Clock()
    runner = FakeRunner()
    new = every(30, run={"timeout": 77})
    daemon = Daemon(every(60), runner=runner, monotonic=clock, reload=lambda: new)

    async def go() -> None:
        async with running(daemon):
            await until(lambda: daemon.readiness().ready, daemon)
            reload(daemon)
            clock.now_s += 30
            await until(lambda: len(runner.plans) == 2, daemon)

    asyncio.run(go())

    assert runner.timeouts == [300, 77]
    assert b'gpu_validator_probe_interval_seconds{probe="autograd"} 30.0' in asyncio.run(
        daemon.new_metrics(Form())
    )


def test_a_reload_changes_the_logs(capfd: pytest.CaptureFixture[str]) -> None:
    """The new level holds at once: the reload itself is no longer told."""
    logs.configure("info", "text")
    daemon = Daemon(
        every(60), runner=FakeRunner(), reload=lambda: every(60, log={"level": "error"})
    )
    reload(daemon)

    assert capfd.readouterr().err == ""


def test_a_moved_address_needs_a_restart(capfd: pytest.CaptureFixture[str]) -> None:
    """It is said, not ignored in silence."""
    moved = every(60, web={"listen_address": ["127.0.0.1:1"]})
    reload(Daemon(every(60), runner=FakeRunner(), reload=lambda: moved))

    assert "event=restart_needed key=web.listen_address" in capfd.readouterr().err


def test_one_line_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    """What a run tells is logged with its severity: results, held devices, restarts."""
    logs.configure("info", "json")
    runner = FakeRunner()
    runner.status = "fail"
    runner.restarts["hung"] = 1
    runner.events = (
        Event("restarted", text="no reply"),
        Event("held", device="cuda:0", text="pid 7 cannot be killed"),
    )
    daemon = Daemon(every(60), runner=runner)

    async def go() -> None:
        async with running(daemon):
            await until(lambda: daemon._latest.newest is not None, daemon)

    asyncio.run(go())
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    levels = [(line["event"], line["level"]) for line in lines]

    assert levels == [
        ("run_started", "info"),
        ("worker_restarted", "warning"),
        ("device_held", "error"),
        *[("result", "error")] * len(QUICK),
        ("run_finished", "info"),
    ]
    assert lines[2]["why"] == "pid 7 cannot be killed"
    assert lines[3]["probe"] == "torch_version"
    assert b'worker_restarts_total{reason="hung"} 1.0' in asyncio.run(daemon.new_metrics(Form()))


def test_the_log_tells_the_whole_verdict(capfd: pytest.CaptureFixture[str]) -> None:
    """What the report's short summary has no room for."""
    logs.configure("info", "json")
    runner = FakeRunner()
    runner.status, runner.summary = "fail", "not a word of it is cut " * 20
    daemon = Daemon(every(60), runner=runner)

    async def go() -> None:
        async with running(daemon):
            await until(lambda: daemon._latest.newest is not None, daemon)

    asyncio.run(go())
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    whole = ("not a word of it is cut " * 20).strip()

    assert lines[-1]["summary"] == f"fail: torch_version on cpu (+{len(QUICK) - 1} more): {whole}"
    assert lines[1]["summary"].strip() == whole
    assert len(json.loads(asyncio.run(daemon.report()) or b"")["summary"]) <= 80


def test_a_result_grows_old_without_a_run() -> None:
    """The scheduler is stuck: after three intervals the metrics say that nothing can be told."""
    clock = Clock()
    runner = FakeRunner()
    daemon = Daemon(every(60), runner=runner, monotonic=clock)

    async def go() -> None:
        async with running(daemon):
            await until(lambda: daemon.readiness().ready, daemon)

    asyncio.run(go())
    daemon.tick()
    healthy = asyncio.run(daemon.new_metrics(Form()))
    clock.now_s += 181
    daemon.tick()

    assert b"gpu_validator_node_healthy 1.0" in healthy
    assert b"gpu_validator_node_healthy 0.0" in asyncio.run(daemon.new_metrics(Form()))
    assert not daemon.readiness().ready
    assert json.loads(asyncio.run(daemon.report()) or b"")["status"] == "error"


def test_a_reload_that_is_refused_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The error is logged, and the old settings stay."""
    logs.configure("info", "json")

    def bad() -> Settings:
        raise SettingsError("run.timeout: wrong")

    daemon = Daemon(every(60), runner=FakeRunner(), reload=bad)
    reload(daemon)
    line = json.loads(capfd.readouterr().err)

    assert (line["event"], line["level"], line["error"]) == (
        "config_refused",
        "error",
        "run.timeout: wrong",
    )
    assert daemon.probes()[0].interval_s == 60


def test_a_reload_with_a_wrong_cron_expression_is_refused() -> None:
    """What only the schedule can tell is told before anything is taken over."""
    wrong = load(flags={"schedule": {"autograd": {"cron": "61 * * * *"}}, "run": {"timeout": 5}})
    daemon = Daemon(every(60), runner=FakeRunner(), reload=lambda: wrong)
    reload(daemon)

    assert daemon._settings.run.timeout != 5
    assert daemon.probes()[0].interval_s == 60


def test_due_times_are_shown_and_not_while_running() -> None:
    """The HTTP interface shows when each probe is due; a running one has no such time."""
    runner = FakeRunner()
    runner.hang = True
    daemon = Daemon(every(60), runner=runner)
    before = daemon.probes()

    async def go() -> None:
        async with running(daemon):
            await until(lambda: runner.active == 1, daemon)
            assert {probe.due_at for probe in daemon.probes()} == {None}

    asyncio.run(go())

    assert {probe.due_at is None for probe in before if probe.profile == "quick"} == {False}
    assert {probe.due_at for probe in before if probe.profile == "standard"} == {None}


def test_a_port_in_use_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the address in the line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code = serve(load(flags={"web": {"listen_address": [address]}}), None, {})

    assert code == EXIT_UNUSABLE
    assert f"cannot listen on {address}: Address already in use" in capfd.readouterr().err


_WITHOUT_A_LOOP = """
import errno, os, select, sys
from validator.settings.loading import load
from validator.service import server
def refuse(*_):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
select.epoll = refuse
import selectors
selectors.EpollSelector._selector_cls = refuse
web = {"listen_address": ["127.0.0.1:0"], "unix_socket": ""}
try:
    server.serve(load(flags={"web": web, "log": {"format": "json"}}), None, {})
except OSError as error:
    print(error)
"""


def test_without_a_descriptor_for_the_loop_the_log_is_still_lines() -> None:
    """What Python cannot raise is a line too, and no warning of its own follows."""
    ended = subprocess.run(
        [sys.executable, "-c", _WITHOUT_A_LOOP],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    told = [json.loads(line)["event"] for line in ended.stderr.splitlines()]

    assert "Too many open files" in ended.stdout
    assert told == ["exception_ignored"]


# -- as a process: signals, and the real runner --------------------------------------------------

_PROGRAM = """
import asyncio, sys
from tests.validator.service.fake_runner import FakeRunner, gpus
from validator.service import logs
from validator.service.daemon import Daemon
from validator.service.server import hold
from validator.service.listen import listen
from validator.settings.loading import load
logs.configure("info", "json")
runner = FakeRunner(gpus(2))
for word in sys.argv[3:]:
    setattr(runner, word, LookupError("a bug") if word == "error" else True)
file = __import__("pathlib").Path(sys.argv[2])
read = lambda: load(file, {"log": {"format": "json"}})
with logs.queued():
    daemon = Daemon(read(), runner=runner, reload=read)
    sys.exit(asyncio.run(hold(daemon, listen([sys.argv[1]]))))
"""


class Process:
    """A daemon as a process, with its log as it comes."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stderr=stream, env={**os.environ, **environment}
            )

    def lines(self) -> list[dict[str, Any]]:
        """The log's whole lines so far."""
        whole = self.log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole]

    def wait_for(self, event: str, seconds: float = 60, count: int = 1) -> dict[str, Any]:
        """The n-th line of an event; fail when it does not come."""
        deadline = time.monotonic() + seconds
        while True:
            found = [line for line in self.lines() if line["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
            time.sleep(0.01)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.wait_for('listening')['address']}"

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one page."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310 - ours
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit code and how long it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(20)
        return code, time.monotonic() - began


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start daemons; whatever still runs at the end is killed."""
    started: list[Process] = []

    def begin(
        *words: str, real: bool = False, command: Sequence[str] = (), **environment: str
    ) -> Process:
        config = tmp_path / "config.yaml"
        if not config.exists():
            config.write_text("run: {profile: quick}\n", encoding="utf-8")
        code = _REAL if real else _PROGRAM
        arguments = ["-c", code, "127.0.0.1:0", str(config), *words]
        if command:
            place = ("--web.listen-address", "127.0.0.1:0", "--config.file", str(config))
            arguments = [*command, *place]
        log = tmp_path / f"log{len(started)}"
        started.append(Process([sys.executable, *arguments], log, environment))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_time(start: Start, number: int) -> None:
    """Between runs: exit code 0, well within 5 s, also with a connection that stays open."""
    daemon = start()
    daemon.wait_for("run_finished")
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        code, took = daemon.stop(number)

    assert code == 0
    assert took < 5
    assert [line["event"] for line in daemon.lines()][-2:] == ["stopping", "stopped"]


def test_signals_while_it_stops_change_nothing(start: Start) -> None:
    """An orchestrator is impatient: the exit code is still that of the first signal."""
    daemon = start()
    daemon.wait_for("run_finished")
    daemon.process.send_signal(signal.SIGTERM)
    numbers = itertools.cycle((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *_OTHERS))
    deadline = time.monotonic() + 20
    while daemon.process.poll() is None:
        assert time.monotonic() < deadline
        daemon.process.send_signal(next(numbers))
        time.sleep(0.001)

    assert daemon.process.returncode == 0
    assert daemon.lines()[-1]["event"] == "stopped"


def test_what_it_inherits_is_reaped(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PID 1 does: what a process that ended has left behind is no zombie for ever."""
    adopting = "    adopt(); subprocess.run(['sh', '-c', 'sleep 0.1 &'])\n    sys.exit"
    imports = "import subprocess\nfrom validator.engine.orphans import adopt\n"
    program = imports + _PROGRAM.replace("    sys.exit", adopting)
    monkeypatch.setattr(sys.modules[__name__], "_PROGRAM", program)
    daemon = start()
    daemon.wait_for("run_finished")
    deadline = time.monotonic() + 20
    while len(processes_of(daemon.process.pid)) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert daemon.stop()[0] == 0


def test_a_signal_cancels_a_run_that_hangs(start: Start) -> None:
    """The metrics answer while it hangs; the stop does not wait for it."""
    daemon = start("hang")
    daemon.wait_for("run_started")
    metrics, health, ready = (daemon.get(f"/{page}") for page in ("metrics", "healthz", "readyz"))
    code, took = daemon.stop()

    assert metrics[0] == 200
    assert "gpu_validator_run_in_progress 1.0" in metrics[1]
    assert (health[0], ready[0]) == (200, 503)
    assert (code, took < 5) == (0, True)


def test_a_run_that_cannot_be_cancelled_is_abandoned(start: Start) -> None:
    """Still within 5 s; the exit code says that it was no clean end."""
    daemon = start("stubborn")
    daemon.wait_for("run_started")
    code, took = daemon.stop()

    assert (code, took < 5) == (EXIT_UNUSABLE, True)
    assert daemon.lines()[-1]["event"] == "abandoned"


def test_a_bug_ends_the_process(start: Start) -> None:
    """An exception of ours is not served over: the process ends with it, for a restart."""
    daemon = start("error")
    code = daemon.process.wait(20)

    assert code != 0
    assert "LookupError: a bug" in daemon.log.read_text(encoding="utf-8")


def test_a_bug_leaves_no_file_that_vouches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A slow disk, too: the process ends when the file is gone."""
    ready = tmp_path / "ready"
    daemon = Daemon(load(flags={"files": {"ready": str(ready)}}), runner=FakeRunner())
    remove = StatusFiles.remove

    def slowly(files: StatusFiles) -> list[str]:
        time.sleep(1.5)
        return remove(files)

    async def bug() -> None:
        ready.write_text(readyfile.text(datetime.now(timezone.utc), "pass: all", 60))
        raise LookupError("a bug")

    daemon.settle(5)  # of the start, which takes away what is there
    monkeypatch.setattr(StatusFiles, "remove", slowly)
    monkeypatch.setattr(daemon, "keep_running", bug)
    monkeypatch.setattr("validator.service.server._SETTLE_S", 30.0)
    with pytest.raises(LookupError, match="a bug"):
        asyncio.run(hold(daemon, []))

    assert not ready.exists()


def test_sighup_reads_the_file_again(start: Start, tmp_path: Path) -> None:
    """A good file is taken over with the flags kept; a bad one is refused and the old one stays."""
    daemon = start()
    daemon.wait_for("run_finished")
    config = tmp_path / "config.yaml"
    config.write_text("schedule: {autograd: {interval: 10m}}\n", encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("config_reloaded")
    good = json.loads(daemon.get("/api/v1/probes")[1])
    config.write_text("schedule: {autograd: {intervall: 1m}}\n", encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    refused = daemon.wait_for("config_refused")
    after = json.loads(daemon.get("/api/v1/probes")[1])

    def interval(probes: list[dict[str, Any]]) -> float:
        return float(next(one for one in probes if one["name"] == "autograd")["interval_s"])

    assert interval(good) == interval(after) == 600
    assert "did you mean 'schedule.autograd.interval'" in refused["error"]
    assert daemon.stop()[0] == 0


def test_a_storm_of_sighups_stalls_nothing(start: Start, tmp_path: Path) -> None:
    """Each reads a file that takes a while: `/healthz` answers, and the last content is taken."""
    probe = "  {}: {{enabled: true, timeout: 60, limits: {{}}}}\n"
    config = tmp_path / "config.yaml"
    config.write_text("probes:\n" + "".join(map(probe.format, BY_NAME)), encoding="utf-8")
    daemon = start()
    daemon.wait_for("run_finished")
    for _ in range(400):
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(0.0005)
    began = time.monotonic()
    code = daemon.get("/healthz")[0]
    took = time.monotonic() - began
    config.write_text("schedule: {autograd: {interval: 10m}}\n", encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while '"interval_s":600.0' not in daemon.get("/api/v1/probes")[1]:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert (code, took < 1) == (200, True)
    assert len([line for line in daemon.lines() if line["event"] == "config_reloaded"]) < 30
    assert daemon.stop()[0] == 0


def test_settings_on_a_dead_file_system_hold_nobody_up(
    start: Start, tmp_path: Path, dead_disk: Path
) -> None:
    """The link of a ConfigMap now leads there: pages answer, and SIGTERM ends it."""
    daemon = start()
    daemon.wait_for("run_finished")
    config = tmp_path / "config.yaml"
    config.unlink()
    config.symlink_to(dead_disk / "config.yaml")
    daemon.process.send_signal(signal.SIGHUP)
    began = time.monotonic()
    codes = [daemon.get(f"/{page}")[0] for page in ("healthz", "metrics", "readyz")]
    took = time.monotonic() - began
    code, stopped_s = daemon.stop()

    assert codes == [200, 200, 200]
    assert took < 2
    assert (code, stopped_s < 5) == (0, True)


#: By signal(7) each ends a process that does not heed it.
_OTHERS = (
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM),
    *(signal.SIGPROF, signal.SIGIO, signal.SIGPWR),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)


def test_other_signals_do_not_end_it(start: Start) -> None:
    """They are said in the log, and it goes on."""
    daemon = start()
    daemon.wait_for("listening")
    for count, number in enumerate(_OTHERS, 1):
        daemon.process.send_signal(number)
        daemon.wait_for("signal_ignored", count=count)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGURG, signal.SIGWINCH):
        daemon.process.send_signal(number)
    told = [line["signal"] for line in daemon.lines() if line["event"] == "signal_ignored"]

    assert told[:2] == ["SIGQUIT", "SIGUSR1"]
    assert told[-2:] == [f"SIGRTMIN+{signal.SIGRTMAX - signal.SIGRTMIN - 1}", "SIGRTMAX"]
    assert len(set(told)) == len(_OTHERS)
    assert daemon.get("/healthz")[0] == 200
    assert daemon.stop()[0] == 0


def test_sighup_while_it_starts_is_heeded_when_it_runs(start: Start, tmp_path: Path) -> None:
    """From its first line on: what manages services may send it as soon as there is a process.

    Signals without a meaning do not end it then either.
    """
    (tmp_path / "config.yaml").write_text("run: {profile: instant}\n", encoding="utf-8")
    daemon = start(command=("-m", "validator", "serve", "--log.format", "json"))
    while not _blocks(daemon.process.pid, signal.SIGHUP):
        assert daemon.process.poll() is None
    for number in (signal.SIGUSR1, signal.SIGRTMIN, signal.SIGHUP):
        daemon.process.send_signal(number)
    assert not daemon.lines()  # it has not begun to serve

    daemon.wait_for("config_reloaded")
    assert daemon.wait_for("signal_ignored", count=2)
    while _blocks(daemon.process.pid, signal.SIGHUP):  # all are, for a moment, as it starts workers
        assert daemon.process.poll() is None
    assert daemon.stop()[0] == 0


def _blocks(pid: int, number: int) -> bool:
    """Whether a process keeps a signal for later."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    mask = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def page(url: str) -> str:
    """What a page says."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours
        return str(answer.read(), "utf-8")


@contextlib.contextmanager
def ended_by_kill(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever a process waits for at the end of the block, it does so no longer."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.parametrize("word", ["sound", "stubborn"])
def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path, word: str) -> None:
    """A full pipe from the first line on: pages answer, losses are counted, SIGTERM ends it."""
    config = tmp_path / "config.yaml"
    config.write_text("run: {profile: quick}\nlog: {level: debug}\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    flood = "logs.log().info('flood', text='x' * 900_000)\n    " * 3
    code = _PROGRAM.replace("    sys.exit", f"    {flood}sys.exit")
    command = [sys.executable, "-c", code, f"127.0.0.1:{port}", str(config), word]
    with subprocess.Popen(command, cwd=ROOT, stderr=writer) as process, ended_by_kill(process):
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        health, dropped = "", None
        while not (health and dropped):
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError):
                health = page(f"{url}/healthz")
                metrics = page(f"{url}/metrics")
                dropped = re.search(r"^\S+_log_lines_dropped_total [1-9]", metrics, re.MULTILINE)
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ended = process.wait(20)
        took = time.monotonic() - began
    os.close(reader)
    os.close(writer)

    assert ended == (0 if word == "sound" else EXIT_UNUSABLE)
    assert took < 5.5


def test_a_daemon_that_is_killed_vouches_for_five_minutes(start: Start, tmp_path: Path) -> None:
    """Nothing can be removed then; the file says itself until when it counts."""
    ready = tmp_path / "ready"
    (tmp_path / "config.yaml").write_text(f"files: {{ready: {ready}}}\n", encoding="utf-8")
    daemon = start()
    daemon.wait_for("run_finished")
    deadline = time.monotonic() + 10
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    daemon.stop(signal.SIGKILL)
    at_once = readyfile.objection(ready)
    until = int(ready.read_text().partition("until: ")[2].split()[0])
    again = start()
    again.wait_for("run_finished")
    while readyfile.objection(ready) and time.monotonic() < deadline + 10:
        time.sleep(0.01)
    renewed = readyfile.objection(ready)
    again.stop()

    assert at_once == renewed == ""
    assert until - time.time() <= 300
    assert not ready.exists()


def test_the_daemon_imports_none_of_what_it_must_not() -> None:
    """No torch, no NumPy, no console libraries, no faster loop: they cost memory, or may hang."""
    code = "import sys, validator.service.daemon; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())

    assert "fastapi" in loaded
    assert not loaded & {"torch", "numpy", "rich", "typer", "uvloop", "httptools", "pynvml"}


_REAL = """
import sys
from pathlib import Path
from validator.service.server import serve
from validator.settings.loading import load
flags = {"web": {"listen_address": [sys.argv[1]]}, "log": {"format": "json"}}
sys.exit(serve(load(Path(sys.argv[2]), flags), Path(sys.argv[2]), flags))
"""


def processes_of(pid: int) -> set[int]:
    """A process and all below it."""
    found, todo = set[int](), [pid]
    while todo:
        one = todo.pop()
        found.add(one)
        with contextlib.suppress(OSError):  # it ended meanwhile
            for task in Path(f"/proc/{one}/task").glob("*/children"):
                todo += map(int, task.read_text(encoding="ascii").split())
    return found


def test_end_to_end_with_the_real_runner(start: Start, tmp_path: Path) -> None:
    """One probe on this machine: a run, its report and metrics; a stop in a second run's middle."""
    names = BY_NAME.keys() - {"torch_version", "numpy_sharing"}
    disabled = "".join(f"  {name}: {{enabled: false}}\n" for name in names)
    (tmp_path / "config.yaml").write_text(
        f"probes:\n{disabled}schedule:\n  torch_version: {{interval: 1s, jitter: 0}}\n",
        encoding="utf-8",
    )
    daemon = start(real=True)
    finished = daemon.wait_for("run_finished")
    report = json.loads(daemon.get("/api/v1/report")[1])
    metrics = daemon.get("/metrics")[1]
    daemon.wait_for("run_started", count=2)
    below = processes_of(daemon.process.pid)
    code, took = daemon.stop()

    assert report["trigger"] == "merged"
    assert report["run_id"]
    assert finished["status"] == report["status"]
    assert {one["probe"] for one in report["results"]} >= {"torch_version", "numpy_sharing"}
    assert 'gpu_validator_probe_runs_total{probe="torch_version",status="pass"}' in metrics
    assert (code, took < 5) == (0, True)
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def test_a_fail_of_a_device_that_no_run_can_list_is_listed() -> None:
    """Readiness goes by it, and so must whoever asks which probe it was, with its checks."""
    daemon = Daemon(load(None, {"run": {"profile": "standard"}}), runner=FakeRunner())
    wrong = (
        Finding(id="linalg.solve", status="fail", message="wrong"),
        Finding(id="linalg.decompose", status="pass", message="right"),
    )
    failed = result("linalg", "cuda:0", "fail", "check_failed", findings=wrong)
    left = (Finding(id="linalg.solve", status="skip", message="no memory"),)
    daemon._latest.accept(report([failed], gpus(1)))
    daemon._latest.accept(report([result("linalg", "cpu", findings=left)], (CPU,)))
    (listed,) = (one for one in daemon.probes() if one.name == "linalg")

    assert [(one.device, one.status, one.failed, one.left_out) for one in listed.devices] == [
        ("cpu", "pass", (), ("linalg.solve",)),
        ("cuda:0", "fail", ("linalg.solve",), ()),
    ]
