"""What hides from its worker is found, and what nobody waits for is reaped."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

from validator.engine.orphans import Reaper, children, sweep

#: Become a subreaper, have a child leave a grandchild with a cleared environment, and tell its id.
_LEAVE = """
    import asyncio, os, subprocess, sys, time
    from validator.engine import orphans
    orphans.adopt()
    before = orphans.children()
    code = "import os; os.setsid(); os.execve('/bin/sleep', ['sleep', '{seconds}'], {{}})"
    middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    subprocess.run([sys.executable, "-c", middle, code], check=True)
    while not (left := orphans.children() - before):
        pass
    (pid,) = left
    while open(f"/proc/{{pid}}/comm").read().strip() != "sleep":
        pass
"""


def run(code: str) -> None:
    """Run it in a process of its own: who adopts stays one who does."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_a_helper_with_a_cleared_environment_is_ended_and_reaped() -> None:
    """It bears no mark, in a session of its own."""
    run(
        _LEAVE.format(seconds=600)
        + """
    asyncio.run(orphans.sweep(spare=before))
    assert not os.path.exists(f"/proc/{pid}")
    """
    )


def test_pid_1_leaves_the_living_of_others_alone() -> None:
    """Whoever runs a command in its container may leave some; only what is dead is its own."""
    run(
        _LEAVE.format(seconds=600)
        + """
    os.getpid = lambda: 1
    asyncio.run(orphans.sweep(spare=before))
    assert os.path.exists(f"/proc/{pid}")
    os.kill(pid, 9)
    """
    )


def test_the_dead_that_nobody_waits_for_are_reaped() -> None:
    """At the second look: at the first somebody may be about to."""
    run(
        _LEAVE.format(seconds=0)
        + """
    reaper = orphans.Reaper()
    while not orphans._is_dead(pid):
        pass
    reaper.look()
    assert orphans._is_dead(pid)
    reaper.look()
    assert not os.path.exists(f"/proc/{pid}")
    reaper.look()
    """
    )


def test_a_child_that_is_waited_for_is_left_to_who_waits() -> None:
    """Between two looks its end is told to whom it belongs."""
    reaper = Reaper()
    with subprocess.Popen(["/bin/true"]) as process:
        while _state(process.pid) != "Z":
            pass
        reaper.look()
        assert process.wait(10) == 0
    reaper.look()

    assert process.pid not in children()


def test_a_sweep_without_anything_left_is_at_once() -> None:
    """It waits for nothing."""
    asyncio.run(asyncio.wait_for(sweep(spare=children()), 1))


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
