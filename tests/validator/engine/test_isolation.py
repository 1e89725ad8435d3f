"""A sick probe costs only itself: real workers, real children, one sickness each."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from probes.catalog import TORCH_VERSION
from tests.validator.runs import PLAN, TIMEOUT_S, Ran, marked, ran, run, spec, write, zombies
from validator.engine import cgroup, pipes, supervisor
from validator.engine import child as child_module
from validator.engine.plan import Event, Plan
from validator.engine.runner import Runner
from validator.settings import loading
from validator.settings.model import Settings

pytestmark = [pytest.mark.torch, pytest.mark.slow]

#: Code of ours that a sick probe finds its own result pipe with: the descriptor that is no log.
RESULT_PIPE = """
    def is_pipe(fd):
        path = f"/proc/self/fd/{fd}"
        return os.path.exists(path) and os.readlink(path).startswith("pipe:")
    result_fd = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and is_pipe(fd))
"""


@dataclass(frozen=True)
class Sickness:
    """What a probe does, and what must be said of it."""

    body: str
    status: str
    reason: str
    summary: str
    log: str = "about to sicken"


SICKNESSES = {
    "hang holding the GIL": Sickness(
        "    ctypes.PyDLL(None).sleep(600)",
        "fail",
        "timeout",
        "no result within 1 s",
        "sicken.py",  # the traceback that a hang leaves
    ),
    "hang releasing the GIL": Sickness(
        "    time.sleep(600)", "fail", "timeout", "no result within 1 s", "sicken.py"
    ),
    "hang ignoring SIGTERM": Sickness(
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(600)",
        "fail",
        "timeout",
        "no result within 1 s",
    ),
    "SIGSEGV": Sickness(
        "    ctypes.string_at(0)", "fail", "crashed", "died by SIGSEGV", "Segmentation fault"
    ),
    "SIGABRT": Sickness("    os.abort()", "fail", "crashed", "died by SIGABRT", "Aborted"),
    "SIGILL": Sickness(
        "    os.kill(os.getpid(), signal.SIGILL)", "fail", "crashed", "died by SIGILL"
    ),
    "silent exit": Sickness(
        "    os._exit(0)", "error", "internal_error", "exited with code 0 and left no result"
    ),
    "exception of ours": Sickness(
        "    raise ValueError('no such thing')",
        "error",
        "internal_error",
        "ValueError: no such thing",
    ),
    "exception of torch's": Sickness(
        "    torch.ones(2) @ torch.ones(3)", "fail", "torch_raised", "RuntimeError: inconsistent"
    ),
    "every later call raises": Sickness(
        "    def broken(*args, **kwargs):\n"
        "        raise RuntimeError('CUDA error: device-side assert triggered')\n"
        "    torch.ones = torch.zeros = torch.Tensor.sum = torch.full = torch.empty = broken\n"
        "    torch.ones(1)",
        "fail",
        "torch_raised",
        "a kernel's own assertion failed",
    ),
    "5 MB on stdout from native code": Sickness(
        "    write = ctypes.CDLL(None).write\n"
        "    for _ in range(80):\n"
        "        write(1, b'x' * 65536, 65536)\n"
        "    raise RuntimeError('after the flood')",
        "fail",
        "torch_raised",
        "RuntimeError: after the flood",
        "xxxxxxxx",
    ),
    "half a result": Sickness(
        RESULT_PIPE + '    os.write(result_fd, b\'{"result": "{\')\n    os._exit(0)',
        "error",
        "internal_error",
        "exited with code 0 and left half a result",
    ),
    "result of another probe": Sickness(
        RESULT_PIPE
        + "    from probes import contract\n    from datetime import datetime, timezone\n"
        "    other = contract.Result(probe='later', device=device, status='pass', reason='ok',\n"
        "        summary='', started_at=datetime.now(timezone.utc), duration_s=0)\n"
        "    import json\n"
        "    line = json.dumps({'result': other.model_dump_json()})\n"
        "    os.write(result_fd, line.encode() + b'\\n')\n"
        "    time.sleep(600)",
        "error",
        "internal_error",
        "wrote what is no result of this probe",
    ),
    "garbage where a result belongs": Sickness(
        RESULT_PIPE + "    os.write(result_fd, b'\\xff\\x00 no json\\n')\n    time.sleep(600)",
        "error",
        "internal_error",
        "wrote what is no result of this probe",
    ),
    "grandchildren that hold the pipes": Sickness(
        "    for own_session in (False, True):\n"
        "        if os.fork() == 0:\n"
        "            if own_session: os.setsid()\n"
        "            signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "            time.sleep(600)\n"
        "    os._exit(3)",
        "error",
        "internal_error",
        "exited with code 3 and left no result",
    ),
    "the worker killed by its child": Sickness(
        "    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(600)",
        "error",
        "internal_error",
        "the worker died by SIGKILL",
    ),
    "the worker stopped by its child": Sickness(
        "    os.kill(os.getppid(), signal.SIGSTOP)\n    os._exit(0)",
        "error",
        "internal_error",
        "the worker gave no `exited:",
    ),
}


@pytest.mark.parametrize("sickness", SICKNESSES.values(), ids=SICKNESSES)
def test_a_sick_probe_costs_only_itself(folder: Path, sickness: Sickness) -> None:
    """It gets its status, reason and log; all others their full result; no process is left."""
    write(folder, "sicken", sickness.body)

    seen = ran()

    sick = seen.of("sicken")
    assert (sick.status, sick.reason) == (sickness.status, sickness.reason), sick
    assert sick.summary.startswith(sickness.summary)
    assert sickness.log in sick.log_tail
    assert len(sick.log_tail.encode()) <= pipes.TAIL_BYTES
    assert {seen.of(name).status for name in ("earlier", "later", "host")} == {"pass"}
    assert seen.report.not_run == ()
    assert zombies() == []
    assert seen.lag_s < 0.25


def test_a_log_ends_where_the_next_probe_begins() -> None:
    """A child that has gone on prints the next heading before its log is read."""

    async def tails() -> list[str]:
        result_fd, result_end = os.pipe()
        log_fd, log_end = os.pipe()
        os.write(log_end, b"--- sicken\nmine\n--- later\nnot mine\n")
        child = child_module.Child(1, 0, os.pidfd_open(os.getpid()), result_fd, log_fd)
        told = [child.log_tail("sicken"), child.log_tail("later")]
        child.close()
        os.close(result_end)
        os.close(log_end)
        return told

    assert asyncio.run(tails()) == ["mine\n", "not mine\n"]


def test_the_rest_resume_within_half_a_second_of_a_kill(folder: Path) -> None:
    """A hang costs its own deadline and little more."""
    write(folder, "sicken", "    ctypes.PyDLL(None).sleep(600)")
    times: dict[tuple[str, str], float] = {}

    def note(event: Event) -> None:
        times[event.kind, event.probe] = time.monotonic()

    ran(on_event=note)

    assert times["finished", "sicken"] - times["started", "sicken"] < TIMEOUT_S + 0.5
    assert times["finished", "later"] - times["finished", "sicken"] < 0.5


async def sent(folder: Path, number: signal.Signals, times: int) -> Ran:
    """A run in which a signal is sent to the process of `sicken`, to as many as there are."""
    going = asyncio.ensure_future(run(PLAN, loading.load(), Runner(), lambda _: None))
    for _ in range(times):
        pid = folder / "pid"
        for _ in range(1000):
            if pid.exists():
                break
            await asyncio.sleep(0.01)
        found = int(pid.read_text())
        pid.unlink()
        os.kill(found, number)
    return await going


#: Tells its process id, and waits for somebody to do something to it.
WAITS = """
    if not os.path.exists("{folder}/once"):
        open("{folder}/pid.new", "w").write(str(os.getpid()))
        os.rename("{folder}/pid.new", "{folder}/pid")
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_probe_killed_from_outside_twice_is_an_error(
    folder: Path, number: signal.Signals
) -> None:
    """What others kill says nothing of the machine: no node is drained for it."""
    write(folder, "sicken", WAITS.replace("{folder}", str(folder)))

    seen = asyncio.run(sent(folder, number, times=2))

    assert (seen.of("sicken").status, seen.of("sicken").reason) == ("error", "internal_error")
    assert seen.of("sicken").summary == f"died by {number.name}"
    assert seen.of("later").status == "pass"


def test_a_probe_killed_from_outside_once_is_run_again(folder: Path) -> None:
    """The second process is the one that is judged."""
    body = WAITS.replace("{folder}", str(folder)).replace(
        "        time.sleep", f"        open('{folder}/once', 'w').close()\n        time.sleep"
    )
    write(folder, "sicken", body)

    seen = asyncio.run(sent(folder, signal.SIGKILL, times=1))

    assert seen.of("sicken").status == "pass"
    assert seen.report.status == "pass"


def test_a_probe_whose_worker_is_killed_once_is_run_again(folder: Path) -> None:
    """A worker takes its children with it: what they were at has done nothing wrong."""
    body = f"""
    once = "{folder}/once"
    if not os.path.exists(once):
        open(once, "w").close()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)
"""
    write(folder, "sicken", body)
    seen = ran()

    assert [seen.of(name).status for name in ("earlier", "sicken", "later")] == ["pass"] * 3
    assert seen.report.status == "pass"


def test_a_probe_stopped_from_outside_is_an_error(folder: Path) -> None:
    """SIGSTOP is no hang of the device's: it is told apart from one, and kept from a verdict."""
    write(folder, "sicken", WAITS.replace("{folder}", str(folder)))

    seen = asyncio.run(sent(folder, signal.SIGSTOP, times=1))

    assert (seen.of("sicken").status, seen.of("sicken").reason) == ("error", "internal_error")
    assert "stopped by somebody" in seen.of("sicken").summary
    assert seen.of("later").status == "pass"


def test_a_process_of_a_probe_stopped_from_outside_is_an_error(folder: Path) -> None:
    """What a probe waits for stands still: a loader's worker, a compiler."""
    body = """
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.wait()
"""
    write(folder, "sicken", body)

    seen = ran()

    assert (seen.of("sicken").status, seen.of("sicken").reason) == ("error", "internal_error")
    assert "stopped by somebody" in seen.of("sicken").summary
    assert seen.of("later").status == "pass"


def test_a_kill_for_memory_is_our_containers_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL while the control group counted a kill for memory says nothing of the machine."""
    write(folder, "sicken", "    os.kill(os.getpid(), signal.SIGKILL)")
    counts = count()
    limit = cgroup.Limit(Path("memory.max"), 1000, 990)
    monkeypatch.setattr("validator.engine.cgroup.memory_kills", lambda: next(counts))
    monkeypatch.setattr("validator.engine.cgroup.memory_limit", lambda: limit)

    seen = ran()

    assert (seen.of("sicken").status, seen.of("sicken").reason) == ("error", "internal_error")
    assert "memory limit of this container (memory.max is 1000 bytes)" in seen.of("sicken").summary
    assert seen.of("sicken").findings[0].action == "fix_config"


def test_a_kill_for_memory_during_the_import_is_our_containers_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that is too small for torch is an error to mend there, never a sick node."""
    (folder / "torch.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    counts = count()
    limit = cgroup.Limit(Path("memory.max"), 1000, 990)
    monkeypatch.setattr("validator.engine.cgroup.memory_kills", lambda: next(counts))
    monkeypatch.setattr("validator.engine.cgroup.memory_limit", lambda: limit)

    seen = ran()

    told = seen.of("torch_version")
    assert (told.status, told.reason) == ("error", "internal_error")
    assert "memory limit of this container (memory.max is 1000 bytes)" in told.summary
    assert "twice" in told.summary
    assert told.findings[0].action == "fix_config"
    assert {(r.status, r.reason) for r in seen.report.results[1:]} == {("skip", "dependency")}
    assert seen.report.status == "error"


# ---- the import


IMPORTS = {
    "raises": (
        "raise OSError('libcusparse.so.12: undefined symbol: __nvJitLinkAddData_12_1')",
        "importing torch raised OSError: libcusparse.so.12: undefined symbol",
        "",
    ),
    "is missing": (
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')",
        "importing torch raised ModuleNotFoundError: No module named 'torch'",
        "",
    ),
    "is a file of another kind": (
        "",
        "importing torch raised AttributeError: module 'torch' has no attribute '__version__'",
        "",
    ),
    "dies": (
        "import os, signal; print('dying now', flush=True); os.kill(os.getpid(), signal.SIGILL)",
        "importing torch: the worker died by SIGILL",
        "dying now",
    ),
    "exits": (
        "import os; os._exit(0)",
        "importing torch: the worker exited with code 0",
        "",
    ),
    "hangs": (
        "import time; time.sleep(600)",
        "importing torch did not end within 1 s",
        "torch.py",  # the traceback of a hang
    ),
    "hangs holding the GIL": (
        "import ctypes; ctypes.PyDLL(None).sleep(600)",
        "importing torch did not end within 1 s",
        "torch.py",
    ),
}


def quick_import() -> Settings:
    """Settings with a short deadline for the import."""
    flags: dict[str, Any] = {"probes": {"torch_version": {"timeout": 1.0}}}
    return loading.load(flags=flags)


@pytest.mark.parametrize(("code", "summary", "log"), IMPORTS.values(), ids=IMPORTS)
def test_torch_that_cannot_be_imported_fails(
    folder: Path, code: str, summary: str, log: str
) -> None:
    """An import that raises, hangs or dies is a fail of torch_version; the rest depend on it."""
    (folder / "torch.py").write_text(code)
    plan = replace(PLAN, specs=(TORCH_VERSION, *PLAN.specs))

    seen = ran(plan, quick_import())

    sick = seen.of("torch_version")
    assert (sick.status, sick.reason) == ("fail", "import_failed")
    assert sick.summary.startswith(summary)
    assert log in sick.log_tail
    assert sick.findings[0].id == "torch_version.imports"
    assert {(r.status, r.reason) for r in seen.report.results[1:]} == {("skip", "dependency")}
    assert len(seen.report.results) == len(plan.specs)
    assert seen.report.status == "fail"


def test_a_missing_numpy_fails_although_torch_imports(folder: Path) -> None:
    """Without NumPy torch imports with a warning alone; the environment is broken all the same."""
    (folder / "numpy.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')"
    )

    seen = ran()

    sick = seen.of("torch_version")  # told although it was not planned: the rest depend on it
    assert (sick.status, sick.reason) == ("fail", "import_failed")
    assert sick.findings[0].hint.startswith("confirm with")
    assert "importing numpy raised ModuleNotFoundError" in sick.summary


def test_a_worker_that_never_comes_up_is_our_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before our code runs nothing is told about torch: error, never fail."""
    monkeypatch.setattr("validator.engine.spawn._BOOT", "raise SystemExit(7)")

    seen = ran()

    assert {(r.status, r.reason) for r in seen.report.results} == {("error", "internal_error")}
    assert "exited with code 7" in seen.of("later").summary
    assert seen.report.status == "error"


def test_an_interpreter_that_is_not_there_is_our_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started without PATH, Python may not know itself: said plainly."""
    monkeypatch.setattr("sys.executable", "")

    seen = ran()

    assert {r.status for r in seen.report.results} == {"error"}
    assert "absolute path" in seen.of("later").summary


# ---- what SIGKILL does not end


@pytest.fixture
def undying(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A probe in what D state looks like from outside: no signal ends it, nor its parent's end."""
    pid_file = folder / "pid"
    write(
        folder,
        "sicken",
        "    ctypes.CDLL(None).prctl(1, 0)\n"  # PR_SET_PDEATHSIG: outlives the worker
        f"    open('{pid_file}', 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)",
    )
    monkeypatch.setattr(supervisor, "_KILL_S", 0.3)
    real = child_module.signal_group

    def signal_group(pid: int, number: int) -> None:
        if not (pid_file.exists() and pid_file.read_text() == str(pid)):
            real(pid, number)

    monkeypatch.setattr(child_module, "signal_group", signal_group)
    yield pid_file
    if pid_file.exists():
        pid = int(pid_file.read_text())
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def check_held(seen: Ran) -> None:
    """What a report says of a device whose process cannot be killed."""
    sick = seen.of("sicken")
    assert (sick.status, sick.reason) == ("fail", "timeout")
    assert "cannot be killed" in sick.summary
    assert [(each.probe, each.reason) for each in seen.report.not_run] == [("later", "device_held")]
    assert seen.of("earlier").status == seen.of("host").status == "pass"
    assert seen.report.status == "fail"


def test_an_unkillable_child_is_abandoned_and_its_device_held(undying: Path, folder: Path) -> None:
    """The waiter is bounded, the others go on, and nothing more starts there until it has ended."""
    runner = Runner()
    first = asyncio.run(run(PLAN, loading.load(), runner, lambda _: None))
    check_held(first)
    assert runner.held == {"cpu"}

    later = Plan((spec("earlier"),), "quick", "cli")
    second = asyncio.run(run(later, loading.load(), runner, lambda _: None))
    assert [(each.probe, each.reason) for each in second.report.not_run] == [
        ("earlier", "device_held")
    ]
    assert second.report.status == "error"

    os.kill(int(undying.read_text()), signal.SIGKILL)
    os.waitid(os.P_PID, int(undying.read_text()), os.WEXITED | os.WNOWAIT)
    third = ran(later, runner=runner)
    assert third.of("earlier").status == "pass"
    assert runner.held == frozenset()
    assert zombies() == []


FREEZER = Path("/sys/fs/cgroup/freezer")


@pytest.fixture
def frozen_group() -> Iterator[Path]:
    """A control group (v1) whose tasks sit in D state, where SIGKILL waits until it is thawed."""
    group = FREEZER / f"gpu-validator-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no freezer control group of version 1 to write to: {error}")
    yield group
    pids = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    (group / "freezer.state").write_text("THAWED")
    for pid in pids:
        os.waitpid(pid, 0)  # SIGKILL has waited for it; adopted by us
    group.rmdir()


def test_a_child_in_real_d_state_is_abandoned(frozen_group: Path, folder: Path) -> None:
    """The same with the kernel's own D state."""
    write(
        folder,
        "sicken",
        f"    open('{frozen_group}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        f"    open('{frozen_group}/freezer.state', 'w').write('FROZEN')",
    )

    seen = asyncio.run(run(PLAN, loading.load(), Runner(), lambda _: None))

    check_held(seen)
    state = Path(f"/proc/{(frozen_group / 'cgroup.procs').read_text().strip()}/stat").read_text()
    assert state.rpartition(")")[2].split()[0] == "D"


# ---- the run as a whole


def test_a_run_that_is_cut_off_says_what_got_no_chance(folder: Path) -> None:
    """The run's own deadline: what has a result keeps it, the rest is not_run."""
    write(folder, "sicken", "    time.sleep(600)")
    slow = tuple(replace(each, timeout_s=600) for each in PLAN.specs)
    settings = loading.load(flags={"run": {"timeout": 10.0}})  # a slow import included

    seen = ran(replace(PLAN, specs=slow), settings)

    assert {(each.probe, each.reason) for each in seen.report.not_run} == {
        ("sicken", "run_timeout"),
        ("later", "run_timeout"),
    }
    assert seen.of("earlier").status == "pass"
    assert seen.report.status == "error"
    assert seen.report.duration_s < 13


def test_a_cancelled_run_ends_within_two_seconds_and_leaves_nothing(folder: Path) -> None:
    """Ctrl-C in the middle of a hang."""
    write(folder, "sicken", "    ctypes.PyDLL(None).sleep(600)")
    started = asyncio.Event()

    async def cancel() -> float:
        going = asyncio.ensure_future(
            run(
                PLAN,
                loading.load(),
                Runner(),
                lambda event: started.set() if event.probe == "sicken" else None,
            )
        )
        await asyncio.wait_for(started.wait(), 30)
        begun = time.monotonic()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        return time.monotonic() - begun

    assert asyncio.run(cancel()) < 2
    assert marked() == []
    assert zombies() == []


def test_a_large_operation_runs_in_a_child_after_the_preload(folder: Path) -> None:
    """A worker that ran a parallel operation would make it hang for ever in OpenMP."""
    write(folder, "sicken", "    assert (torch.ones(1 << 22) + 1).sum() == 1 << 23")
    preloading = replace(
        spec("sicken"), preload=("torch.fx.experimental.symbolic_shapes",), timeout_s=20
    )

    seen = ran(Plan((preloading,), "quick", "cli"))

    assert seen.of("sicken").status == "pass"


def test_a_device_that_is_not_here_is_named(folder: Path) -> None:
    """Asked for and absent: a broken promise, and what there is; a typing error is none."""
    settings = loading.load(flags={"run": {"devices": ("cuda:7", "cuda7", "cpu")}})

    seen = ran(Plan((spec("later"),), "quick", "cli"), settings)

    assert [(r.device, r.status, r.reason) for r in seen.report.results] == [
        ("cpu", "pass", "ok"),
        ("cuda:7", "fail", "no_device"),
        ("cuda7", "error", "no_device"),
    ]
    assert "there is cpu" in seen.report.results[1].summary


def test_a_disabled_probe_is_skipped_and_said_to_be(folder: Path) -> None:
    """Disabled is a result of its own, never a pass and never silence."""
    catalogued = replace(spec("later"), name="autograd")
    flags = {"probes": {"autograd": {"enabled": False}}}

    seen = ran(Plan((catalogued, spec("earlier")), "quick", "cli"), loading.load(flags=flags))

    assert (seen.of("autograd").status, seen.of("autograd").reason) == ("skip", "disabled")
    assert seen.of("earlier").status == "pass"


def test_probes_are_the_first_to_go_when_memory_runs_out(folder: Path) -> None:
    """The kernel ends them before the node's work, and before whoever reports it."""
    write(folder, "sicken", "    assert open('/proc/self/oom_score_adj').read() == '1000\\n'")

    seen = ran()

    assert seen.of("sicken").status == "pass", seen.of("sicken")
