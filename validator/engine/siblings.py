"""A failed check beside what it came to elsewhere: on the CPU, and on the run's other devices.

The results of a probe on the other devices of a run are its trial on them: nothing more is run
there. Advice follows from where a check fails; its status does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from probes.contract import Action, Finding, Location, Result, Status, Triage
from validator import triage as words
from validator.piecewise import Pieces, at_once
from validator.report import CPU, Device

#: Actions that what all devices have in common does not call for.
_ABOUT_THE_DEVICE: Final[tuple[Action, ...]] = ("drain", "reset_gpu")

_IMAGE: Final = (
    "it fails on the CPU of this image too, so that the device is not the cause: do not drain; "
    "reinstall torch as it was pinned, or report a false alarm of this check"
)
_COMMON: Final = (
    "it fails on every device of this kind here, so that no single one is the cause: do not drain "
    "for it; compare image, libraries and driver with a node where it passes"
)
_DEVICE: Final = (
    "it does not fail on the CPU of this image: the device, or the image's libraries for it; run "
    "the same image on a second device before this one is drained"
)
_THIS_DEVICE: Final = "it passes on another device of this kind with the same image: this device"


def compared(results: Sequence[Result], devices: Sequence[Device]) -> list[Result]:
    """The results; each failed check with what it came to on the devices of the same kind."""
    return at_once(comparing(results, devices))


def comparing(results: Sequence[Result], devices: Sequence[Device]) -> Pieces[list[Result]]:
    """The same, a result a piece."""
    verdicts = _Verdicts(results, devices)
    found = []
    for result in results:
        found.append(with_words(_with_siblings(result, verdicts)))
        yield
    return found


def with_words(result: Result) -> Result:
    """The result; of a failed one its summary and advice say what its triage tells."""
    told = words.summary(result.findings)
    if not told:
        return result
    return result.model_copy(
        update={
            "summary": f"{result.summary} ({told})",
            "findings": tuple(map(_with_advice, result.findings)),
        }
    )


class _Found(NamedTuple):
    """What a check came to on the other devices of a kind, by name."""

    fails: tuple[str, ...]
    passes: tuple[str, ...]
    others: int  # devices with any result of the probe


class _Verdicts:
    """What each check came to on each device of the run.

    A node may have 56 instances on which all fails: what is the same for many is looked up once.
    """

    def __init__(self, results: Sequence[Result], devices: Sequence[Device]) -> None:
        self._devices = {device.name: device for device in reversed(devices)}
        self._siblings: dict[str, frozenset[str]] = {}
        self._of_probe: dict[str, dict[str, tuple[Result, dict[str, Finding]]]] = {}
        self._found: dict[tuple[object, ...], _Found] = {}
        for result in results:
            findings = {finding.id: finding for finding in reversed(result.findings)}
            self._of_probe.setdefault(result.probe, {})[result.device] = (result, findings)

    def elsewhere(self, finding: Finding, result: Result) -> _Found:
        """What the check of a failed finding came to on devices of its kind."""
        own = self._devices.get(result.device, CPU)
        key = (result.probe, finding.id, _kind(own), _board(own), frozenset(finding.wrong))
        if key not in self._found:
            self._found[key] = self._look(finding, result.probe, own)
        return self._found[key]

    def _look(self, finding: Finding, probe: str, own: Device) -> _Found:
        if own.name not in self._siblings:
            self._siblings[own.name] = frozenset(_siblings(own, self._devices.values()))
        names = self._siblings[own.name]
        seen = {
            name: _verdict(finding, *other)
            for name, other in self._of_probe[probe].items()
            if name in names
        }
        return _Found(
            fails=tuple(name for name, status in seen.items() if status == "fail"),
            passes=tuple(name for name, status in seen.items() if status == "pass"),
            others=len(seen),
        )


def _with_siblings(result: Result, verdicts: _Verdicts) -> Result:
    if result.status != "fail" or result.reason != "check_failed":
        return result
    findings = tuple(
        _with_verdicts(finding, verdicts.elsewhere(finding, result))
        if finding.status == "fail"
        else finding
        for finding in result.findings
    )
    return result.model_copy(update={"findings": findings})


def _siblings(own: Device, devices: Iterable[Device]) -> list[str]:
    """The devices of the same kind as one, on other boards: they share the image."""
    if own.type == CPU.type:
        return []
    return [
        device.name
        for device in devices
        if _kind(device) == _kind(own) and _board(device) != _board(own)
    ]


def _kind(device: Device) -> tuple[str | None, ...]:
    return device.type, device.backend, device.model_name, device.capability


def _board(device: Device) -> str:
    """What identifies the GPU; instances of one GPU share it, and its faults."""
    return device.parent_uuid or device.uuid or device.name


def _with_verdicts(finding: Finding, found: _Found) -> Finding:
    """A failure with the devices on which the same check passes, or fails too."""
    if not found.fails and not found.passes:
        return finding
    before = finding.triage or Triage()
    changes = {
        "fails_on": (*before.fails_on, *found.fails),
        "passes_on": (*before.passes_on, *found.passes),
        "location": _location(before, len(found.fails), len(found.passes), found.others),
    }
    return finding.model_copy(update={"triage": before.model_copy(update=changes)})


def _verdict(finding: Finding, other: Result, findings: Mapping[str, Finding]) -> Status:
    """What became of the same operations in a result of another device; `skip`: unknown.

    A crash there is another failure, and so are wrong operations of which none is wrong here.
    """
    found = findings.get(finding.id)
    if found is None or found.status == "pass":
        return "skip" if found is None else "pass"
    if found.status != "fail" or other.reason != "check_failed":
        return "skip"
    apart = finding.wrong and found.wrong and set(finding.wrong).isdisjoint(found.wrong)
    return "pass" if apart else "fail"


def _location(before: Triage, fails: int, passes: int, others: int) -> Location:
    """What is at fault, by whether the check fails or passes on devices of the same kind.

    They tell more than the CPU, which runs other kernels; where they contradict it or each other,
    or half of them tell nothing, nothing is concluded.
    """
    if fails:
        silent = others - fails - passes
        return "unknown" if passes or 1 + fails <= silent else "environment"
    return "unknown" if CPU.name in before.fails_on else "device"


def _with_advice(finding: Finding) -> Finding:
    """The finding; for a failure, with the advice that follows from where else it fails."""
    triage = finding.triage
    if finding.status != "fail" or triage is None or triage.location == "unknown":
        return finding
    hint, action = _DEVICE, finding.action
    if CPU.name in triage.fails_on:
        hint, action = _IMAGE, "fix_image"
    elif triage.location == "environment":
        if not finding.wrong:  # computed nothing: its own advice knows better
            return finding
        hint, action = _COMMON, "investigate" if action in _ABOUT_THE_DEVICE else action
    elif words.siblings(triage.passes_on):
        hint = _THIS_DEVICE
    changes = {"hint": f"{hint}; {finding.hint}" if finding.hint else hint, "action": action}
    return finding.model_copy(update=changes)
