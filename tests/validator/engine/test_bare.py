"""Probes that need no torch: in a worker without it, beside the import, with a broken torch."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from probes.catalog import BY_NAME, CATALOG
from probes.contract import ProbeSpec, Result, Status
from tests.validator.runs import Ran, marked, ran, run, spec, write
from validator.cli import early
from validator.engine import run as engine_run
from validator.engine import watch as engine_watch
from validator.engine.ends import WorkerLostError
from validator.engine.plan import Event, Plan
from validator.engine.runner import Runner
from validator.engine.spawn import start_worker
from validator.engine.workers import NoWorkerError, Workers
from validator.report import CPU
from validator.settings import loading
from validator.settings.model import ProbeSettings

ROOT = Path(__file__).parents[3]

BROKEN = "raise OSError('libtorch_cpu.so: cannot open shared object file')"

#: A probe that tells which of torch and NumPy are imported in its process.
BARE = """
import os, sys, time
from probes.contract import Finding, Observation

class Seen(Observation):
    imported: tuple[str, ...]

def observe(device):
{body}
    return Seen(imported=tuple(name for name in ("torch", "numpy") if name in sys.modules))

def judge(seen):
    yield Finding(id="{name}.sum", status="fail" if seen.imported else "pass")
"""


def bare(name: str) -> ProbeSpec:
    """A probe of the test's own that needs no torch."""
    return replace(spec(name, "host"), profile="instant", needs_torch=False)


def write_bare(folder: Path, name: str, body: str = "") -> None:
    """Write the module of such a probe."""
    (folder / f"{name}.py").write_text(BARE.replace("{body}", body).replace("{name}", name))


ALONE = Plan((bare("light"),), "instant", "cli")
BESIDE = Plan((bare("light"), spec("host", "host")), "quick", "cli")


@pytest.mark.slow
@pytest.mark.parametrize("torch", ["", BROKEN, "import time; time.sleep(600)"])
def test_a_run_without_torch_answers_whatever_torch_is(folder: Path, torch: str) -> None:
    """Neither torch nor NumPy is imported; a torch that is broken or hangs is nobody's matter."""
    write_bare(folder, "light")
    if torch:
        (folder / "torch.py").write_text(torch)
    events: list[Event] = []

    seen = ran(ALONE, on_event=events.append)

    assert [(one.probe, one.device, one.status) for one in seen.report.results] == [
        ("light", "cpu", "pass")
    ]
    assert (seen.report.status, seen.report.devices) == ("pass", ())
    assert seen.report.environment.python
    assert seen.report.environment.torch is None
    assert [event.kind for event in events] == ["surveyed", "started", "finished"]
    assert events[0].planned == (("light", "cpu"),)


@pytest.mark.slow
def test_beside_a_broken_torch_it_is_told_too(folder: Path) -> None:
    """What needs torch is skipped for the import's sake, and what does not has its own result."""
    write_bare(folder, "light")
    write(folder, "host")
    (folder / "torch.py").write_text(BROKEN)

    seen = ran(BESIDE)

    assert [(one.probe, one.status, one.reason) for one in seen.report.results] == [
        ("torch_version", "fail", "import_failed"),
        ("light", "pass", "ok"),
        ("host", "skip", "dependency"),
    ]


@pytest.mark.slow
@pytest.mark.torch
def test_in_a_larger_run_it_neither_waits_nor_delays(folder: Path) -> None:
    """Its result comes before torch is imported, and a hang costs the others nothing."""
    write_bare(folder, "light")
    write_bare(folder, "hangs", "    time.sleep(600)")
    write(folder, "host")
    order: list[str] = []
    plan = Plan((bare("light"), bare("hangs"), spec("host", "host")), "quick", "cli")

    seen = ran(plan, on_event=lambda event: order.append(f"{event.kind} {event.probe}".strip()))

    assert order.index("finished light") < order.index("surveyed")
    assert [(one.probe, one.status, one.reason) for one in seen.report.results] == [
        ("light", "pass", "ok"),
        ("hangs", "fail", "timeout"),
        ("host", "pass", "ok"),
    ]
    assert not seen.report.not_run


@pytest.mark.slow
def test_a_probe_that_is_switched_off_is_said_to_be(folder: Path) -> None:
    """Without a worker that looks at devices, too."""
    write_bare(folder, "light")
    own = loading.load().model_copy(update={"probes": {"light": ProbeSettings(enabled=False)}})

    seen = ran(ALONE, own)

    assert [(one.status, one.reason) for one in seen.report.results] == [("skip", "disabled")]


@pytest.mark.slow
def test_a_run_whose_probes_with_torch_are_all_off_imports_none(folder: Path) -> None:
    """They are said to be off, and a torch that never comes does not matter."""
    write_bare(folder, "light")
    (folder / "torch.py").write_text("import time; time.sleep(600)")
    off = {"host": ProbeSettings(enabled=False), "device": ProbeSettings(enabled=False)}
    own = loading.load().model_copy(update={"probes": off})
    plan = Plan((bare("light"), spec("host", "host"), spec("device")), "quick", "cli")
    events: list[Event] = []

    seen = ran(plan, own, on_event=events.append)

    assert [(one.probe, one.status, one.reason) for one in seen.report.results] == [
        ("light", "pass", "ok"),
        ("host", "skip", "disabled"),
        ("device", "skip", "disabled"),
    ]
    assert "importing" not in [event.kind for event in events]
    assert seen.report.environment.python


@pytest.mark.slow
@pytest.mark.parametrize("kind", [False, True], ids=["with torch", "bare"])
def test_an_early_worker_of_either_kind_is_used_or_ended(folder: Path, *, kind: bool) -> None:
    """The command may start the wrong one: the run does not wait for what it imports."""
    write_bare(folder, "light")
    (folder / "torch.py").write_text("import time; time.sleep(600)")

    async def both() -> list[str]:
        worker = start_worker(bare=kind)
        report = (await run(ALONE, loading.load(), Runner(worker), lambda _: None)).report
        return [one.status for one in report.results]

    assert asyncio.run(both()) == ["pass"]
    assert marked() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "again"), [(signal.SIGKILL, True), (signal.SIGTERM, True), (signal.SIGSEGV, False)]
)
def test_a_worker_that_others_kill_before_its_first_use_is_replaced(
    number: signal.Signals, *, again: bool
) -> None:
    """One that dies of itself is not."""

    async def killed() -> tuple[bool, int]:
        workers = Workers(None, nice=0, on_event=lambda _: None, bare=True)
        try:
            worker = await workers.live()
            os.kill(worker._process.process.pid, number)
            with pytest.raises(WorkerLostError) as lost:
                await worker.fork({"survey": False})
            await workers.lose(worker, lost.value)
            return await workers.live() is not worker, workers.restarts.total()
        except NoWorkerError:
            return False, workers.restarts.total()
        finally:
            await workers.close()

    assert asyncio.run(killed()) == (again, int(again))


WATCHES = """
import os, time
from pathlib import Path
from probes.contract import Finding, Observation
from probes.kit import watching

FILE = Path("{file}")

class Seen(Observation):
    watched: bool
    after: bool

def observe(device):
    wanted = watching.is_wanted()
    while watching.goes_on():
        time.sleep(0.01)
    {then}
    return Seen(watched=wanted, after=FILE.exists())

def judge(seen):
    yield Finding(id="watches.sum", status="pass", observed=[seen.watched, seen.after])
"""


def heavy_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, then: str = "", profile: str = "standard"
) -> tuple[Ran, list[Event], Path]:
    """A run of a probe that watches, and of one of another profile that writes a file."""
    file = folder / "done"
    (folder / "watches.py").write_text(WATCHES.format(file=file, then=then or "pass"))
    write(folder, "heavy", f"    time.sleep(0.5); open({str(file)!r}, 'w').close()")
    watches = bare("watches")
    heavy = replace(spec("heavy", "host"), profile=profile, timeout_s=5.0)  # type: ignore[arg-type]
    for module in (engine_run, engine_watch):
        monkeypatch.setattr(module, "TELEMETRY", watches)
    events: list[Event] = []
    plan = Plan((watches, heavy), "standard", "cli")
    return ran(plan, on_event=events.append), events, file


@pytest.mark.slow
@pytest.mark.torch
def test_the_boards_are_watched_while_heavy_probes_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look is told at once; the second, after the others, is what the report has."""
    seen, events, _ = heavy_run(folder, monkeypatch)
    told = [event for event in events if event.kind == "finished" and event.probe == "watches"]

    assert [finding.observed for finding in seen.of("watches").findings] == [[True, True]]
    assert [event.result.findings[0].observed for event in told if event.result] == [[False, False]]
    assert seen.of("heavy").status == "pass"


@pytest.mark.slow
@pytest.mark.torch
def test_without_heavy_probes_nothing_is_watched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick run keeps no second process."""
    seen, _, _ = heavy_run(folder, monkeypatch, profile="quick")

    assert seen.of("watches").findings[0].observed == [False, False]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(
    ("then", "status", "observed"),
    [
        ("wanted and time.sleep(600)", "fail", None),
        ("wanted and os.kill(os.getpid(), 11)", "fail", None),
        ("wanted and os._exit(3)", "pass", [False, False]),
    ],
    ids=["hangs", "crashes", "tells nothing"],
)
def test_a_watch_that_does_not_end_well(
    then: str, status: str, observed: object, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hang and a crash under load are failures, in time; else the first look stays."""
    seen, _, _ = heavy_run(folder, monkeypatch, then=then)
    result = seen.of("watches")

    assert result.status == status
    assert observed is None or result.findings[0].observed == observed
    assert seen.of("heavy").status == "pass"


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ("pass", "pass", "second"),
        ("pass", "warn", "second"),
        ("pass", "fail", "second"),
        ("fail", "fail", "second"),
        ("fail", "pass", "first"),
        ("fail", "skip", "first"),
        ("warn", "pass", "second"),
        ("pass", "error", "first"),
        (None, "error", "second"),
        ("pass", None, "first"),
    ],
)
def test_which_look_counts(first: Status | None, second: Status | None, counts: str) -> None:
    """The one under load; but it takes no failure back, and may be one that could not tell."""
    key = (BY_NAME["telemetry"].name, CPU.name)
    looks = {name: finished(key[0], status) for name, status in (("f", first), ("s", second))}
    context: Any = SimpleNamespace(results={key: looks["f"]} if first else {})

    async def ended() -> None:
        watch = object.__new__(engine_watch.BoardWatch)
        done: Any = asyncio.get_running_loop().create_future()
        done.set_result(None)
        watch._task = done
        stopped: Any = SimpleNamespace(finish=lambda: None)
        results: Any = SimpleNamespace(results={key: looks["s"]} if second else {})
        watch._job, watch._results = stopped, results
        await watch.end(context)

    asyncio.run(ended())

    assert context.results[key] is looks[counts[0]]


def finished(probe: str, status: Status | None) -> Result:
    """A result with that status."""
    return Result(
        probe=probe,
        device=CPU.name,
        status=status or "skip",
        reason="ok",
        summary="",
        started_at=datetime.now(timezone.utc),
        duration_s=0.0,
    )


@pytest.mark.slow
def test_a_watch_ends_when_torch_is_broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the run with it."""
    (folder / "torch.py").write_text(BROKEN)
    seen, _, _ = heavy_run(folder, monkeypatch)

    assert (seen.of("watches").status, seen.of("heavy").status) == ("pass", "skip")


def test_a_probe_without_torch_has_no_device() -> None:
    """It runs on the host: without torch nobody could name a device for it."""
    with pytest.raises(ValueError, match="no devices to run on"):
        replace(spec("wrong"), needs_torch=False)


#: Imports modules of probes, observes, and prints what of both libraries that brought in.
OBSERVES = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name).observe("cpu")
print(*({"torch", "numpy"} & sys.modules.keys()))
"""


def test_probes_without_torch_bring_neither_library_in() -> None:
    """Those of the catalogue themselves: their worker has to answer where either is broken."""
    modules = [one.module for one in CATALOG if not one.needs_torch]
    done = subprocess.run(
        [sys.executable, "-c", OBSERVES, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    assert modules
    assert done.stdout.split() == []


def test_the_instant_profile_needs_no_torch() -> None:
    """And the command knows those probes by name, before it imports the catalogue."""
    assert all(not one.needs_torch for one in CATALOG if one.profile == "instant")
    assert {one.name for one in CATALOG if not one.needs_torch} == early.WITHOUT_TORCH


@pytest.mark.parametrize(
    ("line", "variable", "needs"),
    [
        ("check", "", True),
        ("check --profile instant", "", False),
        ("check --profile=instant --quiet", "", False),
        ("check --profile quick", "instant", True),
        ("check", "instant", False),
        ("check --profile instant --probe autograd", "", True),
        ("selftest", "instant", True),
    ],
)
def test_the_command_line_says_whether_torch_is_needed(
    line: str, variable: str, *, needs: bool
) -> None:
    """By profile, by variable, or by the probes that are named."""
    environment = {"GPU_VALIDATOR_RUN__PROFILE": variable} if variable else {}

    assert early.needs_torch(line.split(), environment) is needs


def test_probes_that_are_named_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """All without torch, or not."""
    monkeypatch.setattr(early, "WITHOUT_TORCH", frozenset({"light"}))

    assert not early.needs_torch(["check", "--probe", "light"], os.environ)
    assert early.needs_torch(["check", "--probe", "light", "--probe", "autograd"], os.environ)
