"""Live progress on a terminal, while a run goes on: one line a device."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from validator.engine.plan import Event


@contextmanager
def live(console: Console) -> Iterator[Callable[[Event], None]]:
    """Draw a run as its events come, and leave nothing of it behind."""
    progress = Progress(
        TextColumn("{task.fields[device]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[what]}"),
        console=console,
        transient=True,
        # A redraw costs time on the cores that the probes compute on.
        refresh_per_second=4,
    )
    with progress:
        yield _Lines(progress)


class _Lines:
    """One line a device; before the devices are known, one for the import.

    Probes that need no device start before that, so their count is kept from the beginning.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._importing = progress.add_task("", total=None, device="", what="importing torch")
        self._tasks: dict[str, TaskID] = {}
        self._running: dict[str, str] = {}
        self._done: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        """Move the line of the event's device."""
        if event.kind == "surveyed":
            self._plan(event)
        elif event.kind == "started":
            self._running[event.device] = event.probe
        elif event.kind == "finished":
            self._running[event.device] = ""
            self._done[event.device] += 1
            if event.result is not None and event.result.status in {"fail", "error"}:
                self._bad[event.device] += 1
        for device, task in self._tasks.items():
            bad = f" ({self._bad[device]} failed)" if self._bad[device] else ""
            what = f"{self._running.get(device, '')}{bad}".strip()
            self._progress.update(task, completed=self._done[device], what=what)

    def _plan(self, event: Event) -> None:
        self._progress.update(self._importing, visible=False)
        for device in dict.fromkeys(device for _, device in event.planned):
            total = sum(device == other for _, other in event.planned)
            self._tasks[device] = self._progress.add_task("", total=total, device=device, what="")
