"""`python -m tests.benchmarks`: DESIGN's budgets, both sides of each measured in one run.

1. Scrapes: the daemon with a run in progress, and a bare prometheus_client server with as many
   series, each in a process of its own, in turns; 50 scrapers in a closed loop. The daemon's runs
   go on during the other side's rounds too, so that both have the same company.
2. The daemon between runs: memory, processor time, processes, over some idle seconds.
3. `gpu-validator check --profile quick` over a bare `import torch`, in pairs.
4. The whole of it: `check --profile standard`, `selftest`, and one fault over a check.
5. Load, asked for by name: 50 and 500 scrapers beside 1,000 idle connections, on the daemon, on the
   bare server, and on node_exporter where that is installed.

Nothing here listens on, or connects to, anything but 127.0.0.1.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import SERIES, load
from tests.benchmarks.servers import (
    ROOT,
    children,
    free_port,
    get,
    processor_s,
    runs_done,
    server,
    status_kib,
    until,
)

_CLIENTS: Final = 50
_ALWAYS_S: Final = 0.1  # seconds between runs that keep one in progress all the time
_RARELY_S: Final = 3600.0


def scrape(port: int, seconds: float) -> dict[str, float]:
    """One round of a closed loop, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.scrapers"]
    command += [str(port), str(seconds), str(_CLIENTS), str(SERIES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seen: dict[str, float] = json.loads(done.stdout)
    return seen


def scrapes(rounds: int, seconds: float) -> dict[str, Any]:
    """Both servers in turns, while the daemon's runs go on."""
    ours, theirs = free_port(), free_port()
    sides: dict[str, list[dict[str, float]]] = {"daemon": [], "bare": []}
    with (
        server("tests.benchmarks.daemon", str(ours), str(_ALWAYS_S)),
        server("tests.benchmarks.bare", str(theirs)),
    ):
        until(ours, "/metrics", "gpu_validator_run_in_progress 1.0", 60)
        until(theirs, "/metrics", "bench_probe", 60)
        before = runs_done(ours)
        for number in range(rounds):
            turns = [("daemon", ours), ("bare", theirs)]
            for side, port in turns if number % 2 == 0 else turns[::-1]:
                sides[side].append(scrape(port, seconds))
        results_meanwhile = runs_done(ours) - before
    summed = {
        side: {
            "rate": statistics.median(one["rate"] for one in seen),
            "p50_ms": statistics.median(one["p50_ms"] for one in seen),
            "p99_ms": max(one["p99_ms"] for one in seen),
            "errors": sum(one["errors"] for one in seen),
            "unanswered": sum(one["unanswered"] for one in seen),
        }
        for side, seen in sides.items()
    }
    return {
        **summed,
        "ratio": summed["daemon"]["rate"] / summed["bare"]["rate"],
        "results_meanwhile": results_meanwhile,
        "rounds": sides,
    }


def idle(seconds: float) -> dict[str, float]:
    """The daemon after its first run, with a scrape every 15 s as Prometheus would."""
    port = free_port()
    with server("tests.benchmarks.daemon", str(port), str(_RARELY_S)) as process:
        until(port, "/api/v1/report", '"trigger":"merged"', 300)
        until(port, "/metrics", "gpu_validator_run_in_progress 0.0", 60)
        get(port, "/openapi.json")
        before, began = processor_s(process.pid), time.monotonic()
        next_scrape = began
        while (now := time.monotonic()) < began + seconds:
            if now >= next_scrape:
                get(port, "/metrics")
                next_scrape += 15
            time.sleep(min(1.0, began + seconds - now))
        used, lasted = processor_s(process.pid) - before, time.monotonic() - began
        return {
            "rss_mib": status_kib(process.pid, "VmRSS") / 1024,
            "peak_rss_mib": status_kib(process.pid, "VmHWM") / 1024,
            "core_percent": 100 * used / lasted,
            "seconds": lasted,
            "children": children(process.pid),
        }


def _wall_s(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return took


def check(pairs: int) -> dict[str, Any]:
    """Wall time of a quick check over a bare import of torch; the first pair warms the caches."""
    quick = [str(Path(sys.executable).with_name("gpu-validator")), "check", "--profile", "quick"]
    bare = [sys.executable, "-c", "import torch"]
    took = [(_wall_s(quick), _wall_s(bare)) for _ in range(pairs + 1)][1:]
    return {
        "check_s": statistics.median(mine for mine, _ in took),
        "import_s": statistics.median(other for _, other in took),
        "ratio": statistics.median(mine / other for mine, other in took),
        "pairs": took,
    }


def whole() -> dict[str, Any]:
    """Wall times of the standard profile, of every fault, and of one over a check."""
    command = str(Path(sys.executable).with_name("gpu-validator"))
    one = [command, "selftest", "--fault", "mm.one_bit"]
    pairs = [(_wall_s(one), _wall_s([command, "check"])) for _ in range(4)][1:]
    return {
        "standard_s": _wall_s([command, "check", "--profile", "standard"]),
        "selftest_s": _wall_s([command, "selftest"]),
        "one_fault_ratio": statistics.median(fault / check for fault, check in pairs),
    }


def table(measured: dict[str, Any]) -> Iterator[str]:
    """What was measured, beside its budget."""
    row = "{:<44} {:>12} {:>14}".format
    yield row(f"{platform.machine()}, {os.cpu_count()} cores", "measured", "budget")
    if (one := measured.get("scrapes")) is not None:
        mine, bare = one["daemon"], one["bare"]
        yield row(
            f"scrapes of {SERIES} series, {_CLIENTS} scrapers, a second", f"{mine['rate']:.0f}", ""
        )
        yield row("  bare prometheus_client", f"{bare['rate']:.1f}", "")
        yield row("  ratio of the medians", f"{one['ratio']:.0f}x", ">= 10x")
        yield row(
            "  p50, p99 of the worst round",
            f"{mine['p50_ms']:.1f}, {mine['p99_ms']:.1f} ms",
            "p99 <= 50 ms",
        )
        yield row(
            "  p50, p99 of the bare server", f"{bare['p50_ms']:.0f}, {bare['p99_ms']:.0f} ms", ""
        )
        yield row("  errors; bare", f"{mine['errors']}; {bare['errors']}", "0")
        yield row(
            "  open for over 1 s at the end; bare",
            f"{mine['unanswered']}; {bare['unanswered']}",
            "0",
        )
        yield row("  results of runs meanwhile", f"{one['results_meanwhile']:.0f}", "> 0")
    if (one := measured.get("idle")) is not None:
        yield row("daemon between runs: RSS", f"{one['rss_mib']:.1f} MiB", "<= 60 MiB")
        yield row("  peak RSS, the run included", f"{one['peak_rss_mib']:.1f} MiB", "")
        yield row(
            f"  share of a core over {one['seconds']:.0f} s",
            f"{one['core_percent']:.3f} %",
            "<= 0.2 %",
        )
        yield row("  child processes", f"{one['children']}", "0")
    if (one := measured.get("check")) is not None:
        yield row(f"quick check, median of {len(one['pairs'])}", f"{one['check_s']:.2f} s", "")
        yield row("  bare import of torch", f"{one['import_s']:.2f} s", "")
        yield row("  median ratio of the pairs", f"{one['ratio']:.2f}x", "<= 1.25x")
    if (one := measured.get("whole")) is not None:
        yield row("standard check", f"{one['standard_s']:.1f} s", "<= 40 s")
        yield row("selftest, all faults", f"{one['selftest_s']:.1f} s", "<= 60 s")
        yield row("  one fault, over a check", f"{one['one_fault_ratio']:.2f}x", "<= 2x")
    if (one := measured.get("load")) is not None:
        yield from load.table(one)


def main() -> None:
    """Measure what was asked for; the table on stderr when JSON goes to stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "only", nargs="*", help="scrapes, idle, check, whole, load; default: all but load"
    )
    parser.add_argument("--rounds", type=int, default=4, help="of scrapes, on each side")
    parser.add_argument("--seconds", type=float, default=5, help="a round of scrapes takes")
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--pairs", type=int, default=7, help="of check and import")
    parser.add_argument("--json", action="store_true", help="all numbers, on stdout")
    asked = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "scrapes": lambda: scrapes(asked.rounds, asked.seconds),
        "idle": lambda: idle(asked.idle_seconds),
        "check": lambda: check(asked.pairs),
        "whole": whole,
        "load": lambda: load.measure(asked.rounds, asked.seconds),
    }
    unknown = set(asked.only) - parts.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    measured = {
        name: part()
        for name, part in parts.items()
        if name in (asked.only or parts.keys() - {"load"})
    }
    for line in table(measured):
        print(line, file=sys.stderr if asked.json else sys.stdout)
    if asked.json:
        json.dump(measured, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
