"""The process that imports torch once and runs probes in forked children.

It speaks JSON with the supervisor, one document a packet, over a SEQPACKET socket: requests
`fork`, `import`, `reap`; events `up`, `imported`, `import_failed`, `ready`, `forked`, `exited`.
It never initialises an accelerator and never runs a tensor operation: a child forked after either
cannot use CUDA, or hangs in OpenMP.
"""

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from probes.pidfd import pidfd_open
from probes.worker.errors import describe

_PR_SET_PDEATHSIG = 1
_FIRST_TO_GO = "1000"  # the highest that the kernel knows; raising it needs no permission
_PACKET_BYTES = 65536
#: What every child needs of ours, imported before the first fork.
_SHARED = ("probes.worker.attempt", "probes.kit.breadcrumb", "probes.kit.references")


def main(control_fd: int, supervisor_pid: int, nice: int) -> None:
    """Serve one supervisor until it hangs up."""
    _die_with(supervisor_pid)
    faulthandler.register(signal.SIGUSR1)  # sent before a kill, so that a hang tells its place
    if nice:
        os.nice(nice)
    with contextlib.suppress(OSError):  # where memory runs out, ours goes before the node's work
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="utf-8")
    gc.disable()  # it walks the growing heap again and again while torch is imported
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    _send(control, {"event": "up"})
    if _import_torch(control):
        for module in _SHARED:
            importlib.import_module(module)
        gc.freeze()  # what the children share stays shared
        _Worker(control).serve()


def _die_with(parent: int) -> None:
    """Be killed when the parent ends, also when it ended before this call."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    # As it is and not as \u escapes, which make six bytes of one: a packet holds 64 KiB.
    text = json.dumps(message, ensure_ascii=False)
    socket.send_fds(control, [text.encode(errors="surrogatepass")], list(fds))


def _import_torch(control: socket.socket) -> bool:
    """Import torch and NumPy as the user's own job would, and tell how that went."""
    began_s = time.monotonic()
    try:
        module = "torch"
        torch = importlib.import_module("torch")
        environment = {
            "torch": str(torch.__version__),
            "torch_cuda": torch.version.cuda,
            "torch_hip": getattr(torch.version, "hip", None),
            "python": sys.version.split()[0],
        }
        module = "numpy"
        environment["numpy"] = str(importlib.import_module("numpy").__version__)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        why = _explained(module, error)
        _send(
            control,
            {
                "event": "import_failed",
                "module": module,
                "error": describe(error),
                **why,
            },
        )
        return False
    _send(
        control,
        {
            "event": "imported",
            "began_s": began_s,  # on the clock that all processes share
            "ended_s": time.monotonic(),
            "environment": environment,
        },
    )
    return True


def _explained(module: str, error: Exception) -> dict[str, Any]:
    """What is known of an error that ended the import: its cause, a hint, and who has to act."""
    try:
        explain = importlib.import_module("probes.node.import_failure").explain
    except (ImportError, MemoryError, OSError):  # what broke torch may break what is ours
        return {"cause": "", "hint": "", "action": "fix_image"}
    explained: dict[str, Any] = explain(module, error)._asdict()
    return explained


class _Worker:
    """Forks children on request, tells of their exits, and holds each zombie until told to reap."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, tuple[int, int]] = {}  # pidfd -> (job, pid)
        self._pids: dict[int, int] = {}  # job -> pid, not yet reaped

    def serve(self) -> None:
        """Answer requests until the supervisor hangs up."""
        while True:
            control = self._control.fileno()
            readable, _, _ = select.select([control, *self._children], [], [])
            for descriptor in readable:
                if descriptor == control:
                    packet, fds, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 3)
                    if not packet:
                        return
                    self._obey(json.loads(packet), fds)
                else:
                    self._tell_exit(descriptor)

    def _obey(self, request: dict[str, Any], fds: list[int]) -> None:
        if request["do"] == "fork":
            self._fork(request, *fds)
        elif request["do"] == "import":
            for name in request["modules"]:
                # One that cannot be imported raises again in the child that needs it.
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            gc.freeze()
            _send(self._control, {"event": "ready"})
        elif request["do"] == "reap":
            os.waitpid(self._pids.pop(request["job"]), 0)

    def _fork(
        self, request: dict[str, Any], result_fd: int, log_fd: int, place_fd: int | None = None
    ) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._control.close()
                for descriptor in self._children:
                    os.close(descriptor)
                _become_child(parent, log_fd)
                if place_fd is not None:
                    importlib.import_module("probes.kit.breadcrumb").show_on(place_fd)
                    os.close(place_fd)
                _run_job(request, result_fd)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        with contextlib.suppress(OSError):  # the child may have done it, or be gone already
            os.setpgid(pid, pid)
        os.close(result_fd)
        os.close(log_fd)
        if place_fd is not None:
            os.close(place_fd)
        pidfd = pidfd_open(pid)
        self._children[pidfd] = (request["job"], pid)
        self._pids[request["job"]] = pid
        _send(self._control, {"event": "forked", "job": request["job"], "pid": pid}, (pidfd,))

    def _tell_exit(self, pidfd: int) -> None:
        job, pid = self._children.pop(pidfd)
        os.close(pidfd)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if ended is None:
            return
        exited = ended.si_code == os.CLD_EXITED
        _send(
            self._control,
            {
                "event": "exited",
                "job": job,
                "code": ended.si_status if exited else None,
                "signal": None if exited else ended.si_status,
            },
        )


def _become_child(worker_pid: int, log_fd: int) -> None:
    """A process group of its own, dying with the worker, printing to its own log pipe."""
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)
    os.setpgid(0, 0)
    _die_with(worker_pid)
    gc.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run_job(request: dict[str, Any], result_fd: int) -> None:
    """Take the survey, or run the probes of one device in order, one line a step."""
    os.set_inheritable(result_fd, False)
    if request.get("alone"):
        importlib.import_module("probes.node.mig").show_alone(request["alone"])
    torch = importlib.import_module("torch")
    torch.set_num_threads(request["threads"])
    if request.get("survey"):
        survey = importlib.import_module("probes.node.survey")
        _write(result_fd, {"survey": survey.take()})
        return
    attempt = importlib.import_module("probes.worker.attempt")
    fault = request.get("fault")
    if fault is not None:  # alive until this child ends, and nowhere else
        importlib.import_module("probes.faults.inject").apply(fault, request["device"])
    for probe in request["probes"]:
        os.write(2, f"--- {probe['name']}\n".encode())  # so that a log's tail tells whose it is
        _write(result_fd, {"start": probe["name"]})
        tried = attempt.Attempt(probe, request)
        result = tried.first()
        if fault is None and result.status == "fail" and result.reason == "check_failed":
            _write(result_fd, {"preliminary": result.model_dump_json(exclude_defaults=True)})
            result = tried.classify(result)
        _write(result_fd, {"result": result.model_dump_json(exclude_defaults=True)})
        if tried.poisoned:
            return  # the supervisor forks again for the rest


def _write(descriptor: int, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]
