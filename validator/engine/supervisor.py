"""Feeds workers and their children, times them out, kills and abandons them.

Every wait here is bounded. A child's end is its pidfd, then its pipe drained until empty: an end
of file may never come, since a grandchild can hold the write end. A process in a driver can sit
where SIGKILL does nothing; after a bounded wait it is left alone, and the caller is told.
"""

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from probes.pidfd import is_stopped
from validator.engine import cgroup, clock
from validator.engine.breadcrumb import (
    Breadcrumb,
    ask_to_tell,
    is_wrong,
    read_breadcrumb,
    shared_page,
)
from validator.engine.spawn import WorkerProcess
from validator.engine.stall import Stall, kernel_activity, stall

TAIL_BYTES: Final = 4096
_CHUNK_BYTES: Final = 65536
#: Of a log, so that a traceback of the 100 frames that faulthandler prints is in it whole.
_KEPT_BYTES: Final = 32768
#: Read from a pipe after its writer's end, at most: a grandchild may go on writing for ever.
_DRAIN_BYTES: Final = 1 << 20
_REPLY_S: Final = 10.0
_TRACEBACK_S: Final = 0.1  # for faulthandler to print before the kill
#: What a worker's child prints before each probe.
_HEADING: Final = re.compile(r"^--- \w+\n", re.MULTILINE)
_KILL_S: Final = 2.0  # from SIGKILL to the end of a process
_DEATH_S: Final = 1.0  # from the end of what a process says to its own
#: Failures of a call after which it may be made again.
_PASSING: Final = frozenset({errno.ENOMEM, errno.ENOBUFS})


class WorkerLostError(Exception):
    """The worker died, or gave no reply in time. `reason` is `died` or `hung`."""

    def __init__(
        self,
        reason: str,
        text: str,
        log_tail: str,
        *,
        end: "Exit | None" = None,
        stalled_at: Stall | None = None,
    ) -> None:
        """Create the error; `end` is given where it died, `stalled_at` where it hung."""
        super().__init__(text)
        self.reason = reason
        self.log_tail = log_tail
        self.end = end
        self.stalled_at = stalled_at


#: Signals that others send, and no code to itself.
_FROM_OUTSIDE: Final = frozenset(
    {
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGPWR,
    }
)


@dataclass(frozen=True)
class Exit:
    """How a process ended: one of the two is None."""

    code: int | None = None
    signal: int | None = None

    @property
    def by_others(self) -> bool:
        """Whether a signal ended it that others send, and no code to itself."""
        return self.signal in _FROM_OUTSIDE

    def __str__(self) -> str:
        if self.signal is None:
            return f"exited with code {self.code}"
        try:
            return f"died by {signal.Signals(self.signal).name}"
        except ValueError:  # a real-time signal
            return f"died by signal {self.signal}"


@dataclass(frozen=True)
class ChildEnded:
    """The child is over and its pipe is empty; `partial` is what was written of a last line."""

    partial: bytes


@dataclass(frozen=True)
class GiveWay:
    """Somebody else has come to the device: the child is to leave it; `who` says who came."""

    who: str


@dataclass(frozen=True)
class HeldProcess:
    """A process that SIGKILL does not end, so that nothing is started on its device."""

    pid: int
    pidfd: int


class _Pipe:
    """Reads a pipe's end in the event loop until closed, and hands each chunk on."""

    def __init__(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._take = take
        self._closed = False
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> int:
        try:
            chunk = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._take(chunk)
        return len(chunk)

    def drain(self) -> None:
        """Take what is there now; nothing once closed."""
        taken = 0
        while not self._closed and taken < _DRAIN_BYTES and (count := self._read()):
            taken += count

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)


class _Log(_Pipe):
    """Drains a log pipe all the time and keeps its end: 4 KiB for reports, more for us."""

    def __init__(self, descriptor: int) -> None:
        self._kept = b""
        super().__init__(descriptor, self._keep)

    def _keep(self, chunk: bytes) -> None:
        self._kept = (self._kept + chunk)[-_KEPT_BYTES:]

    def tail(self) -> str:
        """The last that was printed, as text."""
        self.drain()
        return self._kept[-TAIL_BYTES:].decode(errors="replace")

    def end(self) -> str:
        """More of it, for a traceback that must be read whole."""
        self.drain()
        return self._kept.decode(errors="replace")


class Child:
    """A forked child: its result lines and its end, in order, and its log."""

    def __init__(
        self, job: int, pid: int, pidfd: int, result_fd: int, log_fd: int, page: int | None = None
    ) -> None:
        """Own the descriptors from `Worker.fork`; `page` is the memory with the child's place."""
        self.job = job
        self.pid = pid
        self.pidfd = pidfd
        self._messages: deque[bytes | ChildEnded | GiveWay] = deque()
        self._arrived = asyncio.Event()
        self._partial = b""
        self._page = page
        self.over = asyncio.Event()
        self._closed = False
        self._results = _Pipe(result_fd, self._take)
        self._log = _Log(log_fd)
        asyncio.get_running_loop().add_reader(pidfd, self._end)

    def _take(self, chunk: bytes) -> None:
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        self._messages.extend(lines)
        self._arrived.set()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self.pidfd)
        self._results.drain()
        self._messages.append(ChildEnded(self._partial))
        self.over.set()
        self._arrived.set()

    def ask_to_leave(self, who: str) -> None:
        """Have whoever reads its lines be told that it must leave its device."""
        self._messages.append(GiveWay(who))
        self._arrived.set()

    async def next(self, deadline: float) -> bytes | ChildEnded | GiveWay | None:
        """The next line, the end, or that it must leave.

        None when `clock.now()` reached the deadline first.
        """
        while not self._messages:
            self._arrived.clear()
            if not await clock.happens(self._arrived, deadline - clock.now()):
                return None
        return self._messages.popleft()

    def log_tail(self, probe: str = "") -> str:
        """The last it printed; of one probe, where its heading is still in it."""
        tail = self._log.tail()
        _, heading, own = tail.rpartition(f"--- {probe}\n")
        # The child may have gone on, and have printed the next one's heading.
        return _HEADING.split(own, maxsplit=1)[0] if heading else tail

    def breadcrumb(self) -> Breadcrumb:
        """The check and operation that it told last, before its end or until now."""
        return read_breadcrumb(self._page)

    def has_seen_wrong(self) -> bool:
        """Whether something that its probe saw until now was wrong, which it has not told yet."""
        return is_wrong(self._page)

    def ask_to_tell(self) -> None:
        """Have its probe try nothing more, and tell what it has seen."""
        ask_to_tell(self._page)

    def is_stopped(self) -> bool:
        """Whether one of its processes was stopped, so that it does not hang of its own."""
        return any(map(is_stopped, _group(self.pid)))

    def signal(self, number: int) -> None:
        """Send a signal to its process group; none of it left is fine."""
        signal_group(self.pid, number)

    def close(self) -> None:
        """Close what is ours of it, once; what it said can still be read."""
        if not self._closed:
            self._closed = True
            self._log.drain()
            asyncio.get_running_loop().remove_reader(self.pidfd)
            os.close(self.pidfd)
            self._results.close()
            self._log.close()
            if self._page is not None:
                os.close(self._page)
                self._page = None


def _group(pid: int) -> Iterator[int]:
    """The processes of a process group."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            if os.getpgid(int(process.name)) == pid:
                yield int(process.name)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class Worker:
    """A worker process: its replies, its children, its end."""

    def __init__(self, process: WorkerProcess) -> None:
        """Start to listen to a worker; needs a running event loop."""
        self._process = process
        self._control = process.control
        self._control.setblocking(False)
        self._replies: dict[str, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._lost = asyncio.Event()
        self._end: Exit | None = None
        self._cut = asyncio.Event()
        self._cut_by = ""  # why nothing that it says can be read any more
        self._one_request = asyncio.Lock()
        self._jobs = 0
        self.is_up = False
        self.has_forked = False
        self._closed = False
        self._children: dict[int, Child] = {}
        self._log = _Log(process.log_fd)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._receive)
        loop.add_reader(process.pidfd, self._on_death)

    @property
    def how_it_ended(self) -> "Exit | None":
        """How it ended; None as long as that is not known."""
        return self._end

    # ---- what it tells

    def _receive(self) -> None:
        while True:
            try:
                packet, fds, _, _ = socket.recv_fds(self._control, _CHUNK_BYTES, 1)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PASSING:
                    return  # what it said is still there, and the loop calls again
                self._cut_by = error.strerror or str(error)
                self._cut.set()
                packet, fds = b"", []
            if not packet:
                asyncio.get_running_loop().remove_reader(self._control.fileno())
                return
            message: dict[str, Any] = json.loads(packet)
            key = f"{message['event']}:{message['job']}" if "job" in message else message["event"]
            future = self._reply_future(key)
            if not future.done():
                future.set_result((message, fds))

    def _reply_future(self, key: str) -> asyncio.Future[tuple[dict[str, Any], list[int]]]:
        return self._replies.setdefault(key, asyncio.get_running_loop().create_future())

    def _on_death(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._process.pidfd)
        self._receive()
        code = self._process.process.wait()
        self._end = Exit(signal=-code) if code < 0 else Exit(code=code)
        self._lost.set()

    async def _reply(self, *keys: str, seconds: float | None = None) -> dict[str, Any]:
        """The first of some events; whoever waits is told when the worker is lost instead."""
        seconds = _REPLY_S if seconds is None else seconds
        futures = [self._reply_future(key) for key in keys]
        ends = [asyncio.ensure_future(one.wait()) for one in (self._lost, self._cut)]
        awaited: set[asyncio.Future[Any]] = {*futures, *ends}
        try:
            await clock.wait(awaited, seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        for key, future in zip(keys, futures, strict=True):
            if future.done():
                del self._replies[key]
                message, fds = future.result()
                return message | {"fds": fds}
        if self._cut.is_set():  # as its death does too
            await clock.happens(self._lost, _DEATH_S)
        if self._lost.is_set():
            raise WorkerLostError("died", self._death(), self._log.tail(), end=self._end)
        if self._cut.is_set():
            text = f"what the worker says cannot be read: {self._cut_by}"
            raise WorkerLostError("died", text, self._log.tail())
        kernel = kernel_activity(self._process.process.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.process.send_signal(signal.SIGUSR1)
        await clock.happens(self._lost, _TRACEBACK_S)
        waited = f"the worker gave no `{' or '.join(keys)}` in {seconds:.0f} s"
        stalled_at = stall(kernel, self._log.end())
        raise WorkerLostError("hung", waited, self._log.tail(), stalled_at=stalled_at)

    def _death(self) -> str:
        """How it died, and whether for want of memory."""
        text = f"the worker {self._end}"
        killed = self._end is not None and self._end.signal == signal.SIGKILL
        if killed and cgroup.memory_kills() > self._process.memory_kills_before:
            text += f", {cgroup.describe_memory_limit()}"
        return text

    async def wait_until_up(self) -> None:
        """Wait until the process runs our code."""
        await self._reply("up")
        self.is_up = True

    async def wait_for_import(self, seconds: float) -> dict[str, Any]:
        """Return the message that ends the import of torch: event `imported` or `import_failed`."""
        return await self._reply("imported", "import_failed", seconds=seconds)

    # ---- what it is asked

    def _ask(self, request: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], list(fds))
        except OSError as error:
            text = self._death() if self._end else f"the worker takes no request ({error.strerror})"
            raise WorkerLostError("died", text, self._log.tail(), end=self._end) from error

    async def preload(self, modules: tuple[str, ...], seconds: float) -> None:
        """Have it import modules that later children need."""
        async with self._one_request:
            self._ask({"do": "import", "modules": modules})
            await self._reply("ready", seconds=seconds)

    async def fork(self, request: dict[str, Any]) -> Child:
        """Have it fork a child for a job.

        Raises:
            WorkerLostError: it died or does not answer.
        """
        self._jobs += 1
        job = self._jobs
        ends: list[int] = []
        pages = [page for page in (shared_page(),) if page is not None]
        try:
            for _ in range(2):
                ends += os.pipe()
            async with self._one_request:
                self._ask({"do": "fork", "job": job, **request}, (ends[1], ends[3], *pages))
                answer = await self._reply(f"forked:{job}")
            if not answer["fds"]:  # the kernel drops what finds no free descriptor here
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # noqa: TRY301
            child = Child(job, answer["pid"], answer["fds"][0], ends[0], ends[2], *pages)
        except OSError as error:
            for descriptor in (*ends[::2], *pages):
                os.close(descriptor)
            text = f"no child could be forked: {error}"
            raise WorkerLostError("died", text, self._log.tail()) from error
        except BaseException:  # cancelled, too: nobody else would close these
            for descriptor in (*ends[::2], *pages):
                os.close(descriptor)
            raise
        finally:
            for descriptor in ends[1::2]:
                os.close(descriptor)
        self._children[job] = child
        self.has_forked = True
        return child

    async def reap(self, child: Child) -> Exit:
        """Reap an ended child and return how it ended; the rest of its group is killed before."""
        async with self._one_request:  # a worker that is importing tells of no end
            answer = await self._reply(f"exited:{child.job}")
            child.signal(signal.SIGKILL)
            self._ask({"do": "reap", "job": child.job})
        return Exit(code=answer["code"], signal=answer["signal"])

    async def kill(self, child: Child) -> bool:
        """Kill a child, its traceback printed first; False when it cannot be killed."""
        child.signal(signal.SIGUSR1)
        await clock.happens(child.over, _TRACEBACK_S)
        child.signal(signal.SIGKILL)
        return await clock.happens(child.over, _KILL_S)

    async def end(self, child: Child, seconds: float) -> bool:
        """Kill a child that has done nothing wrong; False when it has not ended by then."""
        child.signal(signal.SIGKILL)
        return await clock.happens(child.over, seconds)

    def forget(self, child: Child) -> None:
        """Close what is ours of a child."""
        self._children.pop(child.job, None)
        child.close()

    def abandon(self, child: Child) -> int:
        """Leave alone a child that cannot be killed; its pidfd tells when it ended after all."""
        pidfd = os.dup(child.pidfd)
        self.forget(child)
        return pidfd

    def log_tail(self) -> str:
        """The last that the worker itself printed."""
        return self._log.tail()

    async def close(self) -> None:
        """Kill it and all its children; takes a few seconds at most, whatever state they are in."""
        if self._closed:
            return
        self._closed = True
        for child in self._children.values():
            child.signal(signal.SIGKILL)
        if not self._lost.is_set():
            signal_group(self._process.process.pid, signal.SIGKILL)
        ends = [self._lost, *(child.over for child in self._children.values())]
        await asyncio.gather(*(clock.happens(end, _KILL_S) for end in ends))
        for child in list(self._children.values()):
            if child.over.is_set():
                self.forget(child)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control.fileno())
        loop.remove_reader(self._process.pidfd)
        self._control.close()
        self._log.close()
        os.close(self._process.pidfd)
