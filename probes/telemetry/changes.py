"""The rule about what boards have counted while the other probes of a run went on."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from probes.contract import Action, Finding, Status, worst
from probes.node.gpu_health import GpuHealth
from probes.telemetry.boards import SHOWN, Problem, name_of
from probes.telemetry.spec import SPEC, Limits

_CHECK: Final = f"{SPEC.name}.new_errors"
_MINUTE_S: Final = 60.0

#: Counters that must not rise: field of `GpuHealth` -> how a message calls it, and what to do.
_COUNTERS: Final[dict[str, Problem]] = {
    "volatile_uncorrected": Problem("uncorrected errors of the memory", "reset_gpu"),
    "sram_volatile_uncorrected": Problem("uncorrected errors of the SRAM", "reset_gpu"),
    "remap_failed": Problem("rows that could not be remapped", "drain"),
    "remap_pending": Problem("rows that wait to be remapped", "reset_gpu", "warn"),
    "rows_remapped": Problem("remapped rows", "reset_gpu", "warn"),
    "banks_without_spare_rows": Problem("banks without a spare row", status="warn"),
    "pages_retired": Problem("retired pages", "reset_gpu", "warn"),
    "pcie_fatal_errors": Problem("fatal errors of PCIe", status="warn"),
    "nvlink_recoveries": Problem("recoveries of NVLinks", status=None),
}


def judge(
    before: Sequence[GpuHealth], after: Sequence[GpuHealth], watched_s: float, limits: Limits
) -> Finding:
    """What rose between two looks; totals count for nothing here."""
    later = {_key(gpu): gpu for gpu in after}
    found: list[tuple[Status, Action, str]] = []
    for gpu in before:
        for problem in _problems(gpu, later.get(_key(gpu)), watched_s, limits):
            status = limits.degraded if problem.status is None else problem.status
            found.append((status, problem.action, f"{name_of(gpu)}: {problem.text}"))
    expected = "no counter of damage that rises"
    if not found:
        observed = f"{len(before)} GPUs in {watched_s:.0f} s"
        return Finding(id=_CHECK, status="pass", observed=observed, expected=expected)
    status = worst(each for each, _, _ in found)
    texts = [text for _, _, text in found]
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return Finding(
        id=_CHECK,
        status=status,
        message=f"in {watched_s:.0f} s: {'; '.join(texts[:SHOWN])}{more}",
        observed=[*texts],
        expected=expected,
        hint="confirm with `nvidia-smi -q` and `dmesg | grep -i xid`; run the profile once more",
        action=next(action for each, action, _ in found if each == status),
    )


def _key(gpu: GpuHealth) -> Any:
    return gpu.uuid or gpu.pci_bus_id or gpu.index


def _problems(
    was: GpuHealth, now: GpuHealth | None, watched_s: float, limits: Limits
) -> Iterator[Problem]:
    if now is None:
        if was.accessible and not was.gone:
            yield Problem("it is no longer listed", "drain")
        return
    if now.gone and not was.gone:
        yield Problem(now.gone, "drain")
    for field, problem in _COUNTERS.items():
        if rise := _rise(was, now, field):
            yield problem._replace(text=f"{rise:.0f} new {problem.text}")
    replays = _rise(was, now, "pcie_replays")
    if replays / max(watched_s / _MINUTE_S, 1.0) > limits.pcie_replays_a_minute:
        yield Problem(f"{replays:.0f} replays of PCIe", status=None)
    if (held_s := _rise(was, now, "thermal_violation_s")) > limits.thermal_violation_s:
        yield Problem(f"heat held the clocks down for {held_s:.1f} s", status=None)


def _rise(was: GpuHealth, now: GpuHealth, field: str) -> float:
    """How much a counter rose; 0 where it fell, as after a reset, or was not told."""
    first, last = getattr(was, field), getattr(now, field)
    return 0.0 if first is None or last is None else max(0.0, float(last) - float(first))
