"""What a watcher is told of two reports: each difference in a line, and none without one."""

from probes.contract import Finding
from tests.validator import reports
from validator.render import changes
from validator.report import NotRun, Report


def with_checks(*names: str) -> Report:
    """A report whose only probe failed these checks on a GPU."""
    found = tuple(
        Finding(id=f"matmul.{name}", status="fail", message="wrong", expected=1, observed=2)
        for name in names
    )
    result = reports.result("matmul", "cuda:1", "fail" if names else "pass")
    return reports.report([result.model_copy(update={"findings": found})])


def told(before: Report, after: Report) -> list[str]:
    """The lines as text."""
    return [line.plain for line in changes.lines(before, after)]


def test_no_difference_is_no_line() -> None:
    """Times and observations alone are none."""
    again = reports.report([reports.result("matmul", "cuda:1", duration_s=9.0)])

    assert told(with_checks(), again) == []
    assert told(with_checks("exact"), with_checks("exact")) == []


def test_a_status_and_checks() -> None:
    """From which to which, and the checks that do not hold now."""
    assert told(with_checks(), with_checks("exact", "int8")) == [
        "  matmul on cuda:1: ✓ pass -> ✗ fail (exact, int8)"
    ]
    assert told(with_checks("exact"), with_checks("int8")) == [
        "  matmul on cuda:1: ✗ fail -> ✗ fail (int8)"
    ]
    assert told(with_checks("exact"), with_checks()) == ["  matmul on cuda:1: ✗ fail -> ✓ pass"]


def test_a_device_that_goes_and_one_that_comes() -> None:
    """A GPU that fell off the bus."""
    one = reports.report([reports.result("matmul", "cuda:0")])
    other = reports.report([reports.result("matmul", "cuda:1", "warn")])

    assert told(one, other) == [
        "  matmul on cuda:0: gone: was ✓ pass",
        "  matmul on cuda:1: new: ! warn",
    ]


def test_what_was_cut_off_is_not_gone() -> None:
    """A run that a signal stopped had no chance to say."""
    lost = [NotRun(probe="matmul", device="cuda:1", reason="cancelled")]

    assert told(with_checks(), reports.report([], lost)) == []


def test_many_are_counted() -> None:
    """A driver that goes takes all of them along."""
    names = [f"probe_{number}" for number in range(40)]
    before, after = (
        reports.report([reports.result(name, "cuda:0", status) for name in names])
        for status in ("pass", "error")
    )

    assert len(told(before, after)) == 13
    assert told(before, after)[-1] == "  and 28 more"
