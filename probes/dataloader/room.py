"""The finding about /dev/shm: its size, what is free of it, and the batches that came through."""

from typing import Final

from pydantic import JsonValue

from probes.contract import Finding, Status
from probes.dataloader.memory import BATCH_BYTES, FOLDER, ROOM_BYTES, SharedMemory
from probes.dataloader.spec import Limits

_MORE: Final = (
    "`--shm-size=8g` or `--ipc=host` of docker run, `shm_size` of compose, an emptyDir with "
    "`medium: Memory` on /dev/shm in Kubernetes, `mount -o remount,size=50% /dev/shm` on a host"
)
_LEFT: Final = (
    "look at `ls -l /dev/shm` and remove what ended jobs have left there (torch_*, nccl-*), or "
    "give it more"
)


def room_finding(
    check: str, seen: SharedMemory, batches: Finding | None, limits: Limits
) -> Finding:
    """The finding; `batches` is that of the large batches, None where they were not tried.

    Where a batch does not fit, torch's worker dies by a bus error (seen with 2.2 and 2.9) or raises
    and leaves its files there (2.13). That is told from the size, and not tried. It is an error and
    no failure: the training's container may have more.
    """
    size, free = seen.size_bytes, seen.free_bytes
    if seen.problem:
        text = f"{seen.problem}: a loader with workers cannot hand over a batch here"
        return _bad(check, seen, limits, "error", text)
    if size is not None and size < BATCH_BYTES:
        text = f"{FOLDER} has {size} bytes: a worker dies at a batch of {BATCH_BYTES} bytes"
        return _bad(check, seen, limits, "error", text)
    if batches is not None and batches.status != "pass":
        return batches
    if size is not None and size < limits.shared_memory_bytes:
        text = f"{FOLDER} has {size} bytes: a worker whose batches do not fit dies in mid-training"
        return _bad(check, seen, limits, "warn", text)
    if batches is None:
        text = f"{FOLDER} has {free} bytes free of {size}: others have filled it"
        return _bad(check, seen, limits, "warn", text, f"{_LEFT}: {_MORE}")
    return batches.model_copy(update={"observed": _observed(seen)})


def _observed(seen: SharedMemory) -> dict[str, JsonValue]:
    return {"size_bytes": seen.size_bytes, "free_bytes": seen.free_bytes}


def _bad(
    check: str,
    seen: SharedMemory,
    limits: Limits,
    status: Status,
    text: str,
    hint: str = f"give it more: {_MORE}",
) -> Finding:
    return Finding(
        id=check,
        status=status,
        message=text,
        observed=seen.problem or _observed(seen),
        expected=f"{limits.shared_memory_bytes} bytes or more, and {ROOM_BYTES} of them free",
        hint=hint,
        action="fix_config",
    )
