"""The probes of one device, run in children of the worker, as many as it takes."""

import json
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError

from probes.contract import ProbeSpec, Result
from validator.engine import cgroup, outcomes, resume
from validator.engine.attempted import Attempted
from validator.engine.child import Child
from validator.engine.clock import now
from validator.engine.context import RunContext
from validator.engine.ends import ChildEnded, GiveWay, WorkerLostError
from validator.engine.held_up import Progress
from validator.engine.plan import Event, limits, timeout_s
from validator.engine.supervisor import Worker
from validator.engine.tenants import END_S
from validator.engine.workers import NoWorkerError
from validator.report import CPU, Device

#: For a child to start a probe, or to end, in seconds.
START_S: Final = 10.0
_SHOWN_BYTES: Final = 80  # of a line that is no result
#: Tells a child that watches that the others have ended, as in `probes.kit.watching`.
_END_OF_WATCH: Final = signal.SIGUSR2
#: For a probe that must leave its device, and that has seen something wrong, to say so.
_LAST_WORDS_S: Final = 0.3
_LOOK_S: Final = 1.0  # between two looks at a deadline that may have been shortened

#: One of `outcomes`: what became of a probe on a device, in a text.
_Outcome = Callable[..., Result]
#: Ends of a process that one check may have brought about, so that the others can go on.
_GOES_ON: Final = (outcomes.crashed, outcomes.timed_out)
#: Those of one that came to no end in its time.
_LATE: Final = (outcomes.timed_out, outcomes.cut_short, outcomes.held_up, outcomes.not_begun)
#: Those of one that is still there.
_LEFT: Final = (outcomes.unkillable, outcomes.not_ended)
#: Ends of a process that its probe did not bring about.
_OF_OTHERS: Final = (outcomes.killed, outcomes.not_begun)


class Job:
    """Probes of one device, in order. A sick one costs its child; the rest get a new one."""

    def __init__(
        self,
        device: Device,
        specs: list[ProbeSpec],
        threads: int,
        context: RunContext,
        *,
        row: object = None,
        alone: bool = True,
        watches: bool = False,
    ) -> None:
        """Create the job; each of its children computes with that many threads.

        Args:
            device: where the probes run.
            specs: the probes.
            threads: of each child.
            context: what the jobs of the run share.
            row: what its hangs are counted with; its own without one.
            alone: whether no other job of ours uses the device meanwhile.
            watches: whether its probe goes on until `finish`, from when its deadline counts.
        """
        self._watches = watches
        self._child: Child | None = None
        self._device = device
        self._row = self if row is None else row
        self._alone = alone
        self._remaining = list(specs)
        self._threads = threads
        self._context = context
        #: How checks of the first remaining probe ended its processes until now.
        self._deaths: list[resume.Death] = []
        #: The probe of which a check has failed and is tried again now.
        self._failing: Attempted | None = None
        #: Probes whose process others have killed or held up: they are tried once more.
        self._lost: set[str] = set()
        #: Probes that have left the device to others, by name: they are tried once more too.
        self._left: dict[str, Result] = {}

    async def run(self) -> None:
        """Run them all; every one gets its result, but for those of a device that is held."""
        try:
            await self._run_remaining()
        finally:
            # Cancelled, or held: what has failed, died or left its device has done so.
            self._settle(self._decided())

    def _decided(self) -> Result | None:
        """What is known of the first remaining probe, whoever ended it."""
        if self._failing is not None:
            return self._failing.unfinished()
        return self._left.get(self._remaining[0].name) if self._remaining else None

    def finish(self) -> None:
        """Have a probe that watches come to its end."""
        self._watches = False
        if self._child is not None:
            self._child.signal(_END_OF_WATCH)

    async def _run_remaining(self) -> None:
        workers = self._context.workers
        while self._remaining and not self._is_blocked():
            try:
                worker = await workers.live()
            except NoWorkerError as error:
                for spec in self._remaining:
                    result = outcomes.broken(
                        spec, self._device, str(error), log_tail=error.log_tail
                    )
                    self._settle(result)
                return
            if await self._gives_way():
                return
            async with self._context.slots:
                if self._context.is_over():
                    return
                try:
                    forked_s = time.monotonic()
                    child = await worker.fork(request := self._request())
                    self._child = child
                    if request["watch"] and not self._watches:
                        self.finish()  # it came meanwhile
                    await self._watch(worker, child, forked_s)
                    self._child = None
                except WorkerLostError as lost:
                    await workers.lose(worker, lost)

    async def _gives_way(self) -> bool:
        """Whether heavy probes leave the device to others who stay on it; says so of each."""
        if not self._is_heavy:
            return False
        if not (who := await self._context.tenants.wait_until_left(self._device)):
            return False
        for spec in self._remaining:
            self._settle(self._left.get(spec.name) or outcomes.busy(spec, self._device, who))
        self._remaining.clear()
        return True

    @property
    def _is_heavy(self) -> bool:
        return any(spec.is_heavy for spec in self._remaining)

    def _is_blocked(self) -> bool:
        """Whether the device is held by a process that cannot be killed, or hangs."""
        name = self._device.name
        return self._context.is_held(name) or self._context.hangs.is_given_up(name)

    def _request(self) -> dict[str, Any]:
        settings = self._context.settings
        return {
            "probes": [
                {
                    "name": spec.name,
                    "module": spec.module,
                    "timeout_s": self._deadline_s(spec),
                    "limits": limits(spec, settings),
                    "left_out": self._left_out_checks(spec),
                    "about_node": spec.about_node,
                    "certain": spec.certain,
                    "needs_torch": spec.needs_torch,
                    "in_a_new_process": spec.is_heavy,
                }
                for spec in self._remaining
            ],
            "device": self._device.torch_name,
            "device_name": self._device.name,
            "watch": self._watches,
            "alone": self._device.uuid if self._device.alone else None,
            "gpu_uuid": self._device.uuid,
            "shared": self._may_be_shared(),
            "threads": self._threads,
            "observations": settings.run.observations,
            "timings": settings.run.timings,
            # What others take on the device would be counted too.
            "memory": settings.run.timings and self._alone,
            "fault": self._context.fault,
            "backend": self._device.backend,
            # What a fault trips is asked for on hardware of any kind.
            "unproven": "fail" if self._context.fault is not None else settings.expect.unproven,
        }

    def _may_be_shared(self) -> bool:
        """Whether others may use an accelerator's memory: they do, or who does is not known."""
        count = self._device.process_count
        return bool(count) or (count is None and self._device.type != CPU.type)

    async def _watch(self, worker: Worker, child: Child, forked_s: float) -> None:
        """Take a child's results until it ends or must be ended."""
        tenants = self._context.tenants
        tenants.enter(self._device, child, heavy=self._is_heavy)
        try:
            await self._take_results(worker, child, forked_s)
        finally:
            tenants.leave(self._device, child)

    async def _take_results(self, worker: Worker, child: Child, forked_s: float) -> None:
        remaining = self._remaining
        before = len(remaining)
        attempted: Attempted | None = None
        deadline = now() + START_S
        progress = Progress(child.pid)
        while isinstance(message := await self._next(child, attempted, deadline), bytes):
            fields = _parse(message)
            if attempted is None and remaining and fields.get("start") == remaining[0].name:
                progress = Progress(child.pid)
                attempted = self._begin(forked_s if len(remaining) == before else None)
                continue
            result = self._result(fields, attempted)
            if result is None:
                break
            if attempted is not None and "preliminary" in fields:
                attempted.try_again(result, str(fields.get("retries_on", "")))
                self._failing = attempted
                continue
            self._settle(_add_log_tail(await self._excused(result, attempted), child))
            self._context.hangs.record_answer(self._device.name, self._row)
            del remaining[0]
            attempted = None
            deadline = now() + START_S
        progressed = isinstance(message, ChildEnded) and len(remaining) < before
        if attempted is None and remaining and not progressed:
            attempted = Attempted(remaining[0], START_S, begun=False)
        await self._take_end(worker, child, attempted, message, progress)

    async def _take_end(
        self,
        worker: Worker,
        child: Child,
        attempted: Attempted | None,
        message: bytes | ChildEnded | GiveWay | None,
        progress: Progress,
    ) -> None:
        """Take a child's end, or end it; what it had begun gets its result."""
        if isinstance(message, ChildEnded):
            outcome, text = await self._outcome_of_end(worker, child, message.partial)
        elif isinstance(message, GiveWay):
            outcome, text = await self._make_leave(worker, child, attempted, message.who)
        else:
            outcome, text = await self._kill_late(worker, child, attempted, message, progress)
        if attempted is not None:
            tail = child.log_tail(attempted.spec.name)
            clock = attempted.clock()
            result = outcome(attempted.spec, self._device, text, log_tail=tail, **clock)
            if not self._is_tried_again(outcome, attempted, result):
                self._end_first(attempted, result, child, goes_on=outcome in _GOES_ON)
                self._record_end(outcome, attempted)
        if outcome in _LEFT:
            self._context.abandon(worker, child, self._device.name)
        else:
            worker.forget(child)

    def _begin(self, forked_s: float | None) -> Attempted:
        """The first remaining probe, which has started; `forked_s` says when its process did."""
        spec, device = self._remaining[0], self._device.name
        if forked_s is not None:
            timeline = self._context.workers.timeline
            timeline.add("start of a process", forked_s, time.monotonic(), device=device)
        self._context.on_event(Event("started", probe=spec.name, device=device))
        own_s = timeout_s(spec, self._context.settings)
        return Attempted(spec, self._deadline_s(spec), own_s)

    def _is_tried_again(self, outcome: _Outcome, attempted: Attempted, result: Result) -> bool:
        """Whether a probe lost its process to others for the first time, before it told anything.

        They killed it or kept it from its start, or came to its device and may leave it again.
        """
        if attempted.preliminary is not None or attempted.told is not None:
            return False
        name = attempted.spec.name
        if outcome is outcomes.busy and name not in self._left:
            self._left[name] = result
            return True
        first = outcome in _OF_OTHERS and name not in self._lost
        if outcome in _OF_OTHERS:
            self._lost.add(name)
        return first

    def _end_first(
        self, attempted: Attempted, result: Result, child: Child, *, goes_on: bool
    ) -> None:
        """Settle the first remaining probe, or have it go on without the check it was at."""
        at = child.breadcrumb()
        if result.reason != "gpu_busy":
            result = resume.add_place(result, at, attempted.spec)
        result = attempted.told or attempted.unfinished() or result
        rest: Result | None = result
        if goes_on and attempted.preliminary is None:
            before, self._deaths = self._deaths, [*self._deaths, resume.Death(at.check, result)]
            if resume.may_go_on(attempted.spec, self._deaths):
                return
            if before:
                rest = None  # it is the last of the deaths
            else:
                self._deaths = before
        self._settle(rest)
        del self._remaining[0]

    def _settle(self, rest: Result | None = None) -> None:
        """Record a probe: what its last process said, and how its checks ended the others."""
        result = resume.merge(self._deaths, rest)
        self._deaths, self._failing = [], None
        if result is not None:
            self._context.record(result)

    def _left_out_checks(self, spec: ProbeSpec) -> list[str]:
        """Checks that a child must not begin: not wanted, or they have ended one."""
        deaths = self._deaths if spec is self._remaining[0] else []
        return [*self._context.left_out.get(spec.name, ()), *(death.check for death in deaths)]

    def _record_end(self, outcome: _Outcome, attempted: Attempted) -> None:
        """Record for the device whether a probe without a result hung or came to an end.

        A retry on the CPU that is cut off says nothing of the device; one on an accelerator that
        takes several times as long as the first try is a hang.
        """
        if attempted.retries_on == CPU.name:
            self._context.hangs.record_answer(self._device.name, self._row)
        elif outcome in _LATE:
            self._context.hangs.record_timeout(self._device.name, self._row)
        elif outcome is outcomes.crashed:
            self._context.hangs.record_answer(self._device.name, self._row)

    def _deadline_s(self, spec: ProbeSpec) -> float:
        """Seconds that a probe gets which starts now; fewer when it goes on after a hang."""
        own_s = timeout_s(spec, self._context.settings)
        if spec is self._remaining[0]:
            own_s = resume.deadline_s(own_s, self._deaths)
        return self._context.hangs.deadline_s(spec, self._device.name, own_s)

    async def _next(
        self, child: Child, attempted: Attempted | None, deadline: float
    ) -> bytes | ChildEnded | GiveWay | None:
        """The child's next line, its end, or that it must leave; None when the probe is late.

        So is a start that is late.

        A deadline is looked at anew once a second: a timeout in another job may shorten it.
        """
        while True:
            at, watches = now(), self._watches and attempted is not None
            if attempted is not None:
                if watches:
                    attempted.put_off()
                deadline = at + attempted.remaining_s(self._context.hangs, self._device.name)
            message = await child.next(min(deadline, at + _LOOK_S))
            if message is not None or (now() >= deadline and not watches):
                return message

    def _result(self, fields: dict[str, Any], attempted: Attempted | None) -> Result | None:
        """The result in a message, if it is one of the probe that was started."""
        text = fields.get("result", fields.get("preliminary"))
        if attempted is None or not isinstance(text, str):
            return None
        try:
            result = Result.model_validate_json(text)
        except ValidationError:
            return None
        mine = (attempted.spec.name, self._device.name)
        return result if (result.probe, result.device) == mine else None

    async def _excused(self, result: Result, attempted: "Attempted | None") -> Result:
        """The result; where a probe found no memory and others are there, that it is busy."""
        if attempted is None or self._context.fault is not None or not _lacks_memory(result):
            return result
        who = await self._context.tenants.ask(self._device)
        if not who:
            return result
        text = f"{result.summary}: {who}"
        return outcomes.busy(
            attempted.spec, self._device, text, error=result.error, **attempted.clock()
        )

    async def _make_leave(
        self, worker: Worker, child: Child, attempted: Attempted | None, who: str
    ) -> tuple[_Outcome, str]:
        """End a child whose device others need; return what that means for its probe.

        What it has told by then counts, and what it saw wrong it may tell: who comes hides nothing.
        """
        is_wrong = attempted is not None and child.has_seen_wrong()
        if attempted is not None and is_wrong:
            child.ask_to_tell()
            await self._take_last_words(child, attempted, now() + _LAST_WORDS_S, whole=False)
        progress = Progress(child.pid)
        if not await worker.end(child, END_S):
            text = f"did not leave the device to others within {END_S:g} s"
            if obstacle := progress.obstacle():
                return outcomes.not_ended, f"{text}: {obstacle}"
            return outcomes.unkillable, text
        if attempted is not None and not is_wrong:
            await self._take_last_words(child, attempted, now(), whole=True)
        try:
            await worker.reap(child)
        except WorkerLostError as lost:
            await self._context.workers.lose(worker, lost)
        return outcomes.busy, f"{who}; the probe has left it to them"

    async def _take_last_words(
        self, child: Child, attempted: Attempted, until_s: float, *, whole: bool
    ) -> None:
        """Take a result that comes until then; only a failure, where it may not be `whole`."""
        while isinstance(message := await child.next(until_s), bytes):
            fields = _parse(message)
            result = self._result(fields, attempted)
            if result is None or not (whole or result.status == "fail"):
                return
            if "preliminary" in fields:
                attempted.try_again(result, str(fields.get("retries_on", "")))
            else:
                attempted.told = _add_log_tail(result, child)
            return

    async def _outcome_of_end(
        self, worker: Worker, child: Child, partial: bytes
    ) -> tuple[_Outcome, str]:
        """Reap a child and return what its end means for the probe that it ran, with a text."""
        try:
            how = await worker.reap(child)
        except WorkerLostError as lost:  # its children die with it, whoever ended it
            await self._context.workers.lose(worker, lost)
            return outcomes.killed, str(lost)
        if how.signal == signal.SIGKILL and cgroup.memory_kills() > self._context.memory_kills:
            return outcomes.out_of_memory, str(how)
        if how.by_others:
            return outcomes.killed, str(how)
        if how.signal is not None:
            return outcomes.crashed, str(how)
        return outcomes.broken, f"{how} and left {'half a' if partial else 'no'} result"

    async def _kill_late(
        self,
        worker: Worker,
        child: Child,
        attempted: Attempted | None,
        message: bytes | None,
        progress: Progress,
    ) -> tuple[_Outcome, str]:
        """Kill a child that is late or wrote no result; return what that means for its probe."""
        stopped = message is None and child.is_stopped()
        obstacle = progress.obstacle() if message is None else ""
        killed = await worker.kill(child)
        if killed:
            try:
                await worker.reap(child)
            except WorkerLostError as lost:
                await self._context.workers.lose(worker, lost)
        if message is not None:
            shown = message[:_SHOWN_BYTES].decode(errors="replace")
            if len(message) > _SHOWN_BYTES:
                shown += f" (the first {_SHOWN_BYTES} of {len(message)} bytes)"
            text = f"wrote what is no result of this probe: {shown}"
            return (outcomes.broken if killed else outcomes.unkillable), text
        deadline = f"{START_S:g} s" if attempted is None else attempted.shown_deadline()
        text = f"no result within {deadline}"
        if killed and stopped:
            return outcomes.stopped, text
        if obstacle:
            late_end = outcomes.held_up if killed else outcomes.not_ended
            return late_end, f"{text}: {obstacle}"
        if not killed:
            return outcomes.unkillable, text
        if attempted is not None and not attempted.begun:
            return outcomes.not_begun, text
        late = attempted is not None and attempted.is_cut_short
        return (outcomes.cut_short if late else outcomes.timed_out), text


def _parse(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _lacks_memory(result: Result) -> bool:
    """Whether a probe failed for want of memory, and of nothing else."""
    if result.status != "fail" or result.reason != "torch_raised" or result.error is None:
        return False
    text = f"{result.error.type}: {result.error.message}".lower().replace(" ", "")
    return "outofmemory" in text and len(result.findings) == 1


def _add_log_tail(result: Result, child: Child) -> Result:
    """What was printed belongs to a result that is not good."""
    if result.status not in {"fail", "error"}:
        return result
    return result.model_copy(update={"log_tail": child.log_tail(result.probe)})
