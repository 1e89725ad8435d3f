"""The process that imports torch once and runs probes in forked children.

It speaks JSON with the supervisor, one document a packet, over a SEQPACKET socket: requests
`fork`, `import`, `reap`; events `up`, `imported`, `import_failed`, `ready`, `forked`, `exited`.
It never initialises an accelerator and never runs a tensor operation: a child forked after either
cannot use CUDA, or hangs in OpenMP.
"""

import contextlib
import ctypes
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
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from probes.contract import Finding, Reason, Result

_PR_SET_PDEATHSIG = 1
_PACKET_BYTES = 65536
_TEXT_CHARACTERS = 4096  # of an exception's text or traceback
_RETRIES = 2  # of a probe whose check failed, to classify the failure
_RETRY_SHARE = 0.1  # of the deadline that the first try may have used for a retry to fit


def main(control_fd: int, supervisor_pid: int) -> None:
    """Serve one supervisor until it hangs up."""
    _die_with(supervisor_pid)
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    _send(control, {"event": "up"})
    if not _import_torch(control):
        return
    Worker(control).serve()


def _die_with(parent: int) -> None:
    """Be killed when the parent ends, also when it ended before this call."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    socket.send_fds(control, [json.dumps(message).encode()], list(fds))


def _import_torch(control: socket.socket) -> bool:
    """Import torch and NumPy as the user's own job would, and tell how that went."""
    started = time.monotonic()
    module = "torch"
    try:
        torch = importlib.import_module("torch")
        module = "numpy"
        numpy = importlib.import_module("numpy")
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        symptoms = importlib.import_module("probes.symptoms")
        symptom = symptoms.diagnose(f"{type(error).__name__}: {error}")
        _send(
            control,
            {
                "event": "import_failed",
                "module": module,
                "error": _failure(error),
                "hint": symptom.hint if symptom else "",
                "action": symptom.action if symptom else "fix_image",
            },
        )
        return False
    _send(
        control,
        {
            "event": "imported",
            "seconds": time.monotonic() - started,
            "environment": {
                "torch": str(torch.__version__),
                "torch_cuda": torch.version.cuda,
                "torch_hip": getattr(torch.version, "hip", None),
                "numpy": str(numpy.__version__),
                "python": sys.version.split()[0],
            },
        },
    )
    return True


def _failure(error: BaseException) -> dict[str, str]:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {
        "type": type(error).__name__,
        "message": str(error)[:_TEXT_CHARACTERS],
        "traceback": "".join(lines)[-_TEXT_CHARACTERS:],
    }


class Worker:
    """Forks children on request, tells of their exits, and holds each zombie until told to reap."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, tuple[int, int]] = {}  # pidfd -> (job, pid)
        self._pids: dict[int, int] = {}  # job -> pid, not yet reaped

    def serve(self) -> None:
        """Answer requests until the supervisor hangs up."""
        while True:
            readable, _, _ = select.select([self._control, *self._children], [], [])
            for descriptor in readable:
                if descriptor is self._control:
                    packet, fds, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 2)
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
            _send(self._control, {"event": "ready"})
        elif request["do"] == "reap":
            os.waitpid(self._pids.pop(request["job"]), 0)

    def _fork(self, request: dict[str, Any], result_fd: int, log_fd: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._control.close()
                for descriptor in self._children:
                    os.close(descriptor)
                _become_child(parent, log_fd)
                _run_job(request, result_fd)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        with contextlib.suppress(OSError):  # the child may have done it, or be gone already
            os.setpgid(pid, pid)
        os.close(result_fd)
        os.close(log_fd)
        pidfd = os.pidfd_open(pid)
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
    os.setpgid(0, 0)
    _die_with(worker_pid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)


def _run_job(request: dict[str, Any], result_fd: int) -> None:
    os.set_inheritable(result_fd, False)
    torch = importlib.import_module("torch")
    torch.set_num_threads(request["threads"])
    if request.get("survey"):
        survey = importlib.import_module("probes.survey")
        _write(result_fd, {"survey": survey.take()})
        return
    for probe in request["probes"]:
        _write(result_fd, {"start": probe["name"]})
        run = _ProbeRun(probe, request)
        result = run.first()
        if result.status == "fail" and result.reason == "check_failed":
            _write(result_fd, {"preliminary": result.model_dump_json(exclude_defaults=True)})
            result = run.classify(result)
        _write(result_fd, {"result": result.model_dump_json(exclude_defaults=True)})
        if run.poisoned:
            return  # the supervisor forks again for the rest


def _write(descriptor: int, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


class _ProbeRun:
    """One probe on one device: observe, judge, synchronize, and the errors of each told apart."""

    def __init__(self, probe: dict[str, Any], request: dict[str, Any]) -> None:
        self._name: str = probe["name"]
        self._limits: dict[str, Any] = probe["limits"]
        self._timeout_s: float = probe["timeout_s"]
        self._device: str = request["device"]
        self._gpu_uuid: str | None = request["gpu_uuid"]
        self._shared: bool = request["shared"]
        self._started = time.monotonic()
        self._started_at = datetime.now(timezone.utc)
        #: An exception escaped, or the device no longer synchronizes: start nothing more here.
        self.poisoned = False

    def first(self) -> "Result":
        """The result of the first try."""
        try:
            module = importlib.import_module(f"probes.{self._name}")
            limits = module.Limits.model_validate(self._limits) if self._limits else None
        except Exception as error:  # noqa: BLE001 - a broken probe or limit must not cost the rest
            return self._raised(error, "internal_error")
        try:
            seen = module.observe(self._device)
            self._synchronize()
        except Exception as error:  # noqa: BLE001 - whatever torch raises is the finding
            return self._raised(error, _blame(error))
        try:
            findings = _judge(module, seen, limits)
            measurements = tuple(module.measure(seen)) if hasattr(module, "measure") else ()
            observation = json.loads(seen.model_dump_json(exclude_defaults=True))
        except Exception as error:  # noqa: BLE001 - a bug of ours must not look like a sick device
            return self._raised(error, "internal_error")
        contract = importlib.import_module("probes.contract")
        status = contract.worst(finding.status for finding in findings)
        return self._result(
            status=status,
            reason=_reason(status, findings, self._name, self._device),
            summary=_summary(status, findings),
            findings=findings,
            observation=observation,
            measurements=measurements,
        )

    def classify(self, failed: "Result") -> "Result":
        """Say whether a failure comes again, and on the CPU too. It never becomes a pass."""
        if time.monotonic() - self._started > _RETRY_SHARE * self._timeout_s:
            return failed
        again = [self._fails_again(self._device) for _ in range(_RETRIES)]
        text = (
            f"persistent: failed again in {sum(again)} of {len(again)} retries"
            if all(again)
            else f"intermittent: failed again in {sum(again)} of {len(again)} retries"
        )
        if not self._device.startswith("cpu"):
            on_cpu = self._fails_again("cpu")
            text += "; fails on the CPU too: environment" if on_cpu else "; not on the CPU: device"
        return failed.model_copy(
            update={
                "summary": f"{failed.summary} ({text})",
                "duration_s": time.monotonic() - self._started,
            }
        )

    def _fails_again(self, device: str) -> bool:
        module = importlib.import_module(f"probes.{self._name}")
        limits = module.Limits.model_validate(self._limits) if self._limits else None
        try:
            findings = _judge(module, module.observe(device), limits)
        except Exception:  # noqa: BLE001 - raising now is failing again; the first try is reported
            self.poisoned = True
            return True
        return any(finding.status == "fail" for finding in findings)

    def _synchronize(self) -> None:
        tensors = importlib.import_module("probes.tensors")
        tensors.synchronize(self._device)

    def _raised(self, error: Exception, reason: "Reason") -> "Result":
        self.poisoned = True
        contract = importlib.import_module("probes.contract")
        symptom = importlib.import_module("probes.symptoms").diagnose(str(error))
        if reason == "torch_raised" and symptom is not None:
            reason = symptom.reason
            if symptom.name == "out_of_memory":
                reason = "gpu_busy" if self._shared else "torch_raised"
        status = {"torch_raised": "fail", "gpu_busy": "skip"}.get(reason, "error")
        first_line = (str(error).splitlines() or [""])[0]
        summary = f"{type(error).__name__}: {first_line}"[:200]
        finding = contract.Finding(
            id=f"{self._name}.completes",
            status=status,
            message=summary,
            observed=summary,
            expected="no exception",
            hint=symptom.hint if symptom else "",
            action=symptom.action if symptom else "investigate",
        )
        return self._result(
            status=status,
            reason=reason,
            summary=symptom.cause if symptom else summary,
            findings=(finding,),
            error=contract.Failure.model_validate(_failure(error)),
        )

    def _result(self, **fields: Any) -> "Result":
        contract = importlib.import_module("probes.contract")
        made: Result = contract.Result(
            probe=self._name,
            device=self._device,
            gpu_uuid=self._gpu_uuid,
            started_at=self._started_at,
            duration_s=time.monotonic() - self._started,
            **fields,
        )
        return made


def _judge(module: "ModuleType", seen: object, limits: object) -> tuple["Finding", ...]:
    return tuple(module.judge(seen) if limits is None else module.judge(seen, limits))


def _blame(error: Exception) -> "Reason":
    """torch's word, or our bug: torch raises RuntimeError from C++, anything from its own files."""
    if isinstance(error, RuntimeError):
        return "torch_raised"
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = os.path.dirname(__file__)  # noqa: PTH120 - no pathlib needed in every child
    return "internal_error" if innermost.startswith(ours) else "torch_raised"


def _reason(status: str, findings: tuple["Finding", ...], probe: str, device: str) -> "Reason":
    if status in {"fail", "warn"}:
        return "check_failed"
    if status == "error":
        lost = any(finding.action == "recreate_container" for finding in findings)
        return "lost_access" if lost else "internal_error"
    if status == "skip":
        return "no_device" if probe == "cuda_available" and device == "cpu" else "not_applicable"
    return "ok"


def _summary(status: str, findings: tuple["Finding", ...]) -> str:
    if status in {"pass", "skip"}:
        applied = [finding for finding in findings if finding.status != "skip"]
        return f"{len(applied)} checks passed" if applied else findings[0].message
    bad = [finding for finding in findings if finding.status == status]
    check = bad[0].id.partition(".")[2]
    return f"{check}: {bad[0].message}"
