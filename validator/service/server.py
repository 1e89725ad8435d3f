"""The daemon's process: its sockets, its signals, and the loop that holds schedule and HTTP."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvicorn.lifespan.off  # which it would look for when it begins to serve

from validator.engine.orphans import Reaper
from validator.service import logs, startup
from validator.service.api import HEADERS, Node, make_app
from validator.service.connections import Connections
from validator.service.daemon import Daemon, tell_profile
from validator.service.listen import address_of, listening
from validator.service.protocol import protocol_for
from validator.service.signals import KEPT, MEANINGLESS, name_of
from validator.service.turns import in_turns
from validator.settings.loading import load
from validator.settings.model import Settings
from validator.settings.values import SettingsError

#: What a run gets to end its processes when the daemon stops; the whole stop takes 5 s at most.
_CANCEL_S: Final = 3.2

#: What the removal of the status files gets beyond that; they expire by themselves.
_SETTLE_S: Final = 0.3

_TICK_S: Final = 1.0

#: Young objects, for a collection of all: one in the middle of a run walks every result of it.
_NEVER: Final = 2**31 - 1

#: Connections that may wait to be let in; who finds no room is not heard for a second and more.
_WAITING: Final = 1024

EXIT_STOPPED: Final = 0
EXIT_UNUSABLE: Final = 2


#: Between two lines of the log on clients that were refused, or that no descriptor was left for.
_QUIET_S: Final = 60.0


class _Server(uvicorn.Server):
    """uvicorn's server that ticks once a second, not ten times, and leaves signals to us."""

    def __init__(
        self, config: uvicorn.Config, table: Connections, tick: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()
        self._table = table
        self._tick = tick
        self._reaper = Reaper()
        self._refused_told = 0
        self._tell_refused_at_s = 0.0
        self._without_descriptors_s = float("-inf")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, and let more of them wait for their turn than are let in at once."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(_WAITING)

    async def main_loop(self) -> None:
        """Keep the Date header right, and the daemon ticking, until told to stop."""
        stopped = asyncio.ensure_future(self.stopping.wait())
        while not stopped.done():
            await self.on_tick(0)
            self._table.sweep()
            self._tell_refused()
            self._reaper.look()
            self._tick()
            await asyncio.wait({stopped}, timeout=_TICK_S)

    def _tell_refused(self) -> None:
        """Say in the log how many clients were refused, at most once a minute."""
        refused = self._table.refused - self._refused_told
        if refused and self._table.monotonic() >= self._tell_refused_at_s:
            self._refused_told = self._table.refused
            self._tell_refused_at_s = self._table.monotonic() + _QUIET_S
            logs.log().warning("connections_refused", count=refused, most=self._table.limits.most)

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say once that no descriptor is left for a client; asyncio tries again in a second."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
            loop.default_exception_handler(context)
            return
        now_s = self._table.monotonic()
        if now_s - self._without_descriptors_s > _QUIET_S:
            logs.log().error("no_descriptors", why=error.strerror)
        self._without_descriptors_s = now_s


def serve(settings: Settings, config_file: Path | None, flags: Mapping[str, Any]) -> int:
    """Run the daemon until SIGTERM or SIGINT; 0 then, 2 when it could not start."""
    logs.configure(settings.log.level, settings.log.format)
    sys.unraisablehook = _tell_unraisable
    with logs.queued():
        return _serve(settings, config_file, flags)


def _tell_unraisable(told: "sys.UnraisableHookArgs") -> None:
    """Log in a line what Python would print on many: an exception that nobody can catch."""
    what = repr(told.exc_value) if told.exc_value is not None else told.exc_type.__name__
    logs.log().warning("exception_ignored", error=what, where=repr(told.object))


def _serve(settings: Settings, config_file: Path | None, flags: Mapping[str, Any]) -> int:
    tell_profile(settings)

    async def until_stopped(sockets: list[socket.socket]) -> int:
        daemon = Daemon(settings, reload=lambda: load(config_file, flags, startup.of_a_run))
        return await hold(daemon, sockets)

    try:
        with listening(settings.web) as sockets:
            served = until_stopped(sockets)
            with contextlib.closing(served):  # where no loop could be made for it
                return asyncio.run(served)
    except SettingsError as error:
        logs.log().error("cannot_start", error=str(error))
        return EXIT_UNUSABLE


async def hold(daemon: Daemon, sockets: list[socket.socket]) -> int:
    """Serve and run until a signal says stop, then end both within 5 s.

    An exception of ours in the scheduler ends the daemon and is raised: an orchestrator starts
    it again, which a daemon that serves old results for ever would prevent.
    """
    log, loop = logs.log(), asyncio.get_running_loop()
    server = _server(daemon, daemon.tick)
    loop.set_exception_handler(server.on_loop_error)
    stop = asyncio.Event()

    def stopping(number: int) -> None:
        log.info("stopping", signal=name_of(number))
        stop.set()

    def ignored(number: int) -> None:
        log.info("signal_ignored", signal=name_of(number))

    handlers: dict[int, Callable[[int], None]] = {
        **dict.fromkeys((signal.SIGTERM, signal.SIGINT), stopping),
        **dict.fromkeys(MEANINGLESS, ignored),
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler, number)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, KEPT)  # since the start
    for one in sockets:
        log.info("listening", address=address_of(one))
    gc.collect()
    gc.freeze()  # what start-up made stays; no later collection walks it
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], _NEVER)  # a run ends with a collection of all
    serving = asyncio.ensure_future(server.serve(sockets))
    running = asyncio.ensure_future(daemon.keep_running())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({serving, running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in (serving, running) if task.done()]
        server.stopping.set()
        daemon.withdraw()
        running.cancel()
        stopped.cancel()
        _, pending = await asyncio.wait({serving, running}, timeout=_CANCEL_S)
        daemon.settle(_SETTLE_S)
        if pending:
            # Whatever does not end now never may, and leaving the loop would wait for it. The
            # worker dies with us: the kernel ends it with the thread that started it.
            log.error("abandoned", tasks=len(pending))
            logs.flush()
            os._exit(EXIT_UNUSABLE)
        for task in failed:
            task.result()
    finally:
        gc.set_threshold(*thresholds)
        _ignore(loop, (*handlers, signal.SIGHUP))
    log.info("stopped")
    return EXIT_STOPPED


def _ignore(loop: asyncio.AbstractEventLoop, numbers: Iterable[int]) -> None:
    """Heed signals no longer: what comes while the process ends must not change its exit code."""
    numbers = frozenset(numbers)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)  # one that is pending is gone with that
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _server(node: Node, tick: Callable[[], None], table: Connections | None = None) -> _Server:
    table = table or Connections()
    config = uvicorn.Config(
        in_turns(make_app(node), table, HEADERS),
        http=protocol_for(node, table),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=table.limits.at_once,
        timeout_keep_alive=int(table.limits.idle_s),
        timeout_graceful_shutdown=1,
    )
    return _Server(config, table, tick)
