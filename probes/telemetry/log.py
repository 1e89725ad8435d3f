"""The rule about error lines of the driver in the kernel's log."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from probes.contract import Action, Finding, Status, skipped, worst
from probes.node.gpu_events import Events
from probes.node.gpu_health import GpuHealth
from probes.node.kernel_log import KernelLog, Xid
from probes.telemetry.spec import SPEC, Limits
from probes.telemetry.xids import CODES, MEANINGS, RECOVERY_CHANGED, UNKNOWN

_CHECK: Final = f"{SPEC.name}.xids"
_EVENTS: Final = f"{SPEC.name}.new_xids"
_SHOWN: Final = 4
#: How the driver says that a GPU needs nothing more, in a line of the code 154.
_RECOVERED: Final = re.compile(r"\bto 0x0\b")


def judge(log: KernelLog, gpus: Sequence[GpuHealth], limits: Limits) -> Finding:
    """What recent lines ask for, unless the driver has said since that nothing is to be done."""
    if log.error:
        return skipped(_CHECK, f"the kernel's log may not be read: {log.error}")
    expected = "no recent line that asks for a reset or a reboot"
    return _judged(_CHECK, log.xids, gpus, limits, expected=expected, what="lines")


def judge_events(events: Events, gpus: Sequence[GpuHealth], limits: Limits) -> Finding:
    """What the events ask for that came while the run went on."""
    if events.error and not events.xids:
        return skipped(_EVENTS, events.error)
    expected = "no event that asks for a reset or a reboot"
    return _judged(_EVENTS, events.xids, gpus, limits, expected=expected, what="events")


def _judged(
    check: str,
    xids: Sequence[Xid],
    gpus: Sequence[GpuHealth],
    limits: Limits,
    *,
    expected: str,
    what: str,
) -> Finding:
    found = list(_problems(xids, gpus, limits))
    if not found:
        observed = f"{sum(xid.count for xid in xids)} {what}"
        return Finding(id=check, status="pass", observed=observed, expected=expected)
    status = worst(each for each, _, _ in found)
    texts = list(dict.fromkeys(text for _, _, text in found))
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return Finding(
        id=check,
        status=status,
        message="; ".join(texts[:_SHOWN]) + more,
        observed=[*texts[:16]],
        expected=expected,
        hint="see `dmesg | grep -i xid`, and the code in NVIDIA's Xid catalog",
        action=next(action for each, action, _ in found if each == status),
    )


def _problems(
    xids: Sequence[Xid], gpus: Sequence[GpuHealth], limits: Limits
) -> Iterator[tuple[Status, Action, str]]:
    """Yield status, action and text of the lines that matter."""
    by_address = {(gpu.pci_bus_id or "").partition(".")[0]: gpu for gpu in gpus}
    recovered = {
        xid.address: place
        for place, xid in enumerate(xids)
        if xid.code == RECOVERY_CHANGED and _RECOVERED.search(xid.text)
    }
    for place, xid in enumerate(xids):
        code = CODES.get(xid.code, UNKNOWN)
        status, action = MEANINGS[code.bucket]
        if status == "pass" or (xid.age_s is not None and xid.age_s > limits.xid_recent_s):
            continue
        if recovered.get(xid.address, -1) > place:  # the GPU needs nothing more since then
            continue
        text = f"Xid {xid.code} of {xid.address}: {code.text}"
        if status == "fail" and (why := _doubt(xid, by_address.get(xid.address))):
            yield "warn", "investigate", f"{text} ({why})"
        else:
            yield status, action, text


def _doubt(xid: Xid, gpu: GpuHealth | None) -> str:
    """Why a line is no failure, though its code is one; empty where it is."""
    if gpu is None:
        return "of a GPU that this process does not see"
    if xid.age_s is None:
        return "the line has no time"
    if gpu.recovery_action == 0 and not gpu.gone:
        return "the driver asks for no recovery now"
    return ""
