"""Fails under load that nothing can refute now: their GPU is not here, or their probe has no turn.

They count for nothing meanwhile, and stand again once the probe may run there again: a GPU that
fell off the bus comes back with the next reset, as broken as it was.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Final

from probes.catalog import BY_NAME
from probes.contract import Result
from validator.report import Device
from validator.service.entry import fail_after

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

    def hear(self, result: Result) -> None:
        """Learn what a run found whose probe was left out of the schedule meanwhile."""
        pair = result.probe, key_of(result)
        if result.reason == "disabled":
            return
        if (failed := fail_after(self._fails.get(pair), result)) is not None:
            self.put(failed)
        else:
            self._fails.pop(pair, None)

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

    def end(self, devices: Iterable[Device]) -> list[Result]:
        """Forget and return those that cannot be known again: no UUID, and nothing has their name.

        Args:
            devices: all that are here.
        """
        here = tuple(devices)
        ended = [
            pair
            for pair, fail in self._fails.items()
            if fail.gpu_uuid is None and name_now(fail, here) is None
        ]
        return [self._fails.pop(pair) for pair in ended]

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


def names_now(known: Mapping[str, Result], devices: Iterable[Device]) -> dict[str, str | None]:
    """What the devices of earlier results of a probe are called now, by their keys.

    A name alone says nothing where a UUID tells that another of them has that name now.
    """
    here = tuple(devices)
    uuids = {device.uuid for device in here if device.uuid is not None}
    names = {key: name_now(one, here) for key, one in known.items()}
    told = {names[key] for key, one in known.items() if one.gpu_uuid in uuids}
    return {
        key: None if name in told and known[key].gpu_uuid not in uuids else name
        for key, name in names.items()
    }
