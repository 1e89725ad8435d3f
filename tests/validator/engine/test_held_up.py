"""Who is late for want of a processor or of memory tells nothing; who sleeps or computes hangs."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from probes.catalog import TORCH_VERSION
from tests import dead_disk as dead
from tests.validator.runs import PLAN, ran, run, write
from validator.engine import cgroup, held_up, supervisor
from validator.engine.held_up import Progress
from validator.engine.runner import Runner
from validator.settings import loading

#: Three others take the processor that is left to this process, which is content with less.
STARVES = """
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    for _ in range(3):
        if os.fork() == 0:
            while True:
                pass
    os.nice(10)
    while True:
        pass
"""


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The id of a process that sleeps."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """What a process that started a minute ago has run and waited, by thread; for a test to set."""
    table: dict[str, tuple[float, float]] = {}
    monkeypatch.setattr(held_up, "_threads", lambda pid: dict(table))
    monkeypatch.setattr(held_up, "_folders", lambda pid: [])
    monkeypatch.setattr(Progress, "_pids", lambda self: (self._pid,))
    return table


def of_a_minute() -> str:
    """What held up a process that has lasted 60 s."""
    return Progress(1, time.monotonic() - 60).obstacle()


HELD_UP = {
    "a quota of 0.03 cores": ({"1": (1.8, 58.0)}, True),
    "its threads wait, and it for them": ({"1": (0.5, 1.0), "2": (1.0, 57.0)}, True),
    "it sleeps": ({"1": (0.5, 0.01)}, False),
    "it spins": ({"1": (58.0, 1.9)}, False),
    "it spins on half a core": ({"1": (30.0, 30.0)}, False),
    "its threads had enough together": ({"1": (6.0, 50.0), "2": (6.0, 50.0)}, False),
    "it waited little": ({"1": (9.0, 20.0)}, False),
    "nobody tells": ({}, False),
}


@pytest.mark.parametrize(("threads", "held"), HELD_UP.values(), ids=HELD_UP)
def test_who_could_run_and_may_not_is_held_up(
    spent: dict[str, tuple[float, float]], threads: dict[str, tuple[float, float]], *, held: bool
) -> None:
    """Of a minute it waited half, and had less than what every probe needs."""
    spent.update(threads)

    assert bool(of_a_minute()) is held


@pytest.mark.parametrize(
    ("activity", "main_waited_s", "is_held_up"),
    [
        ("ioctl of /dev/nvidia0", 1.0, False),
        ("ioctl of /dev/nvidia0", 40.0, True),  # it has been so late that this is its beginning
        ("read of /image/libtorch.so", 1.0, True),
        ("", 1.0, True),
    ],
)
def test_threads_that_look_on_excuse_no_driver(
    spent: dict[str, tuple[float, float]],
    monkeypatch: pytest.MonkeyPatch,
    activity: str,
    main_waited_s: float,
    *,
    is_held_up: bool,
) -> None:
    """On a busy host each of their looks waits; the call that hangs does not."""
    monkeypatch.setattr(held_up, "kernel_activity", lambda pid: activity)
    spent.update({"1": (0.5, main_waited_s), "2": (1.0, 57.0)})

    assert bool(of_a_minute()) is is_held_up


def test_the_quota_is_named(
    spent: dict[str, tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is one."""
    spent["1"] = (1.8, 58.0)
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: 0.03)

    assert of_a_minute() == "in 60 s it had 1.8 s of the processors: the CPU quota is 0.03 cores"


def test_only_what_came_since_counts(spent: dict[str, tuple[float, float]]) -> None:
    """The probe before had a slow hour."""
    spent["1"] = (1.0, 3600.0)
    progress = Progress(1)
    progress._began_s -= 60

    assert progress.obstacle() == ""


def test_a_sleeping_process_hangs_of_its_own(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one; and one that has ended has no obstacle either."""
    monkeypatch.setattr(held_up, "_SHORT_S", 0.0)
    gone = Progress(sleeper, 0.0)

    assert gone.obstacle() == ""
    assert Progress(1 << 22, 0.0).obstacle() == ""


@pytest.mark.parametrize("function", ["mem_cgroup_oom_synchronize", "mem_cgroup_handle_over_high"])
def test_who_waits_for_memory_is_held_up(
    sleeper: int, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """By what the kernel says, in both versions of control groups."""
    monkeypatch.setattr(held_up, "_read", lambda file: function if file.name == "wchan" else "")

    assert "it waits for memory" in Progress(sleeper).obstacle()


@pytest.mark.parametrize(
    ("seen", "is_held_up"),
    [
        (["folio_wait_bit_common"] * 3, True),
        (["rpc_wait_bit_killable"] * 3, True),
        (["io_schedule", "", "io_schedule"], False),
        (["futex_wait_queue", "io_schedule", "io_schedule"], False),
        (["os_acquire_semaphore"] * 3, False),
    ],
)
def test_who_waits_for_a_file_at_every_look_is_held_up(
    sleeper: int, monkeypatch: pytest.MonkeyPatch, *, seen: list[str], is_held_up: bool
) -> None:
    """One that goes on, and one that a driver holds, are not."""
    waits = iter(seen)
    monkeypatch.setattr(held_up, "_read", lambda file: next(waits) if file.name == "wchan" else "")

    assert ("it waits for a file" in Progress(sleeper).obstacle()) is is_held_up


def test_what_it_has_started_since_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler of its own, and what came of that; not what was there before."""
    monkeypatch.setattr(held_up, "_EARLIER_S", 0.0)
    began_s = time.monotonic() - 600
    with contextlib.ExitStack() as stack:
        for command in ("exec sleep 600", "sleep 600 & echo $!; wait"):
            process = stack.enter_context(
                subprocess.Popen(
                    ["/bin/sh", "-c", command], stdout=subprocess.PIPE, start_new_session=True
                )
            )
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        since_long = Progress(os.getpid(), began_s)._pids()
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))
        since_now = Progress(os.getpid())._pids()

    assert {os.getpid(), process.pid, grandchild} <= {*since_long}
    assert since_now == (os.getpid(),)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(
    "reads",
    [
        pytest.param("open('{file}').read()", id="itself"),
        pytest.param(
            "import subprocess; subprocess.run(['cat', '{file}'])",
            id="what it has started",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_probe_that_waits_for_a_dead_disk_is_an_error(
    folder: Path, dead_disk: Path, reads: str
) -> None:
    """A real file system that never answers: no node is drained for where its image lies."""
    write(folder, "sicken", "    " + reads.replace("{file}", f"{dead_disk}/library.so"))

    told = ran().of("sicken")

    assert (told.status, told.reason) == ("error", "internal_error")
    assert "it waits for a file" in told.summary


@pytest.mark.torch
@pytest.mark.slow
def test_no_driver_is_blamed_for_a_file_that_sigkill_does_not_end(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real wait that cannot be killed: the device is held, and its node is not to be rebooted."""
    monkeypatch.setattr(supervisor, "_KILL_S", 0.3)
    disk = tmp_path / "disk"
    disk.mkdir()
    write(folder, "sicken", f"    ctypes.CDLL(None).prctl(1, 0); open('{disk}/library.so').read()")
    runner = Runner()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(dead.mounted(disk, takes=True))
        except OSError as error:
            pytest.skip(f"mounting with /dev/fuse is not allowed here: {error.strerror}")
        seen = asyncio.run(run(PLAN, loading.load(), runner, lambda _: None))
        (held,) = runner._held.values()

    told = seen.of("sicken")
    assert (told.status, told.findings[0].action) == ("error", "fix_config")
    assert "it waits for a file" in told.summary
    assert "driver" not in told.summary
    assert "not ended by SIGKILL" in told.summary
    assert [(each.probe, each.reason) for each in seen.report.not_run] == [("later", "device_held")]
    os.waitid(os.P_PIDFD, held.pidfd, os.WEXITED | os.WNOWAIT)
    runner._release()
    assert not runner.held


def has_statistics() -> bool:
    """Whether this kernel counts how long a thread waits."""
    return Path(f"/proc/{os.getpid()}/schedstat").exists()


COMPILES = f"""
    import subprocess, textwrap
    subprocess.run([sys.executable, "-c", textwrap.dedent('''    import os{STARVES}''')])
"""


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.skipif(not has_statistics(), reason="this kernel has no schedstat")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(STARVES, id="itself"),
        pytest.param(COMPILES, id="what it has started", marks=pytest.mark.long),
    ],
)
def test_a_probe_that_gets_no_processor_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """A real process that others leave a few hundredths of a processor."""
    monkeypatch.setattr(held_up, "_SHORT_S", 0.5)
    write(folder, "sicken", body)

    seen = ran()

    told = seen.of("sicken")
    assert (told.status, told.reason) == ("error", "internal_error")
    assert "s of the processors" in told.summary
    assert told.findings[0].action == "fix_config"
    assert seen.of("later").status == "pass"


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(("obstacle", "status"), [("", "fail"), ("it had no processor", "error")])
def test_an_import_of_torch_that_is_held_up_is_no_fail(
    folder: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str, status: str
) -> None:
    """Wherever in torch's code it stands."""
    monkeypatch.setattr(Progress, "obstacle", lambda self: obstacle)
    (folder / "torch.py").write_text("import time; time.sleep(600)")
    plan = replace(PLAN, specs=(TORCH_VERSION, *PLAN.specs))

    seen = ran(plan, loading.load(flags={"probes": {"torch_version": {"timeout": 1.0}}}))

    told = seen.of("torch_version")
    assert told.status == status
    assert obstacle in told.summary
    assert ("--cpus" in told.findings[0].hint) is (status == "error")
