"""Progress while a run goes on: live on a terminal, or a line now and then in a log."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from validator.cli.standing import Standing, left, names
from validator.engine.plan import Event

#: Between two lines in a log; a run that is over before has none.
EVERY_S: Final = 10.0

_ALL: Final = "all"


@contextmanager
def live(console: Console) -> Iterator[Callable[[Event], None]]:
    """Draw a run as its events come, and leave nothing of it behind."""
    from validator.render.drawing import never_waiting  # noqa: PLC0415 - for a terminal alone

    standing = Standing()
    progress = Progress(
        TextColumn("{task.fields[device]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _Now(standing),
        console=console,
        transient=True,
        # A redraw costs time on the cores that the probes compute on.
        refresh_per_second=4,
    )
    with never_waiting(console), progress:
        yield _Lines(progress, standing)


class _Now(ProgressColumn):
    """What runs on a device and for how long, drawn anew each time."""

    def __init__(self, standing: Standing) -> None:
        super().__init__()
        self._standing = standing

    def render(self, task: Task) -> Text:
        """What a line ends with."""
        device = task.fields["device"]
        if not device:
            return Text("importing torch")
        if device == _ALL:
            return Text(left(self._standing))
        bad = self._standing.counts(device)[2]
        what = names(self._standing.running(device))
        return Text(f"{what}{f' ({bad} failed)' if bad else ''}".strip())


class _Lines:
    """A line a device, and one of all; before the devices are known, one for the import.

    Probes that need no device start before that, so they count from the beginning.
    """

    def __init__(self, progress: Progress, standing: Standing) -> None:
        self._progress = progress
        self._standing = standing
        self._importing = progress.add_task("", total=None, device="")
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Move the line of the event's device."""
        self._standing.take(event)
        if event.kind == "surveyed":
            self._progress.update(self._importing, visible=False)
            self._draw_devices((*self._standing.devices, _ALL))
        for device, task in self._tasks.items():
            done, planned, _ = self._standing.counts("" if device == _ALL else device)
            self._progress.update(task, completed=done, total=planned)

    def _draw_devices(self, devices: Sequence[str]) -> None:
        """A line for each, in that order; those of the same round after round are kept.

        Of each line that there ever was rich keeps what it drew last.
        """
        if list(self._tasks) == list(devices):
            return
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks = {
            device: self._progress.add_task("", total=None, device=device) for device in devices
        }


@contextmanager
def lines(
    say: Callable[[str], None], every_s: float = EVERY_S
) -> Iterator[Callable[[Event], None]]:
    """Say in a line how far a run has come, once in a while, for a log that nobody redraws."""
    standing = Standing()
    over = threading.Event()

    def tell() -> None:
        while not over.wait(every_s):
            say(line(standing))

    teller = threading.Thread(target=tell, daemon=True)
    with suppress(RuntimeError):  # a limit on threads or memory: then nothing is said meanwhile
        teller.start()
    try:
        yield standing.take
    finally:
        over.set()
        if teller.is_alive():
            teller.join(every_s)


def line(standing: Standing) -> str:
    """How far a run has come, in one line."""
    done, planned, bad = standing.counts()
    after = f"after {standing.elapsed_s:.0f} s"
    if not planned:
        return f"{after}: importing torch and looking for devices"
    counted = f"{done} of {planned} done{f', {bad} failed' if bad else ''}"
    parts = [f"{after}: {counted}", names(standing.running(), places=True), left(standing)]
    return "; ".join(part for part in parts if part)
