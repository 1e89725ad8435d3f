"""The shared memory in which workers hand batches over."""

import os
import tempfile
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from probes.contract import MIB, Comparison, Frozen
from probes.dataloader.datasets import Calls
from probes.dataloader.running import iterating, loader
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact

FOLDER: Final = "/dev/shm"  # noqa: S108 - where torch puts it

#: What the other checks take at most at a time.
SMALL_BYTES: Final = 1 * MIB
#: A batch of a few images.
BATCH_BYTES: Final = 8 * MIB
#: Free space from which such batches are handed over here: others get the rest.
ROOM_BYTES: Final = 4 * BATCH_BYTES

_BATCHES: Final = 3


class SharedMemory(Frozen):
    """The file system on which shared memory lies."""

    size_bytes: int | None = None  # None: it has no size of its own, or does not tell
    free_bytes: int | None = None
    problem: str = ""  # why nothing can be shared at all

    def has_room(self, needed: int) -> bool:
        """Whether that many bytes are free."""
        return not self.problem and (self.free_bytes is None or self.free_bytes >= needed)


def read() -> SharedMemory:
    """What the system tells about /dev/shm; nothing is written there.

    Workers also need a socket in a temporary folder. Without one they wait for ever.
    """
    try:
        tempfile.gettempdir()
        seen = os.statvfs(FOLDER)
    except FileNotFoundError as error:
        missing = error.filename or "a temporary folder to which this user may write"
        return SharedMemory(problem=f"there is no {missing}")
    except OSError as error:
        return SharedMemory(problem=f"{FOLDER} cannot be used: {error.strerror}")
    if seen.f_flag & os.ST_RDONLY:
        return SharedMemory(problem=f"{FOLDER} is read-only")
    if not os.access(FOLDER, os.W_OK | os.X_OK):
        return SharedMemory(problem=f"this user may not write to {FOLDER}")
    if not seen.f_blocks:
        return SharedMemory()
    return SharedMemory(
        size_bytes=seen.f_blocks * seen.f_frsize, free_bytes=seen.f_bavail * seen.f_frsize
    )


def shared_memory(_device: str) -> Iterator[Trial]:
    """Large batches, as long as they take no more than a quarter of what is free."""
    if read().has_room(ROOM_BYTES):
        yield Custom("large batches", _large)


def _pattern(index: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Words that differ from place to place and from batch to batch, (BATCH_BYTES / 4,)."""
    words = np.arange(BATCH_BYTES // 4, dtype=np.int32)
    words *= np.int32(0x9E3779B - 2 * index)  # odd: it repeats after 2^32 words; it wraps
    return words


def _large(_device: str) -> Iterator[Comparison]:
    dataset = Calls(_BATCHES, lambda index: torch.from_numpy(_pattern(index)))
    count = 0
    # One batch is made while another is read.
    with iterating(loader(dataset, 1, batch_size=1, prefetch_factor=1)) as batches:
        for index, batch in enumerate(batches):
            yield compare(f"large batches (batch {index})", batch[0], _pattern(index))
            count += 1
    yield fact("large batches (number)", count, _BATCHES)
