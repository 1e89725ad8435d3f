"""What the retries of a failed check say of it: persistent or not, and if the CPU fails too."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from probes.contract import Finding, Persistence, Status, Triage, Try


class Retry(NamedTuple):
    """The failed checks of a probe, made again."""

    ended_s: float  # since the probe began
    temperature_c: int | None
    statuses: Mapping[str, Status] | None  # by id; None: it raised

    def failed(self, check: str) -> bool | None:
        """Whether that check failed again; None where it did not apply, or told nothing."""
        if self.statuses is None:
            return True
        return {"fail": True, "pass": False}.get(self.statuses.get(check, "skip"))


def triaged(finding: Finding, first: Try, retries: Sequence[Retry], cpu: Retry | None) -> Finding:
    """The finding; a failure with what its retries on its device and on the CPU came to.

    Whatever they say, it stays a failure.
    """
    if finding.status != "fail":
        return finding
    tries = [
        Try(ended_s=retry.ended_s, temperature_c=retry.temperature_c, failed=failed)
        for retry in retries
        if (failed := retry.failed(finding.id)) is not None
    ]
    failures = sum(each.failed for each in tries)
    triage = Triage(
        kind=_kind(failures, len(tries)),
        retries=len(tries),
        failures=failures,
        tries=(first, *tries),
        **_on_cpu(finding.id, cpu),
    )
    return finding.model_copy(update={"triage": triage})


def _kind(failures: int, retries: int) -> Persistence:
    if not retries:
        return "unknown"
    return "persistent" if failures == retries else "intermittent"


def _on_cpu(check: str, cpu: Retry | None) -> dict[str, Any]:
    """The fields of a triage that follow from a retry on the CPU."""
    if cpu is None or (failed := cpu.failed(check)) is None:
        return {}
    if cpu.statuses is None:
        return {"raises_on": ("cpu",)}
    if failed:
        return {"location": "environment", "fails_on": ("cpu",)}
    return {"location": "device", "passes_on": ("cpu",)}
