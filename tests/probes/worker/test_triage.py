"""What retries say of a failed check; a check that does not apply in a retry says nothing."""

import pytest

from probes.contract import Finding, Location, Triage, Try, skipped
from probes.worker.triage import Retry, triaged

WRONG = Finding(id="p.sum", status="fail", message="wrong", wrong={"mm": "bits", "bmm": "bits"})
RIGHT = Finding(id="p.sum", status="pass")
FIRST = Try(ended_s=0.5, temperature_c=40, failed=True)


def retry(finding: Finding | None, ended_s: float = 1.0) -> Retry:
    """A retry that came to one finding; None: it raised."""
    return Retry(ended_s, 50, None if finding is None else {finding.id: finding})


def triage_of(retries: list[Retry], cpu: Retry | None = None) -> Triage:
    """The triage of a failure."""
    finding = triaged(WRONG, FIRST, retries, cpu)
    assert finding.triage is not None
    assert finding.model_copy(update={"triage": None}) == WRONG
    return finding.triage


@pytest.mark.parametrize(
    ("retries", "kind", "made", "failures"),
    [
        ([retry(WRONG), retry(WRONG)], "persistent", 2, 2),
        ([retry(WRONG), retry(None)], "persistent", 2, 2),
        ([retry(WRONG), retry(RIGHT)], "intermittent", 2, 1),
        ([retry(RIGHT), retry(RIGHT)], "intermittent", 2, 0),
        ([retry(WRONG), retry(skipped("p.sum", "busy"))], "persistent", 1, 1),
        ([retry(skipped("p.sum", "busy"))] * 2, "unknown", 0, 0),
        ([retry(WRONG.model_copy(update={"id": "p.mean"}))] * 2, "unknown", 0, 0),
    ],
)
def test_persistent_or_intermittent(
    retries: list[Retry], kind: str, made: int, failures: int
) -> None:
    """Only a retry that passed was right; one that did not apply counts for nothing."""
    triage = triage_of(retries)

    assert (triage.kind, triage.retries, triage.failures) == (kind, made, failures)
    assert triage.tries[0] == FIRST
    assert len(triage.tries) == made + 1


def wrong(*operations: str) -> Retry:
    """A retry on the CPU in which these operations are wrong."""
    return retry(WRONG.model_copy(update={"wrong": dict.fromkeys(operations, "bits")}))


@pytest.mark.parametrize(
    ("cpu", "location"),
    [
        (wrong("mm", "bmm"), "environment"),
        (wrong("mm", "bmm", "add"), "environment"),
        (wrong("mm"), "device"),
        (wrong("add"), "device"),
        (retry(RIGHT), "device"),
        (retry(skipped("p.sum", "not on the CPU")), "unknown"),
        (retry(RIGHT.model_copy(update={"status": "warn"})), "unknown"),
        (retry(None), "unknown"),
        (None, "unknown"),
    ],
    ids=["same", "more", "some", "others", "right", "skipped", "warned", "raised", "not made"],
)
def test_device_or_environment(cpu: Retry | None, location: Location) -> None:
    """A defect of a kernel of the CPU's own must not hide what is wrong on the device alone."""
    triage = triage_of([retry(WRONG)], cpu)

    assert triage.location == location
    assert triage.fails_on == (("cpu",) if location == "environment" else ())
    assert triage.passes_on == (("cpu",) if location == "device" else ())


def test_a_check_that_holds_has_no_triage() -> None:
    """Nor has one that only warns."""
    for finding in (RIGHT, WRONG.model_copy(update={"status": "warn"})):
        assert triaged(finding, FIRST, [retry(WRONG)], retry(WRONG)) == finding
