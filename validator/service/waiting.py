"""Fails under load that nothing can refute now: their GPU is not here, or their probe has no turn.

They count for nothing meanwhile, and stand again once the probe may run there again: a GPU that
fell off the bus comes back with the next reset, as broken as it was.
"""

from collections.abc import Container, Iterable
from typing import Final

from probes.catalog import BY_NAME
from probes.contract import Result
from validator.report import Device

#: More are of no machine; the oldest are forgotten.
_MOST: Final = 1000


def key_of(fail: Result) -> str:
    """What a fail's device is known by: its UUID, else its name."""
    return fail.gpu_uuid or fail.device


class Waiting:
    """At most one fail of a probe and device."""

    def __init__(self) -> None:
        """Begin without any."""
        self._fails: dict[tuple[str, str], Result] = {}

    def put(self, fail: Result) -> None:
        """Have a fail wait."""
        self._fails[fail.probe, key_of(fail)] = fail
        while len(self._fails) > _MOST:
            del self._fails[next(iter(self._fails))]

    def take(self, turns: Container[str], devices: Iterable[Device]) -> list[Result]:
        """Those that wait no longer, under the names that their devices have now.

        Args:
            turns: the probes that may run.
            devices: those that are here.
        """
        here = tuple(devices)
        names = {
            pair: name_now(fail, here) for pair, fail in self._fails.items() if fail.probe in turns
        }
        return [
            self._fails.pop(pair).model_copy(update={"device": name})
            for pair, name in names.items()
            if name is not None
        ]

    def all(self) -> tuple[Result, ...]:
        """All that wait."""
        return tuple(self._fails.values())


def name_now(failed: Result, devices: Iterable[Device]) -> str | None:
    """What the device of an earlier result is called now; None where it is not there any more."""
    if BY_NAME[failed.probe].needs == "host":
        return failed.device
    for device in devices:
        same = device.name == failed.device and None in (device.uuid, failed.gpu_uuid)
        if same or (device.uuid is not None and device.uuid == failed.gpu_uuid):
            return device.name
    return None
