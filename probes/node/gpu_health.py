"""What NVIDIA's management library says of the health of each GPU. Nothing is raised, or judged.

NVML may hang if the driver hangs: call it only in a process that another one can kill.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from probes.contract import Frozen
from probes.node.nvml import MOST_GPUS, decoded, sysfs_address, told
from probes.node.nvml_answers import GONE, Answers

try:
    import pynvml
except ImportError:
    pynvml = None

_NO_PERMISSION: Final = 4
_HOTTEST_C: Final = 200  # what is hotter is no temperature
#: More than PCIe can have.
_MOST: Final = {"pcie_width": 32, "pcie_max_width": 32, "pcie_max_generation": 15}
#: Reasons of slow clocks: a slowdown by hardware, which a mere change of clocks shows for a moment
#: (NVIDIA, DCGM's field constants), and the causes that it has when it lasts.
_SLOWDOWN_BY_HARDWARE, _ITS_CAUSES = 0x08, 0xC0
_CHANGE_S: Final = 0.05


_CORRECTED, _UNCORRECTED = 0, 1  # nvmlMemoryErrorType_t
_VOLATILE, _AGGREGATE = 0, 1  # nvmlEccCounterType_t: since the driver was loaded; of a lifetime
_CAUSES: Final = (0, 1)  # nvmlPageRetirementCause_t: single-bit errors, double-bit error
_THERMAL, _POWER = 1, 0  # nvmlPerfPolicyType_t
_SHUTDOWN, _SLOWDOWN, _MEMORY_MAX, _GPU_MAX = 0, 1, 2, 3  # nvmlTemperatureThresholds_t
_NANOSECONDS: Final = 1e9


class GpuHealth(Frozen):
    """One physical GPU. None means that it was not told: not supported, not permitted, no answer.

    Errors are counted since the driver was loaded (`volatile`) and in the board's life
    (`aggregate`); in the SRAM they are counted apart by boards that can.
    """

    index: int
    uuid: str | None = None
    pci_bus_id: str | None = None  # as sysfs spells it, 0000:0f:00.0
    name: str | None = None
    accessible: bool = True  # False: no permission to ask for it (another job's GPU)
    gone: str = ""  # by what call NVML said that the GPU is lost, or needs a reset
    error: str = ""  # why there is no handle, where it is neither
    mig_enabled: bool | None = None
    ecc_enabled: bool | None = None
    ecc_pending: bool | None = None  # after the next reset
    ecc_default: bool | None = None
    volatile_uncorrected: int | None = None
    aggregate_uncorrected: int | None = None
    volatile_corrected: int | None = None
    sram_volatile_uncorrected: int | None = None
    sram_aggregate_uncorrected: int | None = None
    sram_threshold_exceeded: bool | None = None
    rows_remapped: int | None = None  # after corrected and uncorrected errors
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    banks: int | None = None
    banks_without_spare_rows: int | None = None
    pages_retired: int | None = None
    retirement_pending: bool | None = None
    recovery_action: int | None = None  # nvmlDeviceGpuRecoveryAction_t
    clock_reasons: int | None = None  # bits of nvmlClocksEventReasons
    thermal_violation_s: float | None = None  # clocks held down since the driver was loaded
    power_violation_s: float | None = None
    performance_state: int | None = None  # 0 is the fastest
    utilization_percent: int | None = None
    pcie_width: int | None = None
    pcie_max_width: int | None = None  # of board and slot
    pcie_generation: int | None = None
    pcie_max_generation: int | None = None
    pcie_replays: int | None = None
    pcie_fatal_errors: int | None = None
    c2c_enabled: bool | None = None  # the CPU is reached by NVLink-C2C, not by PCIe
    nvlinks_active: int | None = None
    nvlinks_inactive: int | None = None
    nvlink_replays: int | None = None
    nvlink_recoveries: int | None = None
    nvlink_crc_errors: int | None = None
    fabric_state: int | None = None  # nvmlGpuFabricState_t: 0 none, 1 and 2 not yet, 3 complete
    fabric_status: int | None = None  # nvmlReturn_t of the registration
    fabric_health: int | None = None  # bits of NVML_GPU_FABRIC_HEALTH_MASK
    temperature_c: int | None = None
    memory_temperature_c: int | None = None
    max_c: int | None = None  # in operation
    slowdown_c: int | None = None
    shutdown_c: int | None = None
    memory_max_c: int | None = None
    inforom_valid: bool | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None


class Health(Frozen):
    """What NVML reported; `error` is empty if the library started."""

    error: str = ""
    driver_version: str | None = None
    gpus: tuple[GpuHealth, ...] = ()


def _flag(answer: Any) -> bool | None:
    """Whether it is set; None for a number that stands for none."""
    known = None if answer is None else told(int(answer))
    return None if known is None else bool(known)


def _sum(*counts: int) -> int | None:
    """The sum of what was counted; None when one of the numbers stands for none."""
    known = [told(int(count)) for count in counts]
    return None if None in known else sum(known)


def _memory(answers: Answers) -> Iterator[tuple[str, Any]]:
    """Yield what is told of the memory's errors: field, value."""
    ask = answers.ask
    modes = ask("nvmlDeviceGetEccMode")
    default = ask("nvmlDeviceGetDefaultEccMode")
    if modes is not None:
        yield from (("ecc_enabled", _flag(modes[0])), ("ecc_pending", _flag(modes[1])))
    if default is not None:  # a list of one in some versions of pynvml
        yield "ecc_default", bool(default[0] if isinstance(default, (list, tuple)) else default)
    for name, kind, counter in (
        ("volatile_uncorrected", _UNCORRECTED, _VOLATILE),
        ("aggregate_uncorrected", _UNCORRECTED, _AGGREGATE),
        ("volatile_corrected", _CORRECTED, _VOLATILE),
    ):
        yield name, ask("nvmlDeviceGetTotalEccErrors", kind, counter)
    sram = answers.filled("nvmlDeviceGetSramEccErrorStatus", "c_nvmlEccSramErrorStatus_v1_t")
    if sram is not None:
        volatile = (sram.volatileUncParity, sram.volatileUncSecDed)
        yield "sram_volatile_uncorrected", _sum(*volatile)
        yield "sram_aggregate_uncorrected", _sum(sram.aggregateUncParity, sram.aggregateUncSecDed)
        yield "sram_threshold_exceeded", _flag(sram.bThresholdExceeded)
    rows = ask("nvmlDeviceGetRemappedRows")
    if rows is not None:
        yield "rows_remapped", _sum(rows[0], rows[1])
        yield from (("remap_pending", _flag(rows[2])), ("remap_failed", _flag(rows[3])))
    spare = ask("nvmlDeviceGetRowRemapperHistogram")
    if spare is not None:
        counts = [int(getattr(spare, name)) for name in ("max", "high", "partial", "low", "none")]
        yield from (("banks", _sum(*counts)), ("banks_without_spare_rows", _sum(counts[-1])))
    pages = [ask("nvmlDeviceGetRetiredPages", cause) for cause in _CAUSES]
    if None not in pages:
        yield "pages_retired", sum(len(found) for found in pages)
    yield "retirement_pending", _flag(ask("nvmlDeviceGetRetiredPagesPendingStatus"))
    yield "inforom_valid", answers.inforom_valid()


def _clocks(answers: Answers) -> Iterator[tuple[str, Any]]:
    """Yield what is told of clocks, power and temperatures: field, value."""
    ask = answers.ask
    yield "clock_reasons", _lasting_reasons(answers)
    for name, policy in (("thermal_violation_s", _THERMAL), ("power_violation_s", _POWER)):
        violation = ask("nvmlDeviceGetViolationStatus", policy)
        time_ns = None if violation is None else told(int(violation.violationTime))
        yield name, None if time_ns is None else time_ns / _NANOSECONDS
    yield "performance_state", ask("nvmlDeviceGetPerformanceState")
    rates = ask("nvmlDeviceGetUtilizationRates")
    yield "utilization_percent", None if rates is None else int(rates.gpu)
    yield "temperature_c", _temperature(ask("nvmlDeviceGetTemperature", 0))
    for name, limit in (
        ("shutdown_c", _SHUTDOWN),
        ("slowdown_c", _SLOWDOWN),
        ("memory_max_c", _MEMORY_MAX),
        ("max_c", _GPU_MAX),
    ):
        yield name, _temperature(ask("nvmlDeviceGetTemperatureThreshold", limit))
    for name, function in (
        ("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
        ("default_power_limit_w", "nvmlDeviceGetPowerManagementDefaultLimit"),
    ):
        milliwatts = ask(function)
        yield name, None if milliwatts is None else milliwatts / 1000


def _temperature(celsius: int | None) -> int | None:
    return celsius if celsius is not None and 0 < celsius < _HOTTEST_C else None


def _lasting_reasons(answers: Answers) -> int | None:
    """Why the clocks are slow: a change of clocks that looks like a slowdown is waited for."""
    reasons = _reasons(answers)
    if reasons is None or reasons & (_SLOWDOWN_BY_HARDWARE | _ITS_CAUSES) != _SLOWDOWN_BY_HARDWARE:
        return reasons
    time.sleep(_CHANGE_S)
    return _reasons(answers)


def _reasons(answers: Answers) -> int | None:
    reasons: int | None = answers.ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # the name before driver 535
        reasons = answers.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return reasons


def _links(answers: Answers) -> Iterator[tuple[str, Any]]:
    """Yield what is told of PCIe, NVLink and the fabric: field, value."""
    for name, function in (
        ("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
        ("pcie_max_width", "nvmlDeviceGetMaxPcieLinkWidth"),
        ("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
        ("pcie_max_generation", "nvmlDeviceGetMaxPcieLinkGeneration"),
        ("pcie_replays", "nvmlDeviceGetPcieReplayCounter"),
    ):
        value = answers.ask(function)
        yield name, None if name in _MOST and value is not None and value > _MOST[name] else value
    c2c = answers.ask("nvmlDeviceGetC2cModeInfoV")
    yield "c2c_enabled", None if c2c is None else bool(c2c.isC2cEnabled)
    states: list[int] = []
    for link in range(getattr(pynvml, "NVML_NVLINK_MAX_LINKS", 0)):
        state = answers.ask("nvmlDeviceGetNvLinkState", link)
        if state is not None:  # else no such link, no NVLink at all, or no answer about this one
            states.append(int(state))
    if states:
        yield from (("nvlinks_active", sum(states)), ("nvlinks_inactive", states.count(0)))
    fabric = answers.filled("nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t")
    if fabric is None:
        fabric = answers.filled("nvmlDeviceGetGpuFabricInfo", "c_nvmlGpuFabricInfo_t")
    if fabric is not None:
        yield "fabric_state", int(fabric.state) & 0xFF  # a byte in C, and padding
        yield "fabric_status", int(fabric.status)
        yield "fabric_health", told(int(getattr(fabric, "healthMask", 0)))


def _gpu(index: int) -> GpuHealth:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        text = f"nvmlDeviceGetHandleByIndex: {error}"
        return GpuHealth(
            index=index,
            accessible=error.value != _NO_PERMISSION,
            gone=text if error.value in GONE else "",
            error="" if error.value in GONE else text,
        )
    answers = Answers(handle)
    pci, mig = answers.ask("nvmlDeviceGetPciInfo"), answers.ask("nvmlDeviceGetMigMode")
    names = {
        field: answers.ask(function)
        for field, function in (("uuid", "nvmlDeviceGetUUID"), ("name", "nvmlDeviceGetName"))
    }
    fields = {
        "pci_bus_id": None if pci is None else sysfs_address(pci.busId),
        "mig_enabled": None if mig is None else bool(mig[0]),
        **{field: None if text is None else decoded(text) for field, text in names.items()},
        **dict(_memory(answers)),
        **dict(_clocks(answers)),
        **dict(_links(answers)),
        **answers.fields(),
    }
    fields["memory_temperature_c"] = _temperature(fields.get("memory_temperature_c"))
    return GpuHealth(index=index, gone=answers.gone, **fields)


def _no_matter(_: str) -> None:
    """Nobody wants to know which GPU is asked."""


def read(at: Callable[[str], None] = _no_matter) -> Health:
    """Start NVML, ask for every GPU's health, shut NVML down; `at` is told where it is."""
    if pynvml is None:
        return Health(error="nvidia-ml-py (module pynvml) is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Health(error=f"Failed to initialize NVML: {error}")
    try:
        return _read_all(at)
    except (pynvml.NVMLError, AttributeError) as error:
        return Health(error=f"NVML does not list the GPUs: {error}")
    finally:
        with suppress(pynvml.NVMLError, AttributeError):  # all that it had to tell is told
            pynvml.nvmlShutdown()


def _read_all(at: Callable[[str], None]) -> Health:
    version = None
    with suppress(pynvml.NVMLError, AttributeError, ValueError):
        version = decoded(pynvml.nvmlSystemGetDriverVersion())
    count = int(pynvml.nvmlDeviceGetCount())
    if not 0 <= count <= MOST_GPUS:
        return Health(error=f"NVML does not list the GPUs: it counts {count}")
    gpus = []
    for index in range(count):
        at(f"NVML, GPU {index}")
        gpus.append(_gpu(index))
    return Health(driver_version=version, gpus=tuple(gpus))
