"""What fails on very many devices is told in full by the first of them."""

from typing import Any, cast

from probes.contract import Finding, Result
from tests.validator import reports
from tests.validator.reports import PATTERN, TRIAGE
from validator.engine.context import RunContext
from validator.engine.crowd import DEVICES, Crowd
from validator.settings.loading import load
from validator.settings.model import Settings

WRONG = Finding(
    id="tensor_ops.products",
    status="fail",
    message="1 of 31 wrong: " + "x" * 1000,
    observed=["mm: wrong", "bmm: wrong"],
    expected="all right",
    hint="look",
    action="drain",
    wrong={"mm": "bits"},
    patterns={"mm": PATTERN},
    triage=TRIAGE,
)
PASSED = Finding(id="tensor_ops.sums", status="pass", observed=["sum"])


def failed(number: int, *findings: Finding) -> Result:
    """A result on one of many devices."""
    found = findings or (PASSED, WRONG)
    return reports.result(
        "tensor_ops", f"cuda:{number}", "fail", findings=found, observation={"a": [1]}
    )


def taken(settings: Settings, results: list[Result]) -> list[Result]:
    """The results as a run keeps them."""
    context = RunContext(settings, cast("Any", None), {}, lambda _: None)
    for one in results:
        context.record(one)
    return list(context.results.values())


def test_the_first_tell_all_of_it() -> None:
    """On eight devices nothing is left out; a ninth tells what is wrong, and is as bad."""
    made = [failed(number) for number in range(DEVICES + 2)]
    kept = taken(Settings(), made)
    others = [one.findings[1] for one in kept[DEVICES:]]

    assert kept[:DEVICES] == made[:DEVICES]
    assert [one.status for one in kept] == ["fail"] * len(made)
    assert all(one.findings[0] == PASSED and one.observation is None for one in kept[DEVICES:])
    for one in others:
        assert (one.status, one.action, one.hint) == ("fail", "drain", "look")
        assert one.wrong == WRONG.wrong
        assert one.observed == "mm: wrong"
        assert one.triage is not None
        assert one.triage.passes_on == TRIAGE.passes_on
        assert not one.patterns
        assert len(one.message) < 500


def test_what_was_asked_for_is_kept() -> None:
    """A recording of a large node is worth nothing without it."""
    made = [failed(number) for number in range(DEVICES + 2)]

    assert taken(load(flags={"run": {"observations": True}}), made) == made


def test_another_failure_beside_it_is_told_in_full() -> None:
    """A device with a fault of its own keeps what it saw."""
    crowd, own = Crowd(), WRONG.model_copy(update={"id": "tensor_ops.sums"})
    for number in range(DEVICES):
        crowd.shortened(failed(number))
    told = crowd.shortened(failed(9, own, WRONG))

    assert told.findings[0] == own
    assert told.findings[1] != WRONG
    assert told.observation == {"a": [1]}
