"""Runs of probes of the test's own, in real workers, with proof that no process is left."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from probes.contract import ProbeSpec, Result
from validator.engine import orphans
from validator.engine.plan import Event, Plan
from validator.engine.runner import Runner
from validator.engine.spawn import MARKER
from validator.report import Report
from validator.settings import loading
from validator.settings.model import Settings

TIMEOUT_S = 1.0

TEMPLATE = """
import ctypes, os, signal, sys, threading, time
import torch
from probes.contract import Finding, Observation

class Seen(Observation):
    total: float

def observe(device):
    print("about to {name}", flush=True)
{body}
    return Seen(total=torch.ones(1000, device=device).sum().item())

def judge(seen):
    yield Finding(id="{name}.sum", status="pass" if seen.total == 1000 else "fail")
"""


@dataclass
class Ran:
    """A report, and how late the event loop was at worst meanwhile."""

    report: Report
    lag_s: float

    def of(self, probe: str) -> Result:
        """The result of one probe."""
        return next(result for result in self.report.results if result.probe == probe)


def spec(name: str, needs: str = "device") -> ProbeSpec:
    """A probe of the test's own, whose code is the module of its name on PYTHONPATH."""
    return ProbeSpec(
        name=name,
        profile="quick",
        needs=needs,  # type: ignore[arg-type]
        timeout_s=TIMEOUT_S,
        interval_s=60,
        memory_bytes=0,
        checks={"sum": "a sum is right"},
        module=name,
    )


def write(folder: Path, name: str, body: str = "") -> None:
    """Write a probe's module."""
    (folder / f"{name}.py").write_text(TEMPLATE.replace("{body}", body).replace("{name}", name))


PLAN = Plan((spec("earlier"), spec("sicken"), spec("later"), spec("host", "host")), "quick", "cli")


async def run(
    plan: Plan, settings: Settings, runner: Runner, on_event: Callable[[Event], None]
) -> Ran:
    """Run a plan while a ticker measures how long the event loop was held up."""
    lag_s = 0.0

    async def tick() -> None:
        nonlocal lag_s
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            lag_s = max(lag_s, time.monotonic() - begun - 0.01)

    ticker = asyncio.ensure_future(tick())

    report = await runner.run(plan, settings, on_event)
    ticker.cancel()
    return Ran(report, lag_s)


def ran(
    plan: Plan = PLAN,
    settings: Settings | None = None,
    runner: Runner | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    leaves: Path | None = None,
) -> Ran:
    """One run, and proof that it left no process but the one whose id is in the file `leaves`."""
    result = asyncio.run(run(plan, settings or loading.load(), runner or Runner(), on_event))
    assert marked() == ([leaves.read_text()] if leaves is not None else [])
    return result


def marked() -> list[str]:
    """Processes, zombies too, that a worker of this process left."""
    mark = f"{MARKER}={os.getpid()}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found


#: Dead children that nobody reaped before the test began: other tests' matter.
_EARLIER_ZOMBIES: Final[set[int]] = set()


def forget_zombies() -> None:
    """Begin a test: zombies that are there already are not its own."""
    _EARLIER_ZOMBIES.clear()
    _EARLIER_ZOMBIES.update(zombies())


def zombies() -> list[int]:
    """Our own dead children that nobody reaped since the test began."""
    stats = {pid: Path(f"/proc/{pid}/stat").read_text() for pid in orphans.children()}
    dead = [pid for pid, stat in stats.items() if stat.rpartition(")")[2].split()[0] == "Z"]
    return [pid for pid in dead if pid not in _EARLIER_ZOMBIES]
