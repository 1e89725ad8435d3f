"""What the retries of a failed check say of it: persistent or not, and if the CPU fails too."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from probes.contract import Finding, Persistence, Triage, Try

#: How `Comparison.describe` begins where an operation has variants.
_VARIANT: Final = re.compile(r"[^(:]+ \([^,):]+")


class Retry(NamedTuple):
    """The failed checks of a probe, made again."""

    ended_s: float  # since the probe began
    temperature_c: int | None
    findings: Mapping[str, Finding] | None  # by id; None: it raised

    def failed(self, check: str) -> bool | None:
        """Whether that check failed again; None where it did not apply, or told nothing."""
        if self.findings is None:
            return True
        again = self.findings.get(check)
        return None if again is None else {"fail": True, "pass": False}.get(again.status)


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
        **_on_cpu(finding, cpu),
    )
    return finding.model_copy(update={"triage": triage})


def _kind(failures: int, retries: int) -> Persistence:
    if not retries:
        return "unknown"
    return "persistent" if failures == retries else "intermittent"


def _on_cpu(finding: Finding, cpu: Retry | None) -> dict[str, Any]:
    """The fields of a triage that follow from a retry on the CPU.

    The CPU runs other kernels, with defects of their own: it fails too where all operations that
    are wrong on the device are wrong there. Where they are wrong in other types, nothing follows.
    """
    if cpu is None or (failed := cpu.failed(finding.id)) is None:
        return {}
    if cpu.findings is None:
        return {"raises_on": ("cpu",)}
    there = cpu.findings[finding.id]
    if failed and set(finding.wrong) <= set(there.wrong):
        here, also = _variants(finding), _variants(there)
        alike = not here or not also or bool(here & also)
        return {"location": "environment" if alike else "unknown", "fails_on": ("cpu",)}
    return {"location": "device", "passes_on": ("cpu",)}


def _variants(finding: Finding) -> frozenset[str]:
    """The wrong operations with the first word on their variant, mostly a type: `mm (float32`."""
    told = finding.observed if isinstance(finding.observed, list) else []
    found = (_VARIANT.match(each) for each in told if isinstance(each, str))
    return frozenset(each[0] for each in found if each)
