"""Copies from one place to another: sizes and alignments, dtypes, layouts, conversions."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch

from probes.contract import Comparison
from probes.device_transfer.places import Place, apart_from_host, held, poison
from probes.kit.references import attempted, fact
from probes.kit.tensors import POISON_BYTE

MIB: Final = 2**20

#: (bytes, bytes past an aligned address in the source, the same in the destination). A page is 4096
#: bytes; the widest vector store is 16.
SIZES: Final = (
    *((size, 0, 0) for size in (1, 3, 4095, 4096, 4097, MIB - 3, MIB, MIB + 3)),
    *((4097, offset, 0) for offset in (1, 2, 4, 8, 16)),
    *((4095, 0, offset) for offset in (1, 2, 4, 8, 16)),
    (65537, 3, 5),
)

#: Bytes on each side of a destination that no copy may touch; also the stride between sources.
_GUARD: Final = 64

#: A pattern long enough for every entry of SIZES, in bytes.
LEAST_BYTES: Final = (MIB + 3) + _GUARD * (len(SIZES) + 1)


def move(source: torch.Tensor, there: torch.device) -> torch.Tensor:
    """A new tensor over there, the way programs make one: cpu(), to() or, on the spot, clone()."""
    if source.device == there:
        return source.clone()
    return source.cpu() if there.type == "cpu" else source.to(there)


def together(operation: str, parts: Sequence[Comparison]) -> Comparison:
    """One comparison of several: the first that does not hold, or all their elements."""
    wrong = next((part for part in parts if not part.holds), None)
    if wrong is not None:
        return wrong
    return Comparison(operation=operation, elements=sum(part.elements for part in parts))


def first(source: Place, target: Place) -> Comparison:
    """A small copy of each kind, for the very first of a process."""
    words = slice(0, 4096)
    arrived = move(source.words[words], target.device)
    return held(f"{source.device.type} to {target.device.type}", arrived, target.reference[words])


def sizes(source: Place, target: Place) -> list[Comparison]:
    """Each size and alignment into poisoned bytes, and nothing beside them; the whole at last."""

    def one(turn: int, size: int, from_offset: int, to_offset: int) -> Comparison:
        start = _GUARD * turn + from_offset  # another source each time: a stale copy differs
        begin = _GUARD + to_offset
        name = f"{size} B +{from_offset} to +{to_offset}"
        bytes_there = poison(begin + size + _GUARD, target.device)
        bytes_there[begin : begin + size].copy_(source.raw[start : start + size])
        expected = target.raw_reference[start : start + size]
        return together(
            name,
            [
                held(name, bytes_there[begin : begin + size], expected),
                fact(f"{name}, bytes kept before it", _kept(bytes_there[:begin]), begin),
                fact(f"{name}, bytes kept after it", _kept(bytes_there[begin + size :]), _GUARD),
                held(
                    f"{name}, new", move(source.raw[start : start + size], target.device), expected
                ),
            ],
        )

    def whole() -> Comparison:
        name = f"whole {source.words.numel() * 4} B"
        return held(name, move(source.words, target.device), target.reference)

    device = apart_from_host(source, target)
    made = [
        attempted(f"{case[0]} B +{case[1]} to +{case[2]}", partial(one, turn, *case), device)
        for turn, case in enumerate(SIZES)
    ]
    return [*made, attempted("whole", whole, device)]


def _kept(part: torch.Tensor) -> int:
    """How many bytes still are poison."""
    return int((part == POISON_BYTE).sum().item())
