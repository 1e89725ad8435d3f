"""The process that imports torch once and runs probes in forked children.

A bare worker is for probes that need no torch: it imports neither torch nor NumPy.

It speaks JSON with the supervisor, one document a packet, over a SEQPACKET socket: requests
`fork`, `import`, `reap`; events `up`, `imported`, `import_failed`, `ready`, `forked`, `exited`.
It never initialises an accelerator and never runs a tensor operation: a child forked after the
first cannot use CUDA, and one forked after the second hangs in OpenMP.
"""

import contextlib
import faulthandler
import functools
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

from probes.kit.lifetime import die_with_parent
from probes.kit.watching import hold_signal
from probes.pidfd import pidfd_open
from probes.worker.errors import describe

_OOM_SCORE = "1000"  # the kernel's maximum; raising the score needs no permission
_PACKET_BYTES = 65536
#: Our modules that every child needs, imported before anybody asks for one: in any worker, and in
#: one with torch.
_SHARED = ("probes.worker.attempt", "probes.kit.breadcrumb")
_SHARED_WITH_TORCH = ("probes.worker.framework", "probes.kit.references")


def main(control_fd: int, supervisor_pid: int, nice: int, bare: int) -> None:
    """Serve one supervisor until it closes the connection; a bare worker without torch."""
    die_with_parent(supervisor_pid)
    faulthandler.register(signal.SIGUSR1)  # sent before a kill, to print where it hangs
    if nice:
        os.nice(nice)
    with contextlib.suppress(OSError):  # out of memory: kill this process before the node's jobs
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="utf-8")
    gc.disable()  # collections during the import of torch would slow it down
    if bare:
        hold_signal()  # of the end that a child which watches waits for
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    _send(control, {"event": "up"})
    if _do_without_torch(control) if bare else _import_torch(control):
        for name in _SHARED if bare else (*_SHARED, *_SHARED_WITH_TORCH):
            importlib.import_module(name)
        gc.freeze()  # keeps the memory pages shared with the children
        _Worker(control, bare=bool(bare)).serve()


def _send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    # No \u escapes, which use six bytes for one character: a packet holds 64 KiB.
    text = json.dumps(message, ensure_ascii=False)
    socket.send_fds(control, [text.encode(errors="surrogatepass")], list(fds))


def _do_without_torch(control: socket.socket) -> bool:
    """Report what there is to import in a bare worker: nothing. Always True."""
    now_s = time.monotonic()
    environment = {"python": sys.version.split()[0]}
    message = {"event": "imported", "began_s": now_s, "ended_s": now_s}
    _send(control, {**message, "environment": environment})
    return True


def _import_torch(control: socket.socket) -> bool:
    """Import torch and NumPy as a user's job would, and report the outcome. True if it worked."""
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
        explanation = _import_explanation(module, error)
        _send(
            control,
            {
                "event": "import_failed",
                "module": module,
                "error": describe(error),
                **explanation,
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


def _import_explanation(module: str, error: Exception) -> dict[str, Any]:
    """The cause, hint and action for an error that ended the import."""
    try:
        explain = importlib.import_module("probes.node.import_failure").explain
    except (ImportError, MemoryError, OSError):  # the cause may break our own imports too
        return {"cause": "", "hint": "", "action": "fix_image"}
    explanation: dict[str, Any] = explain(module, error)._asdict()
    return explanation


class _Worker:
    """Forks children on request, reports their exits, and reaps each only on request."""

    def __init__(self, control: socket.socket, *, bare: bool) -> None:
        self._control = control
        self._bare = bare
        self._children: dict[int, tuple[int, int]] = {}  # pidfd -> (job, pid)
        self._pids: dict[int, int] = {}  # job -> pid, not yet reaped

    def serve(self) -> None:
        """Answer requests until the supervisor closes the connection."""
        while True:
            control = self._control.fileno()
            readable, _, _ = select.select([control, *self._children], [], [])
            for descriptor in readable:
                if descriptor == control:
                    packet, fds, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 3)
                    if not packet:
                        return
                    self._handle(json.loads(packet), fds)
                else:
                    self._report_exit(descriptor)

    def _handle(self, request: dict[str, Any], fds: list[int]) -> None:
        if request["do"] == "fork":
            self._fork(request, *fds)
        elif request["do"] == "import":
            for name in request["modules"]:
                # If it cannot be imported, the child that needs it raises the error again.
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            gc.freeze()
            _send(self._control, {"event": "ready"})
        elif request["do"] == "reap":
            os.waitpid(self._pids.pop(request["job"]), 0)

    def _fork(
        self, request: dict[str, Any], result_fd: int, log_fd: int, breadcrumb_fd: int | None = None
    ) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._control.close()
                for descriptor in self._children:
                    os.close(descriptor)
                _become_child(parent, log_fd)
                if breadcrumb_fd is not None:
                    importlib.import_module("probes.kit.breadcrumb").use_page(breadcrumb_fd)
                    os.close(breadcrumb_fd)
                _run_job(request, result_fd, bare=self._bare)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        with contextlib.suppress(OSError):  # the child may have done it already, or has ended
            os.setpgid(pid, pid)
        os.close(result_fd)
        os.close(log_fd)
        if breadcrumb_fd is not None:
            os.close(breadcrumb_fd)
        pidfd = pidfd_open(pid)
        self._children[pidfd] = (request["job"], pid)
        self._pids[request["job"]] = pid
        _send(self._control, {"event": "forked", "job": request["job"], "pid": pid}, (pidfd,))

    def _report_exit(self, pidfd: int) -> None:
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
    """Set up a child: own process group, killed with the worker, output to its log pipe."""
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)
    os.setpgid(0, 0)
    die_with_parent(worker_pid)
    gc.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run_job(request: dict[str, Any], result_fd: int, *, bare: bool) -> None:
    """Take the survey, watch who uses a GPU, or run one device's probes in order.

    Each step is a line of JSON.
    """
    os.set_inheritable(result_fd, False)
    if request.get("alone"):
        importlib.import_module("probes.node.mig").show_only(request["alone"])
    if not bare:
        importlib.import_module("torch").set_num_threads(request["threads"])
    if request.get("survey"):
        survey = importlib.import_module("probes.node.survey")
        _write(result_fd, {"survey": survey.take()})
        return
    if request.get("tenants"):
        tenants = importlib.import_module("probes.node.tenants")
        tenants.watch(
            request["tenants"],
            request["every_s"],
            lambda use: _write(result_fd, {"use": use.model_dump()}),
        )
        return
    if request.get("watch"):
        importlib.import_module("probes.kit.watching").begin()
    attempt_module = importlib.import_module("probes.worker.attempt")
    fault = request.get("fault")
    if fault is not None:  # in force until this child ends, and only here
        importlib.import_module("probes.faults.inject").apply(fault, request["device"])
    to_json = importlib.import_module("probes.worker.document").to_json
    for probe in request["probes"]:
        os.write(2, f"--- {probe['name']}\n".encode())  # so that the end of a log shows its probe
        _write(result_fd, {"start": probe["name"]})
        attempt = attempt_module.Attempt(probe, request)
        result = attempt.first_result()
        if fault is None and result.status == "fail" and result.reason == "check_failed":
            result = attempt.classify(result, functools.partial(_tell, result_fd))
        _write(result_fd, {"result": to_json(result)})
        if attempt.poisoned:
            return  # the supervisor forks again for the rest


def _tell(descriptor: int, result: Any, device: str) -> None:
    """Write a result that stands if the retries on a device, which begin now, do not end."""
    text = importlib.import_module("probes.worker.document").to_json(result)
    _write(descriptor, {"preliminary": text, "retries_on": device})


def _write(descriptor: int, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]
