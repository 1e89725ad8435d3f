"""The probe's cost, schedule, thresholds and checks. Does not import torch."""

from typing import Final, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from probes.contract import Frozen, ProbeSpec


class Limits(Frozen):
    """What is accepted of a board."""

    #: A number is a promise; "auto" (or None) promises none.
    gpus: NonNegativeInt | Literal["auto"] | None = "auto"
    #: What a board is that works in a degraded way: hot, throttled, on a narrow or a lost link.
    degraded: Literal["warn", "fail"] = "warn"
    #: More uncorrected errors than this since the driver was loaded: a reset is due (NVIDIA, GPU
    #: memory error management).
    volatile_uncorrected: NonNegativeInt = 0
    #: More uncorrected errors of the SRAM than this in its life: the board is one to return.
    sram_aggregate_uncorrected: NonNegativeInt = 4
    #: More retired pages than this: the board is one to return (NVIDIA, dynamic page retirement:
    #: 60 and more).
    retired_pages: NonNegativeInt = 59
    #: Lanes of PCIe that each GPU must have; None asks for as many as board and slot have.
    pcie_lanes: NonNegativeInt | None = None
    #: Active NVLinks that each GPU must have; None compares the GPUs of one model with each other.
    nvlinks: NonNegativeInt | None = None
    #: More NVLink recoveries than this since the driver was loaded; None accepts any number.
    nvlink_recoveries: NonNegativeInt | None = None
    #: More PCIe replays a minute than this, while a run goes on, are too many (NVIDIA, DCGM's
    #: watch of health).
    pcie_replays_a_minute: NonNegativeFloat = 8.0
    #: Heat may hold the clocks down for so many seconds while a run goes on.
    thermal_violation_s: NonNegativeFloat = 1.0
    #: How long an Xid counts, in seconds: what lasts is told by the counters as well.
    xid_recent_s: NonNegativeFloat = 3600.0


SPEC: Final = ProbeSpec(
    name="telemetry",
    profile="instant",
    needs="host",
    # Without persistence mode the driver starts every GPU anew, which takes seconds each.
    timeout_s=60,
    interval_s=60,
    memory_bytes=0,
    limits=Limits,
    checks={
        "answers": "NVML starts, and no GPU is lost or waits for a reset",
        "enough_gpus": "NVML lists as many GPUs as promised",
        "ecc_mode": "ECC is on where that is the board's default, and no change is pending",
        "memory_errors": "no memory error is uncorrected since the driver was loaded",
        "sram_errors": "the SRAM has not had more uncorrected errors than a board may have",
        "remapped_rows": "no row failed to be remapped, none waits for it, and spare rows are left",
        "retired_pages": "few pages are retired, and none waits for it",
        "inforom": "the checksums of the board's InfoROM are right",
        "recovery_action": "the driver asks for no reset, drain or reboot",
        "clocks": "no heat and no power brake holds the clocks down",
        "temperature": "GPU and memory are cooler than the limits that the board states",
        "pcie": "PCIe runs at its full width, under load at full speed, without fatal errors",
        "nvlink": "no NVLink is down that the other GPUs of the model have",
        "fabric": "the GPU is registered with its NVLink fabric, and that is healthy",
        "xids": "the kernel's log has no recent error line (Xid) that asks for a reset or reboot",
        "new_errors": "no counter of damage rises while heavy probes run",
        "new_xids": "NVML tells of no error event (Xid) that asks for a reset while they run",
    },
    about_node=True,
    certain={"enough_gpus": ()},
    needs_torch=False,
)
