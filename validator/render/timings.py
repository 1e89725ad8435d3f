"""Where the time of a run went: its steps and probes as they began, and the longest checks."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.text import Text

from probes.contract import MIB, Timing
from validator.render.console import table
from validator.report import Report

#: Checks of a probe that are shown: the longest, and none that takes less than this.
_SHOWN: Final = 5
_SHOWN_S: Final = 0.01


class _Row(NamedTuple):
    """One step or probe, in seconds since the run began."""

    started_s: float
    duration_s: float
    device: str
    name: str
    memory_bytes: int | None = None
    parts: Sequence[Timing] = ()


def lines(report: Report, console: Console) -> list[Text]:
    """A table of steps and probes; what runs side by side begins before the line above ends."""
    rows = [
        _Row(step.started_s, step.duration_s, step.device, step.name) for step in report.timings
    ]
    rows += [
        _Row(
            (result.started_at - report.started_at).total_seconds(),
            result.duration_s,
            result.device,
            result.probe,
            result.memory_bytes,
            result.timings,
        )
        for result in report.results
        if result.status != "skip" or result.timings
    ]
    heads = ["   began", "    took", "device", "step or probe", "  memory", "longest checks"]
    cells = [_cells(row) for row in sorted(rows, key=lambda row: row.started_s)]
    if not any(row.memory_bytes for row in rows):
        heads.pop(4)
        cells = [[*each[:4], *each[5:]] for each in cells]
    return table(console, heads, cells)


def _cells(row: _Row) -> list[str]:
    memory = "" if row.memory_bytes is None else f"{row.memory_bytes / MIB:4.0f} MiB"
    took_s: dict[str, float] = {}
    for part in row.parts:  # a check may have several
        took_s[part.name] = took_s.get(part.name, 0.0) + part.duration_s
    by_length = sorted(took_s.items(), key=lambda item: -item[1])
    longest = [(name, took) for name, took in by_length[:_SHOWN] if took >= _SHOWN_S]
    parts = " · ".join(f"{name} {took:.2f}" for name, took in longest)
    times = (f"{row.started_s:6.2f} s", f"{row.duration_s:6.2f} s")
    return [*times, row.device, row.name, memory, parts]
