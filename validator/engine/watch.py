"""Looks at the boards from the start of a run to its end: what they count while heavy probes run.

The probe of the boards gives its result at the start, as in any run. A second child of it goes on
beside the others, and its result takes the place of the first.
"""

import asyncio

from probes.catalog import TELEMETRY
from validator.engine.context import RunContext
from validator.engine.ends import HeldProcess
from validator.engine.job import Job
from validator.engine.plan import Event
from validator.engine.workers import Workers
from validator.report import CPU
from validator.settings.model import Settings


def _no_matter(_: Event) -> None:
    """The first result was told of already."""


class BoardWatch:
    """One watch: it begins when it is created; `end` it, or `cancel` it."""

    def __init__(self, settings: Settings, workers: Workers, held: dict[str, HeldProcess]) -> None:
        """Start it in a worker without torch."""
        self._results = RunContext(
            settings, workers, held, _no_matter, place=f" of {TELEMETRY.name}, which watches"
        )
        self._job = Job(CPU, [TELEMETRY], 1, self._results, watches=True)
        self._task = asyncio.ensure_future(self._job.run())

    async def end(self, context: RunContext) -> None:
        """Have it look once more; what it found is the run's result, unless it could not tell."""
        self._job.finish()
        await self._task
        key = (TELEMETRY.name, CPU.name)
        result = self._results.results.get(key)
        if result is not None and (result.status != "error" or key not in context.results):
            context.results[key] = result

    def cancel(self) -> None:
        """Go on no more."""
        self._task.cancel()
