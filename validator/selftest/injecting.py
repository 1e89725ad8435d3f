"""One fault at a time in a process of its own, as many side by side as cores and devices allow."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

from probes.catalog import BY_NAME, CATALOG
from probes.contract import ProbeSpec, Result
from probes.faults.fault import Fault
from validator.engine import cgroup, devices
from validator.engine.context import RunContext
from validator.engine.ends import HeldProcess
from validator.engine.job import Job
from validator.engine.plan import Event, timeout_s
from validator.engine.spawn import start_worker
from validator.engine.workers import NoWorkerError, Workers
from validator.report import CPU, Device
from validator.selftest.choice import left_out
from validator.settings.model import Expect, ProbeSettings, Settings

#: What a deadline on a GPU is longer: the start of a context, beside those of other trials.
_CONTEXT_S: Final = 10.0


class Injecting:
    """Runs probes under a fault, with the workers of one selftest."""

    def __init__(self, settings: Settings, workers: Workers, held: dict[str, HeldProcess]) -> None:
        """Create it; what cannot be killed goes into `held`."""
        self._settings = settings
        self._workers = workers
        self._held = held
        self._cores = asyncio.Semaphore(cgroup.cores())
        self._room: dict[str, asyncio.Semaphore] = {}  # for processes on an accelerator, by name

    async def under(
        self, fault: Fault, device: Device, specs: Sequence[ProbeSpec]
    ) -> tuple[list[Result], float]:
        """The results of some probes under a fault, and how long they took in seconds."""
        settings = self._expecting(fault, device)
        context = RunContext(
            settings,
            self._workers,
            self._held,
            _ignore_event,
            fault=fault.name,
            left_out=left_out(fault, specs),
        )
        device = _as_used(device, fault)
        async with self._slot(fault, device):
            started_s = time.monotonic()
            await Job(device, list(specs), 1, context).run()
        return list(context.results.values()), time.monotonic() - started_s

    def _expecting(self, fault: Fault, device: Device) -> Settings:
        """Settings of the defaults, but for what the fault itself is about."""
        probes = {}
        if fault.timeout_s:
            deadline_s = fault.timeout_s + (0.0 if device.type == CPU.type else _CONTEXT_S)
            probes = {name: ProbeSettings(timeout=deadline_s) for name in fault.probes}
        gpus = "auto" if fault.promised_gpus is None else fault.promised_gpus
        # Devices that were asked for say where to inject; the pretended node is judged whole.
        run = self._settings.run.model_copy(update={"devices": ()})
        return self._settings.model_copy(
            update={"probes": probes, "expect": Expect(gpus=gpus), "run": run}
        )

    @contextlib.asynccontextmanager
    async def _slot(self, fault: Fault, device: Device) -> AsyncIterator[None]:
        """Room for one more trial: a core and memory of the device; faults that wait take none."""
        if fault.timeout_s:
            yield
            return
        async with contextlib.AsyncExitStack() as taken:
            if device.type != CPU.type and fault.where != "node":
                count = devices.side_by_side(CATALOG, device, cgroup.cores())
                room = self._room.setdefault(device.name, asyncio.Semaphore(count))
                await taken.enter_async_context(room)
            await taken.enter_async_context(self._cores)
            yield

    async def import_torch_under(self, fault: Fault) -> tuple[Result | None, float]:
        """Import torch with the fault's files first; the result if that failed, and seconds.

        Raises:
            CannotStartError: no process could be started.
        """
        deadline_s = fault.timeout_s or timeout_s(BY_NAME["torch_version"], self._settings)
        async with self._slot(fault, CPU):
            started_s = time.monotonic()
            with _fault_files(fault) as folder:
                process = start_worker(before=folder)
                workers = Workers(process, nice=0, import_s=deadline_s, on_event=_ignore_event)
                result = None
                try:
                    await workers.live()
                except NoWorkerError as error:
                    result = error.result
                finally:
                    await workers.close()
        if result is not None:
            result = result.model_copy(update={"fault": fault.name})
        return result, time.monotonic() - started_s


def _as_used(device: Device, fault: Fault) -> Device:
    """A device with those whom the fault brings; nobody else, where nobody is known to be there."""
    count = 1 if fault.shared else device.process_count or 0
    return device.model_copy(update={"process_count": count})


def _ignore_event(_: Event) -> None:
    """Ignore an event: single results of a selftest are not shown."""


@contextlib.contextmanager
def _fault_files(fault: Fault) -> Iterator[Path]:
    """Write the fault's files into a temporary folder; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="gpu-validator-") as name:
        for path, content in fault.files.items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        yield Path(name)
