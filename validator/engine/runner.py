"""Runs plans one after another, each within its own deadline, and leaves no process behind."""

import asyncio
import contextlib
import os
import select
from collections import Counter
from collections.abc import Callable
from typing import Final

from validator.engine import orphans
from validator.engine.ends import HeldProcess
from validator.engine.plan import Event, Plan, make_plan
from validator.engine.run import Run
from validator.engine.spawn import CannotStartError, WorkerProcess, start_worker
from validator.engine.stopping import Stop, first_of
from validator.report import NotRunReason, Report
from validator.settings.model import Settings

__all__ = ["Event", "Plan", "Runner", "make_plan"]

#: For everything to end when a run is cut off.
_CLOSE_S: Final = 5.0


class Runner:
    """Runs plans, one at a time; remembers the devices that an unkillable process holds."""

    def __init__(self, worker: WorkerProcess | None = None, *, nice: int = 0) -> None:
        """Create it; `worker` runs already, if given; later ones get the niceness `nice`."""
        self.restarts: Counter[str] = Counter()  # of workers, by reason
        self._early = worker
        self._nice = nice
        self._held: dict[str, HeldProcess] = {}
        orphans.adopt()

    @property
    def held(self) -> frozenset[str]:
        """Names of the devices on which nothing is started, since a process there cannot die."""
        return frozenset(self._held)

    def prepare(self) -> None:
        """Start the next run's worker, so that it has imported torch when its turn comes."""
        if self._early is None:
            with contextlib.suppress(CannotStartError):  # the run tries again, and tells
                self._early = start_worker(self._nice)

    def close(self) -> None:
        """End a worker whose run did not come."""
        early, self._early = self._early, None
        if early is not None:
            early.kill()

    async def run(
        self,
        plan: Plan,
        settings: Settings,
        on_event: Callable[[Event], None] = lambda _: None,
        stop: Stop | None = None,
    ) -> Report:
        """Run a plan in a worker of its own.

        The run's own deadline is `settings.run.timeout`; what that or `stop` cuts off is
        `not_run`, and every result so far is kept. Cancelled, it leaves no process and raises
        `asyncio.CancelledError`; the results so far are lost.
        """
        self._release()
        stop = stop or Stop()
        before = orphans.children()
        early, self._early = self._early, None
        run = Run(plan, settings, on_event, self._held, early=early, nice=self._nice)
        task = asyncio.ensure_future(run.execute())
        try:
            await first_of(task, stop.asked, timeout_s=settings.run.timeout)
            in_time = task.done()
            cut_off: NotRunReason = "cancelled" if stop.asked.is_set() else "run_timeout"
        finally:
            task.cancel()
            await first_of(task, stop.at_once, timeout_s=_CLOSE_S)
            await run.close()
            self.restarts += run.restarts
            unkillable = frozenset(process.pid for process in self._held.values())
            prepared = () if self._early is None else (self._early.process.pid,)
            await orphans.sweep(spare=before | unkillable | frozenset(prepared))
        if in_time:
            task.result()  # a bug of ours is raised, never swallowed
        return await run.report(cut_off)

    def _release(self) -> None:
        """Forget the processes that have ended after all, and reap what became ours."""
        for name, process in list(self._held.items()):
            if select.select([process.pidfd], [], [], 0)[0]:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
                os.close(process.pidfd)
                del self._held[name]
