"""The memory that is tested: plain tensors of torch, as many as are to be had."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from probes.contract import MIB
from probes.kit.memory import free_bytes, out_of_memory
from probes.kit.memory_test.words import WORD_BYTES

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
    def size_bytes(self) -> int:
        """The bytes of all blocks."""
        return sum(len(block) for block in self.blocks) * WORD_BYTES

    def at_most(self, size_bytes: int) -> "Region":
        """The first blocks, in whole pages: as many as that, and one page at least."""
        blocks, left = [], max(size_bytes, _PAGE_BYTES)
        for block in self.blocks:
            size = min(len(block) * WORD_BYTES, left // _PAGE_BYTES * _PAGE_BYTES)
            left -= size
            if size:
                blocks.append(block[: size // WORD_BYTES])
        return replace(self, blocks=tuple(blocks))

    def numbered(self) -> list[tuple[int, int, torch.Tensor]]:
        """Number of each block, index of its first word in the region, and the block."""
        first, found = 0, []
        for number, block in enumerate(self.blocks):
            found.append((number, first, block))
            first += len(block)
        return found


def wanted(device: str, share: float) -> tuple[int, int | None]:
    """How much to take, and how much is free; `share` is that of a GPU's own free memory."""
    free = _free_bytes(device)
    return _allowed(device, share, free), free


def _free_bytes(device: str) -> int | None:
    """What is free on the device; where its memory is the host's, no more than there."""
    free = free_bytes(device)
    if free is None or torch.device(device).type != "cuda" or _has_own_memory(device):
        return free
    host = free_bytes("cpu")
    return free if host is None else min(free, host)


def _allowed(device: str, share: float, free: int | None) -> int:
    """How much of so much free memory is taken."""
    if torch.device(device).type == "cpu" or free is None:
        return min(SAMPLE_BYTES, SAMPLE_BYTES if free is None else free // 2)
    return int(free * (share if _has_own_memory(device) else min(share, _SHARED)))


def _has_own_memory(device: str) -> bool:
    """Whether the device's memory is known to be none of the host's."""
    if torch.device(device).type != "cuda":
        return False
    properties: Any = torch.cuda.get_device_properties(torch.device(device))
    return not getattr(properties, "is_integrated", 0)


def allocate(device: str, share: float) -> Region:
    """Take blocks until the share is reached, or nothing more is to be had.

    The share is that of what is free now: what others take meanwhile is not made up for from what
    is left to them.
    """
    block_bytes = BLOCK_BYTES.get(torch.device(device).type, BLOCK_BYTES_ELSEWHERE)
    target, free = wanted(device, share)

    def room(taken: int) -> int:
        now = None if free is None else _free_bytes(device)
        if now is None:
            return target - taken
        held = 0 if torch.device(device).type == "cpu" else taken  # the host's is not used yet
        return min(target, _allowed(device, share, now + held)) - taken

    return Region(tuple(_blocks(target, block_bytes, device, room)), target, free)


def _blocks(
    target: int, block_bytes: int, device: str, room: Callable[[int], int]
) -> Iterator[torch.Tensor]:
    """Tensors of whole pages that make up the target; where one is not to be had, of half its size.

    `room(taken)` tells how much more may be taken.
    """
    taken, limit = 0, block_bytes
    while True:
        size = min(limit, target - taken, room(taken)) // _PAGE_BYTES * _PAGE_BYTES
        if size < _PAGE_BYTES:
            return
        try:
            block = torch.empty(size // WORD_BYTES, dtype=torch.int64, device=device)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            target, limit = min(target, taken + size), size // 2
            continue
        taken += size
        yield block
