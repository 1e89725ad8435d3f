"""A node of 56 instances on which every check fails: how long who asks for health waits meanwhile.

`python -m tests.benchmarks.many [DEVICES]`: the daemon in a process of its own takes in the results
of its runs, one run after another, as children would send them; this process asks for `/healthz`
all the time, and scrapes metrics and report beside it.
"""

import asyncio
import inspect
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

from probes.catalog import CATALOG
from probes.contract import Comparison, Pattern, Result, Triage, agree
from tests.benchmarks.servers import free_port, get, server, until
from validator.engine.plan import Event, Plan
from validator.engine.run import Run
from validator.report import Device, Report
from validator.service import logs
from validator.service.daemon import Daemon
from validator.service.listen import listen
from validator.service.server import hold
from validator.settings.loading import load
from validator.settings.model import Settings

_A_GPU: Final = 7  # instances
_SECONDS: Final = 40.0


def instances(count: int) -> tuple[Device, ...]:
    """MIG instances, seven a GPU."""
    return tuple(
        Device(
            name=f"cuda:{number // _A_GPU}:{number % _A_GPU}",
            type="cuda",
            index=number,
            alone=True,
            uuid=f"MIG-{number}",
            parent_uuid=f"GPU-{number // _A_GPU}",
            model_name="NVIDIA H100 80GB HBM3 MIG 1g.10gb",
            backend="cuda-mig",
            process_count=0,
        )
        for number in range(count)
    )


def failed(probe: str, checks: tuple[str, ...], device: Device) -> str:
    """A result as a child sends it: each check is wrong in two operations."""
    index = (0, 1, 2)
    pattern = Pattern(
        elements=4096,
        mismatches=12,
        first=(index,) * 3,
        last=(index,) * 3,
        common_index=(None,) * 3,
        bits_any="0x00080000",
        bits_all="0x00080000",
    )
    comparisons = [
        Comparison(
            operation=f"operation_{number} (float32, strided, 17x33x65)",
            elements=4096,
            mismatches=12,
            first_index=index,
            worst_index=index,
            expected=1.25,
            observed=-2.5e30,
            xor_mask="0x00ff0000",
            pattern=pattern,
        )
        for number in range(2)
    ]
    triage = Triage(kind="persistent", retries=2, failures=2, passes_on=("cpu",))
    findings = tuple(
        agree(check, comparisons, hint="reinstall torch").model_copy(update={"triage": triage})
        for check in checks
    )
    return Result(
        probe=probe,
        device=device.name,
        gpu_uuid=device.uuid,
        status="fail",
        reason="check_failed",
        summary=findings[0].message,
        started_at=datetime.now(timezone.utc),
        duration_s=1.0,
        findings=findings,
    ).model_dump_json()


class Runs:
    """A runner whose children have said all that they ever say."""

    def __init__(self, count: int) -> None:
        self.restarts: Counter[str] = Counter()
        self._devices = instances(count)
        self._specs = [spec for spec in CATALOG if spec.needs == "device"]
        first = self._devices[0]
        said = [failed(spec.name, spec.check_ids, first) for spec in self._specs]
        self._said = [
            text.replace(f'"{first.name}"', f'"{device.name}"').replace("MIG-0", str(device.uuid))
            for text in said
            for device in self._devices
        ]

    async def run(
        self, plan: Plan, settings: Settings, on_event: Callable[[Event], None] = lambda _: None
    ) -> Report:
        """Take in all of it, and report."""
        run = Run(plan, settings, on_event, {}, early=None, nice=0)
        run._devices = self._devices
        run._planned = [(spec, device) for spec in self._specs for device in self._devices]
        run._announce()
        for text in self._said:
            run._context.record(Result.model_validate_json(text))
            await asyncio.sleep(0)
        made: Any = run.report()
        report: Report = await made if inspect.isawaitable(made) else made
        await run.close()
        return report


async def main(port: int, count: int) -> int:
    """Serve until SIGTERM."""
    every = {"interval": 5, "jitter": 0}
    names = [spec.name for spec in CATALOG if spec.needs == "device"]
    flags = {"schedule": dict.fromkeys(names, every), "run": {"profile": "deep"}}
    logs.configure("error")
    return await hold(Daemon(load(flags=flags), runner=Runs(count)), listen([f"127.0.0.1:{port}"]))


def measure(count: int) -> dict[str, Any]:
    """Ask for health every 10 ms, and for all the rest once a second."""
    port, took, sizes = free_port(), [], []
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1):
            get(port, "/metrics")
            sizes.append(len(get(port, "/api/v1/report")[1]))
            get(port, "/api/v1/report?findings=bad")

    with server("tests.benchmarks.many", "serve", str(port), str(count)):
        until(port, "/healthz", "", 60)
        until(port, "/api/v1/report", "merged", 400)
        beside = threading.Thread(target=scrape)
        beside.start()
        until_s = time.monotonic() + _SECONDS
        while time.monotonic() < until_s:
            began = time.perf_counter()
            get(port, "/healthz")
            took.append(time.perf_counter() - began)
            time.sleep(0.01)
        over.set()
        beside.join()
    took.sort()
    return {
        "devices": count,
        "requests": len(took),
        "p50_ms": 1000 * statistics.median(took),
        "p99_ms": 1000 * took[int(0.99 * len(took))],
        "worst_ms": 1000 * took[-1],
        "report_bytes": max(sizes),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.exit(asyncio.run(main(int(sys.argv[2]), int(sys.argv[3]))))
    json.dump(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 56), sys.stdout)
