"""The worker of a run: started, with torch imported or bare; started again when it is lost."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from probes.contract import Failure, Result
from validator.engine import host_limits, outcomes
from validator.engine.ends import WorkerLostError
from validator.engine.plan import Event
from validator.engine.spawn import CannotStartError, WorkerProcess, start_worker
from validator.engine.supervisor import Worker
from validator.engine.timeline import Timeline
from validator.report import Environment

_RESTARTS: Final = 4  # within a run: one that ends it is tried twice
_BARE_S: Final = 30.0  # for a worker without torch to be ready


class NoWorkerError(Exception):
    """No worker can be started; `result` is what that says about the machine, if anything."""

    def __init__(self, text: str, log_tail: str = "", result: Result | None = None) -> None:
        """Create the error; `text` says why, `log_tail` is the last that a worker printed."""
        super().__init__(text)
        self.log_tail = log_tail
        self.result = result


class Workers:
    """At most one worker at a time."""

    def __init__(
        self,
        early: WorkerProcess | None,
        *,
        nice: int,
        import_s: float = _BARE_S,
        on_event: Callable[[Event], None],
        bare: bool = False,
        timeline: Timeline | None = None,
    ) -> None:
        """Create it.

        Args:
            early: one that runs already.
            nice: added to the niceness of others.
            import_s: the deadline of the import in seconds.
            on_event: hears of restarts.
            bare: import neither torch nor NumPy.
            timeline: where its steps go; one of its own without.
        """
        self.restarts: Counter[str] = Counter()
        self.environment = Environment()
        began_s = early.started_s if early is not None else time.monotonic()
        self.timeline = Timeline(began_s) if timeline is None else timeline
        self._bare = bare
        self._early = early
        self._nice = nice
        self._import_s = import_s
        self._on_event = on_event
        self._worker: Worker | None = None
        self._changing = asyncio.Lock()
        self._given_up: NoWorkerError | None = None

    async def live(self) -> Worker:
        """The worker, started and, unless it is bare, with torch imported.

        Raises:
            NoWorkerError: it cannot be started, cannot import torch, or was lost too often.
        """
        async with self._changing:
            if self._given_up is not None:
                raise self._given_up
            if self._worker is None:
                try:
                    self._worker = await self._start()
                except NoWorkerError as error:
                    self._given_up = error
                    raise
            return self._worker

    async def lose(self, worker: Worker, lost: WorkerLostError) -> None:
        """Put a lost worker away, once for all who noticed.

        One that was of no use, and one too many, is not followed by another; one that others have
        killed before its first use is.
        """
        async with self._changing:
            if self._worker is not worker:
                return
            self._worker = None
            await worker.close()
            # Of one that took no request its end was not known yet.
            end = worker.how_it_ended if lost.end is None and lost.reason == "died" else lost.end
            killed = end is not None and end.by_others
            useless = not worker.has_forked and not killed
            if useless or self.restarts.total() == _RESTARTS:
                self._given_up = NoWorkerError(str(lost), lost.log_tail)
                return
            self.restarts[lost.reason] += 1
            self._on_event(Event("restarted", text=str(lost)))

    async def close(self) -> None:
        """End the worker and everything below it."""
        early, self._early = self._early, None
        if early is not None:
            await Worker(early).close()
        if self._worker is not None:
            await self._worker.close()

    async def _start(self) -> Worker:
        """A worker with torch imported; what may not come again is tried once more."""
        try:
            return await self._import(self._early)
        except _PassingError as first:
            self.restarts["died"] += 1
            self._on_event(Event("restarted", text=str(first)))
        try:
            return await self._import(None)
        except _PassingError as again:
            raise again.told from again

    async def _import(self, process: WorkerProcess | None) -> Worker:
        self._early = None
        try:
            process = process or start_worker(self._nice, bare=self._bare)
        except CannotStartError as error:
            raise NoWorkerError(str(error)) from error
        worker = self._worker = Worker(process)  # so that `close` finds it
        begun = time.monotonic()
        try:
            await worker.wait_until_up()
            if not self._bare:
                self._on_event(Event("importing"))
            answer = await worker.wait_for_import(self._import_s)
        except WorkerLostError as lost:
            if _is_killed(lost):
                self._worker = None
                await worker.close()
                told = _error_of_killed(lost, bare=self._bare)
                raise _PassingError(str(lost), told) from lost
            if self._bare or not worker.is_up:
                when = "" if worker.is_up else "before it was up: "
                raise NoWorkerError(f"{when}{lost}", lost.log_tail) from lost
            raise _error_of_lost_import(lost, self._import_s, time.monotonic() - begun) from lost
        if answer["event"] == "import_failed":
            failed = _error_of_failed_import(answer, worker.log_tail(), time.monotonic() - begun)
            if host_limits.memory_was_short(str(failed)):
                self._worker = None
                await worker.close()
                raise _PassingError(str(failed), failed)
            raise failed
        self.environment = Environment.model_validate(answer["environment"])
        began_s, ended_s = answer["began_s"], answer["ended_s"]
        what = "start of the worker without torch" if self._bare else "start of the worker"
        self.timeline.add(what, process.started_s, began_s)
        if not self._bare:
            self.timeline.add("import of torch and NumPy", began_s, ended_s)
        return worker


class _PassingError(Exception):
    """What may not come again ended the import: others killed the worker, or memory was short."""

    def __init__(self, text: str, told: NoWorkerError) -> None:
        """Create the error from a text that says how; `told` is what it is when it comes again."""
        super().__init__(text)
        self.told = told


def _is_killed(lost: WorkerLostError) -> bool:
    """Whether a signal ended it that others send, and no code to itself, or it fell silent."""
    return lost.reason == "died" and (lost.end is None or lost.end.by_others)


def _error_of_killed(lost: WorkerLostError, *, bare: bool) -> NoWorkerError:
    """Killed twice, which tells nothing of torch."""
    if bare:
        return NoWorkerError(f"twice: {lost}", lost.log_tail)
    text = f"importing torch, twice: {lost}"
    hint = "somebody killed it: look at `dmesg | tail`, and at what ends processes here"
    result = outcomes.not_imported(text, hint=hint, log_tail=lost.log_tail)
    return NoWorkerError(text, result=result)


def _error_of_lost_import(
    lost: WorkerLostError, deadline_s: float, duration_s: float
) -> NoWorkerError:
    text = f"importing torch: {lost}"
    if lost.stalled_at is not None:
        text = f"importing torch did not end within {deadline_s:g} s: {lost.stalled_at.text}"
        if not lost.stalled_at.blames_torch:
            hint = lost.stalled_at.hint
            result = outcomes.not_imported(
                text, hint=hint, log_tail=lost.log_tail, duration_s=duration_s
            )
            return NoWorkerError(text, result=result)
    result = outcomes.import_failed(text, log_tail=lost.log_tail, duration_s=duration_s)
    return NoWorkerError(text, result=result)


def _error_of_failed_import(
    answer: dict[str, Any], log_tail: str, duration_s: float
) -> NoWorkerError:
    failure = Failure.model_validate(answer["error"])
    first_line = (failure.message.splitlines() or [""])[0]
    text = f"importing {answer['module']} raised {failure.type}: {first_line}"
    if answer["cause"]:
        text += f" ({answer['cause']})"
    result = outcomes.import_failed(
        text,
        hint=answer["hint"],
        action=answer["action"],
        error=failure,
        log_tail=log_tail,
        duration_s=duration_s,
    )
    return NoWorkerError(text, result=result)
