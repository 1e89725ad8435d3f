"""Start the worker process. Standard library only, so that it runs before anything slow imports."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: In the environment of the worker and all it starts, so that what outlives it can be found.
MARKER = "_GPU_VALIDATOR_WORKER"

_ROOT = Path(__file__).resolve().parent.parent  # the folder that holds the package `probes`

# `-c` and a cleaned path: the user's folder may hold a `probes/` or a `random.py` of its own. Our
# root goes first only while `probes` is found, then leaves, so that it shadows nothing of theirs.
_BOOT = """
import sys
if sys.path and sys.path[0] == "": del sys.path[0]
sys.path.insert(0, sys.argv[1])
import probes
del sys.path[0]
from probes import worker
worker.main(*map(int, sys.argv[2:5]))
"""


class CannotStartError(Exception):
    """The worker process could not be started; the text says why."""


@dataclass(frozen=True)
class WorkerProcess:
    """A started worker: its process, a pidfd, the control socket and its log pipe's read end."""

    process: subprocess.Popen[bytes]
    pidfd: int
    control: socket.socket  # AF_UNIX, SOCK_SEQPACKET: one JSON document a packet
    log_fd: int

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


def start_worker(nice: int = 0, *, before: Path | None = None) -> WorkerProcess:
    """Start a worker in a session of its own, on the interpreter that runs this.

    Call it from the main thread: the kernel ends the worker with the thread that started it.

    Args:
        nice: added to the niceness, so that a daemon's probes yield to the node's work.
        before: a folder to find modules in before all others, for a broken installation.

    Raises:
        CannotStartError: no interpreter, no memory, no process or descriptor left.
    """
    if not sys.executable:
        raise CannotStartError(
            "the Python interpreter's own path is unknown (started without PATH?); "
            "start gpu-validator by its absolute path"
        )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log_read, log_write = os.pipe()
    environment = {**os.environ, MARKER: str(os.getpid())}
    if before is not None:
        known = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{before}{os.pathsep}{known}" if known else str(before)
    command = [sys.executable, "-X", "faulthandler", "-c", _BOOT]
    command += [str(_ROOT), str(theirs.fileno()), str(os.getpid()), str(nice)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log_write,
            stderr=log_write,
            env=environment,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        pidfd = os.pidfd_open(process.pid)
    except OSError as error:
        ours.close()
        os.close(log_read)
        raise CannotStartError(f"the worker could not be started: {error}") from error
    finally:
        theirs.close()
        os.close(log_write)
    return WorkerProcess(process, pidfd, ours, log_read)
