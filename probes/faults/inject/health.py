"""Simulates what NVML and the kernel's log say of two sound H200, with changes to the second."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from probes.kit import watching
from probes.node import gpu_events, gpu_health, hardware, kernel_log

#: What a sound board says: recorded on an H200, with the NVLinks and spare rows of such a board.
SOUND: Final[dict[str, Any]] = {
    "name": "NVIDIA H200",
    "mig_enabled": False,
    "ecc_enabled": True,
    "ecc_pending": True,
    "ecc_default": True,
    "volatile_uncorrected": 0,
    "aggregate_uncorrected": 0,
    "volatile_corrected": 0,
    "sram_volatile_uncorrected": 0,
    "sram_aggregate_uncorrected": 0,
    "sram_threshold_exceeded": False,
    "rows_remapped": 0,
    "remap_pending": False,
    "remap_failed": False,
    "banks": 3072,
    "banks_without_spare_rows": 0,
    "pages_retired": 0,
    "retirement_pending": False,
    "recovery_action": 0,
    "clock_reasons": 4,  # a power cap at full load
    "thermal_violation_s": 0.0,
    "power_violation_s": 1.4,
    "performance_state": 0,
    "utilization_percent": 100,
    "pcie_width": 16,
    "pcie_max_width": 16,
    "pcie_generation": 5,
    "pcie_max_generation": 5,
    "pcie_replays": 0,
    "pcie_fatal_errors": 0,
    "c2c_enabled": False,
    "nvlinks_active": 18,
    "nvlinks_inactive": 0,
    "nvlink_replays": 0,
    "nvlink_recoveries": 0,
    "nvlink_crc_errors": 0,
    "fabric_state": 3,
    "fabric_status": 0,
    "fabric_health": 0x12A,  # every question answered with no
    "temperature_c": 40,
    "memory_temperature_c": 38,
    "max_c": 87,
    "slowdown_c": 89,
    "shutdown_c": 95,
    "memory_max_c": 95,
    "inforom_valid": True,
    "power_limit_w": 700.0,
    "default_power_limit_w": 700.0,
}

_NOW_S: Final = 1000.0


def boards(changes: Mapping[str, Any]) -> tuple[gpu_health.GpuHealth, ...]:
    """Two sound boards, the second with some fields changed.

    Raises:
        KeyError: a field does not exist, so the fault would change nothing.
    """
    for field in changes:
        if field not in gpu_health.GpuHealth.model_fields:
            raise KeyError(field)
    addresses = ("0000:0f:00.0", "0000:1f:00.0")
    return tuple(
        gpu_health.GpuHealth.model_validate(
            {"index": index, "pci_bus_id": address, **SOUND, **(changes if index else {})}
        )
        for index, address in enumerate(addresses)
    )


def pretends(
    changes: Mapping[str, Any],
    *,
    log: str = "",
    error: str = "",
    watched: bool = False,
    events: Sequence[int] = (),
) -> None:
    """Make everything that the probe asks answer as such a node does.

    Args:
        changes: fields of the second board.
        log: the kernel's log.
        error: why NVML does not start; then there are no boards.
        watched: whether heavy probes ran meanwhile, before which the second board was sound.
        events: codes of the error events of the second board, if they did.
    """
    present = hardware.Hardware(vendors=("nvidia",), evidence=("/dev/nvidia0 exists",))
    told = gpu_health.Health(error=error) if error else gpu_health.Health(gpus=boards(changes))
    lines = kernel_log.KernelLog(xids=kernel_log.parse(log, _NOW_S))
    hardware.detect = lambda *_: present
    looks = [gpu_health.Health(gpus=boards({}))] if watched else []
    address = "0000:1f:00"
    xids = tuple(kernel_log.Xid(code=code, address=address, age_s=0.0) for code in events)
    gpu_health.read = lambda *_: looks.pop() if looks else told
    gpu_events.watch = lambda goes_on: gpu_events.Events(watched_s=20.0, xids=xids)  # noqa: ARG005
    watching.is_wanted = lambda: watched
    kernel_log.read = lambda: lines
