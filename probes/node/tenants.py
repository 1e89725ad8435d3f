"""Who uses a GPU now, and how hard it works, as NVML tells: once, or again and again.

NVML may hang if the driver hangs: call it only in a process that another one can kill.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from probes.contract import Frozen
from probes.node import nvml

try:
    import pynvml
except ImportError:
    pynvml = None

_GPU_TEMPERATURE: Final = 0  # nvmlTemperatureSensors_t
_SM_CLOCK: Final = 1  # nvmlClockType_t
_MILLI: Final = 1000


class GpuProcess(Frozen):
    """A process with a context on a GPU. In a container its id is the one that the host knows."""

    pid: int
    memory_bytes: int | None = None  # on this GPU


class Use(Frozen):
    """What NVML tells of one GPU, or MIG instance, now. None means unknown."""

    processes: tuple[GpuProcess, ...] | None = None  # without the one that asks
    utilization_percent: int | None = None  # of the last second or less
    memory_used_bytes: int | None = None  # without what the driver reserves
    temperature_c: int | None = None
    power_w: float | None = None
    clock_mhz: int | None = None  # of the multiprocessors


def _sorted(found: Mapping[int, int | None]) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(pid=pid, memory_bytes=size) for pid, size in sorted(found.items()))


def _use(handle: object) -> Use:
    queries = nvml.Queries()
    query, found = queries.query, nvml.processes(queries, handle)
    rates = query("nvmlDeviceGetUtilizationRates", handle)
    memory = query("nvmlDeviceGetMemoryInfo", handle, getattr(pynvml, "nvmlMemory_v2", None))
    milliwatts = query("nvmlDeviceGetPowerUsage", handle)
    return Use(
        processes=None if found is None else _sorted(found),
        utilization_percent=None if rates is None else int(rates.gpu),
        # Before driver 510 what is used is not told apart from what is reserved.
        memory_used_bytes=None if memory is None else int(memory.used),
        temperature_c=query("nvmlDeviceGetTemperature", handle, _GPU_TEMPERATURE),
        power_w=None if milliwatts is None else milliwatts / _MILLI,
        clock_mhz=query("nvmlDeviceGetClockInfo", handle, _SM_CLOCK),
    )


@contextmanager
def _started() -> Iterator[bool]:
    """NVML, started; False where it cannot be."""
    if pynvml is None:
        yield False
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        nvml.Queries().query("nvmlShutdown")


def _handle(uuid: str) -> Any:
    return nvml.Queries().query("nvmlDeviceGetHandleByUUID", uuid.encode())


def read(uuids: Iterable[str]) -> dict[str, Use]:
    """UUID -> how the GPU or MIG instance is used now; without those that NVML does not know."""
    with _started() as works:
        handles = {uuid: _handle(uuid) for uuid in uuids} if works else {}
        return {uuid: _use(handle) for uuid, handle in handles.items() if handle is not None}


def watch(uuid: str, every_s: float, tell: Callable[[Use], None]) -> None:
    """Tell how a GPU is used, again and again; return where NVML does not know it."""
    with _started() as works:
        handle = _handle(uuid) if works else None
        while handle is not None:
            tell(_use(handle))
            time.sleep(every_s)
