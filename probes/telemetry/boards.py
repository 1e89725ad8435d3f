"""The rules about what NVML says of each board. What a board does not tell is no fault."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from probes.contract import Action, Finding, Status, skipped, worst
from probes.node.gpu_health import GpuHealth
from probes.telemetry.spec import SPEC, Limits

SHOWN: Final = 4  # GPUs in a message


class Problem(NamedTuple):
    """What is wrong with one GPU; `status` None: what `Limits.degraded` says."""

    text: str
    action: Action = "investigate"
    status: Status | None = "fail"


class Rule(NamedTuple):
    """One check: the fields of `GpuHealth` that it reads, and what it finds in them.

    A GPU that tells none of the fields is not judged.
    """

    reads: tuple[str, ...]
    find: Callable[[GpuHealth, Sequence[GpuHealth], Limits], Iterator[Problem]]
    expected: str
    hint: str


def name_of(gpu: GpuHealth) -> str:
    """How a message calls a GPU: its index and its PCI address."""
    place = gpu.pci_bus_id or gpu.uuid
    return f"GPU {gpu.index} ({place})" if place else f"GPU {gpu.index}"


def judge(check: str, gpus: Sequence[GpuHealth], limits: Limits) -> Finding:
    """The finding of a check over all GPUs; its status is that of the worst."""
    rule, identity = RULES[check], f"{SPEC.name}.{check}"
    judged = [gpu for gpu in gpus if any(getattr(gpu, name) is not None for name in rule.reads)]
    if not judged:
        return skipped(identity, "no GPU here tells that")
    found: list[tuple[Status, Action, str]] = []
    for gpu in judged:
        for problem in rule.find(gpu, judged, limits):
            status = limits.degraded if problem.status is None else problem.status
            found.append((status, problem.action, f"{name_of(gpu)}: {problem.text}"))
    if not found:
        return Finding(
            id=identity, status="pass", observed=f"{len(judged)} GPUs", expected=rule.expected
        )
    status = worst(each for each, _, _ in found)
    texts = [text for _, _, text in found]
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return Finding(
        id=identity,
        status=status,
        message="; ".join(texts[:SHOWN]) + more,
        observed=[*texts],
        expected=rule.expected,
        hint=rule.hint,
        action=next(action for each, action, _ in found if each == status),
    )


def _is_gone(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    if gpu.gone:
        yield Problem(gpu.gone, "drain")
    elif gpu.error:
        yield Problem(gpu.error, status="warn")


def _ecc_mode(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    if gpu.ecc_enabled is False and gpu.ecc_default is True:
        yield Problem("ECC is off, and on by default", "fix_config", "warn")
    if gpu.ecc_enabled is not None and gpu.ecc_pending not in {None, gpu.ecc_enabled}:
        change = "on" if gpu.ecc_pending else "off"
        yield Problem(f"ECC will be {change} after a reset", "reset_gpu", "warn")


def _memory_errors(gpu: GpuHealth, _: Sequence[GpuHealth], limits: Limits) -> Iterator[Problem]:
    for what, count in (
        ("memory", gpu.volatile_uncorrected),
        ("SRAM", gpu.sram_volatile_uncorrected),
    ):
        if count is not None and count > limits.volatile_uncorrected:
            yield Problem(f"{count} uncorrected errors of the {what}", "reset_gpu")
            return


def _sram_errors(gpu: GpuHealth, _: Sequence[GpuHealth], limits: Limits) -> Iterator[Problem]:
    count = gpu.sram_aggregate_uncorrected
    if gpu.sram_threshold_exceeded:
        yield Problem("the board says that its SRAM has had too many errors: return it", "drain")
    elif count is not None and count > limits.sram_aggregate_uncorrected:
        yield Problem(f"{count} uncorrected errors of the SRAM in its life", status="warn")


def _remapped_rows(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    if gpu.remap_failed:
        yield Problem("a row could not be remapped: return the board", "drain")
    if gpu.remap_pending:
        yield Problem("a row waits to be remapped by a reset", "reset_gpu", "warn")
    if gpu.banks_without_spare_rows:
        yield Problem(f"{gpu.banks_without_spare_rows} banks have no spare row left", status="warn")


def _retired_pages(gpu: GpuHealth, _: Sequence[GpuHealth], limits: Limits) -> Iterator[Problem]:
    if gpu.pages_retired is not None and gpu.pages_retired > limits.retired_pages:
        yield Problem(f"{gpu.pages_retired} pages are retired: return the board", status="warn")
    if gpu.retirement_pending:
        yield Problem("a page waits to be retired by a reset", "reset_gpu", "warn")


def _inforom(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    if gpu.inforom_valid is False:
        text = "the InfoROM is corrupted: what the board counts is in doubt"
        yield Problem(text, status=None)


#: nvmlDeviceGpuRecoveryAction_t -> what it asks for. Source: nvml.h, and NVIDIA's "GPU memory error
#: management", error recovery and response flags.
_RECOVERIES: Final[dict[int, Problem]] = {
    1: Problem("a reset of the GPU", "reset_gpu"),
    2: Problem("a reboot of the node", "reboot_node"),
    3: Problem("an end of the traffic between GPUs", "drain"),
    4: Problem("a drain and a reset of the GPU", "reset_gpu"),
    5: Problem("a recovery of the IMEX domain", status="warn"),
    6: Problem("a reset of the GPU's PCIe bus", "reset_gpu"),
    7: Problem("a reboot of the system", "reboot_node"),
}


def _recovery(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    if gpu.recovery_action:
        unknown = Problem(f"recovery action {gpu.recovery_action}", status="warn")
        asked = _RECOVERIES.get(gpu.recovery_action, unknown)
        yield asked._replace(text=f"the driver asks for {asked.text}")


#: Bits of nvmlClocksEventReasons that say that the board protects itself. Idle, a power cap, set
#: clocks and a display are none of them; 0x8 is set with either of the last two, or alone.
_PROTECTS: Final = {0x08: "hardware slowdown", 0x20: "heat", 0x40: "heat, by hardware"}
_BRAKE: Final = 0x80


def _clocks(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    reasons = gpu.clock_reasons or 0
    named = [text for bit, text in _PROTECTS.items() if reasons & bit]
    if reasons & _BRAKE:
        named.append("the power brake")
    if named:
        yield Problem(f"clocks are held down ({', '.join(named)})", status=None)


def _temperature(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    for what, now, limit in (
        ("GPU", gpu.temperature_c, gpu.slowdown_c),
        ("memory", gpu.memory_temperature_c, gpu.memory_max_c),
    ):
        if now and limit and now >= limit:
            yield Problem(f"the {what} has {now} °C, and its limit is {limit}", status=None)


_BUSY_PERCENT: Final = 50


def _pcie(gpu: GpuHealth, _: Sequence[GpuHealth], limits: Limits) -> Iterator[Problem]:
    """An idle link may be slow, or narrow, to save power: a GPU that runs is judged.

    One that has NVLink-C2C moves its data there, whatever its PCIe is.
    """
    if gpu.pcie_fatal_errors:
        yield Problem(f"{gpu.pcie_fatal_errors} fatal errors of PCIe", status="warn")
    if gpu.performance_state != 0 or gpu.c2c_enabled:
        return
    width, widest = gpu.pcie_width, gpu.pcie_max_width
    widest = widest if limits.pcie_lanes is None else limits.pcie_lanes
    if width and widest and width < widest:
        yield Problem(f"PCIe has {width} lanes of {widest}: reseat the board", status=None)
    speed, fastest = gpu.pcie_generation, gpu.pcie_max_generation
    busy = (gpu.utilization_percent or 0) >= _BUSY_PERCENT
    if busy and speed and fastest and speed < fastest:
        yield Problem(f"PCIe runs under load at generation {speed} of {fastest}", status=None)


#: Names of boards whose links are bridges that somebody plugs in, between some of them or none.
_BRIDGED: Final = re.compile(r"PCI|NVL|RTX|Quadro|GeForce|TITAN|G[PV]100|\bA[34]0\b")


def _nvlink(gpu: GpuHealth, all_: Sequence[GpuHealth], limits: Limits) -> Iterator[Problem]:
    """A board without bridges has no active link: only its siblings, or a promise, say more.

    With MIG there is no traffic between GPUs.
    """
    wanted = limits.nvlinks
    if wanted is None:
        alike = [one for one in all_ if one.name == gpu.name and not one.mig_enabled]
        unbridged = not gpu.nvlinks_active and _BRIDGED.search(gpu.name or "")
        compared = not unbridged and not gpu.mig_enabled
        wanted = max((one.nvlinks_active or 0 for one in alike), default=0) if compared else 0
    if gpu.nvlinks_active is not None and gpu.nvlinks_active < wanted:
        yield Problem(f"{gpu.nvlinks_active} of {wanted} NVLinks are active", status=None)
    most = limits.nvlink_recoveries
    if most is not None and (gpu.nvlink_recoveries or 0) > most:
        yield Problem(f"its NVLinks have recovered {gpu.nvlink_recoveries} times", status=None)


_NOT_STARTED, _IN_PROGRESS, _COMPLETED = 1, 2, 3  # nvmlGpuFabricState_t
#: Place of two bits in the fabric's health mask -> what it means that they are 1 (true).
_FABRIC_TRUE: Final = {
    0: "degraded bandwidth",
    2: "routes recover",
    4: "unhealthy routes",
    6: "recovery from timeouts",
}
_CONFIGURATION_SHIFT, _CONFIGURATION_BITS, _CONFIGURATION_RIGHT = 8, 0xF, 1


def _fabric(gpu: GpuHealth, _: Sequence[GpuHealth], __: Limits) -> Iterator[Problem]:
    if gpu.fabric_state in {_NOT_STARTED, _IN_PROGRESS}:
        yield Problem("not registered with the fabric yet", status="warn")
    elif gpu.fabric_state == _COMPLETED and gpu.fabric_status:
        yield Problem(f"the registration with the fabric failed: {gpu.fabric_status}")
    elif gpu.fabric_state == _COMPLETED:
        health = gpu.fabric_health or 0
        named = [text for shift, text in _FABRIC_TRUE.items() if health >> shift & 3 == 1]
        if (health >> _CONFIGURATION_SHIFT & _CONFIGURATION_BITS) > _CONFIGURATION_RIGHT:
            named.append("an incorrect configuration")
        if named:
            yield Problem(f"the fabric says: {', '.join(named)}", status=None)


_RESET: Final = "stop the GPU's jobs and run `nvidia-smi --gpu-reset -i <index>`, or reboot"
_RETURN: Final = (
    "see `nvidia-smi -q -d ECC,ROW_REMAPPER,PAGE_RETIREMENT`; run NVIDIA's field diagnostics, and "
    "return the board when they fail"
)

#: Check -> its rule.
RULES: Final[dict[str, Rule]] = {
    "answers": Rule(
        ("gone",),
        _is_gone,
        "every GPU answers",
        "confirm with `nvidia-smi` and `dmesg | grep -i xid`; reset the GPU, or reboot the node",
    ),
    "ecc_mode": Rule(
        ("ecc_enabled",),
        _ecc_mode,
        "ECC as by default, and no change pending",
        "`nvidia-smi -e 1`, and a reset of the GPU",
    ),
    "memory_errors": Rule(
        ("volatile_uncorrected", "sram_volatile_uncorrected"),
        _memory_errors,
        "no uncorrected error since the driver was loaded",
        _RESET,
    ),
    "sram_errors": Rule(
        ("sram_aggregate_uncorrected", "sram_threshold_exceeded"),
        _sram_errors,
        "few uncorrected errors of the SRAM",
        _RETURN,
    ),
    "remapped_rows": Rule(
        ("remap_pending", "remap_failed", "banks_without_spare_rows"),
        _remapped_rows,
        "no row that failed or waits to be remapped, and spare rows",
        f"pending: {_RESET}; failed or no spare: {_RETURN}",
    ),
    "retired_pages": Rule(
        ("pages_retired", "retirement_pending"),
        _retired_pages,
        "few retired pages, and none pending",
        f"pending: {_RESET}; too many: {_RETURN}",
    ),
    "inforom": Rule(
        ("inforom_valid",),
        _inforom,
        "a valid InfoROM",
        "confirm with `nvidia-smi`, which warns of it; return the board",
    ),
    "recovery_action": Rule(
        ("recovery_action",),
        _recovery,
        "no action",
        "do what it says: see `nvidia-smi -q | grep -A1 'Recovery Action'`",
    ),
    "clocks": Rule(
        ("clock_reasons",),
        _clocks,
        "clocks that no protection holds down",
        "look at the node's cooling and power supplies; see `nvidia-smi -q -d PERFORMANCE`",
    ),
    "temperature": Rule(
        ("temperature_c", "memory_temperature_c"),
        _temperature,
        "cooler than the board's limits",
        "look at the node's cooling; see `nvidia-smi -q -d TEMPERATURE`",
    ),
    "pcie": Rule(
        ("pcie_width", "pcie_generation", "pcie_fatal_errors"),
        _pcie,
        "the full width of the slot, and no fatal error",
        "compare with `nvidia-smi -q | grep -A12 'GPU Link Info'` under load; reseat the board",
    ),
    "nvlink": Rule(
        ("nvlinks_active",),
        _nvlink,
        "as many active links as on the GPU's siblings",
        "see `nvidia-smi nvlink --status`; look at the bridges, or at the fabric manager",
    ),
    "fabric": Rule(
        ("fabric_state",),
        _fabric,
        "registered, and healthy",
        "look at `systemctl status nvidia-fabricmanager` (its version must be the driver's)",
    ),
}
