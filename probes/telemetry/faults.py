"""What must trip each check of this probe: a board that reports damage, and lines of the log."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_MEMORY: Final = "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html"
_PAGES: Final = "https://docs.nvidia.com/deploy/dynamic-page-retirement/index.html"
_NVML: Final = "https://docs.nvidia.com/deploy/nvml-api/index.html"
_XIDS: Final = "https://docs.nvidia.com/deploy/xid-errors/index.html"
_OFF_THE_BUS: Final = "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1151"
_CARDS: Final = "https://imbue.com/research/70b-infrastructure/"
_CONTAINER: Final = "https://github.com/NVIDIA/nvidia-container-toolkit/issues/48"


def _fault(
    name: str,
    check: str,
    event: Event,
    changes: dict[str, Any] | None = None,
    *,
    told: dict[str, Any] | None = None,
    **fields: Any,
) -> Fault:
    """A node of two boards, of which the second is changed."""
    return Fault(
        name=f"telemetry.{name}",
        kind="environment",
        where="host",
        event=event,
        inject=(Injection("health.pretends", {"changes": changes or {}, **(told or {})}),),
        trips=(f"telemetry.{check}",),
        **fields,
    )


def _xid(code: int, text: str) -> Fault:
    line = f"[  990.500000] NVRM: Xid (PCI:0000:1f:00): {code}, pid=71, {text}"
    event = Event(f"Xid {code} in the kernel's log", _XIDS)
    return _fault(f"xid_{code}", "xids", event, {"recovery_action": None}, told={"log": line})


FAULTS: Final[tuple[Fault, ...]] = (
    _fault(
        "gpu_lost",
        "answers",
        Event("a GPU has fallen off the bus", _OFF_THE_BUS),
        {"gone": "nvmlDeviceGetUUID: GPU is lost"},
    ),
    _fault(
        "no_access",
        "answers",
        Event("a container that has lost its devices", _CONTAINER),
        told={"error": "Failed to initialize NVML: Unknown Error"},
    ),
    _fault("too_few", "enough_gpus", Event("a GPU is missing", _CARDS), promised_gpus=8),
    _fault("ecc_off", "ecc_mode", Event("ECC is off", _CARDS), {"ecc_enabled": False}),
    _fault(
        "ecc_pending", "ecc_mode", Event("ECC goes off at a reset", _NVML), {"ecc_pending": False}
    ),
    _fault(
        "uncorrected",
        "memory_errors",
        Event("a double-bit error of the memory", _MEMORY),
        {"volatile_uncorrected": 1},
    ),
    _fault(
        "sram_uncorrected",
        "memory_errors",
        Event("a parity error of the SRAM", _MEMORY),
        {"sram_volatile_uncorrected": 1},
    ),
    _fault(
        "sram_threshold",
        "sram_errors",
        Event("the SRAM is worn out", _MEMORY),
        {"sram_threshold_exceeded": True},
    ),
    _fault(
        "sram_lifetime",
        "sram_errors",
        Event("errors of the SRAM come again and again", _MEMORY),
        {"sram_aggregate_uncorrected": 5},
    ),
    _fault(
        "remap_failed",
        "remapped_rows",
        Event("a row has no spare", _MEMORY),
        {"remap_failed": True},
    ),
    _fault(
        "remap_pending",
        "remapped_rows",
        Event("a row waits for its remapping", _MEMORY),
        {"remap_pending": True},
    ),
    _fault(
        "no_spare_rows",
        "remapped_rows",
        Event("a bank has used all its spare rows", _MEMORY),
        {"banks_without_spare_rows": 1},
    ),
    _fault(
        "pages_retired",
        "retired_pages",
        Event("too many pages are retired", _PAGES),
        {"pages_retired": 60},
    ),
    _fault(
        "retirement_pending",
        "retired_pages",
        Event("a page waits for its retirement", _PAGES),
        {"retirement_pending": True},
    ),
    _fault("inforom", "inforom", Event("a corrupted InfoROM", _NVML), {"inforom_valid": False}),
    *(
        _fault(
            f"recovery_{action}",
            "recovery_action",
            Event("the driver asks for a recovery", _MEMORY),
            {"recovery_action": action},
        )
        for action in (1, 2, 3, 4, 9)
    ),
    *(
        _fault(
            f"clocks_{name}",
            "clocks",
            Event("clocks that heat or power hold down", _NVML),
            {"clock_reasons": bits},
        )
        for name, bits in (("heat", 0x20), ("hardware_heat", 0x48), ("brake", 0x88))
    ),
    _fault("hot", "temperature", Event("a GPU that is too hot", _NVML), {"temperature_c": 89}),
    _fault(
        "hot_memory",
        "temperature",
        Event("memory that is too hot", _NVML),
        {"memory_temperature_c": 96},
    ),
    _fault(
        "narrow", "pcie", Event("a board that sits badly in its slot", _CARDS), {"pcie_width": 8}
    ),
    _fault(
        "slow_link", "pcie", Event("PCIe that is slow under load", _CARDS), {"pcie_generation": 1}
    ),
    _fault("pcie_fatal", "pcie", Event("fatal errors of PCIe", _NVML), {"pcie_fatal_errors": 1}),
    _fault(
        "nvlink_down",
        "nvlink",
        Event("an NVLink that is down", "https://docs.nvidia.com/datacenter/dcgm/latest/"),
        {"nvlinks_active": 17, "nvlinks_inactive": 1},
    ),
    _fault(
        "fabric_waits",
        "fabric",
        Event("no fabric manager runs", "https://github.com/pytorch/pytorch/issues/35710"),
        {"fabric_state": 1},
    ),
    _fault(
        "fabric_failed",
        "fabric",
        Event("a registration that failed", _NVML),
        {"fabric_status": 999},
    ),
    _fault(
        "fabric_degraded",
        "fabric",
        Event("a fabric with less bandwidth", _NVML),
        {"fabric_health": 0x129},
    ),
    _fault(
        "heat_in_a_run",
        "new_errors",
        Event("heat that comes with load", _NVML),
        {"thermal_violation_s": 7.5},
        told={"watched": True},
    ),
    _fault(
        "replays_in_a_run",
        "new_errors",
        Event("a link that repeats its packets under load", _CARDS),
        {"pcie_replays": 400},
        told={"watched": True},
    ),
    _fault(
        "rows_in_a_run",
        "new_errors",
        Event("a row that is remapped under load", _MEMORY),
        {"rows_remapped": 1},
        told={"watched": True},
    ),
    _fault(
        "event_in_a_run",
        "new_xids",
        Event("Xid 119 as an event of NVML's", _XIDS),
        {"recovery_action": None},
        told={"watched": True, "events": [119]},
    ),
    _xid(48, "An uncorrectable double bit error (DBE) has been detected"),
    _xid(74, "NVLink: fatal error detected on link 3"),
    _xid(79, "GPU has fallen off the bus."),
    _xid(95, "Uncontained: DRAM"),
    _xid(119, "Timeout after 6s of waiting for RPC response from GPU1 GSP!"),
    _xid(9999, "no such code"),
)
