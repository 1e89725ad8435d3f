"""The steps of a run: when each began and how long it took."""

import pytest

from tests.validator.runs import PLAN, ran
from validator.engine import timeline
from validator.settings import loading


def test_steps_stand_in_the_order_in_which_they_began() -> None:
    """In seconds since the worker was started."""
    steps = timeline.Timeline(100.0)
    steps.add("later", 103.0, 103.5, device="cuda:0")
    steps.add("earlier", 100.5, 102.0)

    assert [(one.name, one.device, one.started_s, one.duration_s) for one in steps.steps] == [
        ("earlier", "", 0.5, 1.5),
        ("later", "cuda:0", 3.0, 0.5),
    ]


def test_a_step_that_raises_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """What took the time is told also of what went wrong."""
    times = iter((10.0, 14.0))
    monkeypatch.setattr("validator.engine.timeline.time.monotonic", lambda: next(times))
    steps = timeline.Timeline(10.0)
    with pytest.raises(ValueError, match="no"), steps.step("survey"):
        raise ValueError("no")

    assert [(one.name, one.duration_s) for one in steps.steps] == [("survey", 4.0)]


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_run_keeps_its_times_where_they_are_asked_for() -> None:
    """Steps of the run, parts of each probe; nothing of it otherwise."""
    asked = loading.load(flags={"run": {"timings": True}})
    report, plain = ran(PLAN, asked).report, ran(PLAN).report
    names = [step.name for step in report.timings]

    assert names[:3] == ["start of the worker", "import of torch and NumPy", names[2]]
    assert "survey of the devices" in names
    assert all(step.started_s >= 0 and step.duration_s >= 0 for step in report.timings)
    assert plain.timings == ()
    assert all(result.timings == () for result in plain.results)
