"""What an NVIDIA GPU counts of its memory's errors while a probe runs.

NVML may hang if the driver hangs: open a board only in a process that another one can kill.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from probes.contract import Action, Finding, Frozen, require, skipped
from probes.kit import breadcrumb
from probes.node import cuda_driver, nvml

try:
    import pynvml
except ImportError:
    pynvml = None

#: Values of nvmlMemoryErrorType_t, nvmlEccCounterType_t and nvmlMemoryLocation_t (nvml.h).
_CORRECTED: Final = 0
_UNCORRECTED: Final = 1
_SINCE_DRIVER_START: Final = 0
_DEVICE_MEMORY: Final = 2
_GPU_SENSOR: Final = 0  # nvmlTemperatureSensors_t


class Counters(Frozen):
    """Errors of the GPU's memory since its driver started, and rows replaced. None: unknown."""

    corrected: int | None = None
    uncorrected: int | None = None
    remapped_corrected: int | None = None
    remapped_uncorrected: int | None = None
    remap_pending: bool | None = None  # a reset replaces a row
    remap_failed: bool | None = None  # no spare row was left


class Board:
    """One GPU in NVML."""

    def __init__(self, handle: Any) -> None:
        """Take NVML's handle of it."""
        self._handle = handle

    def counters(self) -> Counters:
        """The counters now."""
        query = nvml.Queries().query
        answer = query("nvmlDeviceGetRemappedRows", self._handle) or (None,) * 4
        rows = [nvml.told(value) for value in answer]
        errors = [
            query(
                "nvmlDeviceGetMemoryErrorCounter",
                *(self._handle, kind, _SINCE_DRIVER_START, _DEVICE_MEMORY),
            )
            for kind in (_CORRECTED, _UNCORRECTED)
        ]
        return Counters(
            corrected=errors[0],
            uncorrected=errors[1],
            remapped_corrected=rows[0],
            remapped_uncorrected=rows[1],
            remap_pending=None if rows[2] is None else bool(rows[2]),
            remap_failed=None if rows[3] is None else bool(rows[3]),
        )

    def others(self) -> str:
        """Who came to the GPU, so that it is to be left now; "" for nobody."""
        return breadcrumb.others()

    def temperature_c(self) -> int | None:
        """The temperature of the GPU now; None where it is not told."""
        found = nvml.Queries().query("nvmlDeviceGetTemperature", self._handle, _GPU_SENSOR)
        return None if found is None else int(found)


class NoBoard:
    """A device that NVML does not know."""

    def counters(self) -> None:
        """Nothing is counted."""

    def others(self) -> str:
        """Who came to the device, so that it is to be left now; "" for nobody."""
        return breadcrumb.others()

    def temperature_c(self) -> None:
        """No temperature is told."""


@contextmanager
def opened(device: str) -> Iterator[Board | NoBoard]:
    """The GPU of a device as torch calls it, `cuda:1`; of an MIG instance, that instance."""
    kind, _, index = device.partition(":")
    if kind != "cuda" or pynvml is None:
        yield NoBoard()
        return
    devices = {each.index: each for each in cuda_driver.read().devices}
    found = devices.get(int(index or 0))
    queries = nvml.Queries()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield NoBoard()
        return
    try:
        uuid = None if found is None else found.uuid
        handle = None if uuid is None else queries.query("nvmlDeviceGetHandleByUUID", uuid.encode())
        yield NoBoard() if handle is None else Board(handle)
    finally:
        queries.query("nvmlShutdown")


_HINT: Final = "confirm with `nvidia-smi -q -d ECC,ROW_REMAPPER`; "


def counters_finding(check: str, before: Counters | None, after: Counters | None) -> Finding:
    """The finding over what was counted while a probe ran: totals of before count for nothing."""
    if before is None or after is None or before == Counters():
        return skipped(check, "no counters of memory errors here")
    known = {name: value for name, value in dict(before).items() if value is not None}
    rose = {
        name: (value, getattr(after, name))
        for name, value in known.items()
        if (getattr(after, name) or 0) > value
    }
    if not rose and (lost := [name for name in known if getattr(after, name) is None]):
        return skipped(check, f"no longer told after the test: {', '.join(lost)}")
    severe = {"uncorrected", "remapped_uncorrected", "remap_failed"} & rose.keys()
    text = ", ".join(f"{name} from {int(was)} to {int(now)}" for name, (was, now) in rose.items())
    action: Action = "drain" if severe else "reset_gpu" if "remap_pending" in rose else "none"
    advice = {
        "drain": "drain the node, reset the GPU, and replace it when it comes back",
        "reset_gpu": "drain the node and reset the GPU, which replaces the row",
    }.get(action, "corrected errors cost nothing; watch whether they go on")
    return require(
        check,
        not rose,
        {name: int(now) for name, (_, now) in rose.items()} or "unchanged",
        {name: int(was) for name, (was, _) in rose.items()} or "unchanged",
        message=f"counted while the memory was tested: {text}",
        hint=_HINT + advice,
        action=action,
        otherwise="fail" if severe else "warn",
    )
