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
import signal
import socket
from typing import Any, Final

from validator.engine import cgroup, clock
from validator.engine.breadcrumb import shared_page
from validator.engine.child import Child, signal_group
from validator.engine.ends import Exit, WorkerLostError
from validator.engine.held_up import HINT, Progress
from validator.engine.pipes import Log
from validator.engine.spawn import WorkerProcess
from validator.engine.stall import Stall, kernel_activity, stall

_PACKET_BYTES: Final = 65536
_REPLY_S: Final = 10.0
_TRACEBACK_S: Final = 0.1  # for faulthandler to print before the kill
_KILL_S: Final = 2.0  # from SIGKILL to the end of a process
_DEATH_S: Final = 1.0  # from the end of what a process says to its own
#: Failures of a call after which it may be made again.
_PASSING: Final = frozenset({errno.ENOMEM, errno.ENOBUFS})


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
        self._log = Log(process.log_fd)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._receive)
        loop.add_reader(process.pidfd, self._on_death)

    @property
    def how_it_ended(self) -> Exit | None:
        """How it ended; None as long as that is not known."""
        return self._end

    # ---- what it tells

    def _receive(self) -> None:
        while True:
            try:
                packet, fds, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 1)
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
        obstacle = Progress(self._process.process.pid, self._process.started_s).obstacle()
        kernel = kernel_activity(self._process.process.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.process.send_signal(signal.SIGUSR1)
        await clock.happens(self._lost, _TRACEBACK_S)
        waited = f"the worker gave no `{' or '.join(keys)}` in {seconds:.0f} s"
        stalled_at = stall(kernel, self._log.end())
        if obstacle:
            stalled_at = Stall(blames_torch=False, text=obstacle, hint=HINT)
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
        except BaseException as error:  # cancelled, too: nobody else would close these
            for descriptor in (*ends[::2], *pages):
                os.close(descriptor)
            if not isinstance(error, OSError):
                raise
            text = f"no child could be forked: {error}"
            raise WorkerLostError("died", text, self._log.tail()) from error
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
