"""Looks at the boards from the start of a run to its end: what they count while heavy probes run.

The probe of the boards gives its result at the start, as in any run. A second child of it goes on
beside the others, and its result takes the place of the first.
"""

import asyncio

from probes.catalog import TELEMETRY
from probes.contract import Result
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
        """Have it look once more; what it found is the run's result.

        But where it could not tell, or no longer sees what failed at first.
        """
        self._job.finish()
        await self._task
        key = (TELEMETRY.name, CPU.name)
        first, result = context.results.get(key), self._results.results.get(key)
        stays = first is not None and result is not None and _stays(first, result)
        if result is not None and not stays:
            context.results[key] = result

    def cancel(self) -> None:
        """Go on no more."""
        self._task.cancel()


def _stays(first: Result, second: Result) -> bool:
    """Whether the first look is what counts: the second could not tell, or takes a failure back."""
    return second.status == "error" or (first.status == "fail" and second.status != "fail")
