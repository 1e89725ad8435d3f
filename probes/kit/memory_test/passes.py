"""Writes patterns to a region and checks them; what is wrong is read again and written anew."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.memory_test.observation import Coverage, Kind, Wrong, WrongWord
from probes.kit.memory_test.region import Region
from probes.kit.memory_test.ways import Found, Way
from probes.kit.memory_test.words import ONES, WORD_BYTES, Pattern
from probes.kit.references import compare
from probes.kit.tensors import synchronize

#: Wrong words of one operation that are kept in a report.
_KEPT: Final = 16

#: Words at each end of a block that NumPy is asked about.
_SAMPLED: Final = 512


class GaveWayError(Exception):
    """Somebody else came to the device; the text says who."""


def _nobody() -> str:
    return ""


@dataclass
class Memory:
    """A region, the way to write and check it, and what was seen so far."""

    device: str
    region: Region
    way: Way
    why: str = ""
    #: Who came to the device since; asked between blocks.
    others: Callable[[], str] = _nobody
    seed: int = 0  # of random patterns
    dwell_s: float = 0.0  # how long memory is left to itself
    gave_way: str = ""  # why, once it did
    wrong: dict[str, list[Wrong]] = field(default_factory=dict)
    written_bytes: int = 0
    write_s: float = 0.0
    read_bytes: int = 0
    read_s: float = 0.0

    def coverage(self) -> Coverage:
        """How much was tested, and how."""
        return Coverage(
            way=self.way.name,
            why=self.why,
            free_bytes=self.region.free_bytes,
            wanted_bytes=self.region.wanted_bytes,
            tested_bytes=self.region.tested_bytes,
            blocks=len(self.region.blocks),
            written_bytes=self.written_bytes,
            write_s=self.write_s,
            read_bytes=self.read_bytes,
            read_s=self.read_s,
        )

    def write(self, pattern: Pattern) -> None:
        """Write the pattern to every block.

        Raises:
            GaveWayError: somebody came.
        """
        synchronize(self.device)
        began_s = time.monotonic()
        for _, first, block in self.blocks():
            self.way.write(block, first, pattern)
        synchronize(self.device)
        self.write_s += time.monotonic() - began_s
        self.written_bytes += self.region.tested_bytes

    def check(
        self,
        check: str,
        pattern: Pattern,
        *,
        then: Pattern | None = None,
        backwards: bool = False,
    ) -> Comparison:
        """Check every block for the pattern, and write another to each block that was checked.

        Raises:
            GaveWayError: somebody came, and nothing was wrong until then.
        """
        checked, seen = 0, _Seen(pattern, self.device)
        try:
            for number, first, block in self.blocks(backwards=backwards):
                began_s = time.monotonic()
                found = self.way.check(block, first, pattern)
                self.read_s += time.monotonic() - began_s
                checked += found.checked
                if found.wrong:
                    seen.look(self.way, number, first, block, found)
                if then is not None:
                    self.way.write(block, first, then)
        except GaveWayError:
            if not seen.count:
                raise
        self.read_bytes += checked * WORD_BYTES
        if seen.count:
            self.wrong.setdefault(check, []).append(seen.wrong())
        return self._comparison(pattern, checked, seen)

    def _comparison(self, pattern: Pattern, checked: int, seen: "_Seen") -> Comparison:
        operation = f"{pattern.name} by {self.way.name}"
        words = self.region.tested_bytes // WORD_BYTES
        if seen.words:
            first = min(seen.words, key=lambda word: word.offset_bytes)
            place = (first.offset_bytes // WORD_BYTES,)
            expected = int(first.expected, 16)
            return Comparison(
                operation=operation,
                elements=checked,
                mismatches=seen.count,
                first_index=place,
                worst_index=place,
                expected=first.expected,
                observed=f"{expected ^ int(first.xor_mask, 16):#018x}",
                xor_mask=first.xor_mask,
            )
        problem = "" if checked == words and words else f"{checked} of {words} words were checked"
        if seen.count:
            problem = f"{seen.count} words wrong, and none of them told"
        return Comparison(operation=operation, elements=checked, problem=problem)

    def sample(self, pattern: Pattern) -> Iterator[Comparison]:
        """Compare the ends of every block, as torch copies them, with what NumPy computes."""
        for number, first, block in self.blocks():
            size = min(_SAMPLED, len(block))
            for begin in (0, len(block) - size):
                indices = np.arange(first + begin, first + begin + size, dtype=np.uint64)
                label = f"ends of blocks by {self.way.name} (block {number})"
                right = pattern.at(indices).view(np.int64)
                yield compare(label, block[begin : begin + size], right)

    def blocks(self, *, backwards: bool = False) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Number, first index and tensor of each block.

        Raises:
            GaveWayError: somebody came.
        """
        numbered = self.region.numbered()
        for each in reversed(numbered) if backwards else numbered:
            if who := self.others():
                raise GaveWayError(who)
            yield each


@dataclass
class _Seen:
    """Gathers the wrong words of one pass."""

    pattern: Pattern
    device: str
    count: int = 0
    again: int = 0
    after_rewrite: int = 0
    mask: int = 0
    indices: list[int] = field(default_factory=list)
    words: list[WrongWord] = field(default_factory=list)

    def look(self, way: Way, number: int, first: int, block: torch.Tensor, found: Found) -> None:
        """Read the block again, which a cache cannot hold, then write it anew and read once more.

        The memory holds the pattern afterwards where it can.
        """
        places = sorted(found.words)
        again = way.check(block, first, self.pattern)
        second = self._differing(block, first, places)
        way.write(block, first, self.pattern)
        rewritten = way.check(block, first, self.pattern)
        third = self._differing(block, first, places)
        self.count += found.wrong
        self.again += again.wrong
        self.after_rewrite += rewritten.wrong
        self.indices += [first + place for place in places]
        for place in places:
            self.mask |= found.words[place]
            if len(self.words) < _KEPT:
                kind: Kind = (
                    "stuck" if place in third else "flipped" if place in second else "transient"
                )
                right = int(self.pattern.at(np.array([first + place], np.uint64))[0])
                self.words.append(
                    WrongWord(
                        offset_bytes=(first + place) * WORD_BYTES,
                        block=number,
                        block_offset_bytes=place * WORD_BYTES,
                        address=f"{block.data_ptr() + place * WORD_BYTES:#x}",
                        expected=f"{right:#018x}",
                        xor_mask=f"{found.words[place]:#018x}",
                        kind=kind,
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
            stride_bytes=_stride(self.indices),
            words=tuple(self.words),
        )


def _stride(indices: Iterable[int]) -> int | None:
    """The greatest common divisor of the steps between places, in bytes; None for fewer than 2."""
    ordered = sorted(indices)
    steps = [after - before for before, after in pairwise(ordered)]
    return math.gcd(*steps) * WORD_BYTES if steps else None
