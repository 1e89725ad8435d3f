"""A probe that a child has started: its deadline, its retries, and what it told before its end."""

import time
from datetime import datetime, timezone
from typing import Any, Final

from probes.contract import Finding, ProbeSpec, Result, Triage
from validator.engine.clock import now
from validator.engine.hangs import DeviceHangs
from validator.report import CPU

#: Share of a probe's deadline for the retries of what failed, on its own device and on the CPU.
_RETRIES_SHARE: Final = 0.5
_CPU_RETRY_SHARE: Final = 0.25


class Attempted:
    """A probe that a child has started: when, and what it told before its end.

    One that has not `begun` is that of a child which never came to it.
    """

    def __init__(
        self,
        spec: ProbeSpec,
        deadline_s: float,
        own_s: float | None = None,
        *,
        begun: bool = True,
    ) -> None:
        self.spec = spec
        self.begun = begun
        self.deadline_s = deadline_s
        self._own_s = deadline_s if own_s is None else own_s  # before anything shortened it
        self.preliminary: Result | None = None
        self.told: Result | None = None  # when it had to leave
        self.retries_on = ""  # the device on which what failed is tried again now
        self._began = time.monotonic()
        self._began_s = now()  # on the clock of deadlines
        self._started_at = datetime.now(timezone.utc)

    def remaining_s(self, hangs: DeviceHangs, device: str) -> float:
        """Seconds until it is late; less where another probe on the device has timed out since."""
        self.deadline_s = hangs.shortened_deadline_s(device, self._began_s, self.deadline_s)
        return self._began_s + self.deadline_s - now()

    def try_again(self, failed: Result, device: str) -> None:
        """Take a failure that stands, whose checks are tried again on a device from now on.

        That has a share of the deadline of its own, so that it never costs what failed its result.
        """
        again = _CPU_RETRY_SHARE if self.retries_on and device == CPU.name else _RETRIES_SHARE
        self.preliminary, self.retries_on = failed, device
        self.deadline_s = min(self.deadline_s, now() - self._began_s + again * self._own_s)

    def unfinished(self) -> Result | None:
        """The failure whose retries did not end, which says so; None where nothing failed."""
        if self.preliminary is None:
            return None
        findings = tuple(_unfinished(each, self.retries_on) for each in self.preliminary.findings)
        return self.preliminary.model_copy(update={"findings": findings})

    def put_off(self) -> None:
        """Count its deadline from now on: it waits for others."""
        self._began_s = now()

    @property
    def is_cut_short(self) -> bool:
        """Whether its deadline is shorter than its own."""
        return self.deadline_s < self._own_s

    def shown_deadline(self) -> str:
        """The deadline as text, and why it was shorter than the probe's own."""
        shown = f"{round(self.deadline_s, 1):g} s"
        if self.is_cut_short:
            shown += ", shortened since a probe on this device had timed out"
        return shown

    def clock(self) -> dict[str, Any]:
        """The fields of a result that say when and how long."""
        return {"started_at": self._started_at, "duration_s": time.monotonic() - self._began}


def _unfinished(finding: Finding, device: str) -> Finding:
    """A failure whose retries on a device were ended."""
    if finding.status != "fail":
        return finding
    triage = (finding.triage or Triage()).model_copy(update={"unfinished_on": (device,)})
    return finding.model_copy(update={"triage": triage})
