"""An event that comes again and again is said once, then with a count."""

from typing import Any

import pytest
import structlog

from tests.validator.service.fake_runner import Clock
from validator.service import logs
from validator.service.repeats import Repeats


def said(repeats: Repeats, **event: Any) -> dict[str, Any] | None:
    """What becomes of an event; None where it is held back."""
    try:
        return dict(repeats(None, "error", {"level": "error", "event": "e", **event}))
    except structlog.DropEvent:
        return None


def test_each_second_for_a_day() -> None:
    """A line first at each doubling, then each hour; together they count every one."""
    clock = Clock()
    repeats = Repeats(clock)
    lines = []
    for _ in range(24 * 3600):
        lines.append(said(repeats))
        clock.now_s += 1
    told = [line for line in lines if line is not None]
    left = repeats.overdue(all_of_them=True)

    assert [line.get("repeated") for line in told[:5]] == [None, 1, 2, 4, 8]
    assert len(told) < 40
    assert 1 + sum(line["repeated"] for line in [*told[1:], *left]) == 24 * 3600


def test_a_change_is_said_at_once() -> None:
    """Another text, another event."""
    repeats = Repeats(Clock())

    assert said(repeats, error="a") is not None
    assert said(repeats, error="b") is not None
    assert said(repeats, error="a") is None


def test_what_comes_rarely_is_said_each_time() -> None:
    """A run's warning every five minutes is no flood."""
    clock = Clock()
    repeats = Repeats(clock)
    for _ in range(10):
        line = said(repeats)
        assert line is not None
        assert "repeated" not in line
        clock.now_s += 300


def test_what_was_held_back_is_counted_though_it_ends() -> None:
    """The last count is said without the event."""
    clock = Clock()
    repeats = Repeats(clock)
    for _ in range(5):
        said(repeats)
    early = repeats.overdue()
    clock.now_s += 2
    late = repeats.overdue()

    assert early == []
    assert [(line["event"], line["repeated"]) for line in late] == [("e", 4)]
    assert repeats.overdue(all_of_them=True) == []


def test_news_is_never_held_back() -> None:
    """Only warnings and errors are."""
    repeats = Repeats(Clock())
    for _ in range(3):
        assert repeats(None, "info", {"level": "info", "event": "e"})


def test_what_is_remembered_is_bounded() -> None:
    """A text that changes each time fills no memory."""
    repeats = Repeats(Clock())
    for number in range(1000):
        assert said(repeats, error=number) is not None

    assert said(repeats, error=999) is None
    assert said(repeats, error=0) is not None


def test_what_keeps_away_is_forgotten() -> None:
    """No text is kept that nobody will count."""
    clock = Clock()
    repeats = Repeats(clock)
    said(repeats, error="x")
    before = len(repeats._known)
    clock.now_s += 61
    repeats.overdue()

    assert (before, len(repeats._known)) == (1, 0)


def test_the_log_holds_them_back(capfd: pytest.CaptureFixture[str]) -> None:
    """In the real pipeline: one line, and its count at the end of the daemon."""
    logs.configure("info", "text")
    with logs.queued():
        for _ in range(100):
            logs.log().error("event", error="the same")
            logs.tick()
    lines = capfd.readouterr().err.splitlines()

    assert len(lines) == 2
    assert lines[1].endswith('error="the same" repeated=99')
