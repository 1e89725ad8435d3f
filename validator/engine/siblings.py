"""A failed check beside what it came to elsewhere: on the CPU, and on the run's other devices.

The results of a probe on the other devices of a run are its trial on them: nothing more is run
there. Advice follows from where a check fails; its status does not.
"""

from collections.abc import Sequence
from typing import Final

from probes.contract import Action, Finding, Location, Result, Status, Triage
from validator import triage as words
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
    return [with_words(_with_siblings(result, results, devices)) for result in results]


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


def _with_siblings(result: Result, results: Sequence[Result], devices: Sequence[Device]) -> Result:
    if result.status != "fail" or result.reason != "check_failed":
        return result
    names = {device.name for device in _siblings(result.device, devices)}
    others = [other for other in results if other.probe == result.probe and other.device in names]
    findings = tuple(_with_verdicts(finding, others) for finding in result.findings)
    return result.model_copy(update={"findings": findings})


def _siblings(name: str, devices: Sequence[Device]) -> list[Device]:
    """The devices of the same kind as the named one, on other boards: they share the image."""
    own = next((device for device in devices if device.name == name), CPU)
    if own.type == CPU.type:
        return []
    return [
        device
        for device in devices
        if _kind(device) == _kind(own) and _board(device) != _board(own)
    ]


def _kind(device: Device) -> tuple[str | None, ...]:
    return device.type, device.backend, device.model_name, device.capability


def _board(device: Device) -> str:
    """What identifies the GPU; instances of one GPU share it, and its faults."""
    return device.parent_uuid or device.uuid or device.name


def _with_verdicts(finding: Finding, others: Sequence[Result]) -> Finding:
    """The finding; a failure with the devices on which the same check passes, or fails too."""
    if finding.status != "fail":
        return finding
    verdicts = {other.device: _verdict(finding, other) for other in others}
    fails = tuple(name for name, status in verdicts.items() if status == "fail")
    passes = tuple(name for name, status in verdicts.items() if status == "pass")
    if not fails and not passes:
        return finding
    before = finding.triage or Triage()
    changes = {
        "fails_on": (*before.fails_on, *fails),
        "passes_on": (*before.passes_on, *passes),
        "location": _location(before, len(fails), len(passes), len(others)),
    }
    return finding.model_copy(update={"triage": before.model_copy(update=changes)})


def _verdict(finding: Finding, other: Result) -> Status:
    """What became of the same operations in a result of another device; `skip`: unknown.

    A crash there is another failure, and so are wrong operations of which none is wrong here.
    """
    found = next((each for each in other.findings if each.id == finding.id), None)
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
