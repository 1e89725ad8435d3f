"""What tests of the command line share: a worker and a runner that stand for the real ones."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.validator import reports
from validator.engine.plan import Event, Plan
from validator.engine.stopping import Stop
from validator.report import Report
from validator.settings.model import Settings

SOUND = reports.sound()


SICK = reports.sick()


class Worker:
    """Stands for a worker process."""

    def __init__(self, *, bare: bool = False) -> None:
        self.bare = bare
        self.killed = False

    def kill(self) -> bool:
        """Remember it."""
        self.killed = True
        return True


class Runner:
    """Stands for the runner: gives the report it was told to give."""

    answer: Report | Exception = SOUND
    signals: tuple[signal.Signals, ...] = ()
    seen: tuple[Plan, Settings] | None = None
    worker: Any = None

    def __init__(self, worker: Any = None) -> None:
        type(self).worker = worker

    async def run(
        self, plan: Plan, settings: Settings, on_event: Callable[[Event], None], stop: Stop
    ) -> Report:
        """Tell of the run as a real one does."""
        type(self).seen = (plan, settings)
        on_event(Event("importing"))
        on_event(Event("surveyed", planned=(("autograd", "cpu"),)))
        on_event(Event("started", "autograd", "cpu"))
        for number in self.signals:
            stop.take(number)
        if isinstance(self.answer, Exception):
            raise self.answer
        on_event(Event("finished", "autograd", "cpu", result=self.answer.results[-1]))
        return self.answer


Call = Callable[..., int]


ROOT = Path(__file__).parents[3]


def command(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "validator", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
        **options,
    )
