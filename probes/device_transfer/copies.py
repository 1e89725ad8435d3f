"""Copies from one place to another: sizes and alignments, dtypes, layouts, conversions."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch

from probes.contract import Comparison
from probes.device_transfer.places import Place, compare_in_place, non_host_side, poison
from probes.kit.references import attempted, fact
from probes.kit.tensors import POISON_BYTE

MIB: Final = 2**20

#: (size, offset of the source, offset of the destination), in bytes; offsets are from an aligned
#: address. A page is 4096 bytes; the widest vector store is 16.
SIZES: Final = (
    *((size, 0, 0) for size in (1, 3, 4095, 4096, 4097, MIB - 3, MIB, MIB + 3)),
    *((4097, offset, 0) for offset in (1, 2, 4, 8, 16)),
    *((4095, 0, offset) for offset in (1, 2, 4, 8, 16)),
    (65537, 3, 5),
)

#: Bytes on each side of a destination that no copy may change; also the stride between sources.
_GUARD: Final = 64

#: The least size of a pattern for every entry of SIZES, in bytes.
LEAST_BYTES: Final = (MIB + 3) + _GUARD * (len(SIZES) + 1)


def move(source: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on that device, by cpu(), by to() or, from the same device, by clone()."""
    if source.device == device:
        return source.clone()
    return source.cpu() if device.type == "cpu" else source.to(device)


def combined(operation: str, parts: Sequence[Comparison]) -> Comparison:
    """One comparison of several: the first wrong one, or the sum of all their elements."""
    wrong = next((part for part in parts if not part.holds), None)
    if wrong is not None:
        return wrong
    return Comparison(operation=operation, elements=sum(part.elements for part in parts))


def sizes(source: Place, target: Place) -> list[Comparison]:
    """Compare a copy of each size and alignment and the bytes beside it, then the whole pattern."""

    def copy_size(turn: int, size: int, from_offset: int, to_offset: int) -> Comparison:
        start = (
            _GUARD * turn + from_offset
        )  # another source each time, so that a stale copy differs
        begin = _GUARD + to_offset
        name = f"{size} B +{from_offset} to +{to_offset}"
        into = poison(begin + size + _GUARD, target.device)
        into[begin : begin + size].copy_(source.raw[start : start + size])
        expected = target.raw_reference[start : start + size]
        return combined(
            name,
            [
                compare_in_place(name, into[begin : begin + size], expected),
                fact(f"{name}, bytes kept before it", _poison_bytes(into[:begin]), begin),
                fact(f"{name}, bytes kept after it", _poison_bytes(into[begin + size :]), _GUARD),
                compare_in_place(
                    f"{name}, new", move(source.raw[start : start + size], target.device), expected
                ),
            ],
        )

    def whole() -> Comparison:
        name = "whole buffer"
        return compare_in_place(name, move(source.words, target.device), target.reference)

    device = non_host_side(source, target)
    comparisons = [
        attempted(f"{case[0]} B +{case[1]} to +{case[2]}", partial(copy_size, turn, *case), device)
        for turn, case in enumerate(SIZES)
    ]
    return [*comparisons, attempted("whole", whole, device)]


def _poison_bytes(part: torch.Tensor) -> int:
    """How many bytes still hold the poison."""
    return int((part == POISON_BYTE).sum().item())
