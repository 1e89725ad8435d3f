"""Both ways to write and check memory: torch's operations, and our kernels as the host runs them.

The kernels' own text is built by the host's compiler; what is wrong in it, or in memory, is seen.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from probes.contract import Comparison
from probes.kit.memory_test.passes import Memory
from probes.kit.memory_test.region import Region
from probes.kit.memory_test.source import SOURCE
from probes.kit.memory_test.trials import own_address, planted
from probes.kit.memory_test.ways import ROOM, ByKernels, ByTorch, Way, signed
from probes.kit.memory_test.words import OWN_ADDRESS, Pattern, constant, random
from tests import nvrtc_wheel
from tests.shim import build

PATTERNS = (OWN_ADDRESS, OWN_ADDRESS.complement, random(2**63 + 12345), *map(constant, (0, 0x55)))

#: Beyond 32 bits, as in the memory of a large GPU.
FAR = 2**35 + 2

WORDS = 5000

Build = Callable[..., ByKernels]


@pytest.fixture(scope="module")
def by_kernels(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The kernels on the host: 32 blocks of 8 threads; `old` and `new` change their text."""

    def make(old: str = "", new: str = "") -> ByKernels:
        assert old in SOURCE
        shim = build(SOURCE.replace(old, new) if old else SOURCE, tmp_path_factory.mktemp("shim"))
        return ByKernels(shim.module(), "cpu", multiprocessors=2, threads=8)

    sound = make()
    return lambda old="", new="": make(old, new) if old else sound


@pytest.fixture(params=["torch", "kernels"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the two."""
    if request.param == "torch":
        return ByTorch("cpu", chunk=512)
    kernels: Way = request.getfixturevalue("by_kernels")()
    return kernels


def right(pattern: Pattern, first: int, count: int = WORDS) -> torch.Tensor:
    """The words by NumPy."""
    return torch.from_numpy(pattern.at(np.arange(first, first + count)).view(np.int64))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("first", [0, FAR])
def test_what_is_written_is_what_numpy_computes(way: Way, pattern: Pattern, first: int) -> None:
    """All of the block and nothing beside it; and checking it finds nothing."""
    whole = torch.full((WORDS + 64,), 7, dtype=torch.int64)
    block = whole[32:-32]
    way.write(block, first, pattern)

    assert torch.equal(block, right(pattern, first))
    assert (whole[:32] == 7).all()
    assert (whole[-32:] == 7).all()
    assert way.check(block, first, pattern) == (WORDS, 0, {}, 0, None)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("place", [0, 511, 2501, WORDS - 1])
def test_one_bit_is_found(way: Way, pattern: Pattern, place: int) -> None:
    """At its place, with its mask, and no other."""
    for bit in (0, 31, 32, 63):
        block = right(pattern, FAR).clone()
        block[place] ^= signed(1 << bit)

        assert way.check(block, FAR, pattern) == (WORDS, 1, {place: 1 << bit}, 1 << bit, place)


def test_more_wrong_words_than_are_told(way: Way) -> None:
    """All are counted, and as many told as there is room for."""
    found = way.check(torch.zeros(WORDS, dtype=torch.int64), FAR, OWN_ADDRESS)

    assert (found.checked, found.wrong, len(found.words)) == (WORDS, WORDS, ROOM)
    expected = OWN_ADDRESS.at(np.array(list(found.words)) + FAR).tolist()
    assert expected == list(found.words.values())
    assert found.first == 0
    assert found.bits == int(np.bitwise_or.reduce(OWN_ADDRESS.at(np.arange(WORDS) + FAR)))


def test_the_first_and_all_bits_of_more_than_are_told(way: Way) -> None:
    """Though the first word and a bit of its own are of the many that are not told one by one."""
    block = right(OWN_ADDRESS, FAR)
    block[9:] ^= 1
    block[WORDS - 1] ^= signed(1 << 63)
    found = way.check(block, FAR, OWN_ADDRESS)

    assert (found.wrong, found.first, found.bits) == (WORDS - 9, 9, 1 | 1 << 63)
    assert len(found.words) == ROOM


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_downwards_the_same_is_written(way: Way, pattern: Pattern) -> None:
    """In the other order."""
    block = torch.zeros(WORDS, dtype=torch.int64)
    way.write(block, FAR, pattern, downwards=True)

    assert torch.equal(block, right(pattern, FAR))


def test_both_ways_write_the_same(by_kernels: Build) -> None:
    """What one wrote the other finds right."""
    block = torch.zeros(WORDS, dtype=torch.int64)
    by_kernels().write(block, FAR, OWN_ADDRESS)

    assert ByTorch("cpu").check(block, FAR, OWN_ADDRESS)[:3] == (WORDS, 0, {})


def test_every_address_has_its_own_word() -> None:
    """Also those that are a power of two away, in every bit about half of the time."""
    words = OWN_ADDRESS.at(np.arange(2**16))
    assert len(np.unique(words)) == 2**16
    for distance in (2**k for k in range(36)):
        other = OWN_ADDRESS.at(np.arange(2**12, dtype=np.uint64) + np.uint64(distance))
        differing = (words[: 2**12] ^ other).view(np.uint8)
        assert 0.4 < np.unpackbits(differing).mean() < 0.6, distance


def checked(way: Way) -> list[Comparison]:
    """What the checks of the quick pattern say with two blocks."""
    blocks = tuple(torch.zeros(WORDS, dtype=torch.int64) for _ in range(2))
    memory = Memory("cpu", Region(blocks, 2 * WORDS * 8, None), way)
    return [*own_address(memory, "own_address"), *planted(memory, "planted")]


_THREAD = "(u64)blockIdx.x * blockDim.x + threadIdx.x"

#: Text of the kernels -> what it becomes: each must be seen.
WRONG_KERNELS = [
    (f"for (u64 i = {_THREAD}; i < pairs", f"for (u64 i = {_THREAD}; i + 1 < pairs"),
    (f"for (u64 i = {_THREAD};", "for (u64 i = threadIdx.x; i < step / 2 &&"),
    ("for (u64 i = thread; i < pairs", "for (u64 i = thread; i + 1 < pairs"),
    ("for (u64 i = thread; i < pairs", "for (u64 i = thread; i < step"),
    ("both.y = word(first + 2 * at + 1,", "both.y = word(first + 2 * at,"),
    ("if (x) { wrong++; report(found, room, 2 * i, x); }", ""),
    ("if (y) { wrong++; report(found, room, 2 * i + 1, y); }", ""),
    ("report(found, room, 2 * i + 1, y)", "report(found, room, 2 * i, y)"),
    ("found[3 + 2 * slot + 1] = bits", "found[3 + 2 * slot + 1] = 1"),
    ("counts[2 * thread] = checked", "counts[2 * thread] = 0"),
    ("counts[2 * thread + 1] = wrong", "counts[2 * thread + 1] = 0"),
    (f"u64 thread = {_THREAD}", "u64 thread = threadIdx.x"),
    ("block[at] = both", "if (first) block[at] = both"),
    ("if (x) { wrong++; report", "if (x && i) { wrong++; report"),
    ("if (x) { wrong++; report", "if (x) { report"),
    ("(x ^ (x >> 32)) *", "(x ^ (x >> 31)) *"),
    ("(index ^ seed) *", "((unsigned char)index ^ seed) *"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), WRONG_KERNELS, ids=range(len(WRONG_KERNELS)))
def test_a_kernel_that_is_wrong_is_seen(by_kernels: Build, old: str, new: str) -> None:
    """One that leaves words out, writes others, sees nothing, or tells wrong places."""
    way = by_kernels(old, new)

    assert not all(each.holds for each in checked(way))


def test_the_right_kernels_are_right(by_kernels: Build) -> None:
    """The same trials on the text as it is."""
    assert [each.describe() for each in checked(by_kernels()) if not each.holds] == []


@pytest.mark.kernels
@pytest.mark.parametrize("architecture", nvrtc_wheel.EACH)
def test_the_kernels_compile(architecture: int) -> None:
    """For every architecture; their loads are of 16 bytes in the code of sm_90."""
    image = nvrtc_wheel.compiler().cubin(SOURCE, architecture)

    assert b"write_words" in image
    assert b"check_words" in image
