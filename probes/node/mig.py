"""The devices of a node with MIG that each need their own process, and how to select one of them.

CUDA shows a process at most one MIG instance, and then no whole GPU. So each instance, and each
whole GPU on a node with instances, gets its own child with only its UUID in CUDA_VISIBLE_DEVICES.

Ref: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/ (CUDA Device Enumeration)
"""

import os
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from probes.node.nvml import MigInstance, Nvml, NvmlGpu

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

#: Name of the variable that keeps the value CUDA_VISIBLE_DEVICES had before `show_only`.
_SAVED_VALUE: Final = "_GPU_VALIDATOR_VISIBLE_BEFORE"


class SeparateDevice(NamedTuple):
    """A device that needs its own process: a MIG instance, or a GPU on a node with instances."""

    gpu: NvmlGpu
    instance: MigInstance | None

    @property
    def name(self) -> str:
        """`cuda:GPU:SLOT`, or `cuda:GPU` for a whole GPU, numbered as in NVML.

        torch does not know this name: in its own process the device is `cuda:0`.
        """
        slot = "" if self.instance is None else f":{self.instance.slot}"
        return f"cuda:{self.gpu.index}{slot}"

    @property
    def uuid(self) -> str:
        """The value for CUDA_VISIBLE_DEVICES."""
        return (self.gpu.uuid or "") if self.instance is None else self.instance.uuid


def separate_devices(
    management: Nvml, environment: Mapping[str, str]
) -> tuple[SeparateDevice, ...]:
    """The devices that need their own process and are visible in the environment.

    Empty if there is no instance, if there is only one device (CUDA shows it anyway), and if
    CUDA_VISIBLE_DEVICES has indices, since CUDA and NVML count differently with MIG.
    """
    found = tuple(_all_devices(management))
    entries = _entries(environment)
    if entries is not None:
        found = tuple(_visible_devices(entries, found))
    return found if len(found) > 1 and any(each.instance for each in found) else ()


def show_only(uuid: str) -> None:
    """Make CUDA show this process one device only; call it before CUDA is initialised."""
    os.environ[_SAVED_VALUE] = os.environ.get(VISIBLE, "")
    os.environ[VISIBLE] = uuid


def visible_before(environment: Mapping[str, str]) -> str | None:
    """CUDA_VISIBLE_DEVICES before `show_only` (empty if unset); None if that was not called."""
    return environment.get(_SAVED_VALUE)


def _all_devices(management: Nvml) -> Iterator[SeparateDevice]:
    for gpu in management.gpus:
        if not gpu.accessible or gpu.uuid is None:
            continue
        if gpu.mig_enabled:  # cannot be used as a whole GPU, even without an instance
            yield from (SeparateDevice(gpu, instance) for instance in gpu.mig_instances)
        else:
            yield SeparateDevice(gpu, None)


def _entries(environment: Mapping[str, str]) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES; None if it is not set."""
    value = environment.get(VISIBLE)
    return None if value is None else [entry.strip() for entry in value.split(",")]


def _visible_devices(
    entries: list[str], found: tuple[SeparateDevice, ...]
) -> Iterator[SeparateDevice]:
    """The devices that the entries name by UUID or its start, up to the first bad entry."""
    for entry in entries:
        prefix = entry.lower()
        named = [each for each in found if is_named(prefix, each.gpu, each.instance)]
        if not prefix.startswith(("gpu-", "mig-")) or not named:
            return
        yield from named


def is_named(entry: str, gpu: NvmlGpu, instance: MigInstance | None) -> bool:
    """Whether an entry is the start of this instance's UUID or of its GPU's."""
    prefix = entry.lower()
    uuids = [gpu.uuid or "", "" if instance is None else instance.uuid]
    return len(prefix) > len("gpu-") and any(uuid.lower().startswith(prefix) for uuid in uuids)
