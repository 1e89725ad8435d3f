"""What is frozen for longer than a deadline is not late; one that stands still alone is."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.validator.runs import write
from validator.engine import clock
from validator.engine.spawn import MARKER

pytestmark = pytest.mark.slow

FREEZER = Path("/sys/fs/cgroup/freezer")
ROOT = Path(__file__).resolve().parents[3]
FROZEN_S = 2.5  # the probes' deadline is 1 s

RUN = """
import json
from tests.validator.runs import PLAN, ran
from validator.settings import loading
seen = ran(PLAN, loading.load(flags={"probes": {"torch_version": {"timeout": %s}}}))
print(json.dumps([[r.probe, r.status, r.reason, r.summary] for r in seen.report.results]))
"""


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def running(folder: Path, import_s: float) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, which prints what became of each probe."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN % import_s],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def tree(supervisor: int) -> list[int]:
    """A supervisor, its worker and their children."""
    mark = f"{MARKER}={supervisor}".encode()
    found = [supervisor]
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if mark in (each / "environ").read_bytes().split(b"\0"):
                found.append(int(each.name))
    return found


def state(pid: int) -> str:
    """A process's state, as one letter."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def stop_and_go_on(supervisor: int) -> None:
    """Stop all processes of a run by signals for longer than its deadlines."""
    pids = tree(supervisor)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(state(pid) == "T" for pid in pids))
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > FROZEN_S)
    for pid in reversed(pids):  # the supervisor last: what is late for it is late indeed
        os.kill(pid, signal.SIGCONT)


def is_left(group: Path) -> bool:
    """Move out whoever is in a control group; whether nobody was, or came meanwhile."""
    pids = (group / "cgroup.procs").read_text().split()
    for line in pids:
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            (FREEZER / "cgroup.procs").write_text(line)
    return not pids


def freeze_and_thaw(supervisor: int) -> None:
    """Freeze all processes of a run by a control group, as `docker pause` does."""
    group = FREEZER / f"gpu-validator-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no freezer control group of version 1 to write to: {error}")
    try:
        for pid in tree(supervisor):
            with contextlib.suppress(ProcessLookupError):  # it has come to its end
                (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        until(lambda: (group / "freezer.state").read_text().strip() == "FROZEN")
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > FROZEN_S)
    finally:
        (group / "freezer.state").write_text("THAWED")
        until(lambda: is_left(group))
        group.rmdir()


WAYS = {"signals": stop_and_go_on, "freezer": freeze_and_thaw}

#: In a probe or module: tells that it runs, then needs half a second.
HALF_A_SECOND = """
    import os, time
    open("{folder}/here.new", "w").close()
    os.rename("{folder}/here.new", "{folder}/here")
    time.sleep(0.5)
"""


@pytest.mark.torch
@pytest.mark.parametrize("freeze", WAYS.values(), ids=WAYS)
def test_a_probe_that_was_frozen_with_everything_is_not_late(
    folder: Path, freeze: Callable[[int], None]
) -> None:
    """Frozen in the middle of a probe for longer than its deadline, a run goes on and passes."""
    write(folder, "sicken", HALF_A_SECOND.format(folder=folder))

    with running(folder, 60) as process:
        until((folder / "here").exists)
        freeze(process.pid)
        results = json.loads(process.communicate(timeout=60)[0])

    assert [status for _, status, _, _ in results] == ["pass"] * 4, results


def test_an_import_that_was_frozen_with_everything_is_not_late(folder: Path) -> None:
    """Frozen while torch is imported, the import is told by how it ended, not by the clock."""
    body = "if True:" + HALF_A_SECOND.format(folder=folder) + "    raise OSError('its own end')"
    (folder / "torch.py").write_text(body)

    with running(folder, 1) as process:
        until((folder / "here").exists)
        stop_and_go_on(process.pid)
        results = json.loads(process.communicate(timeout=60)[0])

    assert results[0][:3] == ["torch_version", "fail", "import_failed"]
    assert "its own end" in results[0][3]


@pytest.mark.torch
def test_a_probe_that_stands_still_alone_is_late(folder: Path) -> None:
    """A child that waits for ever while its supervisor runs has hung."""
    write(folder, "sicken", "    signal.pause()")

    with running(folder, 60) as process:
        results = json.loads(process.communicate(timeout=60)[0])

    assert [status for probe, status, _, _ in results if probe == "sicken"] == ["fail"]
    assert "no result within 1 s" in str(results)


def test_the_clock_counts_what_runs() -> None:
    """Without a stop a wait ends when its time is over, and at once when its event is set."""

    async def waits() -> tuple[bool, bool, float]:
        event = asyncio.Event()
        begun = time.monotonic()
        late = await clock.happens(event, 0.6)
        asyncio.get_running_loop().call_later(0.1, event.set)
        set_meanwhile = await clock.happens(event, 30)
        return late, set_meanwhile, time.monotonic() - begun

    late, set_meanwhile, took_s = asyncio.run(waits())

    assert (late, set_meanwhile) == (False, True)
    assert 0.7 <= took_s < 2
