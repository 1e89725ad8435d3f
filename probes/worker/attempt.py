"""Runs one probe on one device in a child of the worker: observe, judge, classify errors.

Every exception is caught here and becomes a result, so that the other probes still run.
"""

import importlib
import json
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from inspect import signature
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
    Try,
    Wrong,
    worst,
)
from probes.kit import breadcrumb
from probes.kit.backend import cpu_type, node_type
from probes.kit.symptoms import diagnose
from probes.node import hardware, nvml
from probes.worker import proven
from probes.worker.document import to_json
from probes.worker.errors import describe
from probes.worker.triage import Retry, triaged

_PROBES = Path(__file__).parents[1]
_RETRIES = 2  # of a probe whose check failed, to classify the failure
_RETRY_SHARE = 0.1  # share of the deadline; if the first try took longer, there is no retry
_SUMMARY_CHARACTERS = 1000  # limit on an exception's first line


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
            observation = self._measured(module, limits)
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

    def classify(
        self, failed: Result, tell: Callable[[Result, str], None] = lambda _, __: None
    ) -> Result:
        """Make the failed checks again, on the CPU too; return the result with what that told.

        The others have told what they can. `tell` is called before the retries on a device, with
        the result as it is until then and the device's name: they have a deadline of their own.
        """
        if self.poisoned or self._age_s() > _RETRY_SHARE * self._timeout_s:
            return failed
        first = Try(ended_s=self._age_s(), temperature_c=self._temperature_c(), failed=True)
        failing = {finding.id for finding in failed.findings if finding.status == "fail"}
        others = {finding.id for finding in failed.findings} - failing
        self._left_out |= {check.removeprefix(f"{self._name}.") for check in others}
        tell(failed, self._device_name)
        retries = [self._retry(self._device) for _ in range(_RETRIES)]
        cpu = None
        if not self._device.startswith("cpu") and not self._about_node:
            tell(self._triaged(failed, first, retries, None), "cpu")
            cpu = self._retry("cpu")
        return self._triaged(failed, first, retries, cpu)

    def _triaged(
        self, failed: Result, first: Try, retries: Sequence[Retry], cpu: Retry | None
    ) -> Result:
        findings = tuple(triaged(finding, first, retries, cpu) for finding in failed.findings)
        return failed.model_copy(update={"findings": findings, "duration_s": self._age_s()})

    def _age_s(self) -> float:
        """Seconds since the probe began."""
        return round(time.monotonic() - self._started, 6)

    def _temperature_c(self) -> int | None:
        """How warm the probe's GPU is now."""
        return nvml.temperature_c(self._gpu_uuid)

    def _retry(self, device: str) -> Retry:
        """Make the failed checks again, on that device."""
        findings = self._observed_again(device)
        return Retry(self._age_s(), self._temperature_c(), findings)

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

    def _observed_again(self, device: str) -> dict[str, Finding] | None:
        """Run the probe again and return its findings by id; None if it raised."""
        module = importlib.import_module(self._module)
        limits = module.Limits.model_validate(self._limits) if self._limits else None
        try:
            findings = self._judge(module, self._observe(module, device, limits), limits)
        except Exception:  # noqa: BLE001 - raising now is failing again; the first try is reported
            self.poisoned = True
            return None
        return {finding.id: finding for finding in findings}

    def _observe(self, module: ModuleType, device: str, limits: object) -> Any:
        """Run the probe's `observe`, without the checks that are left out.

        One that says how much to do takes the limits too.
        """
        breadcrumb.begin(self._left_out)
        with nullcontext() if self._framework is None else self._framework.pinned():
            if limits is not None and "limits" in signature(module.observe).parameters:
                return module.observe(device, limits)
            return module.observe(device)

    def _measured(self, module: ModuleType, limits: object) -> Any:
        """Observe, and record how long the parts take and the device memory, where asked for.

        Of a probe that raises nothing is recorded: a sick device can raise when it is asked.
        """
        framework = self._framework if self._measures_memory else None
        if framework is not None and self._in_a_new_process:
            framework.start(self._device)  # else there is nobody to ask
        watch = None if framework is None else framework.MemoryWatch(self._device)
        observation = self._observe(module, self._device, limits)
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
            duration_s=self._age_s(),
            fault=self._fault,
            timings=self._timings,
            memory_bytes=self._memory_bytes,
            **fields,
        )


def _framework() -> Any:
    """What is done to torch around a probe; a process without torch does not import it."""
    return importlib.import_module("probes.worker.framework")


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
