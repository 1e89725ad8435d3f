"""The trials of memory: what is written, in which order, and what must be read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from probes.contract import Comparison
from probes.kit.families import OF_MEMORY
from probes.kit.memory import out_of_memory
from probes.kit.memory_test.observation import busy
from probes.kit.memory_test.passes import GaveWayError, Memory, TimeOverError
from probes.kit.memory_test.ways import signed
from probes.kit.memory_test.words import OWN_ADDRESS, constant, random
from probes.kit.trial import Custom, LeftOut, Trial, fact

#: How often somebody who comes is looked for while nothing is done.
_LOOK_S: Final = 0.25

#: Bits that are flipped on purpose, in five words: the first, the last, at even and odd places.
_PLANTED: Final = (16, 0, 31, 32, 63)

Steps = Callable[[Memory, str], Iterable[Comparison]]


def family(check: str, steps: Steps, memory: Memory) -> Callable[[str], Iterator[Trial]]:
    """The one trial of a check, as a family.

    It is left out where there is no memory for it, or no time, or somebody comes.
    """

    def body(_: str) -> Iterator[Comparison]:
        if not memory.region.blocks:
            raise LeftOut(f"none of {memory.region.wanted_bytes}{OF_MEMORY} was to be had")
        try:
            yield from steps(memory, check)
        except GaveWayError as who:
            raise LeftOut(busy(str(who))) from who
        except TimeOverError as over:
            raise LeftOut(str(over)) from over
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            text = f"nothing was left beside the {memory.region.size_bytes}{OF_MEMORY} tested"
            raise LeftOut(text) from error

    return lambda _: iter([Custom(check, body)])


def own_address(memory: Memory, check: str) -> Iterator[Comparison]:
    """Every word holds a hash of its own address: an address that leads elsewhere is seen."""
    memory.write(OWN_ADDRESS)
    yield from memory.sample(OWN_ADDRESS)
    yield memory.check(check, OWN_ADDRESS)


def seeded_address(memory: Memory, check: str) -> Iterator[Comparison]:
    """The same with the run's own seed: what an earlier run left there is not right now."""
    pattern = replace(OWN_ADDRESS, seed=memory.seed)
    memory.write(pattern)
    yield from memory.sample(pattern)
    yield memory.check(check, pattern)


def inversion(memory: Memory, check: str) -> Iterator[Comparison]:
    """Every bit goes both ways, while its neighbours hold either: by blocks, twice up, twice down.

    The order of March C-, which meets every pair of cells of which one turns with the other, though
    in blocks for cells.

    Ref: van de Goor, Testing Semiconductor Memories, 1991
    """
    pattern = OWN_ADDRESS
    memory.write(pattern)
    for backwards in (False, True):
        for held, then in ((pattern, pattern.complement), (pattern.complement, pattern)):
            yield memory.check(check, held, then=then, backwards=backwards)
    yield memory.check(check, pattern)


def constants(memory: Memory, check: str) -> Iterator[Comparison]:
    """All bits of one kind, and both of alternating ones."""
    for byte in (0x00, 0xFF, 0x55, 0xAA):
        memory.write(constant(byte))
        yield memory.check(check, constant(byte))


def random_words(memory: Memory, check: str) -> Iterator[Comparison]:
    """Words that no run before had."""
    pattern = random(memory.seed)
    memory.write(pattern)
    yield memory.check(check, pattern)


def retention(
    memory: Memory, check: str, wait: Callable[[float], None] | None = None
) -> Iterator[Comparison]:
    """What was written is still there after the dwell time, in heat, and its complement too.

    The complement comes first: the words themselves were there before.
    """
    for pattern in (random(memory.seed).complement, random(memory.seed)):
        memory.write(pattern)
        rest_s = memory.dwell_s
        while rest_s > 0:
            (wait or memory.rest)(min(_LOOK_S, rest_s))
            rest_s -= _LOOK_S
            memory.look_out()
        yield memory.check(check, pattern)


def planted(memory: Memory, _: str) -> Iterator[Comparison]:
    """Bits that are flipped on purpose, in the first and last block, are found at their places."""
    blocks = list(memory.blocks())
    for number, first, block in blocks if len(blocks) == 1 else (blocks[0], blocks[-1]):
        memory.way.write(block, first, OWN_ADDRESS)
        quarter = len(block) // 4
        at = (0, quarter, 2 * quarter + 1, 3 * quarter, len(block) - 1)
        places = dict(zip(at, _PLANTED, strict=True))
        for place, bit in places.items():
            block[place : place + 1].bitwise_xor_(signed(1 << bit))
        found = memory.way.check(block, first, OWN_ADDRESS)
        for place, bit in places.items():
            label = f"planted bits by {memory.way.name} (bit {bit} of word {place}, block {number})"
            yield fact(label, f"{found.words.get(place, 0):#x}", f"{1 << bit:#x}")
        label = f"planted bits by {memory.way.name} (how many in block {number})"
        yield fact(label, found.wrong >= len(places), expected=True)
