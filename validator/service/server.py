"""The daemon's process: its sockets, its signals, and the loop that holds schedule and HTTP."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import uvicorn

from validator.loading import load
from validator.service import logs, startup
from validator.service.api import Node, make_app, protocol_for
from validator.service.daemon import Daemon, tell_profile
from validator.service.listen import address_of, listening
from validator.settings import Settings, SettingsError

#: What a run gets to end its processes when the daemon stops; the whole stop takes 5 s at most.
_CANCEL_S: Final = 3.5

_TICK_S: Final = 1.0

EXIT_STOPPED: Final = 0
EXIT_UNUSABLE: Final = 2


class _Server(uvicorn.Server):
    """uvicorn's server that ticks once a second, not ten times, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, tick: Callable[[], None]) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()
        self._tick = tick

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield

    async def main_loop(self) -> None:
        """Keep the Date header right, and the daemon ticking, until told to stop."""
        stopped = asyncio.ensure_future(self.stopping.wait())
        while not stopped.done():
            await self.on_tick(0)
            self._tick()
            await asyncio.wait({stopped}, timeout=_TICK_S)


def serve(settings: Settings, config_file: Path | None, flags: Mapping[str, Any]) -> int:
    """Run the daemon until SIGTERM or SIGINT; 0 then, 2 when it could not start."""
    logs.configure(settings.log.level, settings.log.format)
    tell_profile(settings)

    async def until_stopped(sockets: list[socket.socket]) -> int:
        daemon = Daemon(settings, reload=lambda: load(config_file, flags, startup.of_a_run))
        return await hold(daemon, sockets)

    try:
        with listening(settings.web) as sockets:
            return asyncio.run(until_stopped(sockets))
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
    stop = asyncio.Event()

    def stopping(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        stop.set()

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stopping, number)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    for one in sockets:
        log.info("listening", address=address_of(one))
    gc.collect()
    gc.freeze()  # what start-up made stays; no later collection walks it
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
        if pending:
            # Whatever does not end now never may, and leaving the loop would wait for it. The
            # worker dies with us: the kernel ends it with the thread that started it.
            log.error("abandoned", tasks=len(pending))
            os._exit(EXIT_UNUSABLE)
        for task in failed:
            task.result()
    finally:
        for number in (*signals, signal.SIGHUP):
            loop.remove_signal_handler(number)
    log.info("stopped")
    return EXIT_STOPPED


def _server(node: Node, tick: Callable[[], None]) -> _Server:
    config = uvicorn.Config(
        make_app(node),
        http=protocol_for(node),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=1024,
        timeout_keep_alive=75,  # more than a usual scrape interval
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=16 * 1024,
    )
    return _Server(config, tick)
