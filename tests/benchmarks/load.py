"""Many scrapers beside idle connections: the daemon, a bare prometheus_client, node_exporter."""

import contextlib
import json
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from tests.benchmarks import SERIES
from tests.benchmarks.servers import (
    ROOT,
    free_port,
    processor_s,
    running,
    server,
    status_kib,
    until,
)

_SCRAPERS: Final = (50, 500)
_IDLE: Final = 1000
_DESCRIPTORS: Final = 4096  # of each process; what LimitNOFILE= of a unit is set to, or more
_ALWAYS_S: Final = 0.1  # seconds between runs that keep one in progress all the time

#: It answers 40 at a time and refuses the others, by default.
_NO_LIMIT: Final = "--web.max-requests=0"
_NODE_EXPORTERS: Final = ("prometheus-node-exporter", "node_exporter")


@contextlib.contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing, begun at once and for as long as the block."""
    made = [socket.socket() for _ in range(count)]
    try:
        for one in made:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield made
    finally:
        for one in made:
            one.close()


def is_open(one: socket.socket) -> bool:
    """Whether a connection was accepted by the kernel, and not ended by the server."""
    try:
        one.getpeername()
        return one.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def one_round(port: int, pid: int, clients: int, seconds: float, least: int) -> dict[str, float]:
    """Scrapers in a closed loop, joined by an idle crowd, and what the server took meanwhile."""
    command = [sys.executable, "-m", "tests.benchmarks.scrapers"]
    command += [str(port), str(seconds), str(clients), str(least)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as scraping:
        assert scraping.stderr is not None
        scraping.stderr.readline()  # they come first, as scrapers do that were there all the time
        used, began = processor_s(pid), time.monotonic()
        with crowd(port, _IDLE) as idle:
            told, why = scraping.communicate(timeout=seconds + 60)
            lasted, used = time.monotonic() - began, processor_s(pid) - used
            still_open = sum(map(is_open, idle))
    if scraping.returncode != 0:
        raise SystemExit(f"the scrapers of port {port} ended with {scraping.returncode}: {why}")
    seen: dict[str, float] = json.loads(told)
    return {
        **seen,
        "core_percent": 100 * used / lasted,
        "rss_mib": status_kib(pid, "VmRSS") / 1024,
        "idle_open": still_open,
    }


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """All servers in turns, with 50 and with 500 scrapers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))
    exporter = next(filter(None, map(shutil.which, _NODE_EXPORTERS)), None)
    ours, bare, theirs = free_port(), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        sides = {
            "daemon": (ours, start(server("tests.benchmarks.daemon", str(ours), str(_ALWAYS_S)))),
            "bare": (bare, start(server("tests.benchmarks.bare", str(bare)))),
        }
        until(ours, "/metrics", "gpu_validator_run_in_progress 1.0", 60)
        until(bare, "/metrics", "bench_probe", 60)
        if exporter is not None:
            listen = f"--web.listen-address=127.0.0.1:{theirs}"
            sides["node_exporter"] = (theirs, start(running([exporter, listen, _NO_LIMIT])))
            until(theirs, "/metrics", "node_exporter_build_info", 60)
        seen: dict[int, dict[str, list[dict[str, float]]]] = {
            clients: {side: [] for side in sides} for clients in _SCRAPERS
        }
        for number in range(rounds):
            for clients in _SCRAPERS:
                for side in list(sides)[:: -1 if number % 2 else 1]:
                    port, process = sides[side]
                    least = 0 if side == "node_exporter" else SERIES
                    seen[clients][side].append(
                        one_round(port, process.pid, clients, seconds, least)
                    )
    return {str(clients): by_side for clients, by_side in seen.items()}


def table(measured: dict[str, Any]) -> Iterator[str]:
    """A line a server: medians of the rounds; the worst p99, all errors."""
    yield f"scrapers beside {_IDLE} idle connections, medians of the rounds; the worst p99"
    row = "{:>8} {:<14} {:>9} {:>9} {:>10} {:>8} {:>11} {:>7} {:>9} {:>10}".format
    yield row(
        *("scrapers", "server", "a second", "p50 ms", "p99 ms", "errors", "unanswered"),
        *("core %", "RSS MiB", "idle open"),
    )
    for clients, by_side in measured.items():
        for side, rounds in by_side.items():
            yield row(
                clients,
                side,
                *(f"{_median(rounds, name):.1f}" for name in ("rate", "p50_ms")),
                f"{max(one['p99_ms'] for one in rounds):.1f}",
                *(f"{sum(one[name] for one in rounds):.0f}" for name in ("errors", "unanswered")),
                *(f"{_median(rounds, name):.1f}" for name in ("core_percent", "rss_mib")),
                f"{_median(rounds, 'idle_open'):.0f}",
            )


def _median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(one[name] for one in rounds)
