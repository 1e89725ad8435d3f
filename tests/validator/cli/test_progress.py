"""Live progress: what is drawn while a run goes on, and that nothing of it stays."""

import io

import pytest

from tests.validator import reports
from validator.cli.progress import live
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
    assert [line.split()[0] for line in surveyed] == ["cuda:0", "cuda:1"]
    assert surveyed[0].endswith("0/2")
    assert started[0].endswith("0/2 autograd")
    assert finished[0].endswith("1/2 (1 failed)")
    assert finished[1].endswith("0/1")
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
        line = text_of(console_for(io.StringIO(), width=80), drawn)

    assert line.rstrip().endswith("1/2 autograd")


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
