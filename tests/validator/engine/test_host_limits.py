"""What the host refuses is an error that names limit, value and cure; never a fail."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from probes.contract import Failure, Finding, Result
from validator.cli import early
from validator.cli import main as command
from validator.engine import cgroup, host_limits, limits_in_force
from validator.engine.attribution import blame_host_limits

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
CHECK = (sys.executable, "-m", "validator", "check", "--device", "cpu", "--output", "json")
REFUSE = (sys.executable, str(Path(__file__).with_name("refuse.py")))


def run(
    *command: str, before: Callable[[], None] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command to its end, with something done to its process first."""
    environment = dict(os.environ)
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        preexec_fn=before,
    )


def bad(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The results that are neither pass nor skip."""
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return [result for result in results if result["status"] not in {"pass", "skip"}]


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What is said of the one thing that is wrong; that it is an error to fix here is checked."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    results = bad(done)
    assert {(r["status"], r["findings"][-1]["action"]) for r in results} == {
        ("error", "fix_config")
    }
    return str(results[0]["summary"])


def limited(name: int, value: int) -> Callable[[], None]:
    """Sets a resource limit in the new process."""
    return lambda: resource.setrlimit(name, (value, value))


# ---- real limits


LIMITS = {
    "address space, torch's libraries": (resource.RLIMIT_AS, 100 << 20, "RLIMIT_AS is 104857600"),
    "address space, while it starts": (resource.RLIMIT_AS, 400 << 20, "RLIMIT_AS is 419430400"),
    "data": (resource.RLIMIT_DATA, 100 << 20, "RLIMIT_DATA is 104857600"),
}


@pytest.mark.torch
@pytest.mark.parametrize(("limit", "value", "text"), LIMITS.values(), ids=LIMITS)
def test_a_limit_that_ends_the_import_is_named(limit: int, value: int, text: str) -> None:
    """Torch that cannot be imported for a limit's sake is no broken torch."""
    done = run(*CHECK, "--probe", "torch_version", before=limited(limit, value))

    assert text in told(done)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize(
    "end", ["raise MemoryError", "raise ImportError('libtorch.so: failed to map segment')"]
)
def test_a_limit_that_is_lifted_meanwhile_is_named(tmp_path: Path, kind: str, end: str) -> None:
    """The worker still has it: whoever raised ours has not mended the import."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import os, resource as r\n"
        f"assert r.getrlimit(r.{kind})[0] == 600 << 20\n"
        f"r.prlimit(os.getppid(), r.{kind}, (r.RLIM_INFINITY, r.RLIM_INFINITY))\n"
        f"{end}\n"
    )
    limit = getattr(resource, kind)
    before = lambda: resource.setrlimit(limit, (600 << 20, resource.RLIM_INFINITY))  # noqa: E731
    done = run(*CHECK, "--probe", "torch_version", before=before, folder=tmp_path)

    assert f"{kind} is 629145600 bytes" in told(done)


@pytest.mark.torch
def test_processor_time_that_is_over_in_the_import_is_named(tmp_path: Path) -> None:
    """A torch that computes for as long as it may: the machine is never too fast for the limit."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("while True:\n    pass\n")
    before = limited(resource.RLIMIT_CPU, 3)
    done = run(*CHECK, "--probe", "torch_version", before=before, folder=tmp_path)

    assert "RLIMIT_CPU is 3 s" in told(done)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("limit", "value"),
    [(resource.RLIMIT_AS, 2 << 30), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_STACK, 1 << 20)],
)
def test_a_limit_that_suffices_changes_nothing(limit: int, value: int) -> None:
    """Just above the least that works, everything passes."""
    done = run(
        *CHECK, "--probe", "torch_version", "--probe", "autograd", before=limited(limit, value)
    )

    assert done.returncode == 0, done


@pytest.mark.parametrize(
    ("limit", "value", "text"),
    [
        (resource.RLIMIT_AS, 40 << 20, "no memory"),
        (resource.RLIMIT_NOFILE, 5, "RLIMIT_NOFILE is 5"),
    ],
)
def test_a_limit_that_ends_the_command_itself_is_named(limit: int, value: int, text: str) -> None:
    """Where no report can be made, one line says what to raise; it is no bug of ours."""
    done = run(*CHECK, before=limited(limit, value))

    assert done.returncode == 2
    assert text in done.stderr
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mib", range(30, 47, 2))
def test_wherever_memory_ends_it_is_told_and_no_sick_node(mib: int) -> None:
    """Also where nothing can be made any more, not even the text; a library may die."""
    done = run(*CHECK, before=limited(resource.RLIMIT_AS, mib << 20))

    assert done.returncode in {2, -signal.SIGABRT, -signal.SIGSEGV}
    assert done.returncode == -signal.SIGSEGV or done.stderr or done.stdout


def test_without_memory_for_a_text_the_code_is_still_right(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What explains an error raises itself, and so does what finds out the exit code."""

    def nothing_left(*_: object) -> None:
        monkeypatch.setattr(command, "cannot_tell", nothing_left)
        raise MemoryError

    monkeypatch.setattr(command, "_command", nothing_left)
    monkeypatch.setattr(command, "_explain_error", nothing_left)
    monkeypatch.setattr(sys, "argv", ["gpu-validator", "check", "--exit-style", "nagios"])
    monkeypatch.setattr(early.EarlyWorker, "start", lambda *_: None)

    assert command.main() == 3
    assert "no memory was left" in capfd.readouterr().err


def test_a_panic_of_a_library_is_no_sick_node(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Rust raises for pydantic without memory is no Exception: 2 and one line, never 1."""

    class PanicException(BaseException):
        pass

    def panic(*_: object) -> int:
        raise PanicException("Error building schema validator:\n  MemoryError: ")

    monkeypatch.setattr(command, "_command", panic)
    monkeypatch.setattr(sys, "argv", ["gpu-validator", "list"])

    assert command.main() == 2
    assert "PanicException: Error building schema validator: MemoryError" in capsys.readouterr().err


def join(group: Path) -> None:
    """Move this process into a control group."""
    (group / "cgroup.procs").write_text(str(os.getpid()))


@pytest.mark.torch
@pytest.mark.parametrize("most", [12, 13, 14])
def test_too_few_descriptors_are_named(most: int) -> None:
    """Wherever they run out between the first pipe and the last, the limit is told."""
    done = run(*CHECK, "--probe", "numpy_sharing", before=limited(resource.RLIMIT_NOFILE, most))

    assert f"RLIMIT_NOFILE is {most}" in told(done)


@contextlib.contextmanager
def control_group(controller: str, limit: str, value: int) -> Iterator[Callable[[], None]]:
    """Puts a new process into a control group (version 1) of the test's own, with a limit."""
    group = Path("/sys/fs/cgroup") / controller / f"gpu-validator-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(value))
    except OSError as error:
        pytest.skip(f"no {controller} control group of version 1 to write to: {error}")
    try:
        yield lambda: join(group)
    finally:
        group.rmdir()


LOADERS = ("--probe", "dataloader")


@pytest.mark.torch
def test_too_few_descriptors_for_workers_are_named() -> None:
    """Just enough for the probe passes; with less no worker is started."""
    few = run(*CHECK, *LOADERS, before=limited(resource.RLIMIT_NOFILE, 150))
    enough = run(*CHECK, *LOADERS, before=limited(resource.RLIMIT_NOFILE, 256))

    assert "RLIMIT_NOFILE is 150" in told(few)
    assert enough.returncode == 0, enough.stdout


#: A worker of a loader gets a signal as it starts; other processes go on.
SIGNALLED = """
import multiprocessing.process as process, os, signal
bootstrap = process.BaseProcess._bootstrap
def start(self, *given, **named):
    os.kill(os.getpid(), signal.{name})
    return bootstrap(self, *given, **named)
process.BaseProcess._bootstrap = start
"""


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("SIGKILL", 2, "somebody else ended a process that a probe had started"),
        pytest.param(
            *("SIGTERM", 2, "somebody else ended a process that a probe had started"),
            marks=pytest.mark.long,
        ),
        pytest.param("SIGSEGV", 1, "a worker died by SIGSEGV", marks=pytest.mark.long),
    ],
)
def test_workers_that_are_killed_from_outside(
    name: str, code: int, text: str, folder: Path
) -> None:
    """An error that says so; workers that crash are a failure."""
    (folder / "sitecustomize.py").write_text(SIGNALLED.format(name=name))
    done = run(*CHECK, *LOADERS, folder=folder)
    (result,) = bad(done)

    assert done.returncode == code, done
    assert result["status"] == ("fail" if code == 1 else "error")
    assert text in json.dumps(result["findings"])


@pytest.mark.torch
def test_too_few_tasks_for_threads_are_named() -> None:
    """Five tasks suffice for the processes, and not for the threads that autograd starts."""
    with control_group("pids", "pids.max", 5) as enter:
        text = told(run(*CHECK, "--probe", "autograd", before=enter))

    assert "no thread or process could be started" in text
    assert "pids.max is 5" in text


@pytest.mark.torch
def test_too_few_tasks_for_a_child_are_named() -> None:
    """Where not even a child can be forked, the worker dies, and the limit is told."""
    with control_group("pids", "pids.max", 2) as enter:
        text = told(run(*CHECK, "--probe", "autograd", before=enter))

    assert "pids.max is 2" in text


@pytest.mark.torch
def test_too_few_processes_of_a_user_are_named() -> None:
    """RLIMIT_NPROC binds everybody but root, so that another user's worker is started."""
    reads = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups", *reads)
    user = (*nobody, "prlimit", "--nproc=5")
    if shutil.which("setpriv") is None or run(*user, "true").returncode:
        pytest.skip("no other user can be become here")
    text = told(run(*user, *CHECK, "--probe", "autograd"))

    assert "no thread or process could be started" in text
    assert "RLIMIT_NPROC is 5" in text


@pytest.mark.torch
def test_a_container_that_is_too_small_for_torch_is_named() -> None:
    """The kernel kills for memory while torch is imported, twice: the limit is told."""
    with control_group("memory", "memory.limit_in_bytes", 60 << 20) as enter:
        text = told(run(*CHECK, "--probe", "autograd", before=enter))

    assert "died by SIGKILL" in text
    assert "memory.limit_in_bytes is 62914560 bytes" in text


@pytest.mark.torch
def test_a_filter_that_refuses_clone3_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads cannot start under it, torch waits for them for ever, and is not to blame."""
    monkeypatch.setenv("GPU_VALIDATOR_PROBES__AUTOGRAD__TIMEOUT", "8")
    number = limits_in_force._CLONE3
    text = told(run(*REFUSE, str(number), str(errno.EPERM), *CHECK, "--probe", "autograd"))

    assert "clone3 is refused with EPERM" in text


# ---- system calls


CALLS = {  # numbers on x86-64
    "pidfd_open": (434, errno.ENOSYS, "needs pidfd_open (Linux 5.3)"),
    "pidfd_open refused": (434, errno.EPERM, "needs pidfd_open (Linux 5.3)"),
    "socketpair": (53, errno.EPERM, "socketpair(family"),
    "pipe2": (293, errno.ENOSYS, "needs pipe2"),
    "setsid": (112, errno.EPERM, "setsid"),
    "setpgid": (109, errno.EPERM, "a system call is missing or refused"),
    "sendmsg": (46, errno.EPERM, "a system call is missing or refused"),
    "clone": (56, errno.EPERM, "a system call is missing or refused"),
    "epoll_ctl": (233, errno.ENOSYS, "poll.register"),
    "wait4": (61, errno.ENOSYS, "os.waitpid"),
}


@pytest.mark.torch
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize(("number", "error", "text"), CALLS.values(), ids=CALLS)
def test_a_system_call_that_is_refused_is_named(number: int, error: int, text: str) -> None:
    """Whatever call is missing: no traceback, no verdict on torch, and what would help."""
    done = run(*REFUSE, str(number), str(error), *CHECK, "--probe", "autograd")

    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert text in done.stdout + done.stderr
    assert '"status":"fail"' not in done.stdout


def test_a_missing_proc_is_named() -> None:
    """Without /proc torch itself computes otherwise, so nothing is run."""
    hidden = 'mount -t tmpfs none /proc && exec "$@"'
    done = run("unshare", "-m", "sh", "-c", hidden, "sh", *CHECK)
    if done.returncode not in {0, 1, 2} or "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no mount of our own can be made: {done.stderr}")

    assert "needs /proc" in told(done)


@pytest.mark.torch
def test_a_python_without_pidfd_open_will_do(folder: Path) -> None:
    """Some builds of Python lack the function although the kernel has the call."""
    (folder / "sitecustomize.py").write_text("import os; del os.pidfd_open")
    script = (
        "import os; assert not hasattr(os, 'pidfd_open')\n"
        "from tests.validator.runs import Plan, ran, spec\n"
        "print(ran(Plan((spec('later'),), 'quick', 'cli')).report.status)"
    )

    done = run(sys.executable, "-c", script, folder=Path(f"{folder}:{ROOT}"))

    assert done.stdout.strip() == "pass", done


# ---- deaths


@pytest.mark.torch
def test_a_death_is_told_although_the_parent_ignores_its_children(folder: Path) -> None:
    """Under a parent that ignores SIGCHLD the kernel reaps: the signal must not be lost."""
    (folder / "torch.py").write_text("import os; os.abort()")

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = run(*CHECK, before=ignore, folder=folder)

    assert done.returncode == 1
    assert "died by SIGABRT" in bad(done)[0]["summary"]


# ---- texts


def ended(text: str, **fields: Any) -> Result:
    """A result that an exception ended."""
    given: dict[str, Any] = {
        "probe": "tensor_ops",
        "device": "cpu",
        "status": "fail",
        "reason": "torch_raised",
        "summary": text,
        "started_at": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "duration_s": 1.0,
        "findings": (Finding(id="tensor_ops.completes", status="fail", message=text),),
    }
    return Result(**{**given, **fields})


CERTAIN = {
    "RuntimeError: can't start new thread": "no thread",
    "libgomp: Thread creation failed: Resource temporarily unavailable": "no thread",
    "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2": "no thread",
    "OMP: Error #34: System unable to allocate necessary resources for OMP thread:": "no thread",
    "BlockingIOError: [Errno 11] Resource temporarily unavailable": "no thread",
    "OSError: [Errno 24] Too many open files": "no file descriptor",
    "RuntimeError: unable to write to file </torch_1>: No space left on device (28)": "file system",
    "OSError: [Errno 27] File too large": "file system",
    "died by SIGXFSZ": "file system",
    "died by SIGXCPU": "processor time",
    "died by SIGSYS": "filter of system calls",
    "OSError: [Errno 38] Function not implemented": "system call",
    "PermissionError: [Errno 13] Permission denied: '/proc/self/maps'": "below /proc or /sys",
    "RuntimeError: Failed to initialize cpuinfo!": "below /proc or /sys",
    "KilledByOthersError: a worker was ended from outside, by SIGKILL": "somebody else",
    "g++: fatal error: Killed signal terminated program cc1plus": "somebody else",
    "g++: fatal error: Terminated signal terminated program cc1plus": "somebody else",
    "InductorError: InvalidCxxCompiler: No working C++ compiler found": "somebody else",
}

#: Told only while a limit on memory is in force.
POSSIBLE = (
    "std::bad_alloc",
    "MemoryError: Unable to allocate 8.00 MiB for an array",
    "PanicException: PyObject pointer is null",
    "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 bytes.",
    "ImportError: libtorch_cpu.so: failed to map segment from shared object",
    "OSError: [Errno 12] Cannot allocate memory",
    "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
    "RuntimeError: CUDA error: out of memory",
    "died by SIGSEGV",
    "no result within 60 s",
)

OF_TORCH = (
    "RuntimeError: CUDA error: an illegal memory access was encountered",
    "RuntimeError: inconsistent tensor size, expected tensor [2] and src [3]",
    "ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory",
    "FileNotFoundError: [Errno 2] No such file or directory: '/proc/driver/nvidia/version'",
    "OSError: [Errno 5] Input/output error: '/sys/class/drm/card0/device/resource0'",
    "died by SIGILL",
    "died by SIGFPE",
    "InductorError: CppCompileError: C++ compile error x.cpp:3:1: internal compiler error",
    "g++: internal compiler error: Segmentation fault signal terminated program cc1plus",
)


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without limits, whatever the test's own host is under."""
    monkeypatch.setattr(limits_in_force, "_soft", lambda _: None)
    monkeypatch.setattr(limits_in_force, "_meminfo", dict)
    monkeypatch.setattr(limits_in_force, "_text", lambda _: "")
    monkeypatch.setattr(cgroup, "memory_limit", lambda: None)


@pytest.mark.parametrize(("text", "what"), CERTAIN.items())
@pytest.mark.usefixtures("unlimited")
def test_a_text_that_only_a_limit_leaves_is_an_error(text: str, what: str) -> None:
    """In the exception's text or in the log alone, and also when no limit can be read."""
    raised = blame_host_limits(ended(text))
    logged = blame_host_limits(ended("died by SIGABRT", reason="crashed", log_tail=text))

    for result in (raised, logged):
        assert (result.status, result.reason) == ("error", "internal_error")
        assert what in result.summary
        assert result.findings[0].action == "fix_config"
        assert result.findings[0].hint


@pytest.mark.parametrize("text", POSSIBLE)
@pytest.mark.usefixtures("unlimited")
def test_memory_is_blamed_only_under_a_limit(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same end is a fail on a host without limits, and an error that names a tight one."""
    free = blame_host_limits(ended(text))
    monkeypatch.setattr(
        limits_in_force, "_soft", lambda name: 1 << 30 if name == "RLIMIT_AS" else None
    )
    tight = blame_host_limits(ended(text))

    assert free == ended(text)
    assert (tight.status, tight.reason) == ("error", "internal_error")
    assert "RLIMIT_AS is 1073741824 bytes" in tight.summary


def test_what_a_worker_was_handed_is_forgotten_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit counts for the worker that was started under it, and for no later one."""
    own = {"RLIMIT_AS": 1 << 30}
    monkeypatch.setattr(limits_in_force, "_meminfo", dict)
    monkeypatch.setattr(limits_in_force, "_text", lambda _: "")
    monkeypatch.setattr(cgroup, "memory_limit", lambda: None)
    monkeypatch.setattr(limits_in_force, "_own", own.get)
    limits_in_force.hand_on()
    own.clear()
    handed_on = limits_in_force.address_space()
    limits_in_force.hand_on()

    assert handed_on == ["RLIMIT_AS is 1073741824 bytes"]
    assert limits_in_force.address_space() == []


@pytest.mark.parametrize("text", OF_TORCH)
def test_what_no_limit_leaves_stays_a_fail(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit in force excuses nothing else."""
    monkeypatch.setattr(limits_in_force, "_soft", lambda _: 12 << 30)

    assert blame_host_limits(ended(text)) == ended(text)


def test_under_a_very_tight_limit_whatever_raises_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Libraries raise without saying that memory was short; what computed wrong stays a fail."""
    raised = "Conv2d: raised RuntimeError: could not create a primitive"
    wide = blame_host_limits(checked(raised))
    monkeypatch.setattr(
        limits_in_force, "_soft", lambda name: 350 << 20 if name == "RLIMIT_DATA" else None
    )

    assert wide.status == "fail"
    assert blame_host_limits(checked(raised)).status == "error"
    assert "RLIMIT_DATA is 367001600 bytes" in blame_host_limits(checked(raised)).summary
    assert blame_host_limits(checked("Conv2d: 3 of 4 elements wrong")).status == "fail"


def test_what_the_kernel_does_not_tell_the_cpu_s_library_is_no_wrong_answer() -> None:
    """Half precision on the CPU asks for features of the CPU, which are read below /proc."""
    raised = "index_select float16: raised RuntimeError: Failed to initialize cpuinfo!"

    assert blame_host_limits(checked(raised)).status == "error"
    assert blame_host_limits(checked(raised, "gather: 3 of 4 elements wrong")).status == "fail"


def checked(*observed: str) -> Result:
    """A result in which one check failed, by these operations."""
    finding = Finding(
        id="tensor_ops.large", status="fail", message="wrong", observed=list(observed)
    )
    return ended("large: wrong", reason="check_failed", findings=(finding,))


def test_a_check_whose_every_operation_was_refused_is_an_error() -> None:
    """An operation that raised for want of threads computed nothing wrong."""
    result = blame_host_limits(checked("add: raised RuntimeError: can't start new thread"))

    assert (result.status, result.reason) == ("error", "internal_error")
    assert result.findings[0].action == "fix_config"


def test_a_compiler_that_ends_without_a_word_was_ended() -> None:
    """What does not compile has an error of its own."""
    raised = "forward: raised InductorError: CppCompileError: C++ compile error"
    ended_by_others = blame_host_limits(checked(raised))
    own = blame_host_limits(checked(f"{raised} x.cpp:3:1: error: 'y' was not declared"))

    assert (ended_by_others.status, own.status) == ("error", "fail")


OF_A_WORKER = (
    "two workers: raised RuntimeError: DataLoader worker (pid(s) 7) exited unexpectedly",
    "two workers: raised RuntimeError: DataLoader timed out after 30.0 seconds",
)


@pytest.mark.parametrize("raised", OF_A_WORKER)
@pytest.mark.usefixtures("unlimited")
def test_why_a_worker_ended_is_told_from_its_log(raised: str) -> None:
    """It prints what the host refused it, and the loader only knows that it ended."""
    refused = checked(raised).model_copy(
        update={"log_tail": "Traceback ...\nRuntimeError: can't start new thread"}
    )
    crashed = checked(raised).model_copy(
        update={"log_tail": "ERROR: Unexpected segmentation fault encountered in worker."}
    )

    assert blame_host_limits(refused).status == "error"
    assert "no thread" in blame_host_limits(refused).summary
    assert blame_host_limits(crashed).status == "fail"


@pytest.mark.usefixtures("unlimited")
def test_a_log_excuses_no_other_operation() -> None:
    """What computed wrong or raised by itself is not put down to what was printed beside it."""
    printed = {"log_tail": "RuntimeError: can't start new thread"}
    for observed in ("collate: 3 of 4 elements wrong", "collate: raised RuntimeError: no batch"):
        result = checked(observed).model_copy(update=printed)

        assert blame_host_limits(result).status == "fail"
        both = checked(observed, OF_A_WORKER[0]).model_copy(update=printed)
        assert blame_host_limits(both).status == "fail"


def test_a_wrong_value_beside_a_refusal_stays_a_fail() -> None:
    """One operation that computed wrong is not excused by another that could not run."""
    both = checked("add: raised RuntimeError: can't start new thread", "mul: 3 of 4 elements wrong")

    assert blame_host_limits(both).status == "fail"


def test_wrong_values_stay_a_fail_whatever_ended_the_probe_afterwards() -> None:
    """A probe that died for a limit had already shown wrong bits: the machine is sick too."""
    wrong = Finding(
        id="tensor_ops.add", status="fail", message="1 of 4 wrong", wrong={"add": "bits"}
    )
    died = ended("MemoryError: can't start new thread")
    result = blame_host_limits(died.model_copy(update={"findings": (*died.findings, wrong)}))

    assert (result.status, result.reason) == ("fail", died.reason)
    assert wrong in result.findings
    assert {each.status for each in result.findings if each != wrong} == {"error"}
    assert "thread" in result.summary


def test_an_error_keeps_its_own_traceback() -> None:
    """What ended it is still in the report, for whoever mends it."""
    failure = Failure(type="MemoryError", message="", traceback="here")
    result = blame_host_limits(ended("MemoryError: can't start new thread", error=failure))

    assert result.error == failure
    assert host_limits.refusal("nothing of the kind") is None
