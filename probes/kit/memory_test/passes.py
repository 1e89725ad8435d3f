"""Writes patterns to a region and checks them, block by block, until somebody comes to it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.kit.memory import out_of_memory
from probes.kit.memory_test.heat import Heat
from probes.kit.memory_test.observation import Coverage, Wrong
from probes.kit.memory_test.region import Region
from probes.kit.memory_test.seen import Seen
from probes.kit.memory_test.ways import Way
from probes.kit.memory_test.words import WORD_BYTES, Pattern
from probes.kit.references import compare
from probes.kit.tensors import synchronize

#: Words at each end of a block that NumPy is asked about.
_SAMPLED: Final = 512

#: Of what is read from a cache nothing is left after so many times as much was read.
CACHES: Final = 2


class StoppedError(Exception):
    """The test must not go on; the text says why."""


class GaveWayError(StoppedError):
    """Somebody else came to the device; the text says who."""


class TimeOverError(StoppedError):
    """The time for the test is over."""


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
    heat: Heat | None = None  # meanwhile
    cache_bytes: int = 0  # of the device; 0: not known
    until_s: float | None = None  # on the monotonic clock; None: without an end
    who: str = ""  # came, once somebody did
    wrong: dict[str, list[Wrong]] = field(default_factory=dict)
    checked: set[int] = field(default_factory=set)  # numbers of blocks that were
    less: str = ""  # why less is tested than was taken
    written_bytes: int = 0
    write_s: float = 0.0
    read_bytes: int = 0
    read_s: float = 0.0

    def coverage(self) -> Coverage:
        """How much was tested, and how: blocks that no check has read count for nothing."""
        blocks = [block for number, _, block in self.region.numbered() if number in self.checked]
        return Coverage(
            way=self.way.name,
            why=self.why,
            free_bytes=self.region.free_bytes,
            wanted_bytes=self.region.wanted_bytes,
            tested_bytes=sum(map(len, blocks)) * WORD_BYTES,
            blocks=len(blocks),
            less=self.less,
            cache_bytes=self.cache_bytes,
            written_bytes=self.written_bytes,
            write_s=self.write_s,
            read_bytes=self.read_bytes,
            read_s=self.read_s,
        )

    def write(self, pattern: Pattern) -> None:
        """Write the pattern to every block.

        Raises:
            StoppedError: somebody came, or the time is over.
        """
        synchronize(self.device)
        began_s = time.monotonic()
        for _, first, block in self.blocks():
            self.way.write(block, first, pattern)
        synchronize(self.device)
        self.write_s += time.monotonic() - began_s
        self.written_bytes += self.region.size_bytes

    def check(
        self,
        check: str,
        pattern: Pattern,
        *,
        then: Pattern | None = None,
        backwards: bool = False,
    ) -> Comparison:
        """Check every block for the pattern, and write another to each block that was checked.

        `backwards`: from the last block to the first, and each from its end on.

        Raises:
            StoppedError: somebody came or the time is over, and nothing was wrong until then.
            RuntimeError: torch's own; also when memory is short, and nothing was wrong until then.
        """
        checked, seen = 0, Seen(pattern, self._forget)
        try:
            for number, first, block in self.blocks(backwards=backwards):
                began_s = time.monotonic()
                found = self.way.check(block, first, pattern)
                if then is None:  # else the time is that of writing too
                    self.read_s += time.monotonic() - began_s
                    self.read_bytes += found.checked * WORD_BYTES
                checked += found.checked
                self.checked |= {number} if found.checked == len(block) else set()
                if found.wrong:
                    breadcrumb.record_wrong()
                    seen.look(self.way, number, first, block, found)
                if then is not None:
                    self.way.write(block, first, then, downwards=backwards)
        except StoppedError:
            if not seen.count:
                raise
        except RuntimeError as error:
            if not (seen.count and out_of_memory(error)):
                raise
        operation = f"{pattern.name} by {self.way.name}"
        if seen.count:
            self.wrong.setdefault(check, []).append(seen.wrong())
            return seen.comparison(operation, checked)
        words = self.region.size_bytes // WORD_BYTES
        problem = "" if checked == words and words else f"{checked} of {words} words were checked"
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

    def rest(self, seconds: float) -> None:
        """Leave the memory to itself for so long, and heat the device."""
        if self.heat is None:
            time.sleep(seconds)
        else:
            self.heat.run(seconds)

    def look_out(self) -> None:
        """See whether the test may go on.

        Raises:
            StoppedError: somebody came, or the time is over.
        """
        self.who = self.who or self.others()  # asked again, nobody may be told for a while
        if self.who:
            raise GaveWayError(self.who)
        if self.until_s is not None and time.monotonic() > self.until_s:
            raise TimeOverError("the time for the test was over")

    def blocks(self, *, backwards: bool = False) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Number, first index and tensor of each block.

        Raises:
            StoppedError: somebody came, or the time is over.
        """
        numbered = self.region.numbered()
        for each in reversed(numbered) if backwards else numbered:
            self.look_out()
            yield each

    def _forget(self, number: int) -> None:
        """Read other blocks, so that no cache holds the block of that number.

        A block that is much larger than the cache does that itself.
        """
        left = CACHES * self.cache_bytes // WORD_BYTES
        if len(self.region.blocks[number]) >= 2 * left:
            return
        for other, block in enumerate(self.region.blocks):
            if left > 0 and other != number:
                block[:left].sum()
                left -= len(block)
