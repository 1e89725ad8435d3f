"""Cells that are wrong as our kernels load and store them: place, bits and kind are exact."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from probes.kit.memory_test import trials
from probes.kit.memory_test.observation import Kind
from probes.kit.memory_test.passes import Memory
from probes.kit.memory_test.region import Region
from probes.kit.memory_test.source import SOURCE
from probes.kit.memory_test.trials import Steps
from probes.kit.memory_test.ways import ByKernels, Found
from probes.kit.memory_test.words import ONES, OWN_ADDRESS, constant
from tests.shim import Shim, build

WORDS = 2**13
BLOCKS = 3
BIT = 1 << 37


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """The kernels, behind a fake driver."""
    return build(SOURCE, tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(built: Shim) -> Iterator[Shim]:
    """The same; memory is sound before and after."""
    built.sicken()
    yield built
    built.sicken()


@pytest.fixture
def memory(shim: Shim) -> Memory:
    """Three blocks, tested by kernels in 64 threads."""
    blocks = tuple(torch.zeros(WORDS, dtype=torch.int64) for _ in range(BLOCKS))
    way = ByKernels(shim.module(), "cpu", multiprocessors=1, threads=4)
    return Memory("cpu", Region(blocks, BLOCKS * WORDS * 8, None), way, seed=0x1234_5678_9ABC_DEF1)


def cell(memory: Memory, index: int) -> torch.Tensor:
    """The word of that index in the region."""
    return memory.region.blocks[index // WORDS][index % WORDS : index % WORDS + 1]


#: First and last word of the region and of a block, and words in a thread's tail.
PLACES = [0, 1, WORDS - 1, WORDS, 2 * WORDS + 77, BLOCKS * WORDS - 2, BLOCKS * WORDS - 1]


@pytest.mark.parametrize("index", PLACES)
@pytest.mark.parametrize(
    ("fault", "byte"), [("stuck at 0", 0xFF), ("stuck at 1", 0x00), ("no rise", 0xFF)]
)
@pytest.mark.parametrize("bit", [0, 31, 32, 63])
def test_a_bit_that_stays(
    shim: Shim, memory: Memory, fault: str, byte: int, index: int, bit: int
) -> None:
    """Found at its place with its bit, and it stays when the word is written anew."""
    shim.sicken(fault, cell(memory, index), mask=1 << bit)
    memory.write(constant(byte))
    found = memory.check("x", constant(byte))
    (wrong,) = memory.wrong["x"]
    (word,) = wrong.words

    assert (found.elements, found.mismatches, found.first_index) == (BLOCKS * WORDS, 1, (index,))
    assert (word.offset_bytes, word.kind) == (8 * index, "stuck")
    assert (word.block, word.block_offset_bytes) == (index // WORDS, 8 * (index % WORDS))
    assert int(word.address, 16) == cell(memory, index).data_ptr()
    assert int(word.xor_mask, 16) == int(wrong.xor_mask, 16) == 1 << bit
    assert (wrong.again, wrong.after_rewrite, wrong.first_offset_bytes) == (1, 1, 8 * index)


@pytest.mark.parametrize(
    ("fault", "times", "kind"), [("lost", 1, "flipped"), ("lost", -1, "stuck")]
)
def test_a_write_that_is_lost(
    shim: Shim, memory: Memory, fault: str, times: int, kind: Kind
) -> None:
    """Once, or whenever it is tried."""
    shim.sicken(fault, cell(memory, WORDS + 3), times=times)
    memory.write(OWN_ADDRESS)
    memory.check("x", OWN_ADDRESS)
    (wrong,) = memory.wrong["x"]

    assert [(word.offset_bytes, word.kind) for word in wrong.words] == [(8 * (WORDS + 3), kind)]
    assert int(wrong.xor_mask, 16) == int(OWN_ADDRESS.at(np.array([WORDS + 3]))[0])


@pytest.mark.parametrize(("times", "kind", "again"), [(1, "transient", 0), (2, "flipped", 1)])
def test_a_word_that_is_read_wrong(
    shim: Shim, memory: Memory, times: int, kind: Kind, again: int
) -> None:
    """Once: the second reading is right. A copy by torch reads it right all the time."""
    memory.write(OWN_ADDRESS)
    shim.sicken("misread", cell(memory, 5), mask=BIT, times=times)
    memory.check("x", OWN_ADDRESS)
    (wrong,) = memory.wrong["x"]

    assert wrong.again == again
    assert wrong.after_rewrite == 0
    assert wrong.words[0].kind == ("transient" if kind == "flipped" else kind)


@pytest.mark.parametrize("distance", [1, 2, 64, 4096, WORDS, WORDS + 1, 2 * WORDS + 4096])
def test_two_addresses_of_one_cell(shim: Shim, memory: Memory, distance: int) -> None:
    """Whichever address bits they differ in, one of them reads the other's word."""
    at = 9
    shim.sicken("aliased", cell(memory, at), cell(memory, at + distance))
    memory.write(OWN_ADDRESS)
    found = memory.check("x", OWN_ADDRESS)
    first, second = (int(word) for word in OWN_ADDRESS.at(np.array([at, at + distance])))

    assert found.mismatches >= 1
    assert found.xor_mask == f"{first ^ second:#018x}"
    assert found.first_index in {(at,), (at + distance,)}


@pytest.mark.parametrize("fault", ["no rise", "no fall"])
def test_a_bit_that_turns_one_way_alone(shim: Shim, memory: Memory, fault: str) -> None:
    """Moving inversion turns every bit both ways."""
    shim.sicken(fault, cell(memory, WORDS + 9), mask=BIT)

    assert not all(each.holds for each in trials.inversion(memory, "x"))
    shim.sicken()
    assert all(each.holds for each in trials.inversion(memory, "x"))


@pytest.mark.parametrize("distance", [1, -1, 2, -2, 512, -512, WORDS, -WORDS])
def test_a_word_that_turns_with_another(shim: Shim, memory: Memory, distance: int) -> None:
    """Above or below the one that is written; both words of one store turn at once."""
    at = WORDS + 3000 + (distance == 1)
    shim.sicken("coupled", cell(memory, at), cell(memory, at + distance), mask=BIT)
    found = list(trials.inversion(memory, "x"))
    wrong = [each for each in found if not each.holds]

    assert wrong
    assert {each.first_index for each in wrong} == {(at + distance,)}
    assert {each.xor_mask for each in wrong} == {f"{BIT:#018x}"}


RUNS: list[Callable[[Memory, str], object]] = [
    trials.own_address,
    trials.seeded_address,
    trials.inversion,
    trials.constants,
    trials.random_words,
    trials.planted,
]


@pytest.mark.parametrize("steps", RUNS, ids=lambda steps: str(steps.__name__))
def test_sound_cells(steps: Steps, memory: Memory) -> None:
    """Nothing is wrong."""
    assert [each.describe() for each in steps(memory, "x") if not each.holds] == []


def test_what_an_earlier_run_left_is_not_right(shim: Shim, memory: Memory) -> None:
    """Every write of a block is lost, and it holds what the same test wrote before."""
    list(trials.seeded_address(memory, "x"))
    memory.seed += 1
    shim.sicken("lost", cell(memory, 7))
    (found,) = [
        each
        for each in trials.seeded_address(memory, "x")
        if not each.holds and each.operation.startswith("own address")
    ]

    assert found.first_index == (7,)


def test_more_wrong_words_than_32_bits_count(memory: Memory) -> None:
    """Counts are Python's, which do not wrap, and the first is the first of all."""

    class Wrong(ByKernels):
        def check(self, *_: object) -> Found:
            """Every word of a block of 2^32 words is wrong."""
            return Found(WORDS, 2**32, {5: 1}, bits=3, first=2)

    memory.way = Wrong.__new__(Wrong)
    memory.way.write = lambda *_, **__: None  # type: ignore[method-assign]
    found = memory.check("x", OWN_ADDRESS)
    (wrong,) = memory.wrong["x"]

    assert found.mismatches == wrong.count == wrong.again == BLOCKS * 2**32
    assert found.first_index == (2,)
    assert int(wrong.xor_mask, 16) == 3


def test_all_bits_stuck_in_all_words(memory: Memory) -> None:
    """No count saturates where told words do."""
    for block in memory.region.blocks:
        block.fill_(-1)
    found = memory.check("x", constant(0))
    (wrong,) = memory.wrong["x"]

    assert found.mismatches == BLOCKS * WORDS
    assert found.first_index == (0,)
    assert int(wrong.xor_mask, 16) == ONES
    assert wrong.after_rewrite == 0
    assert {word.kind for word in wrong.words} == {"flipped"}
