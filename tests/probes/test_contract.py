"""The models of findings and results: statuses, rankings, and a round trip through JSON."""

import itertools
import json
import math
import re
from datetime import datetime, timezone
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from probes.catalog import CATALOG
from probes.contract import (
    MIB,
    RANKING,
    Comparison,
    Failure,
    Finding,
    Frozen,
    Measurement,
    Observation,
    Pattern,
    ProbeSpec,
    Result,
    Status,
    agree,
    expect,
    require,
    skipped,
    worst,
)
from validator.settings.model import Run

NAN, INF = float("nan"), float("inf")

#: What a first kernel takes, which nobody need measure.
LITTLE_BYTES = 16 * MIB

_AT = "elements wrong, first at [0, 1], worst at [0, 1]: expected 2.0, observed "

RIGHT = Comparison(operation="add", elements=4)
WRONG = Comparison(
    operation="mm",
    elements=4,
    mismatches=1,
    first_index=(0, 1),
    worst_index=(0, 1),
    expected=2.0,
    observed=3.0,
    xor_mask="0x00400000",
)


def result(**fields: Any) -> Result:
    """A result with the given fields."""
    return Result(
        **{
            "probe": "autograd",
            "device": "cuda:0",
            "status": "fail",
            "reason": "check_failed",
            "summary": "wrong",
            "started_at": datetime(2026, 1, 2, tzinfo=timezone.utc),
            "duration_s": 0.5,
            **fields,
        }
    )


# ---- ranking


def test_the_ranking_knows_every_status_once() -> None:
    """Every status has one rank."""
    assert sorted(RANKING) == sorted(get_args(Status))
    assert RANKING == ("fail", "error", "warn", "pass", "skip")


@pytest.mark.parametrize(("worse", "better"), list(itertools.combinations(RANKING, 2)))
def test_the_worse_of_two_wins_in_either_order(worse: Status, better: Status) -> None:
    """The order is fail, error, warn, pass, skip."""
    assert worst([better, worse]) == worst([worse, better]) == worse


def test_the_worst_of_none_is_skip() -> None:
    """Nothing checked is not a pass."""
    assert worst([]) == "skip"
    assert worst(("pass",)) == "pass"


# ---- models


@pytest.mark.parametrize("model", [Observation, Finding, Measurement, Failure, Result, Comparison])
def test_models_are_closed_and_immutable(model: type[Frozen]) -> None:
    """An unknown field is an error, and fields cannot be changed."""
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"] is True
    with pytest.raises(ValidationError, match="Extra inputs"):
        model.model_validate({"no_such_field": 1})


def test_a_finding_cannot_be_changed() -> None:
    """Assignment raises an error."""
    finding = expect("probe.check", 1, 1)
    with pytest.raises(ValidationError, match="frozen"):
        finding.status = "fail"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Finding.model_validate({"id": "a.b", "status": "pass", "colour": "red"})


def test_an_observation_of_a_probe_inherits_both() -> None:
    """A probe's own model needs no configuration."""

    class ProbeObservation(Observation):
        value: float

    with pytest.raises(ValidationError, match="Extra inputs"):
        ProbeObservation.model_validate({"value": 1, "other": 2})
    assert math.isnan(
        ProbeObservation.model_validate_json(ProbeObservation(value=NAN).model_dump_json()).value
    )


@pytest.mark.parametrize("value", ["green", "PASS", "", None])
def test_no_other_status(value: object) -> None:
    """Only ranked statuses are valid."""
    with pytest.raises(ValidationError):
        Finding.model_validate({"id": "a.b", "status": value})


def test_a_naive_time_is_refused() -> None:
    """Times need a zone, since nodes of a fleet are compared."""
    with pytest.raises(ValidationError, match="timezone"):
        result(started_at=datetime(2026, 1, 2))  # noqa: DTZ001 - what is refused


def test_a_result_survives_json_with_nan_and_infinity() -> None:
    """NaN shows a broken GPU, so it must not become null in JSON."""
    made = result(
        findings=(
            expect("autograd.loss", NAN, 1.0),
            expect("autograd.range", [INF, {"low": -INF}], 0),
        ),
        measurements=(Measurement(name="m", value=NAN, unit="seconds", threshold=-INF),),
        error=Failure(type="RuntimeError", message="no"),
        observation={"value": 1.5},
    )
    text = made.model_dump_json()
    back = Result.model_validate_json(text)

    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert back.model_dump_json() == text
    assert back.findings[0].observed == "NaN"
    assert back.findings[1].observed == ["Infinity", {"low": "-Infinity"}]
    assert math.isnan(back.measurements[0].value)
    assert back.measurements[0].threshold == -INF
    short = Result.model_validate_json(made.model_dump_json(exclude_defaults=True))
    assert short.model_dump_json() == text


@pytest.mark.parametrize("field", ["expected", "observed", "worst_error", "allowed_error"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_comparison_survives_json_with_nan_and_infinity(field: str, value: float) -> None:
    """A stored observation can be judged again: the number may come back as text, never as null."""
    made = WRONG.model_copy(update={field: value})
    back = Comparison.model_validate_json(made.model_dump_json())
    kept = getattr(back, field)

    assert kept is not None
    assert str(float(kept)) == str(value)
    assert not back.holds


def test_a_comparison_that_holds_is_small() -> None:
    """A passing probe's observation is bounded by its number of operations."""
    assert json.loads(RIGHT.model_dump_json(exclude_defaults=True)) == {
        "operation": "add",
        "elements": 4,
    }


# ---- single facts


@pytest.mark.parametrize(
    ("observed", "expected", "status"),
    [
        (1, 1, "pass"),
        (1, 2, "fail"),
        ([1, 2], [1, 2], "pass"),
        ([1, 2], [2, 1], "fail"),
        ("a", "a", "pass"),
        (None, None, "pass"),
        (None, 0, "fail"),
        (NAN, NAN, "fail"),
        (NAN, 1.0, "fail"),
        (1.0, NAN, "fail"),
        (INF, INF, "pass"),
    ],
)
def test_expect_is_equality_and_nan_never_passes(
    observed: Any, expected: Any, status: Status
) -> None:
    """A NaN is wrong even where a NaN was expected."""
    assert expect("p.c", observed, expected).status == status


def test_the_same_nan_in_two_lists_does_not_pass() -> None:
    """Python calls such lists equal, since it looks at the objects first."""
    assert expect("a.b", [1.0, NAN], [1.0, NAN]).status == "fail"
    assert expect("a.b", {"x": [NAN]}, {"x": [NAN]}).status == "fail"
    assert expect("a.b", [1.0, "NaN"], [1.0, "NaN"]).status == "pass"


def test_a_failing_fact_says_everything() -> None:
    """Both values, hint and action; a given message replaces the default."""
    plain = expect("p.c", 41, 42, hint="reseat it", action="drain")
    with_message = expect("p.c", 41, 42, message="short by one")

    assert plain == Finding(
        id="p.c",
        status="fail",
        message="expected 42, observed 41",
        observed=41,
        expected=42,
        hint="reseat it",
        action="drain",
    )
    assert (with_message.message, with_message.action) == ("short by one", "investigate")


@pytest.mark.parametrize("otherwise", ["warn", "error", "skip"])
def test_a_fact_may_be_less_than_a_failure(otherwise: Status) -> None:
    """The check chooses the status of a wrong fact; a right fact passes in any case."""
    assert require("p.c", False, 1, 2, otherwise=otherwise).status == otherwise
    assert require("p.c", True, 1, 2, otherwise=otherwise).status == "pass"


def test_a_passing_fact_is_short() -> None:
    """No hint, message or action where nothing is to be done."""
    finding = expect("p.c", 1, 1, message="long", hint="do this", action="drain")

    assert (finding.message, finding.hint, finding.action) == ("", "", "none")


def test_a_skip_says_why() -> None:
    """The reason is the message."""
    assert skipped("p.c", "no GPU") == Finding(id="p.c", status="skip", message="no GPU")


# ---- families


def test_agree_passes_when_every_operation_holds() -> None:
    """The operations are listed, so that a report says what was verified."""
    finding = agree("p.c", [RIGHT, Comparison(operation="mul", elements=1)], hint="h")

    assert (finding.status, finding.observed, finding.hint) == ("pass", ["add", "mul"], "")


def test_agree_of_none_fails() -> None:
    """A family that compared nothing has not been verified."""
    finding = agree("p.c", [], hint="h", action="drain")

    assert (finding.status, finding.observed) == ("fail", [])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_agree_fails_for_one_wrong_operation(order: tuple[int, int]) -> None:
    """At any position; the finding names and describes it, with hint and action."""
    both = (RIGHT, WRONG)
    finding = agree("p.c", [both[i] for i in order], hint="h", action="reset_gpu")

    assert finding.status == "fail"
    assert finding.message == f"1 of 2 operations wrong (mm): {WRONG.describe()}"
    assert finding.observed == [WRONG.describe()]
    assert (finding.hint, finding.action) == ("h", "reset_gpu")


def test_agree_tells_the_patterns_of_the_first_wrong_operations() -> None:
    """Enough to see a lane or a bit, and no more than a report has room for."""
    ends = tuple((10**6, 10**6, 10**6, 10**6) for _ in range(3))
    pattern = Pattern(
        elements=10**9,
        mismatches=10**8,
        first=ends,
        last=ends,
        common_index=(None, 7, None, None),
        stride=32,
        bits_any="0xffffffffffffffff",
        bits_all="0x0000000000000001",
        second_read="same",
    )
    wrong = [
        WRONG.model_copy(update={"operation": f"mm ({n})", "pattern": pattern}) for n in range(9)
    ]
    problem = Comparison(operation="mv", problem="raised")
    finding = agree("p.c", [RIGHT, problem, *wrong])

    assert list(finding.patterns) == ["mm (0)", "mm (1)", "mm (2)"]
    assert len(json.dumps(finding.model_dump(mode="json")["patterns"])) < 2048
    assert agree("p.c", [RIGHT]).patterns == agree("p.c", [problem]).patterns == {}


def test_agree_stays_readable_when_everything_is_wrong() -> None:
    """A broken GPU fails hundreds of operations; the finding has a bounded length and the count."""
    many = [WRONG.model_copy(update={"operation": f"op{i}"}) for i in range(300)]
    finding = agree("p.c", many)

    assert finding.message.startswith("300 of 300 operations wrong (op0, op1, ")
    assert ", op7, and 292 more): " in finding.message
    assert isinstance(finding.observed, list)
    assert len(finding.observed) == 16
    assert len(finding.model_dump_json()) < 8192


@pytest.mark.parametrize(
    ("comparison", "holds", "text"),
    [
        (RIGHT, True, "add: 4 elements right"),
        (Comparison(operation="empty"), True, "empty: 0 elements right"),
        (
            WRONG,
            False,
            f"mm: 1 of 4 {_AT}3.0 (bits differ by 0x00400000)",
        ),
        (
            WRONG.model_copy(update={"worst_error": 1.0, "allowed_error": 0.0, "xor_mask": None}),
            False,
            f"mm: 1 of 4 {_AT}3.0 (error 1 > 0 allowed)",
        ),
        (
            WRONG.model_copy(
                update={
                    "operation": "sum",
                    "elements": 1,
                    "first_index": (),
                    "worst_index": (),
                    "xor_mask": "0x1",
                }
            ),
            False,
            f"sum: 1 of 1 {_AT.replace('0, 1', '')}3.0 (bits differ by 0x1)",
        ),
        (Comparison(operation="t", elements=4, problem="dtype int32"), False, "t: dtype int32"),
    ],
)
def test_a_comparison_describes_itself(comparison: Comparison, *, holds: bool, text: str) -> None:
    """One line that a person can act on."""
    assert comparison.holds is holds
    assert comparison.describe() == text


@pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.name)
def test_the_memory_of_a_probe_is_a_measured_one(spec: ProbeSpec) -> None:
    """It decides whether the probe runs beside others, so that it names the board it is from."""
    measured = re.fullmatch(r"\w+ .+, torch \d+\.\d+\.\d+\S*", spec.memory_measured) is not None

    assert measured == (spec.memory_bytes > LITTLE_BYTES)
    if spec.needs == "host":
        assert spec.memory_bytes == 0


def test_only_heavy_probes_wait_for_a_preload() -> None:
    """The light ones run before it ends: what is slow to import has no place in them."""
    assert {spec.name for spec in CATALOG if spec.preload and not spec.is_heavy} == set()


#: The longest that a probe took on an H200 the first time, beside three others, in seconds.
SLOWEST_S = 40


def test_heavy_probes_have_time_for_their_first_run_on_a_slow_machine() -> None:
    """What is compiled and loaded at first use; and still the deadline of the run is later."""
    deadlines = {spec.timeout_s for spec in CATALOG if spec.profile == "standard"}

    assert min(deadlines) >= 5 * SLOWEST_S
    assert max(deadlines) + SLOWEST_S < Run().timeout
