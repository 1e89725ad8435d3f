"""Documents of a node on which everything is wrong: bounded, and nothing wrong is unnamed."""

import json
from typing import Any

import pytest

from probes.catalog import CATALOG
from probes.contract import Comparison, Finding, Pattern, Triage, Try, agree
from tests.validator.service.fake_runner import gpus, report, result
from validator.piecewise import at_once
from validator.report import Device, NotRun, Report, in_json, to_json
from validator.service import bad
from validator.service.bad import MOST_BYTES, BadFindings
from validator.shortened import REPORT_BYTES

GPUS = gpus(8)

TRIAGE = Triage(
    kind="persistent",
    retries=2,
    failures=2,
    location="environment",
    fails_on=tuple(device.name for device in GPUS),
    tries=(Try(ended_s=1.5, temperature_c=60, failed=True),) * 3,
)


def bad_findings(made: Report) -> str:
    """The document about a report."""
    return at_once(bad.bad_findings(made))


def pattern(axes: int = 4) -> Pattern:
    """Of some elements of an output."""
    index = tuple(range(axes))
    return Pattern(
        elements=16384,
        mismatches=300,
        first=(index,) * 3,
        last=(index,) * 3,
        common_index=(None,) * axes,
        stride=17,
        bits_any="0x0000000000ff0000",
        bits_all="0x0000000000010000",
        second_read="same",
    )


def wrong(check: str, operations: int = 30, **fields: Any) -> Finding:
    """A check of which all operations are wrong, with all that is told of them."""
    comparisons = [
        Comparison(
            operation=f"operation_{number} (float32, strided, 17x33x65, by columns)",
            elements=16384,
            mismatches=300,
            first_index=(0, 1, 2, 3),
            worst_index=(3, 4, 5, 6),
            expected=1.25,
            observed=-2.5e30,
            xor_mask="0x0000000000ff0000",
            pattern=pattern(),
        )
        for number in range(operations)
    ]
    found = agree(check, comparisons, hint="reinstall " * 25, action="drain")
    return found.model_copy(update={"triage": TRIAGE, **fields})


def everything_wrong(devices: tuple[Device, ...] = GPUS) -> Report:
    """Every check of every probe on every device, with observations."""
    return report(
        [
            result(
                spec.name,
                device.name,
                "fail",
                "check_failed",
                summary="wrong " * 40,
                findings=tuple(map(wrong, spec.check_ids)),
                observation={"families": {"numbers": list(range(500))}},
                log_tail="line\n" * 200,
            )
            for spec in CATALOG
            for device in (devices if spec.needs == "device" else devices[:1])
        ],
        devices,
    )


@pytest.fixture(scope="module")
def all_wrong() -> Report:
    """Everything is wrong on 8 GPUs."""
    return everything_wrong()


def test_a_report_of_a_node_where_all_is_wrong_is_bounded(all_wrong: Report) -> None:
    """It is a report still, which names every finding that there is."""
    content = to_json(all_wrong)
    found = Report.model_validate_json(content)

    assert len(content.encode()) <= REPORT_BYTES
    assert [
        (one.probe, one.device, each.id, each.status, each.action)
        for one in found.results
        for each in one.findings
    ] == [
        (one.probe, one.device, each.id, each.status, each.action)
        for one in all_wrong.results
        for each in one.findings
    ]
    assert all(each.message for one in found.results for each in one.findings)


def test_a_report_with_one_sick_gpu_keeps_all_of_it() -> None:
    """What is worth reading is not shortened."""
    sick = report(
        [
            result(
                *("matmul", device.name, "fail", "check_failed"),
                findings=tuple(wrong(f"matmul.check_{n}") for n in range(12)),
                observation={"a": 1},
            )
            for device in GPUS
        ],
        GPUS,
    )

    assert Report.model_validate_json(to_json(sick)) == sick


def test_firsts_are_shortened_last(all_wrong: Report) -> None:
    """The same check on a second device tells the same, mostly."""
    found = json.loads(at_once(in_json(all_wrong, 8 * 2**20)))
    findings = {
        device: [
            each for one in found["results"] if one["device"] == device for each in one["findings"]
        ]
        for device in ("cuda:0", "cuda:1")
    }

    assert {len(each["observed"]) for each in findings["cuda:0"]} == {3}
    assert not any("observed" in each for each in findings["cuda:1"])
    assert all(one["observation"] is None for one in found["results"])


def test_a_large_node_names_each_finding_and_little_else() -> None:
    """56 instances on which all is wrong: what repeats costs a few bytes, the first keeps words."""
    many = gpus(3)
    results = [
        result("matmul", one.name, "fail", "check_failed", findings=(wrong("matmul.bits", 2),))
        for one in many
    ]
    found = Report.model_validate_json(at_once(in_json(report(results, many), 1)))
    first, *others = (one.findings[0] for one in found.results)

    assert first.message
    assert first.hint
    assert others == [Finding(id="matmul.bits", status="fail", action="drain")] * 2


def test_a_result_a_piece() -> None:
    """Of no document all results are made at once."""
    made = report([result("matmul", one.name) for one in gpus(20)], gpus(20))

    assert len(list(in_json(made))) >= 20
    assert len(list(in_json(made, 1))) >= 40
    assert len(list(bad.bad_findings(made))) >= 20


def test_observations_that_were_asked_for_are_kept() -> None:
    """A recording of a large node is worth nothing without them."""
    large = report(
        [result("matmul", "cpu", observation={"text": "x" * 2 * REPORT_BYTES})],
    )

    assert Report.model_validate_json(to_json(large)) == large


@pytest.mark.parametrize("count", [0, 1, 8, pytest.param(64, marks=pytest.mark.long)])
def test_what_is_bad_is_bounded_on_any_node(all_wrong: Report, count: int) -> None:
    """Each finding is in it in some way, or at least counted."""
    whole = all_wrong if count == 8 else everything_wrong(gpus(max(count, 1)))
    whole = whole if count else report([result("matmul")])
    content = bad_findings(whole)
    found = BadFindings.model_validate_json(content)
    named = len(found.findings) + sum(map(len, found.others.values()))

    assert len(content.encode()) <= MOST_BYTES
    assert named + found.left_out == sum(len(one.findings) for one in whole.results)
    assert (found.left_out > 0) is (count == 64)
    if count:
        assert len({one.id for one in found.findings}) == len(found.findings)
        assert found.devices["cuda:0"] == "GPU-0"
        assert found.findings[0].patterns
        assert {len(one.patterns) for one in found.findings} == {1}


def test_the_worst_first_and_each_check_before_its_repetitions() -> None:
    """A warning on the first device does not hide a failure on the last."""
    warned = Finding(id="a.one", status="warn", message="odd")
    failed = Finding(id="b.two", status="fail", message="wrong", observed=[1], expected=[2])
    other = Finding(id="b.three", status="fail", message="wrong too")
    good = Finding(id="b.four", status="pass")
    whole = report(
        [
            result("a", "cuda:0", "warn", "check_failed", findings=(warned,)),
            result("b", "cuda:0", "fail", "check_failed", findings=(failed, good)),
            result("b", "cuda:1", "fail", "check_failed", findings=(failed, other)),
            result("c", "cuda:1", "error", "internal_error", summary="no worker"),
            result("d", "cuda:1", "skip", "gpu_busy"),
        ],
        gpus(2),
        [NotRun(probe="e", device="cuda:1", reason="run_timeout")],
    )
    found = BadFindings.model_validate_json(bad_findings(whole))

    assert [(one.id, one.device, one.status) for one in found.findings] == [
        ("b.two", "cuda:0", "fail"),
        ("b.three", "cuda:1", "fail"),
        ("b.two", "cuda:1", "fail"),
        ("c.completes", "cuda:1", "error"),
        ("e.completes", "cuda:1", "error"),
        ("a.one", "cuda:0", "warn"),
    ]
    assert found.findings[3].message == "no worker"
    assert found.findings[4].reason == "run_timeout"
    assert found.devices == {"cuda:0": "GPU-0", "cuda:1": "GPU-1"}
    assert (found.others, found.left_out) == ({}, 0)


def test_texts_and_patterns_are_cut() -> None:
    """Any length of a text, any number of axes or operations."""
    long = wrong("b.two", message="x" * 10**6, hint="\u00e9" * 10**6)
    long = long.model_copy(update={"patterns": {"o" * 10**6: pattern(500), "b": pattern()}})
    whole = report([result("b", "cpu", "fail", "check_failed", findings=(long,))])
    [one] = BadFindings.model_validate_json(bad_findings(whole)).findings

    assert one.message == "x" * 240 + " (and 999760 more characters)"
    [(name, kept)] = one.patterns.items()
    assert name.endswith("(and 999760 more characters)")
    assert (kept.first, kept.mismatches, kept.bits_all) == (((),), 300, "0x0000000000010000")


def test_without_room_a_finding_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named before it is told of, and told of before the next is."""
    whole = report(
        [
            result("b", device.name, "fail", "check_failed", findings=(wrong("b.two"),))
            for device in GPUS
        ],
        GPUS,
    )
    seen: list[tuple[int, int, int]] = []
    for most in (500, 560, 1500, 3000, 10000):
        monkeypatch.setattr(bad, "MOST_BYTES", most)
        content = bad_findings(whole)
        found = BadFindings.model_validate_json(content)
        seen.append((len(found.findings), sum(map(len, found.others.values())), found.left_out))
        assert len(content.encode()) <= max(most, 500)

    assert [sum(each) for each in seen] == [8] * 5
    assert seen[-1] == (8, 0, 0)
    assert [each[2] for each in seen] == sorted((each[2] for each in seen), reverse=True)
    assert 0 < seen[2][0] < 8
