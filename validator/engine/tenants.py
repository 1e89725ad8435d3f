"""Watches who comes to a device while probes load it, so that they can leave it within a second.

NVML is asked in a process of its own, a child of the worker without torch: a driver that hangs
costs the watch, and nothing else. Where NVML does not list a device's processes nobody is seen.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from validator.engine import clock, processes
from validator.engine.child import Child
from validator.engine.ends import ChildEnded, HeldProcess, WorkerLostError
from validator.engine.plan import Event
from validator.engine.supervisor import Worker
from validator.engine.workers import NoWorkerError, Workers
from validator.report import CPU, Device, GpuProcess

#: Between two answers. Whoever is there in two of them has come: a probe is told within 0.7 s.
EVERY_S: Final = 0.3
#: How long a process of ours that has ended may still be in an answer.
_RECENT_S: Final = 2.5 * EVERY_S
#: For the watch to start, or to answer. The survey has had the same answers just before.
_ANSWER_S: Final = 10.0
#: For a process that has done nothing wrong to end: it gives back all of a GPU's memory.
END_S: Final = 10.0
_TRIES: Final = 2
#: For an answer on whether somebody has come, where a probe found no memory.
_ASK_S: Final = 3.0
#: How long others may be on a device in all of a run, and it is waited for them to leave: so long
#: another validator takes for its light probes, which in a container nobody can tell from a tenant.
PATIENCE_S: Final = 10.0

#: What is told of a board, as an event says it.
NUMBERS: Final = ("temperature_c", "power_w", "clock_mhz")


class _Watch:
    """What is known of one device that is watched."""

    def __init__(self) -> None:
        self.holders = 0  # of the watch
        self.task: asyncio.Future[None] | None = None
        self.users: frozenset[int] = frozenset()  # of the last answer, by id
        self.strangers: frozenset[int] = frozenset()  # of them those that are none of ours
        self.more = 0  # the same, where ids tell nothing: how many more than our own
        self.who = ""
        self.others_s = 0.0  # for which somebody was there
        self.answered_s = clock.now()
        self.answers = 0
        self.answered = asyncio.Event()


class Tenants:
    """Who else is on the devices of a run; our own children there are entered and left."""

    def __init__(
        self,
        workers: Workers,
        held: dict[str, HeldProcess],
        on_event: Callable[[Event], None],
        *,
        gives_way: bool = True,
    ) -> None:
        """Create it without a watch.

        Args:
            workers: those without torch, of which the watches are children.
            held: where a watch goes that cannot be killed.
            on_event: hears what boards say, and of a watch that is lost.
            gives_way: whether heavy probes leave a device to which others come.
        """
        self._workers = workers
        self._held = held
        self._on_event = on_event
        self._gives_way = gives_way
        self._watches: dict[str, _Watch] = {}
        self._own: dict[str, dict[Child, bool]] = {}  # device -> child -> whether it is to leave
        self._ended_s: dict[int, float] = {}  # those that have ended, by id -> when

    # ---- what jobs say and ask

    def enter(self, device: Device, child: Child, *, heavy: bool) -> None:
        """Record a child that uses a device; a heavy one is told of those who have come."""
        self._own.setdefault(device.name, {})[child] = heavy and self._gives_way
        if heavy and (who := self.who(device)):
            child.ask_to_leave(who)

    def leave(self, device: Device, child: Child) -> None:
        """Record that a child uses a device no longer."""
        self._own[device.name].pop(child, None)
        self._ended_s[child.pid] = clock.now()

    def who(self, device: Device) -> str:
        """Who has come to a device that heavy probes are to leave now; "" for nobody."""
        watch = self._watches.get(device.name)
        return watch.who if watch is not None and self._gives_way else ""

    async def ask(self, device: Device) -> str:
        """Who else is on a device now, whatever probes are to do about it; "" for nobody."""
        async with self.watching(device):
            watch = self._watches.get(device.name)
            if watch is None:
                return ""
            enough, deadline = watch.answers + 2, clock.now() + _ASK_S
            while watch.answers < enough:
                watch.answered.clear()
                if not await clock.happens(watch.answered, deadline - clock.now()):
                    break
            return watch.who

    async def wait_until_left(self, device: Device, *, after: int = 0) -> str:
        """Wait for others to leave a device that is watched; return who stays, "" for nobody.

        With `after` at least so many answers are waited for. Those who were there for `PATIENCE_S`,
        one or several after another, stay.
        """
        watch = self._watches.get(device.name)
        if watch is None or not self._gives_way:
            return ""
        while watch.who or watch.answers < after:
            if watch.others_s >= PATIENCE_S:
                return watch.who or "others come and go"
            watch.answered.clear()
            if not await clock.happens(watch.answered, _ANSWER_S):
                return watch.who or "NVML gives no answer"
        return ""

    # ---- the watch

    def can_watch(self, device: Device) -> bool:
        """Whether NVML tells who is on a device, and its watch can be ended."""
        known = device.uuid is not None and device.process_count is not None
        return known and _key(device) not in self._held

    @asynccontextmanager
    async def watching(self, device: Device) -> AsyncIterator[None]:
        """Watch a device meanwhile, if NVML lists its processes."""
        name = device.name
        if device.uuid is None or not self.can_watch(device):
            yield
            return
        watch = self._watches.setdefault(name, _Watch())
        watch.holders += 1
        if watch.task is None:
            watch.task = asyncio.ensure_future(self._follow(device, device.uuid, watch))
        try:
            yield
        finally:
            watch.holders -= 1
            if not watch.holders:
                del self._watches[name]
                watch.task.cancel()
                await asyncio.wait({watch.task}, timeout=END_S)

    async def _follow(self, device: Device, uuid: str, watch: _Watch) -> None:
        """Take the answers about a device until cancelled; say when there are none."""
        why = ""
        for _ in range(_TRIES):
            try:
                worker = await self._workers.live()
                child = await worker.fork({"tenants": uuid, "every_s": EVERY_S, "threads": 1})
            except WorkerLostError as lost:
                await self._workers.lose(worker, lost)
                why = str(lost)
                continue
            except NoWorkerError as error:
                why = str(error)
                break
            try:
                why = await self._take_answers(device, watch, child)
            finally:
                watch.who, watch.strangers, watch.more = "", frozenset(), 0
                watch.answered.set()
                await self._end(worker, child, device)
        self._on_event(Event("unwatched", device=device.name, text=f"nobody is seen there: {why}"))

    async def _take_answers(self, device: Device, watch: _Watch, child: Child) -> str:
        """Take them until none comes; return why."""
        while isinstance(message := await child.next(clock.now() + _ANSWER_S), bytes):
            use: dict[str, Any] = json.loads(message)["use"]
            self._take(device, watch, use)
        if isinstance(message, ChildEnded):
            tail = child.log_tail().strip().splitlines()
            return f"the watch has ended{': ' + tail[-1] if tail else ''}"
        return f"NVML gave no answer within {_ANSWER_S:g} s"

    def _take(self, device: Device, watch: _Watch, use: Mapping[str, Any]) -> None:
        users = [GpuProcess.model_validate(each) for each in use["processes"] or ()]
        before, watch.who = watch.who, self._others(device, watch, users)
        at_s = clock.now()
        if before:
            watch.others_s += at_s - watch.answered_s
        watch.answered_s = at_s
        watch.answers += 1
        watch.answered.set()
        numbers = {name: float(use[name]) for name in NUMBERS if use[name] is not None}
        self._on_event(Event("sampled", device=device.name, numbers=numbers))
        if watch.who and not before:
            for child, leaves in self._own.get(device.name, {}).items():
                if leaves:
                    child.ask_to_leave(watch.who)

    def _others(self, device: Device, watch: _Watch, users: list[GpuProcess]) -> str:
        """Who was there in this answer and in the one before, besides our own."""
        watch.users = frozenset(user.pid for user in users)
        after_s = clock.now() - _RECENT_S
        self._ended_s = {pid: at_s for pid, at_s in self._ended_s.items() if at_s > after_s}
        if processes.numbered_as_by_the_host():
            strangers = watch.users - self._children() - self._ended_s.keys()
            if strangers:
                strangers -= processes.descendants([os.getpid()])
            there, watch.strangers = watch.strangers & strangers, strangers
            count, text = len(there), processes.describe(u for u in users if u.pid in there)
        else:
            more = self._more_than_ours(device, watch)
            count, watch.more = max(0, min(watch.more, more)), more
            text = f"{len(users)} are there, and of ours {len(users) - count}"
        if not count:
            return ""
        return f"{count} other process{'es' if count > 1 else ''} came to it: {text}"

    def _children(self, *devices: str) -> set[int]:
        """Our children on these devices, or on all."""
        return {child.pid for name in devices or self._own for child in self._own.get(name, {})}

    def _more_than_ours(self, device: Device, watch: _Watch) -> int:
        """How many more processes use a device than ours may; whose each is, is not known.

        More must be there than on all devices together, too: a process of ours may be listed on a
        device beside its own, and one of the host's may use any.
        """
        own = processes.descendants(self._children(device.name, CPU.name))
        here = len(watch.users) - processes.count_on_gpus(own)
        if here <= 0:
            return here
        users = frozenset[int]().union(*(each.users for each in self._watches.values()))
        own = processes.descendants(self._children())
        return min(here, len(users) - processes.count_on_gpus(own) - len(self._ended_s))

    async def _end(self, worker: Worker, child: Child, device: Device) -> None:
        """End the watch's process; one that cannot be killed is remembered."""
        try:
            if await worker.end(child, END_S / 2):
                await worker.reap(child)
                worker.forget(child)
            else:
                held = HeldProcess(child.pid, worker.abandon(child))
                self._held[_key(device)] = held
        except WorkerLostError as lost:
            await self._workers.lose(worker, lost)


def _key(device: Device) -> str:
    """The name under which a watch that cannot be killed is remembered, in place of a device's."""
    return f"watch of {device.name}"
