"""Memory that does not hold what is written, and tests of it that see nothing.

Applied to blocks of the memory test after they were written or before they are read, whichever way
it writes and reads.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from probes.contract import MIB
from probes.faults.inject.replaced import replace
from probes.kit.memory_test import region, ways
from probes.kit.memory_test.ways import Found, signed
from probes.node import memory_errors
from probes.node.memory_errors import Counters

_WAYS: Final = (ways.ByTorch, ways.ByKernels)

#: A word in the first block.
WORD: Final = 12_345
BIT: Final = 44

_ROW: Final = 512  # words

_LITTLE_BYTES: Final = 64 * MIB

#: After so long a bit fades.
FADE_S: Final = 0.2


def _after_writing(spoil: Callable[[torch.Tensor, int], None]) -> None:
    """Call `spoil(block, first)` after each block that is written."""

    def make(write: Any) -> Any:
        def writing(way: Any, block: torch.Tensor, first: int, pattern: Any, **order: bool) -> None:
            write(way, block, first, pattern, **order)
            spoil(block, first)

        return writing

    for way in _WAYS:
        replace(way, "write", make)


def _checking(check_instead: Callable[..., Found]) -> None:
    """Call `check_instead(check, block, first)` in the place of each check of a block."""

    def make(check: Any) -> Any:
        def checking(way: Any, block: torch.Tensor, first: int, pattern: Any) -> Found:
            return check_instead(lambda: check(way, block, first, pattern), block, first)

        return checking

    for way in _WAYS:
        replace(way, "check", make)


def stuck() -> None:
    """One bit of one word is always what it was not when it was written first."""
    held: list[int] = []

    def spoil(block: torch.Tensor, first: int) -> None:
        if first:
            return
        word = block[WORD : WORD + 1]
        now = int(word) & 1 << BIT
        held[:] = held or [now ^ 1 << BIT]
        if now != held[0]:
            word.bitwise_xor_(signed(1 << BIT))

    _after_writing(spoil)


def aliased() -> None:
    """A row is the same cells as the next one: what is written there last is read in both."""

    def spoil(block: torch.Tensor, first: int) -> None:
        if not first:
            block[_ROW : 2 * _ROW].copy_(block[2 * _ROW : 3 * _ROW])

    _after_writing(spoil)


def unwritten() -> None:
    """What is written to the first block does not arrive."""

    def make(write: Any) -> Any:
        def writing(way: Any, block: torch.Tensor, first: int, pattern: Any, **order: bool) -> None:
            if first:
                write(way, block, first, pattern, **order)

        return writing

    for way in _WAYS:
        replace(way, "write", make)


def fading() -> None:
    """One bit loses what it holds some time after it was written."""
    written_s: list[float] = [time.monotonic()]

    def spoil(_: torch.Tensor, first: int) -> None:
        if not first:
            written_s[0] = time.monotonic()

    def check_instead(check: Callable[[], Found], block: torch.Tensor, first: int) -> Found:
        if not first and time.monotonic() - written_s[0] > FADE_S:
            block[WORD : WORD + 1].bitwise_and_(signed((1 << 64) - 1 - (1 << BIT)))
        return check()

    _after_writing(spoil)
    _checking(check_instead)


def sluggish() -> None:
    """One bit of a word does not turn when all bits of the word turn at once."""

    def make(write: Any) -> Any:
        def writing(way: Any, block: torch.Tensor, first: int, pattern: Any, **order: bool) -> None:
            word = block[WORD : WORD + 1]
            before = word.clone()
            write(way, block, first, pattern, **order)
            if not first and int(before.bitwise_xor(word)) == -1:
                word.bitwise_xor_(signed(1 << BIT))

        return writing

    for way in _WAYS:
        replace(way, "write", make)


def sensitive() -> None:
    """One bit of a word is wrong with some data and right with the patterns of most tests."""

    def make(write: Any) -> Any:
        def writing(way: Any, block: torch.Tensor, first: int, pattern: Any, **order: bool) -> None:
            write(way, block, first, pattern, **order)
            if not first and pattern.seed:
                block[WORD : WORD + 1].bitwise_xor_(signed(1 << BIT))

        return writing

    for way in _WAYS:
        replace(way, "write", make)


def small() -> None:
    """A device has little free memory, so that a test of nearly all of it takes no more."""

    def make(wanted: Any) -> Any:
        def little(device: str, share: float) -> tuple[int, int]:
            size = min(_LITTLE_BYTES, wanted(device, share)[0])
            return size, int(size / share)

        return little

    replace(region, "wanted", make)


def scarce() -> None:
    """No more than half of the memory that is free can be had."""
    replace(region, "_blocks", lambda blocks: lambda target, *rest: blocks(target // 2, *rest))


def misread() -> None:
    """One bit of a word is read wrong in every second reading, and the word is right."""
    readings: list[int] = []

    def check_instead(check: Callable[[], Found], block: torch.Tensor, first: int) -> Found:
        if first:
            return check()
        readings.append(first)
        wrong = len(readings) % 2 == 1
        word = block[WORD : WORD + 1]
        if wrong:
            word.bitwise_xor_(signed(1 << BIT))
        found = check()
        if wrong:
            word.bitwise_xor_(signed(1 << BIT))
        return found

    _checking(check_instead)


def blind() -> None:
    """The check calls every word right."""
    _checking(lambda _check, block, _first: Found(len(block), 0, {}))


def idle() -> None:
    """The check looks at nothing."""
    _checking(lambda *_: Found(0, 0, {}))


def counts(counter: str, by: int = 1) -> None:
    """The GPU counts errors of its memory while the test runs."""
    values = Counters(
        corrected=3,
        uncorrected=0,
        remapped_corrected=0,
        remapped_uncorrected=0,
        remap_pending=False,
        remap_failed=False,
    )
    readings = iter((values, values.model_copy(update={counter: getattr(values, counter) + by})))

    class Counting(memory_errors.NoBoard):
        def counters(self) -> Any:
            return next(readings, values)

    @contextmanager
    def opened(_: str) -> Iterator[Any]:
        yield Counting()

    replace(memory_errors, "opened", lambda _: opened)
