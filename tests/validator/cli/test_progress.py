"""Live progress: what is drawn while a run goes on, and that nothing of it stays."""

import io
import threading

import pytest

from tests.validator import reports
from validator.cli import standing as standing_module
from validator.cli.progress import line, lines, live
from validator.cli.standing import Standing, left, names, rounded
from validator.engine.plan import Event
from validator.render.console import console_for, text_of


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class AsciiTerminal(Terminal):
    """One that takes ASCII alone."""

    encoding = "ascii"


@pytest.fixture(autouse=True)
def able_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can move its cursor."""
    monkeypatch.setenv("TERM", "xterm")


def test_each_device_has_a_line() -> None:
    """The import first, then a line a device with its probe, its count and its failures."""
    planned = (("autograd", "cuda:0"), ("tensor_ops", "cuda:0"), ("autograd", "cuda:1"))
    bad = reports.result("autograd", "cuda:0", "fail")
    with live(console_for(Terminal(), width=80)) as listener:

        def after(event: Event) -> list[str]:
            listener(event)
            drawn = listener._progress.get_renderable()  # type: ignore[attr-defined]
            return text_of(console_for(io.StringIO(), width=80), drawn).splitlines()

        importing = after(Event("importing"))
        surveyed = after(Event("surveyed", planned=planned))
        started = after(Event("started", "autograd", "cuda:0"))
        finished = after(Event("finished", "autograd", "cuda:0", result=bad))
        unknown = after(Event("started", "autograd", "cuda:9"))

    assert [line.split()[-2:] for line in importing] == [["importing", "torch"]]
    assert [line.split()[0] for line in surveyed] == ["cuda:0", "cuda:1", "all"]
    assert surveyed[0].rstrip().endswith("0/2")
    assert surveyed[2].endswith("0/3 about 2 s left")
    assert started[0].endswith("0/2 autograd")
    assert finished[0].endswith("1/2 (1 failed)")
    assert finished[1].rstrip().endswith("0/1")
    assert finished[2].split()[2] == "1/3"
    assert unknown == finished


def test_what_ran_before_the_survey_counts() -> None:
    """Host probes run while the devices are still being looked for."""
    planned = (("torch_version", "cpu"), ("autograd", "cpu"))
    with live(console_for(Terminal(), width=80)) as listener:
        listener(Event("started", "torch_version", "cpu"))
        done = reports.result("torch_version")
        listener(Event("finished", "torch_version", "cpu", result=done))
        listener(Event("started", "autograd", "cpu"))
        listener(Event("surveyed", planned=planned))
        drawn = listener._progress.get_renderable()  # type: ignore[attr-defined]
        drawn_lines = text_of(console_for(io.StringIO(), width=80), drawn).splitlines()

    assert drawn_lines[0].endswith("1/2 autograd")


def test_nothing_of_it_stays() -> None:
    """The last thing that is done is to erase the line."""
    stream = Terminal()
    with live(console_for(stream, width=80)):
        pass

    assert "importing torch" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K")


def test_ascii_terminal() -> None:
    """The bar has an ASCII form too."""
    stream = AsciiTerminal()
    with live(console_for(stream, width=80)):
        pass

    assert stream.getvalue().isascii()


class Seconds:
    """A clock that is set."""

    now_s = 0.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now_s


def standing_after(
    clock: Seconds, *events: tuple[float, Event], planned: tuple[tuple[str, str], ...]
) -> Standing:
    """How a run stands after events, each at its second."""
    standing = Standing(clock)
    standing.take(Event("surveyed", planned=planned))
    for at_s, event in events:
        clock.now_s = at_s
        standing.take(event)
    return standing


def took(probe: str, seconds: float, device: str = "cuda:0") -> Event:
    """The end of a probe after so many seconds."""
    result = reports.result(probe, device).model_copy(update={"duration_s": seconds})
    return Event("finished", probe, device, result=result)


PAIR = (("attention", "cuda:0"), ("layers", "cuda:0"))  # 4 s each, usually


def test_what_is_left_follows_from_what_probes_usually_take() -> None:
    """One after another, less what the first has taken until now."""
    clock = Seconds()
    standing = standing_after(clock, (0.0, Event("started", "attention", "cuda:0")), planned=PAIR)
    whole = standing.remaining_s()
    clock.now_s = 3.0

    assert whole == pytest.approx(8.0)
    assert standing.remaining_s() == pytest.approx(5.0)
    assert left(standing) == "about 5 s left"
    assert names(standing.running()) == "attention 3 s"


def test_side_by_side_they_take_the_time_of_the_longest() -> None:
    """Probes that run at a time on a device, and devices at a time."""
    clock = Seconds()
    both = [(0.0, Event("started", probe, device)) for probe, device in PAIR]
    elsewhere = (("attention", "cuda:1"),)
    standing = standing_after(clock, *both, planned=(*PAIR, *elsewhere))

    assert standing.remaining_s() == pytest.approx(4.0)


def test_a_slow_machine_is_reckoned_with() -> None:
    """A probe that took five times as long is told of the others, not to the full."""
    clock = Seconds()
    started = (0.0, Event("started", "attention", "cuda:0"))
    standing = standing_after(clock, started, (20.0, took("attention", 20.0)), planned=PAIR)

    assert standing.remaining_s() == pytest.approx(4.0 * 25 / 9)


def test_what_is_overdue_goes_on_for_a_while() -> None:
    """No estimate says that a probe which hangs is over in a second."""
    clock = Seconds()
    standing = standing_after(clock, (0.0, Event("started", "layers", "cuda:0")), planned=PAIR[1:])
    clock.now_s = 100.0

    assert standing.remaining_s() == pytest.approx(25.0)


def test_nothing_is_left_at_the_end_and_unknown_at_the_beginning() -> None:
    """Neither is a number of seconds."""
    clock = Seconds()
    skipped = reports.result("attention", "cuda:0", "skip")
    end = (1.0, Event("finished", "attention", "cuda:0", result=skipped))

    assert Standing(clock).remaining_s() is None
    assert left(Standing(clock)) == ""
    assert left(standing_after(clock, end, planned=PAIR[:1])) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (9.4, "9 s"), (23.0, "25 s"), (119.0, "120 s"), (150.0, "2 min")],
)
def test_nobody_takes_it_for_exact(seconds: float, text: str) -> None:
    """Fewer digits the longer it is."""
    assert rounded(seconds) == text


def test_a_line_in_a_log() -> None:
    """What is done, what runs where and how long, what is left."""
    clock = Seconds()
    bad = reports.result("layers", "cuda:0", "fail").model_copy(update={"duration_s": 4.0})
    events = [(0.0, Event("started", probe, device)) for probe, device in PAIR]
    ended = (4.0, Event("finished", "layers", "cuda:0", result=bad))
    standing = standing_after(clock, *events, ended, planned=PAIR)

    assert line(standing) == (
        "after 4 s: 1 of 2 done, 1 failed; attention on cuda:0 4 s; about 1 s left"
    )
    assert line(Standing(clock)) == "after 0 s: importing torch and looking for devices"


def test_a_burn_reckons_with_the_rounds_before() -> None:
    """What a probe took here is worth more than what it takes elsewhere; the round is named."""
    clock = Seconds()
    standing = standing_after(
        clock, (1.0, took("attention", 0.5)), (2.0, took("layers", 0.25)), planned=PAIR
    )
    standing.take(Event("round", text="round 2"))
    unknown = left(standing)
    standing.take(Event("surveyed", planned=PAIR))

    assert unknown == ""
    assert standing.remaining_s() == pytest.approx(0.75)
    assert left(standing) == "about 1 s left of round 2"


def test_a_round_that_begins_while_it_is_reckoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events come in another thread, and an estimate that raised would end the lines."""
    standing = standing_after(Seconds(), (1.0, took("attention", 4.0)), planned=PAIR)

    def begin(_: str) -> float:
        standing.take(Event("round", text="round 2"))
        return 4.0

    monkeypatch.setattr(standing_module, "_typical_s", begin)

    assert (standing.remaining_s() or 0.0) > 0.0
    assert standing.remaining_s() is None


def test_rounds_draw_on_the_same_lines() -> None:
    """What rich keeps of each line that was ever drawn would grow with the rounds."""
    with live(console_for(Terminal(), width=80)) as listener:
        progress = listener._progress  # type: ignore[attr-defined]
        for _ in range(3):
            listener(Event("round", text="a round"))
            listener(Event("surveyed", planned=PAIR))
            listener(took("attention", 1.0))
            numbers = [task.id for task in progress.tasks]
            done = [task.completed for task in progress.tasks[1:]]

            assert numbers == [0, 1, 2]  # the import, the device, all
            assert done == [1, 1]
        listener(Event("round", text="a round"))
        listener(Event("surveyed", planned=(("attention", "cuda:1"),)))

        assert [task.fields["device"] for task in progress.tasks[1:]] == ["cuda:1", "all"]


def test_a_log_has_lines_while_it_lasts_and_none_after() -> None:
    """Said by a clock, whether something happens or not; a short run has none."""
    said: list[str] = []
    heard = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if "of 2 done" in text:
            heard.set()

    with lines(say, every_s=0.01) as listener:
        listener(Event("surveyed", planned=PAIR))
        assert heard.wait(20)
    count = len(said)
    with lines(say):
        pass

    assert said[-1].startswith("after 0 s: 0 of 2 done")
    assert len(said) == count
