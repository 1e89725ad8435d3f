"""Gathers what one pass found wrong: where, which bits, and what it was when looked at again."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.memory_test.observation import Kind, Wrong, WrongWord
from probes.kit.memory_test.ways import Found, Way
from probes.kit.memory_test.words import ONES, WORD_BYTES, Pattern

#: Wrong words of one operation that are kept in a report.
_KEPT: Final = 16


@dataclass
class Seen:
    """The wrong words of one pass."""

    pattern: Pattern
    #: Makes caches forget the block of that number.
    forget: Callable[[int], None]
    count: int = 0
    again: int = 0
    after_rewrite: int = 0
    mask: int = 0
    least: int | None = None  # the index of the first wrong word
    indices: list[int] = field(default_factory=list)
    words: list[WrongWord] = field(default_factory=list)

    def look(self, way: Way, number: int, first: int, block: torch.Tensor, found: Found) -> None:
        """Read the block again, not from a cache, then write it anew and read once more.

        The memory holds the pattern afterwards where it can.
        """
        places = sorted(found.words)
        self.count += found.wrong
        self.mask |= found.bits
        self.indices += [first + place for place in places]
        if found.first is not None:
            least = first + found.first
            self.least = least if self.least is None else min(least, self.least)
        self.forget(number)
        again = way.check(block, first, self.pattern)
        second = self._differing(block, first, places)
        way.write(block, first, self.pattern)
        self.forget(number)
        rewritten = way.check(block, first, self.pattern)
        third = self._differing(block, first, places)
        self.again += again.wrong
        self.after_rewrite += rewritten.wrong
        for place in places[: max(0, _KEPT - len(self.words))]:
            right = int(self.pattern.at(np.array([first + place], np.uint64))[0])
            self.words.append(
                WrongWord(
                    offset_bytes=(first + place) * WORD_BYTES,
                    block=number,
                    block_offset_bytes=place * WORD_BYTES,
                    address=f"{block.data_ptr() + place * WORD_BYTES:#x}",
                    expected=f"{right:#018x}",
                    xor_mask=f"{found.words[place]:#018x}",
                    kind=_kind(place, second, third),
                )
            )

    def _differing(self, block: torch.Tensor, first: int, places: list[int]) -> set[int]:
        """Which of these places do not hold the pattern now, by NumPy."""
        if not places:
            return set()
        at = torch.tensor(places, dtype=torch.int64).to(block.device)
        held = block.index_select(0, at).cpu().numpy().view(np.uint64)
        right = self.pattern.at(np.array(places, np.uint64) + np.uint64(first))
        return {place for place, same in zip(places, held == right, strict=True) if not same}

    def wrong(self) -> Wrong:
        """All of it, for the report."""
        return Wrong(
            pattern=self.pattern.name,
            count=self.count,
            again=self.again,
            after_rewrite=self.after_rewrite,
            xor_mask=f"{self.mask & ONES:#018x}",
            first_offset_bytes=None if self.least is None else self.least * WORD_BYTES,
            stride_bytes=_stride(self.indices),
            words=tuple(self.words),
        )

    def comparison(self, operation: str, checked: int) -> Comparison:
        """What was wrong, as a report compares operations: the first word, and the worst told."""
        if not self.words:
            problem = f"{self.count} words wrong, and none of them told"
            return Comparison(operation=operation, elements=checked, problem=problem)
        told = min(self.words, key=lambda word: word.offset_bytes)
        place = told.offset_bytes // WORD_BYTES
        return Comparison(
            operation=operation,
            elements=checked,
            mismatches=self.count,
            first_index=(place if self.least is None else self.least,),
            worst_index=(place,),
            expected=told.expected,
            observed=f"{int(told.expected, 16) ^ int(told.xor_mask, 16):#018x}",
            xor_mask=told.xor_mask,
        )


def _kind(place: int, second: set[int], third: set[int]) -> Kind:
    if place in third:
        return "stuck"
    return "flipped" if place in second else "transient"


def _stride(indices: Iterable[int]) -> int | None:
    """The greatest common divisor of the steps between places, in bytes; None for fewer than 2."""
    ordered = sorted(indices)
    steps = [after - before for before, after in pairwise(ordered)]
    return math.gcd(*steps) * WORD_BYTES if steps else None
