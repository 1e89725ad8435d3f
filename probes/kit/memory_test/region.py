"""The memory that is tested: plain tensors of torch, as many as are to be had."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from probes.contract import MIB
from probes.kit.memory import free_bytes
from probes.kit.memory_test.words import WORD_BYTES
from probes.kit.symptoms import diagnose

#: What is tested of the host's memory, and of a device that does not tell how much is free.
SAMPLE_BYTES: Final = 32 * MIB

#: One block: on a GPU fewer than 2^32 elements, since torch's reductions slow down beyond.
BLOCK_BYTES: Final = {"cpu": 16 * MIB}
BLOCK_BYTES_ELSEWHERE: Final = 4096 * MIB

#: Blocks are whole pages of a GPU; a smaller rest is left.
_PAGE_BYTES: Final = 2 * MIB

#: Of memory that the host uses too, no more is taken.
_SHARED: Final = 0.5


@dataclass(frozen=True)
class Region:
    """Blocks of int64, and how much was free before."""

    blocks: tuple[torch.Tensor, ...]
    wanted_bytes: int
    free_bytes: int | None  # None: cannot be told

    @property
    def tested_bytes(self) -> int:
        """The bytes of all blocks."""
        return sum(len(block) for block in self.blocks) * WORD_BYTES

    def numbered(self) -> list[tuple[int, int, torch.Tensor]]:
        """Number of each block, index of its first word in the region, and the block."""
        first, found = 0, []
        for number, block in enumerate(self.blocks):
            found.append((number, first, block))
            first += len(block)
        return found


def wanted(device: str, share: float) -> tuple[int, int | None]:
    """How much to take, and how much is free; `share` is that of a GPU's own free memory."""
    free = free_bytes(device)
    if torch.device(device).type == "cpu" or free is None:
        return min(SAMPLE_BYTES, SAMPLE_BYTES if free is None else free // 2), free
    return int(free * (share if _has_own_memory(device) else min(share, _SHARED))), free


def _has_own_memory(device: str) -> bool:
    """Whether the device's memory is known to be none of the host's."""
    if torch.device(device).type != "cuda":
        return False
    properties: Any = torch.cuda.get_device_properties(torch.device(device))
    return not getattr(properties, "is_integrated", 0)


def allocate(device: str, share: float) -> Region:
    """Take blocks until the share is reached, or nothing more is to be had."""
    block_bytes = BLOCK_BYTES.get(torch.device(device).type, BLOCK_BYTES_ELSEWHERE)
    target, free = wanted(device, share)
    sizes = _sizes(target, block_bytes)
    return Region(tuple(_blocks(sizes, device)), target, free)


def _sizes(target: int, block_bytes: int) -> Sequence[int]:
    """The sizes of blocks that make up the target, in whole pages."""
    whole, rest = divmod(target, block_bytes)
    return [*[block_bytes] * whole, *([rest] if rest >= _PAGE_BYTES else [])]


def _blocks(sizes: Sequence[int], device: str) -> Iterator[torch.Tensor]:
    """Tensors of these sizes; where one is not to be had, halves of it, down to a page."""
    waiting = list(reversed(sizes))
    limit = max(sizes, default=0)
    while waiting:
        size = min(waiting.pop(), limit) // _PAGE_BYTES * _PAGE_BYTES
        if size < _PAGE_BYTES:
            return
        try:
            block = torch.empty(size // WORD_BYTES, dtype=torch.int64, device=device)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            limit = size // 2
            waiting = [limit, limit]
            continue
        yield block


def _out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.cuda.OutOfMemoryError) or "allocate memory" in str(error):
        return True
    symptom = diagnose(str(error))
    return symptom is not None and symptom.name == "out_of_memory"
