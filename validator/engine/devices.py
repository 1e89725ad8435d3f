"""Which of a machine's devices a run is about, and which of them others are using."""

import re
from collections.abc import Sequence
from typing import Final

from probes.contract import MIB, ProbeSpec
from validator.engine.processes import describe
from validator.nearest import closest
from validator.report import CPU, Device

#: What a CUDA context takes beside a probe's own memory: 300 to 700 MB were seen.
_CONTEXT_BYTES: Final = 768 * 1024 * 1024

#: What a process that computes takes at least; boards that nobody uses take less themselves.
_LEAST_CONTEXT_BYTES: Final = 256 * MIB
#: Of processes that may be left over, to end by hand.
_NAMED: Final = 8
#: A GPU that is idle is at 0.
_USED_PERCENT: Final = 10

#: Compute modes in which one process holds the GPU; with MPS its server does, for all.
_EXCLUSIVE: Final = ("exclusive_process", "exclusive_thread")
_MPS: Final = "cuda-mps"


def _bus_id(text: str) -> str:
    """A PCI address without its domain where that is zero: `00000000:0F:00.0` is `0f:00.0`."""
    parts = text.lower().split(":")
    return ":".join(parts[1:] if len(parts) == 3 and not parts[0].strip("0") else parts)


#: What an accelerator may be called: `cuda`, `cuda:0`, `cuda:0:3`, a UUID or its start, a PCI id.
_NAMES: Final = re.compile(
    r"(?!cpu\b)[a-z]+|(?!cpu\b)[a-z]+(:\d+){1,2}|(gpu|mig)-[0-9a-z/-]{4,}"
    r"|([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
)


def may_be_accelerator(name: str) -> bool:
    """Whether a name could be an accelerator's, so that asking for it is a promise; no typo."""
    return _NAMES.fullmatch(name.strip().lower()) is not None


#: What people call the GPUs that torch calls `cuda`, AMD's too.
_CUDA: Final = frozenset({"", "gpu", "nvidia", "hip", "rocm", "amd"})


def why_no_name(name: str) -> str:
    """Why a name can be no device's, with what was probably meant; empty where it can be one.

    `gpu:0` and `cud:0` would be promises of a back-end that is not there: a typo would be a fail.
    """
    asked = name.strip().lower()
    parts = re.fullmatch(r"([a-z]*)[ :]?(\d*)", asked)
    kind, index = parts.groups() if parts else (asked, "")
    near_cpu = [CPU.type] if len(kind) != len(CPU.type) or kind == CPU.type else []  # no xpu, npu
    meant = "cuda" if kind in _CUDA else closest(kind, ["cuda", *near_cpu])
    if asked == CPU.type or (may_be_accelerator(name) and meant in {None, kind}):
        return ""
    text = f"{name!r} is no device's name"
    if meant is None or not asked:
        return f"{text}; write cuda:0, a UUID, a PCI id or cpu"
    shown = f"{meant}:{index}" if index and meant != CPU.type else meant
    return f"{text}; did you mean {shown!r}?"


def is_ambiguous(name: str, found: Sequence[Device]) -> bool:
    """Whether a number says nothing here: of MIG instances each tool has numbers of its own."""
    numbered = re.fullmatch(r"[a-z]+:\d+", name.strip().lower()) is not None
    return numbered and any(device.alone for device in found)


def absent(name: str) -> Device:
    """What is known of a device that was asked for and is not there: its name."""
    by_uuid = name.strip().lower().startswith(("gpu-", "mig-"))
    kind = "cuda" if by_uuid else name.partition(":")[0]
    return Device(name=name, type=kind, uuid=name if by_uuid else None)


def is_called(device: Device, name: str) -> bool:
    """Whether a name means this device: `cuda:0`, `cuda` (all), a UUID or its start, a PCI id.

    What names a GPU means each of its MIG instances too: `cuda:0` is `cuda:0:0` and `cuda:0:1`.
    """
    wanted = name.strip().lower()
    if wanted in {device.name, device.type}:
        return True
    if device.parent_uuid is not None and device.name.rpartition(":")[0] == wanted:
        return True
    uuids = [uuid.lower() for uuid in (device.uuid, device.parent_uuid) if uuid is not None]
    if len(wanted) >= 8 and any(uuid.startswith(wanted) for uuid in uuids):
        return True
    return device.pci_bus_id is not None and _bus_id(wanted) == _bus_id(device.pci_bus_id)


def choose(
    wanted: Sequence[str], found: Sequence[Device]
) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """The devices to run on, and the wanted names that are none.

    Without a wish: all accelerators, or the CPU when there is none.
    """
    if not wanted:
        return tuple(found) or (CPU,), ()
    present = (*found, CPU)
    chosen = [device for device in present if any(is_called(device, name) for name in wanted)]
    missing = [name for name in wanted if not any(is_called(device, name) for device in present)]
    return tuple(chosen), tuple(missing)


def count_gpus(found: Sequence[Device]) -> int:
    """How many GPUs these devices are, as an operator counts: one cut into instances is one."""
    accelerators = [device for device in found if device.type != CPU.type]
    return len({device.parent_uuid or device.uuid or device.name for device in accelerators})


def count_instances(found: Sequence[Device]) -> int:
    """How many of these devices are MIG instances."""
    return sum(device.parent_uuid is not None for device in found)


def side_by_side(specs: Sequence[ProbeSpec], device: Device, cores: int) -> int:
    """How many processes may each run these probes on the device at a time, at least 1.

    One a core, on a GPU as many as half of its free memory has room for, what one of them takes
    beyond its own included: the other half is left to whoever comes. One where the free memory is
    not known, or where the mode lets no second process in.
    """
    if device.type == CPU.type:
        return cores
    if device.memory_free_bytes is None or _is_exclusive(device):
        return 1
    each = _CONTEXT_BYTES + max((spec.memory_bytes for spec in specs), default=0)
    more = max((spec.optional_memory_bytes for spec in specs), default=0)
    return max(1, min(cores, (device.memory_free_bytes // 2 - more) // each))


def _is_exclusive(device: Device) -> bool:
    """Whether one process holds the device, and no other gets in."""
    return device.compute_mode in _EXCLUSIVE and device.backend != _MPS


def why_busy(spec: ProbeSpec, device: Device, *, gives_way: bool = True) -> str:
    """Why a probe must not run beside those who use the device now; empty when it may.

    With `gives_way` false a heavy probe may disturb others, but still must have what it needs.
    """
    heavy = spec.is_heavy and gives_way
    if not device.process_count:
        return _why_used(device) if heavy else ""
    others = f"{device.process_count} other process" + ("es" if device.process_count > 1 else "")
    who = _who(device)
    if _is_exclusive(device):
        return f"{others} on it, and its mode is {device.compute_mode}{who}"
    if heavy:
        return f"{others} on it, and a {spec.profile} probe would disturb them{who}"
    needed = _CONTEXT_BYTES + spec.memory_bytes
    if device.memory_free_bytes is not None and device.memory_free_bytes < needed:
        return f"{others} on it leave {device.memory_free_bytes} bytes free of {needed} needed{who}"
    return ""


def _who(device: Device) -> str:
    """The processes, and how busy they keep the device, as far as NVML tells."""
    known = [text] if (text := describe(device.processes)) else []
    if device.utilization_percent is not None:
        known.append(f"in use {device.utilization_percent} % of the time")
    if ids := _left_over(device):
        known.append(f"if no job needs what computes nothing, on the node: kill {ids}")
    return f": {'; '.join(known)}" if known else ""


def _left_over(device: Device) -> str:
    """The processes that hold memory of a device at which nobody computes; "" without any."""
    if device.utilization_percent != 0:
        return ""
    holding = [one for one in device.processes if (one.memory_bytes or 0) >= _LEAST_CONTEXT_BYTES]
    return " ".join(str(one.pid) for one in holding[:_NAMED])


def _why_used(device: Device) -> str:
    """That somebody computes whom NVML does not list, as it does not across virtual machines.

    A board that has just been started may call itself used at once: memory must be taken too.
    """
    used, share = device.memory_used_bytes, device.utilization_percent
    if device.type == CPU.type or not used or not share:
        return ""
    if used < _LEAST_CONTEXT_BYTES or share < _USED_PERCENT:
        return ""
    return f"in use {share} % of the time with {round(used / MIB)} MiB taken, by whom is not told"
