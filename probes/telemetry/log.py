"""The rule about error lines of the driver in the kernel's log."""

from collections.abc import Iterator, Sequence
from typing import Final

from probes.contract import Action, Finding, Status, skipped, worst
from probes.node.gpu_health import GpuHealth
from probes.node.kernel_log import KernelLog, Xid
from probes.telemetry.spec import SPEC, Limits
from probes.telemetry.xids import CODES, MEANINGS, RECOVERY_CHANGED, UNKNOWN

_CHECK: Final = f"{SPEC.name}.xids"
_SHOWN: Final = 4
#: How the driver says that a GPU needs nothing more, in a line of the code 154.
_RECOVERED: Final = "to 0x0"


def judge(log: KernelLog, gpus: Sequence[GpuHealth], limits: Limits) -> Finding:
    """What recent lines ask for, unless the driver has said since that nothing is to be done."""
    if log.error:
        return skipped(_CHECK, f"the kernel's log may not be read: {log.error}")
    found = list(_problems(log.xids, gpus, limits))
    expected = "no recent line that asks for a reset or a reboot"
    if not found:
        observed = f"{len(log.xids)} lines"
        return Finding(id=_CHECK, status="pass", observed=observed, expected=expected)
    status = worst(each for each, _, _ in found)
    texts = list(dict.fromkeys(text for _, _, text in found))
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return Finding(
        id=_CHECK,
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
    for place, xid in enumerate(xids):
        code = CODES.get(xid.code, UNKNOWN)
        status, action = MEANINGS[code.bucket]
        if status == "pass" or (xid.age_s is not None and xid.age_s > limits.xid_recent_s):
            continue
        if _has_recovered(xid, xids[place + 1 :]):
            continue
        text = f"Xid {xid.code} of {xid.address}: {code.text}"
        if status == "fail" and (why := _doubt(xid, by_address.get(xid.address))):
            yield "warn", "investigate", f"{text} ({why})"
        else:
            yield status, action, text


def _has_recovered(xid: Xid, later: Sequence[Xid]) -> bool:
    """Whether the driver has said since then that the GPU needs nothing more."""
    return any(
        each.code == RECOVERY_CHANGED and each.address == xid.address and _RECOVERED in each.text
        for each in later
    )


def _doubt(xid: Xid, gpu: GpuHealth | None) -> str:
    """Why a line is no failure, though its code is one; empty where it is."""
    if gpu is None:
        return "of a GPU that this process does not see"
    if xid.age_s is None:
        return "the line has no time"
    if gpu.recovery_action == 0 and not gpu.gone:
        return "the driver asks for no recovery now"
    return ""
