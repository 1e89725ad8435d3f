"""The steps of a run outside its probes: when each began, and how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from probes.contract import Timing


class Timeline:
    """Collects steps; every time is in seconds since the run's first worker was started."""

    def __init__(self, began_s: float) -> None:
        """Create it empty; `began_s` is the zero of its times, on the monotonic clock."""
        self.began_s: Final = began_s
        self._steps: list[Timing] = []

    @property
    def steps(self) -> tuple[Timing, ...]:
        """The steps so far, in the order in which they began."""
        return tuple(sorted(self._steps, key=lambda step: step.started_s))

    def add(self, name: str, began_s: float, ended_s: float, *, device: str = "") -> None:
        """Add a step that lasted from `began_s` to `ended_s` on the monotonic clock."""
        self._steps.append(
            Timing(
                name=name,
                device=device,
                started_s=began_s - self.began_s,
                duration_s=ended_s - began_s,
            )
        )

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add what the block does as a step, also when it raises."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.add(name, began_s, time.monotonic())
