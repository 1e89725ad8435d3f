"""Runs one probe on one device in a child of the worker: observe, judge, classify errors.

Every exception is caught here and becomes a result, so that the other probes still run.
"""

import importlib
import json
import time
import traceback
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

from probes.contract import (
    COMPLETES,
    GPU_BUSY,
    Failure,
    Finding,
    Reason,
    Result,
    Status,
    Timing,
    Wrong,
    worst,
)
from probes.kit import breadcrumb
from probes.kit.backend import cpu_type, node_type
from probes.kit.symptoms import diagnose
from probes.node import hardware
from probes.worker import proven
from probes.worker.document import to_json
from probes.worker.errors import describe

_PROBES = Path(__file__).parents[1]
_RETRIES = 2  # of a probe whose check failed, to classify the failure
_RETRY_SHARE = 0.1  # share of the deadline; if the first try took longer, there is no retry
_SUMMARY_CHARACTERS = 1000  # limit on an exception's first line
#: For a check that fails on the CPU of the same image too.
_IMAGE_HINT = (
    "it fails on the CPU of this image too, so that the device is not the cause: do not drain; "
    "reinstall torch as it was pinned, or report a false alarm of this check"
)
#: For a check that fails on the device only.
_DEVICE_HINT = (
    "it does not fail on the CPU of this image: the device, or the image's libraries for it; run "
    "the same image on a second device before this one is drained"
)


class Attempt:
    """One probe on one device. If `poisoned` afterwards: run nothing more in this process."""

    def __init__(self, probe: dict[str, Any], request: dict[str, Any]) -> None:
        """Create it from a fork request: the part of the probe and the part of the job."""
        self._name: str = probe["name"]
        self._module: str = probe["module"]
        self._limits: dict[str, Any] = probe["limits"]
        self._timeout_s: float = probe["timeout_s"]
        self._about_node: bool = probe["about_node"]
        self._certain: dict[str, list[Wrong]] = probe["certain"]
        self._device: str = request["device"]  # as torch calls it in this process
        self._device_name: str = request.get("device_name", self._device)  # in the report
        self._gpu_uuid: str | None = request["gpu_uuid"]
        self._shared: bool = request["shared"]
        self._keep_observation: bool = request["observations"]
        self._keep_timings: bool = request["timings"]
        self._framework = _framework() if probe["needs_torch"] else None
        self._measures_memory: bool = request["memory"]
        self._in_a_new_process: bool = probe["in_a_new_process"]
        self._timings: tuple[Timing, ...] = ()  # of the first try
        self._memory_bytes: int | None = None
        self._fault: str | None = request.get("fault")
        #: Checks that killed an earlier process; the supervisor reports them.
        self._left_out = frozenset(probe.get("left_out", ()))
        self._backend: str | None = request["backend"]
        self._unproven: str = request["unproven"]
        self._started = time.monotonic()
        self._started_at = datetime.now(timezone.utc)
        #: An exception escaped, or the device no longer synchronizes.
        self.poisoned = False

    def first_result(self) -> Result:
        """Run the probe once and return its result."""
        try:
            module = importlib.import_module(self._module)
            limits = module.Limits.model_validate(self._limits) if self._limits else None
        except Exception as error:  # noqa: BLE001 - a broken probe or limit must not cost the rest
            return self._error_result(error, "internal_error")
        try:
            observation = self._measured(module)
        except Exception as error:  # noqa: BLE001 - whatever torch raises is the finding
            return self._error_result(error, _reason_of_error(error, module))
        try:
            findings = self._softened(self._judge(module, observation, limits))
            measurements = tuple(module.measure(observation)) if hasattr(module, "measure") else ()
            status = worst(finding.status for finding in findings)
            keep = self._keep_observation or status not in {"pass", "skip"}
            document = json.loads(to_json(observation)) if keep else None
        except Exception as error:  # noqa: BLE001 - a bug of ours must not look like a sick device
            return self._error_result(error, "internal_error")
        result = self._result(
            status=status,
            reason=_reason(status, findings, self._name, self._device),
            summary=_summary(status, findings),
            findings=findings,
            observation=document,
            measurements=measurements,
        )
        if self._framework is None:
            return result
        try:
            self._framework.synchronize(self._device)
            self._framework.give_back(self._device)
        except Exception as error:  # noqa: BLE001 - whatever torch raises is the finding
            return _combined(result, self._error_result(error, _reason_of_error(error, module)))
        return result

    def classify(self, failed: Result) -> Result:
        """Retry a failed probe, on the CPU too; return its result with what came of the retries.

        Only the checks that failed are made again: the others have told what they can.
        """
        if self.poisoned or time.monotonic() - self._started > _RETRY_SHARE * self._timeout_s:
            return failed
        failing = {finding.id for finding in failed.findings if finding.status == "fail"}
        others = {finding.id for finding in failed.findings} - failing
        self._left_out |= {check.removeprefix(f"{self._name}.") for check in others}
        retries = [self._failing_checks(self._device) for _ in range(_RETRIES)]
        failures = sum(ids is None or bool(ids & failing) for ids in retries)
        kind = "persistent" if failures == len(retries) else "intermittent"
        text = f"{kind}: failed again in {failures} of {len(retries)} retries"
        findings = failed.findings
        if not self._device.startswith("cpu") and not self._about_node:
            on_cpu = self._failing_checks("cpu")
            text += f"; {_failure_location(failing, on_cpu)}"
            findings = tuple(_with_advice(finding, on_cpu) for finding in findings)
        return failed.model_copy(
            update={
                "summary": f"{failed.summary} ({text})",
                "findings": findings,
                "duration_s": time.monotonic() - self._started,
            }
        )

    def _softened(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """The findings, with failures as warnings where the check is unproven on this hardware."""
        if self._unproven == "fail" or all(finding.status != "fail" for finding in findings):
            return findings
        if self._backend is not None:
            backend = self._backend
        elif self._about_node:
            backend = node_type(hardware.detect().vendors)
        else:
            backend = cpu_type()
        return tuple(proven.soften(findings, self._certain, backend))

    def _failing_checks(self, device: str) -> frozenset[str] | None:
        """Run the probe again and return the ids of its failing checks; None if it raised."""
        module = importlib.import_module(self._module)
        limits = module.Limits.model_validate(self._limits) if self._limits else None
        try:
            findings = self._judge(module, self._observe(module, device), limits)
        except Exception:  # noqa: BLE001 - raising now is failing again; the first try is reported
            self.poisoned = True
            return None
        return frozenset(finding.id for finding in findings if finding.status == "fail")

    def _observe(self, module: ModuleType, device: str) -> Any:
        """Run the probe's `observe`, without the checks that are left out."""
        breadcrumb.begin(self._left_out)
        with nullcontext() if self._framework is None else self._framework.pinned():
            return module.observe(device)

    def _measured(self, module: ModuleType) -> Any:
        """Observe, and record how long the parts take and the device memory, where asked for.

        Of a probe that raises nothing is recorded: a sick device can raise when it is asked.
        """
        framework = self._framework if self._measures_memory else None
        if framework is not None and self._in_a_new_process:
            framework.start(self._device)  # else there is nobody to ask
        watch = None if framework is None else framework.MemoryWatch(self._device)
        observation = self._observe(module, self._device)
        if watch is not None:
            self._memory_bytes = watch.taken_bytes()
        if self._keep_timings:
            self._timings = tuple(
                Timing(name=name, started_s=start_s - self._started, duration_s=end_s - start_s)
                for name, start_s, end_s in breadcrumb.parts()
            )
        return observation

    def _judge(
        self, module: ModuleType, observation: object, limits: object
    ) -> tuple[Finding, ...]:
        """The findings without the checks that are left out: nothing was observed for them."""
        findings = (
            module.judge(observation) if limits is None else module.judge(observation, limits)
        )
        left_out = {f"{self._name}.{check}" for check in self._left_out}
        return tuple(finding for finding in findings if finding.id not in left_out)

    def _error_result(self, error: Exception, reason: Reason) -> Result:
        self.poisoned = True
        symptom = diagnose(str(error)) if reason != "internal_error" else None
        if symptom is not None:
            reason = symptom.reason
            if symptom.name == "out_of_memory" and not self._shared:
                reason = "torch_raised"  # no other process can have used the memory
        status: Status = "error"
        if reason in {"torch_raised", "import_failed"}:
            status = "fail"
        elif reason == "gpu_busy":
            status = "skip"
        first_line = (str(error).splitlines() or [""])[0]
        text = f"{type(error).__name__}: {first_line}"
        if len(text) > _SUMMARY_CHARACTERS:
            more = len(text) - _SUMMARY_CHARACTERS
            text = f"{text[:_SUMMARY_CHARACTERS]} (and {more} more characters)"
        finding = Finding(
            id=f"{self._name}.{COMPLETES}",
            status=status,
            message=text,
            observed=text,
            expected="no exception",
            hint=symptom.hint if symptom else "",
            action=symptom.action if symptom else "investigate",
        )
        if symptom is None:  # a known error text means the same on any hardware
            (finding,) = self._softened((finding,))
        return self._result(
            status=finding.status,
            reason="unproven" if proven.is_softened(finding) else reason,
            summary=symptom.cause if symptom else finding.message,
            findings=(finding,),
            error=Failure.model_validate(describe(error)),
        )

    def _result(self, **fields: Any) -> Result:
        return Result(
            probe=self._name,
            device=self._device_name,
            gpu_uuid=self._gpu_uuid,
            started_at=self._started_at,
            duration_s=time.monotonic() - self._started,
            fault=self._fault,
            timings=self._timings,
            memory_bytes=self._memory_bytes,
            **fields,
        )


def _framework() -> Any:
    """What is done to torch around a probe; a process without torch does not import it."""
    return importlib.import_module("probes.worker.framework")


def _failure_location(failing: set[str], on_cpu: frozenset[str] | None) -> str:
    """The summary's words on the cause, device or environment, by the retry on the CPU."""
    if on_cpu is None:
        return "raised on the CPU, which tells nothing of the device"
    on_both, device_only = failing & on_cpu, failing - on_cpu
    if not on_both:
        return "not on the CPU: device"
    if not device_only:
        return "fails on the CPU too: environment"
    names = ", ".join(sorted(check.partition(".")[2] for check in device_only))
    return f"not all of it on the CPU: device, of {names}"


def _with_advice(finding: Finding, on_cpu: frozenset[str] | None) -> Finding:
    """The finding; for a failure, with advice that depends on whether it fails on the CPU too."""
    if finding.status != "fail" or on_cpu is None:
        return finding
    if finding.id in on_cpu:
        hint = f"{_IMAGE_HINT}; {finding.hint}" if finding.hint else _IMAGE_HINT
        return finding.model_copy(update={"hint": hint, "action": "fix_image"})
    hint = f"{_DEVICE_HINT}; {finding.hint}" if finding.hint else _DEVICE_HINT
    return finding.model_copy(update={"hint": hint})


def _combined(result: Result, error_result: Result) -> Result:
    """Combine the judged result with the error that the device raised when it was synchronized.

    If the findings already report the trouble, they name the cause better than this error.
    """
    if result.status == "error" or result.reason == "gpu_busy":
        return result
    if result.status != "fail":
        return error_result
    hints = {finding.hint for finding in result.findings if finding.status == "fail"}
    new = tuple(finding for finding in error_result.findings if finding.hint not in hints)
    return result.model_copy(update={"findings": (*result.findings, *new)})


def _reason_of_error(error: Exception, module: ModuleType) -> Reason:
    """`torch_raised` for a RuntimeError or an error in torch's files; else a bug of ours."""
    if isinstance(error, RuntimeError):
        return "torch_raised"
    innermost = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    own_folders = {_PROBES, Path(str(module.__file__)).parent}
    return "internal_error" if own_folders & set(innermost.parents) else "torch_raised"


def _reason(status: Status, findings: tuple[Finding, ...], probe: str, device: str) -> Reason:
    if status in {"fail", "warn"}:
        worst_findings = [finding for finding in findings if finding.status == status]
        return "unproven" if all(map(proven.is_softened, worst_findings)) else "check_failed"
    if status == "error":
        lost = any(finding.action == "recreate_container" for finding in findings)
        return "lost_access" if lost else "internal_error"
    if status == "skip":
        if any(finding.message.startswith(GPU_BUSY) for finding in findings):
            return "gpu_busy"
        return "no_device" if probe == "cuda_available" and device == "cpu" else "not_applicable"
    return "ok"


def _summary(status: Status, findings: tuple[Finding, ...]) -> str:
    if status in {"pass", "skip"}:
        applied = [finding for finding in findings if finding.status != "skip"]
        if applied:
            return f"{len(applied)} check{'s' if len(applied) > 1 else ''} passed"
        reasons = [finding.message for finding in findings]
        return next((why for why in reasons if why.startswith(GPU_BUSY)), reasons[0])
    bad = [finding for finding in findings if finding.status == status]
    check = bad[0].id.partition(".")[2]
    return f"{check}: {bad[0].message}"
