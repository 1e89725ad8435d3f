"""Live progress on a terminal, while a run goes on: one line a device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from validator.plan import Event


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
    """One line a device; before the devices are known, one for the import."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._importing = progress.add_task("", total=None, device="", what="importing torch")
        self._tasks: dict[str, TaskID] = {}
        self._bad: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        """Move the line of the event's device."""
        if event.kind == "surveyed":
            self._plan(event)
        elif event.kind == "started":
            self._show(event.device, event.probe)
        elif event.kind == "finished":
            if event.result is not None and event.result.status in {"fail", "error"}:
                self._bad[event.device] = self._bad.get(event.device, 0) + 1
            self._show(event.device, "", advance=1)

    def _plan(self, event: Event) -> None:
        self._progress.update(self._importing, visible=False)
        for device in dict.fromkeys(device for _, device in event.planned):
            total = sum(device == other for _, other in event.planned)
            self._tasks[device] = self._progress.add_task("", total=total, device=device, what="")

    def _show(self, device: str, probe: str, advance: int = 0) -> None:
        bad = self._bad.get(device, 0)
        what = f"{probe} ({bad} failed)".strip() if bad else probe
        if device in self._tasks:
            self._progress.update(self._tasks[device], advance=advance, what=what)
