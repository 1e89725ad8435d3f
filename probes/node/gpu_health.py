"""What NVIDIA's management library says of the health of each GPU. Nothing is raised, or judged.

NVML may hang if the driver hangs: call it only in a process that another one can kill.
"""

import ctypes
from collections.abc import Iterator
from typing import Any, Final

from probes.contract import Frozen
from probes.node.nvml import decoded, sysfs_address

try:
    import pynvml
except ImportError:
    pynvml = None

#: Codes by which NVML says that a GPU is gone: GPU_IS_LOST, RESET_REQUIRED. Source: nvmlReturn_t.
_GONE: Final = (15, 16)
_NO_PERMISSION: Final = 4
_CORRUPTED_INFOROM: Final = 14

_CORRECTED, _UNCORRECTED = 0, 1  # nvmlMemoryErrorType_t
_VOLATILE, _AGGREGATE = 0, 1  # nvmlEccCounterType_t: since the driver was loaded; of a lifetime
_CAUSES: Final = (0, 1)  # nvmlPageRetirementCause_t: single-bit errors, double-bit error
_THERMAL, _POWER = 1, 0  # nvmlPerfPolicyType_t
_SHUTDOWN, _SLOWDOWN, _MEMORY_MAX, _GPU_MAX = 0, 1, 2, 3  # nvmlTemperatureThresholds_t
_NANOSECONDS: Final = 1e9

#: Field of `GpuHealth` -> the name of NVML's field value.
_FIELDS: Final = {
    "recovery_action": "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION",
    "memory_temperature_c": "NVML_FI_DEV_MEMORY_TEMP",
    "pcie_fatal_errors": "NVML_FI_DEV_PCIE_COUNT_FATAL_ERROR",
    "nvlink_replays": "NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY",
    "nvlink_recoveries": "NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY",
    "nvlink_crc_errors": "NVML_FI_DEV_NVLINK_ERROR_DL_CRC",
}
#: nvmlValueType_t -> the member of nvmlValue_t that holds the value.
_MEMBERS: Final = {
    0: "dVal",
    1: "uiVal",
    2: "ulVal",
    3: "ullVal",
    4: "sllVal",
    5: "siVal",
    6: "usVal",
}


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


class _Answers:
    """Asks NVML about one GPU; remembers when it says that the GPU is gone."""

    def __init__(self, handle: object) -> None:
        self._handle = handle
        self.gone = ""

    def ask(self, function: str, *arguments: object) -> Any:
        """The answer of a function about the GPU; None if there is none."""
        call = getattr(pynvml, function, None)
        if call is None:
            return None
        try:
            return call(self._handle, *arguments)
        except pynvml.NVMLError as error:
            if error.value in _GONE:
                self.gone = self.gone or f"{function}: {error}"
        except (ValueError, TypeError, AttributeError):  # an older or newer module than ours
            pass
        return None

    def filled(self, function: str, layout: str) -> Any:
        """The structure of that layout as the function fills it; None if it does not."""
        make = getattr(pynvml, layout, None)
        if make is None:
            return None
        structure = make()
        # pynvml hands it on as it is, and the library wants its address.
        return None if self.ask(function, ctypes.byref(structure)) is None else structure

    def inforom_valid(self) -> bool | None:
        """Whether the checksums of the board's InfoROM are right."""
        call = getattr(pynvml, "nvmlDeviceValidateInforom", None)
        if call is None:
            return None
        try:
            call(self._handle)
        except pynvml.NVMLError as error:
            return False if error.value == _CORRUPTED_INFOROM else None
        return True

    def fields(self) -> dict[str, int]:
        """The values that NVML has by number, those that it told."""
        numbers = {name: getattr(pynvml, field, None) for name, field in _FIELDS.items()}
        known = {name: number for name, number in numbers.items() if number is not None}
        values = self.ask("nvmlDeviceGetFieldValues", list(known.values()))
        found: dict[str, int] = {}
        for name, value in zip(known, values or (), strict=False):
            member = _MEMBERS.get(int(value.valueType))
            if int(value.nvmlReturn) == 0 and member is not None:
                found[name] = int(getattr(value.value, member))
        return found


def _memory(answers: _Answers) -> Iterator[tuple[str, Any]]:
    """Yield what is told of the memory's errors: field, value."""
    ask = answers.ask
    modes = ask("nvmlDeviceGetEccMode")
    default = ask("nvmlDeviceGetDefaultEccMode")
    if modes is not None:
        yield from (("ecc_enabled", bool(modes[0])), ("ecc_pending", bool(modes[1])))
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
        yield "sram_volatile_uncorrected", int(sram.volatileUncParity + sram.volatileUncSecDed)
        yield "sram_aggregate_uncorrected", int(sram.aggregateUncParity + sram.aggregateUncSecDed)
        yield "sram_threshold_exceeded", bool(sram.bThresholdExceeded)
    rows = ask("nvmlDeviceGetRemappedRows")
    if rows is not None:
        yield "rows_remapped", int(rows[0] + rows[1])
        yield from (("remap_pending", bool(rows[2])), ("remap_failed", bool(rows[3])))
    spare = ask("nvmlDeviceGetRowRemapperHistogram")
    if spare is not None:
        counts = [int(getattr(spare, name)) for name in ("max", "high", "partial", "low", "none")]
        yield from (("banks", sum(counts)), ("banks_without_spare_rows", counts[-1]))
    pages = [ask("nvmlDeviceGetRetiredPages", cause) for cause in _CAUSES]
    if None not in pages:
        yield "pages_retired", sum(len(found) for found in pages)
    pending = ask("nvmlDeviceGetRetiredPagesPendingStatus")
    yield "retirement_pending", None if pending is None else bool(pending)
    yield "inforom_valid", answers.inforom_valid()


def _clocks(answers: _Answers) -> Iterator[tuple[str, Any]]:
    """Yield what is told of clocks, power and temperatures: field, value."""
    ask = answers.ask
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # the name before driver 535
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    yield "clock_reasons", reasons
    for name, policy in (("thermal_violation_s", _THERMAL), ("power_violation_s", _POWER)):
        violation = ask("nvmlDeviceGetViolationStatus", policy)
        yield name, None if violation is None else int(violation.violationTime) / _NANOSECONDS
    yield "performance_state", ask("nvmlDeviceGetPerformanceState")
    rates = ask("nvmlDeviceGetUtilizationRates")
    yield "utilization_percent", None if rates is None else int(rates.gpu)
    yield "temperature_c", ask("nvmlDeviceGetTemperature", 0)
    for name, limit in (
        ("shutdown_c", _SHUTDOWN),
        ("slowdown_c", _SLOWDOWN),
        ("memory_max_c", _MEMORY_MAX),
        ("max_c", _GPU_MAX),
    ):
        yield name, ask("nvmlDeviceGetTemperatureThreshold", limit)
    for name, function in (
        ("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
        ("default_power_limit_w", "nvmlDeviceGetPowerManagementDefaultLimit"),
    ):
        milliwatts = ask(function)
        yield name, None if milliwatts is None else milliwatts / 1000


def _links(answers: _Answers) -> Iterator[tuple[str, Any]]:
    """Yield what is told of PCIe, NVLink and the fabric: field, value."""
    for name, function in (
        ("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
        ("pcie_max_width", "nvmlDeviceGetMaxPcieLinkWidth"),
        ("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
        ("pcie_max_generation", "nvmlDeviceGetMaxPcieLinkGeneration"),
        ("pcie_replays", "nvmlDeviceGetPcieReplayCounter"),
    ):
        yield name, answers.ask(function)
    states: list[int] = []
    for link in range(getattr(pynvml, "NVML_NVLINK_MAX_LINKS", 0)):
        state = answers.ask("nvmlDeviceGetNvLinkState", link)
        if state is None:  # no such link, or no NVLink at all
            break
        states.append(int(state))
    if states:
        yield from (("nvlinks_active", sum(states)), ("nvlinks_inactive", states.count(0)))
    fabric = answers.filled("nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t")
    if fabric is None:
        fabric = answers.filled("nvmlDeviceGetGpuFabricInfo", "c_nvmlGpuFabricInfo_t")
    if fabric is not None:
        yield "fabric_state", int(fabric.state) & 0xFF  # a byte in C, and padding
        yield "fabric_status", int(fabric.status)
        yield "fabric_health", int(getattr(fabric, "healthMask", 0))


def _gpu(index: int) -> GpuHealth:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        text = f"nvmlDeviceGetHandleByIndex: {error}"
        return GpuHealth(
            index=index,
            accessible=error.value != _NO_PERMISSION,
            gone=text if error.value in _GONE else "",
            error="" if error.value in _GONE else text,
        )
    answers = _Answers(handle)
    pci, mig = answers.ask("nvmlDeviceGetPciInfo"), answers.ask("nvmlDeviceGetMigMode")
    names = {
        field: answers.ask(function)
        for field, function in (("uuid", "nvmlDeviceGetUUID"), ("name", "nvmlDeviceGetName"))
    }
    told = {
        "pci_bus_id": None if pci is None else sysfs_address(pci.busId),
        "mig_enabled": None if mig is None else bool(mig[0]),
        **{field: None if text is None else decoded(text) for field, text in names.items()},
        **dict(_memory(answers)),
        **dict(_clocks(answers)),
        **dict(_links(answers)),
        **answers.fields(),
    }
    return GpuHealth(index=index, gone=answers.gone, **told)


def read() -> Health:
    """Start NVML, ask for every GPU's health, shut NVML down."""
    if pynvml is None:
        return Health(error="nvidia-ml-py (module pynvml) is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Health(error=f"Failed to initialize NVML: {error}")
    try:
        version = decoded(pynvml.nvmlSystemGetDriverVersion())
        gpus = tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        return Health(error=f"NVML does not list the GPUs: {error}")
    finally:
        pynvml.nvmlShutdown()
    return Health(driver_version=version, gpus=gpus)
