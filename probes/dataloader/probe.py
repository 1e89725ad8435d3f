"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final

from pydantic import Field

from probes.contract import Finding, skipped
from probes.dataloader import batches, drawing, ending, failing, memory, pinned, workers
from probes.dataloader.memory import FOLDER, SMALL_BYTES, SharedMemory
from probes.dataloader.room import room_finding
from probes.dataloader.running import need_room, undisturbed
from probes.dataloader.spec import Limits
from probes.kit import families
from probes.kit.families import Families, family_finding

__all__ = ["FAMILIES", "Limits", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "batches": batches.batches,
    "order": batches.order,
    "shuffling": drawing.shuffling,
    "samplers": drawing.samplers,
    "iterable": workers.iterable,
    "worker_info": workers.worker_info,
    "worker_seeds": workers.worker_seeds,
    "persistent": workers.persistent,
    "exceptions": failing.exceptions,
    "deaths": failing.deaths,
    "shared_memory": memory.shared_memory,
    "endings": ending.endings,
    "pinned": pinned.pinned,
    "forked_use": pinned.forked_use,
}

#: Checks that are made where no worker can hand a batch over.
_WITHOUT_WORKERS: Final = ("samplers", "shared_memory")

_HINT: Final = (
    "the device has no part in it, but for pinned batches: reinstall torch as it was pinned, and "
    "look for what patches torch.utils.data at import"
)


class Observation(families.Observation):
    """Comparisons by check, what was left out, and the shared memory."""

    shared_memory: SharedMemory = SharedMemory()
    #: Check -> why it does not apply.
    skips: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Run every family that applies. Without room in shared memory no worker is started."""
    seen = memory.read()
    skips = _skips(device, seen)
    table = {name: family for name, family in FAMILIES.items() if name not in skips}
    with nullcontext() if seen.problem else undisturbed():
        if "batches" in table:
            need_room()
        found = families.observe(table, device)
    return Observation(**found.model_dump(), shared_memory=seen, skips=skips)


def _skips(device: str, seen: SharedMemory) -> dict[str, str]:
    """Check -> why it does not apply."""
    skips = {"pinned": pinned.why_not_pinned(device), "forked_use": pinned.why_not_forked(device)}
    if not seen.has_room(SMALL_BYTES):
        why = f"no worker can hand a batch over: {seen.problem or f'{FOLDER} is full'}"
        skips = {name: why for name in FAMILIES if name not in _WITHOUT_WORKERS} | skips
    return {name: why for name, why in skips.items() if why}


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield a finding for every family."""
    for name in FAMILIES:
        check = f"dataloader.{name}"
        if name in observation.skips:
            yield skipped(check, observation.skips[name])
        elif name == "shared_memory":
            tried = name in observation.families
            batches = family_finding(check, observation, hint=_HINT) if tried else None
            yield room_finding(check, observation.shared_memory, batches, limits)
        else:
            yield family_finding(check, observation, hint=_HINT)
