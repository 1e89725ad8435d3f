"""One probe on one device in a worker's child: observe, judge, and each kind of error told apart.

Every exception ends here: what a probe or torch raises is a result, and must not cost the rest.
"""

import importlib
import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
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
from probes.kit import breadcrumb, defaults
from probes.kit.backend import cpu_type, node_type
from probes.kit.memory import MemoryWatch
from probes.kit.symptoms import diagnose
from probes.kit.tensors import synchronize
from probes.node import hardware
from probes.worker import proven
from probes.worker.errors import describe

_PROBES = Path(__file__).parents[1]
_RETRIES = 2  # of a probe whose check failed, to classify the failure
_RETRY_SHARE = 0.1  # of the deadline that the first try may have used for a retry to fit
_SUMMARY_CHARACTERS = 1000  # of an exception's first line, which may be anything
#: Of a check that fails on the CPU of the same image as well.
_IMAGE_HINT = (
    "it fails on the CPU of this image too, so that the device is not the cause: do not drain; "
    "reinstall torch as it was pinned, or report a false alarm of this check"
)
#: Of a check that fails on the device alone.
_DEVICE_HINT = (
    "it does not fail on the CPU of this image: the device, or the image's libraries for it; run "
    "the same image on a second device before this one is drained"
)


class Attempt:
    """One probe on one device. `poisoned` after it: start nothing more in this process."""

    def __init__(self, probe: dict[str, Any], request: dict[str, Any]) -> None:
        """Create it from the probe's part and the job's part of a fork request."""
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
        self._timings: tuple[Timing, ...] = ()  # of the first try
        self._memory_bytes: int | None = None
        self._fault: str | None = request.get("fault")
        #: Checks that killed a process before this one, and are told by the supervisor.
        self._left_out = frozenset(probe.get("left_out", ()))
        self._backend: str | None = request["backend"]
        self._unproven: str = request["unproven"]
        self._started = time.monotonic()
        self._started_at = datetime.now(timezone.utc)
        #: An exception escaped, or the device no longer synchronizes.
        self.poisoned = False

    def first(self) -> Result:
        """The result of the first try."""
        try:
            module = importlib.import_module(self._module)
            limits = module.Limits.model_validate(self._limits) if self._limits else None
        except Exception as error:  # noqa: BLE001 - a broken probe or limit must not cost the rest
            return self._raised(error, "internal_error")
        try:
            with self._measured():
                seen = self._observe(module, self._device)
        except Exception as error:  # noqa: BLE001 - whatever torch raises is the finding
            return self._raised(error, _blame(error, module))
        try:
            findings = self._softened(self._judge(module, seen, limits))
            measurements = tuple(module.measure(seen)) if hasattr(module, "measure") else ()
            status = worst(finding.status for finding in findings)
            keep = self._keep_observation or status not in {"pass", "skip"}
            observation = json.loads(seen.model_dump_json(exclude_defaults=True)) if keep else None
        except Exception as error:  # noqa: BLE001 - a bug of ours must not look like a sick device
            return self._raised(error, "internal_error")
        judged = self._result(
            status=status,
            reason=_reason(status, findings, self._name, self._device),
            summary=_summary(status, findings),
            findings=findings,
            observation=observation,
            measurements=measurements,
        )
        try:
            synchronize(self._device)
        except Exception as error:  # noqa: BLE001 - whatever torch raises is the finding
            return _both(judged, self._raised(error, _blame(error, module)))
        return judged

    def classify(self, failed: Result) -> Result:
        """Say whether a failure comes again, and on the CPU too. It never becomes a pass.

        Only the checks that failed are made again: the others have told what they can.
        """
        if self.poisoned or time.monotonic() - self._started > _RETRY_SHARE * self._timeout_s:
            return failed
        failing = {finding.id for finding in failed.findings if finding.status == "fail"}
        others = {finding.id for finding in failed.findings} - failing
        self._left_out |= {check.removeprefix(f"{self._name}.") for check in others}
        again = [self._failing(self._device) for _ in range(_RETRIES)]
        times = sum(ids is None or bool(ids & failing) for ids in again)
        kind = "persistent" if times == len(again) else "intermittent"
        text = f"{kind}: failed again in {times} of {len(again)} retries"
        findings = failed.findings
        if not self._device.startswith("cpu") and not self._about_node:
            on_cpu = self._failing("cpu")
            text += f"; {_place(failing, on_cpu)}"
            findings = tuple(_located(finding, on_cpu) for finding in findings)
        return failed.model_copy(
            update={
                "summary": f"{failed.summary} ({text})",
                "findings": findings,
                "duration_s": time.monotonic() - self._started,
            }
        )

    def _softened(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """The findings; failures that nobody has proven on this hardware as warnings."""
        if self._unproven == "fail" or all(finding.status != "fail" for finding in findings):
            return findings
        if self._backend is not None:
            backend = self._backend
        elif self._about_node:
            backend = node_type(hardware.detect().vendors)
        else:
            backend = cpu_type()
        return tuple(proven.soften(findings, self._certain, backend))

    def _failing(self, device: str) -> frozenset[str] | None:
        """The ids of the checks that fail there now; None when the probe raised."""
        module = importlib.import_module(self._module)
        limits = module.Limits.model_validate(self._limits) if self._limits else None
        try:
            findings = self._judge(module, self._observe(module, device), limits)
        except Exception:  # noqa: BLE001 - raising now is failing again; the first try is reported
            self.poisoned = True
            return None
        return frozenset(finding.id for finding in findings if finding.status == "fail")

    def _observe(self, module: ModuleType, device: str) -> Any:
        """What the probe sees, without the checks that are left out."""
        breadcrumb.begin(self._left_out)
        with defaults.pinned():
            return module.observe(device)

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """Keep how long the parts of the probe take, and the memory it takes, where asked for."""
        watch = MemoryWatch(self._device) if self._keep_timings else None
        try:
            yield
        finally:
            if watch is not None:
                self._memory_bytes = watch.taken_bytes()
                self._timings = tuple(
                    Timing(name=name, started_s=began_s - self._started, duration_s=end_s - began_s)
                    for name, began_s, end_s in breadcrumb.parts()
                )

    def _judge(self, module: ModuleType, seen: object, limits: object) -> tuple[Finding, ...]:
        """All findings but those of checks that were left out: nothing was seen for them."""
        findings = module.judge(seen) if limits is None else module.judge(seen, limits)
        unseen = {f"{self._name}.{check}" for check in self._left_out}
        return tuple(finding for finding in findings if finding.id not in unseen)

    def _raised(self, error: Exception, reason: Reason) -> Result:
        self.poisoned = True
        symptom = diagnose(str(error)) if reason != "internal_error" else None
        if symptom is not None:
            reason = symptom.reason
            if symptom.name == "out_of_memory" and not self._shared:
                reason = "torch_raised"  # nobody else is there to have taken the memory
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
        if symptom is None:  # a text that is known says what it is on hardware of any kind
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


def _place(failing: set[str], on_cpu: frozenset[str] | None) -> str:
    """Where the failing checks fail, device or environment, as far as the CPU tells."""
    if on_cpu is None:
        return "raised on the CPU, which tells nothing of the device"
    shared, alone = failing & on_cpu, failing - on_cpu
    if not shared:
        return "not on the CPU: device"
    if not alone:
        return "fails on the CPU too: environment"
    names = ", ".join(sorted(each.partition(".")[2] for each in alone))
    return f"not all of it on the CPU: device, of {names}"


def _located(finding: Finding, on_cpu: frozenset[str] | None) -> Finding:
    """A failure whose advice follows from whether the CPU fails the same check."""
    if finding.status != "fail" or on_cpu is None:
        return finding
    if finding.id in on_cpu:
        hint = f"{_IMAGE_HINT}; {finding.hint}" if finding.hint else _IMAGE_HINT
        return finding.model_copy(update={"hint": hint, "action": "fix_image"})
    hint = f"{_DEVICE_HINT}; {finding.hint}" if finding.hint else _DEVICE_HINT
    return finding.model_copy(update={"hint": hint})


def _both(judged: Result, raised: Result) -> Result:
    """What the judge says, and what the device raised when it was waited for afterwards.

    A judge that has seen the trouble names its cause better than this consequence does.
    """
    if judged.status == "error" or judged.reason == "gpu_busy":
        return judged
    if judged.status != "fail":
        return raised
    told = {finding.hint for finding in judged.findings if finding.status == "fail"}
    new = tuple(finding for finding in raised.findings if finding.hint not in told)
    return judged.model_copy(update={"findings": (*judged.findings, *new)})


def _blame(error: Exception, module: ModuleType) -> Reason:
    """Whose it is: torch raises RuntimeError from C++, and anything from its own files."""
    if isinstance(error, RuntimeError):
        return "torch_raised"
    innermost = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    ours = {_PROBES, Path(str(module.__file__)).parent}
    return "internal_error" if ours & set(innermost.parents) else "torch_raised"


def _reason(status: Status, findings: tuple[Finding, ...], probe: str, device: str) -> Reason:
    if status in {"fail", "warn"}:
        worst_of = [finding for finding in findings if finding.status == status]
        return "unproven" if all(map(proven.is_softened, worst_of)) else "check_failed"
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
