"""The devices of a burn: each round has the same ones, and a GPU keeps the name it had first.

A GPU that falls off the bus is not listed by the next process, and those after it move up.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from probes.contract import ProbeSpec, Result
from validator.engine import outcomes
from validator.engine.devices import is_called
from validator.report import CPU, Device, Report

_LOST_HINT: Final = (
    "a GPU that goes while it computes has fallen off the bus, or the driver has given it up: look "
    "at `dmesg | grep -iE 'nvrm|xid|pcie'`; drain the node and reset the GPU"
)


class Roster:
    """The devices that the rounds of a burn have had until now."""

    def __init__(self, asked: Sequence[str]) -> None:
        """Begin without any; `asked` are the names that somebody gave, () for all devices."""
        self._asked = tuple(asked)
        #: What the next round asks for: accelerators that were there once are promised.
        self.wanted = self._asked
        self._seen: list[Device] = []  # as each was seen first
        self._known: list[Device] = []  # the same, with what identifies them alone
        self._names: dict[str, str] = {}  # name in the newest round -> name of the report
        self._told: set[str] = set()

    @property
    def devices(self) -> tuple[Device, ...]:
        """All that were ever seen."""
        return tuple(self._seen)

    def see(self, devices: Sequence[Device]) -> None:
        """Learn which devices a round has."""
        names: dict[str, str] = {}
        for seen, device in zip(devices, _identified(devices), strict=True):
            known = next((each for each in self._known if _is_same(each, device)), None)
            if known is None:
                known = device
                self._known.append(device)
                self._seen.append(seen)
            names[device.name] = known.name
        if not devices:
            self._names = {}
            return
        lost = [device for device in self._known if device.name not in names.values()]
        for wanted in self.wanted:
            if lost and not any(is_called(device, wanted) for device in devices):
                names |= self._name_of_lost(wanted, lost)
        self._names = names

    def _name_of_lost(self, wanted: str, lost: list[Device]) -> dict[str, str]:
        """The first name of the device that is missed by another; taken out of `lost`."""
        found = next((device for device in lost if is_called(device, wanted)), None)
        if found is None and any(device.name == wanted for device in self._known):
            found = lost[0]  # others have moved up, so that the last name is free
        if found is None:
            return {}
        lost.remove(found)
        return {wanted: found.name}

    def name(self, device: str) -> str:
        """What the report calls a device of the newest round."""
        return self._names.get(device, device)

    def renamed(self, report: Report, spec: ProbeSpec, number: int) -> Report:
        """The report of a round under the names of the burn, with a failure for each that is gone.

        That is told once, and so is a device that was asked for and was never there: to miss it
        again is no other failure.

        Args:
            report: of the newest round.
            spec: the probe that tells what is gone.
            number: of the round.
        """
        self.see(report.devices)
        results = [
            self._told_of_loss(result, spec, number)
            for result in map(self._own, report.results)
            if not (_is_missing(result) and result.device in self._told)
        ]
        if report.devices:
            results += self._gone(_identified(report.devices), spec, number)
            # One that is gone as well: if it comes back, those after it move down again.
            accelerators = [each.name for each in self._known if each.type != CPU.type]
            self.wanted = self._asked or tuple(dict.fromkeys(accelerators))
        changes = {
            "devices": self.devices,
            "results": tuple(results),
            "not_run": tuple(self._own(missed) for missed in report.not_run),
        }
        return report.model_copy(update=changes)

    def _own(self, about: Any) -> Any:
        """A result, or what was not run, under the name that the report has for its device."""
        name = self.name(about.device)
        return about if name == about.device else about.model_copy(update={"device": name})

    def _told_of_loss(self, result: Result, spec: ProbeSpec, number: int) -> Result:
        """The result; where it says that a device is not here which was, that it is gone."""
        if not _is_missing(result):
            return result
        self._told.add(result.device)
        lost = next((device for device in self._seen if device.name == result.device), None)
        return result if lost is None else _loss(spec, lost, number)

    def _gone(self, here: Sequence[Device], spec: ProbeSpec, number: int) -> list[Result]:
        """A failure for each accelerator that was there and is not, told once."""
        lost = [
            seen
            for seen, device in zip(self._seen, self._known, strict=True)
            if device.type != CPU.type
            and device.name not in self._told
            and not any(_is_same(device, each) for each in here)
        ]
        self._told |= {device.name for device in lost}
        return [_loss(spec, device, number) for device in lost]


def _is_missing(result: Result) -> bool:
    """Whether it says that a device is not here which was asked for."""
    return result.status == "fail" and result.reason == "no_device"


def _loss(spec: ProbeSpec, device: Device, number: int) -> Result:
    text = f"it was here, and is gone in round {number}"
    return outcomes.make_result(
        spec, device, "fail", "no_device", text, hint=_LOST_HINT, action="drain"
    )


def _identified(devices: Sequence[Device]) -> list[Device]:
    """The devices, without a UUID that several have: some drivers give all the same one."""
    count = Counter(device.uuid for device in devices)
    return [
        device if count[device.uuid] == 1 else device.model_copy(update={"uuid": None})
        for device in devices
    ]


def _is_same(known: Device, seen: Device) -> bool:
    """Whether both are one device; by name where one of them has no UUID."""
    if known.uuid is None or seen.uuid is None:
        return known.name == seen.name
    return known.uuid == seen.uuid
