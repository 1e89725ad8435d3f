"""Start the worker process. Standard library only, so that it runs before anything slow imports."""

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from probes.pidfd import pidfd_open
from validator.engine import cgroup, limits_in_force

#: What a system call gives.
_Made = TypeVar("_Made")

#: In the environment of the worker and all it starts, so that what outlives it can be found.
MARKER = "_GPU_VALIDATOR_WORKER"

_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package `probes`

# `-c` and a cleaned path: the user's folder may hold a `probes/` or a `random.py` of its own. Our
# root goes first only while `probes` is found, then leaves, so that it shadows nothing of theirs.
_BOOT = """
import sys
if sys.path and sys.path[0] == "": del sys.path[0]
sys.path.insert(0, sys.argv[1])
import probes
del sys.path[0]
from probes.worker import main as worker
worker.main(*map(int, sys.argv[2:6]))
"""


class CannotStartError(Exception):
    """The worker process could not be started; the text says why."""


class WorkerProcess(NamedTuple):
    """A started worker: its process, a pidfd, the control socket and its log pipe's read end."""

    process: subprocess.Popen[bytes]
    pidfd: int
    control: socket.socket  # AF_UNIX, SOCK_SEQPACKET: one JSON document a packet
    log_fd: int
    memory_kills_before: int  # that our control group had counted when it was started
    started_s: float  # when, on the monotonic clock
    bare: bool = False  # without torch

    def kill(self) -> bool:
        """End the worker and its descriptors; False when it could not be killed within 2 s."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        dead, _, _ = select.select([self.pidfd], [], [], 2.0)
        if dead:
            self.process.wait()
        self.control.close()
        for descriptor in (self.log_fd, self.pidfd):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        return bool(dead)


def start_worker(nice: int = 0, *, before: Path | None = None, bare: bool = False) -> WorkerProcess:
    """Start a worker in a session of its own, on the interpreter that runs this.

    Call it from the main thread: the kernel ends the worker with the thread that started it.

    Args:
        nice: added to the niceness, so that a daemon's probes yield to the node's work.
        before: a folder to find modules in before all others, for a broken installation.
        bare: import neither torch nor NumPy.

    Raises:
        CannotStartError: no interpreter, no memory, no process or descriptor left.
    """
    if not sys.executable:
        raise CannotStartError(
            "the Python interpreter's own path is unknown (started without PATH?); "
            "start gpu-validator by its absolute path"
        )
    if not Path(f"/proc/{os.getpid()}/stat").exists():
        raise CannotStartError(
            "the validator needs /proc of its own processes, and /proc is not mounted or shows "
            "others: `mount -t proc proc /proc`"
        )
    _undo_what_a_parent_ignores()
    environment = {**os.environ, MARKER: str(os.getpid())}
    if before is not None:
        known = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{before}{os.pathsep}{known}" if known else str(before)
    memory_kills_before = cgroup.memory_kills()
    limits_in_force.hand_on()
    started_s = time.monotonic()
    with contextlib.ExitStack() as failed, contextlib.ExitStack() as always:
        ours, theirs = _call("socketpair", _socketpair)
        failed.callback(ours.close)
        always.callback(theirs.close)
        log_read, log_write = _call("pipe2", os.pipe)
        failed.callback(os.close, log_read)
        always.callback(os.close, log_write)
        command = [sys.executable, "-X", "faulthandler", "-c", _BOOT]
        command += [str(_ROOT), str(theirs.fileno()), str(os.getpid()), str(nice), str(int(bare))]
        process = _call(
            "fork, setsid or execve",
            lambda: subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                env=environment,
                cwd=_gone_folder(),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            ),
        )
        failed.callback(process.wait)
        failed.callback(process.kill)
        pidfd = _call("pidfd_open (Linux 5.3)", lambda: pidfd_open(process.pid))
        failed.pop_all()
    return WorkerProcess(process, pidfd, ours, log_read, memory_kills_before, started_s, bare)


def refuse_without_calls() -> None:
    """Make the calls that the event loop and every wait rest on, once.

    Raises:
        OSError: one of them is missing, or a filter refuses it; the traceback's line is the call.
    """
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right, select.epoll() as poll:
        poll.register(left.fileno(), select.EPOLLOUT)
        poll.poll(0)
        select.select([], [left], [], 0)
        right.sendmsg([b"."])
        left.recvmsg(1)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(os.getpid(), os.WNOHANG)  # nobody is a child of itself


def _socketpair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _gone_folder() -> str | None:
    """The root where our working directory was removed: there MKL ends the import of torch."""
    try:
        Path.cwd()
    except OSError:
        return "/"
    return None


def _undo_what_a_parent_ignores() -> None:
    """Take back what this process inherited and how a child ended would be lost by.

    Where SIGCHLD is ignored the kernel reaps children, and their exit code is gone; a blocked
    SIGUSR1 would not print a traceback.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, signal.SIGUSR1})


def _call(call: str, make: Callable[[], _Made]) -> _Made:
    """Make a system call and return what it gives.

    Raises:
        CannotStartError: it failed; a call that is missing or refused is named as what is needed.
    """
    try:
        return make()
    except OSError as error:
        text = f"the worker could not be started: {call}: {error}"
        if error.errno in {errno.ENOSYS, errno.EPERM}:
            text = (
                f"the worker needs {call}, which failed with {error}: it needs a kernel that has "
                "this call and a container filter (seccomp) that allows it"
            )
        raise CannotStartError(text) from error
