"""Error events (Xid) that NVML tells of while somebody watches. Nothing is raised, or judged.

NVML may hang if the driver hangs: call it only in a process that another one can kill.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from probes.contract import Frozen
from probes.node.kernel_log import Xid
from probes.node.nvml import MOST_GPUS, sysfs_address

try:
    import pynvml
except ImportError:
    pynvml = None

_LOOK_S: Final = 0.2  # between two looks at whether it goes on
_TIMEOUT: Final = 10  # nvmlReturn_t: nothing happened meanwhile
_MOST: Final = 256  # kinds of events that are kept


class Events(Frozen):
    """What was told in `watched_s` seconds; `error` says why nothing could be, or no more."""

    error: str = ""
    watched_s: float = 0.0
    xids: tuple[Xid, ...] = ()  # one of each code and GPU


def watch(goes_on: Callable[[], bool]) -> Events:
    """Collect the events of all GPUs until it goes on no more."""
    began_s = time.monotonic()
    counts: Counter[tuple[int, str]] = Counter()
    error = "nvidia-ml-py (module pynvml) is not installed" if pynvml is None else ""
    if not error:
        try:
            with _registered() as events:
                _collect(events, counts, goes_on)
        except (pynvml.NVMLError, AttributeError) as raised:
            error = f"NVML tells no events: {raised}"
    while goes_on():
        time.sleep(_LOOK_S)
    return Events(
        error=error,
        watched_s=time.monotonic() - began_s,
        xids=tuple(
            Xid(code=code, address=address, age_s=0.0, count=count)
            for (code, address), count in [*counts.items()][:_MOST]
        ),
    )


@contextmanager
def _registered() -> Iterator[Any]:
    """A set of events in which each GPU that has them is registered.

    Raises:
        NVMLError: there is none.
    """
    pynvml.nvmlInit()
    try:
        events = pynvml.nvmlEventSetCreate()
        try:
            _register_all(events)
            yield events
        finally:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(events)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _register_all(events: Any) -> None:
    count = min(int(pynvml.nvmlDeviceGetCount()), MOST_GPUS)
    refusals = [_refusal(index, events) for index in range(count)]
    errors = [each for each in refusals if each is not None]
    if errors and len(errors) == len(refusals):
        raise errors[0]


def _refusal(index: int, events: Any) -> Exception | None:
    """Register a GPU; the error of one that is another job's, lost already, or has no events."""
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceRegisterEvents(gpu, pynvml.nvmlEventTypeXidCriticalError, events)
    except pynvml.NVMLError as error:
        refusal: Exception = error
        return refusal
    return None


def _collect(events: Any, counts: Counter[tuple[int, str]], goes_on: Callable[[], bool]) -> None:
    """Count the events until it goes on no more."""
    while goes_on():
        try:
            event = pynvml.nvmlEventSetWait_v2(events, int(_LOOK_S * 1000))
        except pynvml.NVMLError as error:
            if error.value == _TIMEOUT:
                continue
            raise
        if int(event.eventType) & pynvml.nvmlEventTypeXidCriticalError:
            counts[int(event.eventData), _address(event.device)] += 1


def _address(gpu: Any) -> str:
    """Domain, bus and device, as the kernel's log calls a GPU; empty when NVML does not tell."""
    try:
        return sysfs_address(pynvml.nvmlDeviceGetPciInfo(gpu).busId).partition(".")[0]
    except (pynvml.NVMLError, AttributeError):
        return ""
