"""Which devices of a node with MIG only a process of its own can use, and how it is shown one.

CUDA shows a process one MIG instance at most, and beside it no whole GPU: so each instance, and
each whole GPU beside instances, gets a child in which CUDA_VISIBLE_DEVICES holds its UUID alone.

Ref: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/ (CUDA Device Enumeration)
"""

import os
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from probes.node.nvml import MigInstance, Nvml, NvmlGpu

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

#: In the environment of a child that sees one device alone: what the variable held before.
_KEPT: Final = "_GPU_VALIDATOR_VISIBLE_BEFORE"


class Apart(NamedTuple):
    """A device that only a process of its own can use: an instance, or a GPU beside instances."""

    gpu: NvmlGpu
    instance: MigInstance | None

    @property
    def name(self) -> str:
        """`cuda:GPU:SLOT`, numbers as NVML and NVIDIA_VISIBLE_DEVICES count; `cuda:GPU` if whole.

        torch knows no such name: in its own process the device is `cuda:0`.
        """
        slot = "" if self.instance is None else f":{self.instance.slot}"
        return f"cuda:{self.gpu.index}{slot}"

    @property
    def uuid(self) -> str:
        """What the variable has to hold."""
        return (self.gpu.uuid or "") if self.instance is None else self.instance.uuid


def devices_apart(management: Nvml, environment: Mapping[str, str]) -> tuple[Apart, ...]:
    """Every device that needs a process of its own, as far as the environment leaves it visible.

    Empty where there is no instance, where there is one device alone (CUDA shows it by itself),
    and where the variable counts devices, which CUDA and NVML count differently here.
    """
    found = tuple(_all(management))
    entries = _entries(environment)
    if entries is not None:
        found = tuple(_named(entries, found))
    return found if len(found) > 1 and any(each.instance for each in found) else ()


def show_alone(uuid: str) -> None:
    """Have CUDA show this process one device only; call it before anything starts CUDA."""
    os.environ[_KEPT] = os.environ.get(VISIBLE, "")
    os.environ[VISIBLE] = uuid


def visible_before(environment: Mapping[str, str]) -> str | None:
    """What the variable held before `show_alone`, empty if nothing; None where that never ran."""
    return environment.get(_KEPT)


def _all(management: Nvml) -> Iterator[Apart]:
    for gpu in management.gpus:
        if not gpu.accessible or gpu.uuid is None:
            continue
        if gpu.mig_enabled:  # as a whole it cannot be used, also without an instance
            yield from (Apart(gpu, instance) for instance in gpu.mig_instances)
        else:
            yield Apart(gpu, None)


def _entries(environment: Mapping[str, str]) -> list[str] | None:
    """The entries of the variable; None where it is not set."""
    value = environment.get(VISIBLE)
    return None if value is None else [entry.strip() for entry in value.split(",")]


def _named(entries: list[str], found: tuple[Apart, ...]) -> Iterator[Apart]:
    """The devices that the entries name, by a UUID or its start; a bad one hides all after it."""
    for entry in entries:
        wanted = entry.lower()
        named = [each for each in found if is_named(wanted, each.gpu, each.instance)]
        if not wanted.startswith(("gpu-", "mig-")) or not named:
            return
        yield from named


def is_named(entry: str, gpu: NvmlGpu, instance: MigInstance | None) -> bool:
    """Whether a UUID, or the start of one, means this device; a GPU's means its instances too."""
    wanted = entry.lower()
    uuids = [gpu.uuid or "", "" if instance is None else instance.uuid]
    return len(wanted) > len("gpu-") and any(uuid.lower().startswith(wanted) for uuid in uuids)
