"""What is wrong is read again and written anew, and told with place, bits, kind and stride."""

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from probes.contract import GPU_BUSY, Comparison, Finding
from probes.kit import breadcrumb
from probes.kit.memory_test import trials
from probes.kit.memory_test.observation import Coverage, Observation, busy, memory_finding
from probes.kit.memory_test.passes import GaveWayError, Memory
from probes.kit.memory_test.region import Region
from probes.kit.memory_test.ways import ByTorch, Found, signed
from probes.kit.memory_test.words import OWN_ADDRESS, constant
from probes.kit.trial import run_trials

WORDS = 4096
BIT = 1 << 44


class Sick(ByTorch):
    """Torch's way over memory of which some words are wrong."""

    def __init__(self) -> None:
        super().__init__("cpu", chunk=512)
        self.after_writing: Callable[[torch.Tensor, int], object] = lambda *_: None
        self.before_reading: Callable[[torch.Tensor, int], object] = lambda *_: None

    def write(
        self, block: torch.Tensor, first: int, pattern: Any, *, downwards: bool = False
    ) -> None:
        """Write, and then the memory does what it does."""
        super().write(block, first, pattern, downwards=downwards)
        self.after_writing(block, first)

    def check(self, block: torch.Tensor, first: int, pattern: Any) -> Found:
        """The memory does what it does, and then read."""
        self.before_reading(block, first)
        return super().check(block, first, pattern)


@pytest.fixture
def memory() -> Memory:
    """Three blocks on the CPU."""
    blocks = tuple(torch.zeros(WORDS, dtype=torch.int64) for _ in range(3))
    return Memory("cpu", Region(blocks, 3 * WORDS * 8, 2**30), Sick())


def sick(memory: Memory) -> Sick:
    """Its way, for the type checker."""
    assert isinstance(memory.way, Sick)
    return memory.way


def flip(places: range | list[int], mask: int = BIT) -> Callable[[torch.Tensor, int], None]:
    """Flip bits of words of the second block."""

    def spoil(block: torch.Tensor, first: int) -> None:
        if first == WORDS:
            for place in places:
                block[place] ^= signed(mask)

    return spoil


def test_a_stuck_bit(memory: Memory) -> None:
    """Wrong again after it was written anew."""
    sick(memory).after_writing = flip([7])
    memory.write(OWN_ADDRESS)
    found = memory.check("x", OWN_ADDRESS)
    (wrong,) = memory.wrong["x"]
    (word,) = wrong.words

    right = int(OWN_ADDRESS.at(np.array([WORDS + 7]))[0])
    assert (found.mismatches, found.first_index, found.wrong) == (1, (WORDS + 7,), "bits")
    assert (found.expected, found.observed) == (f"{right:#018x}", f"{right ^ BIT:#018x}")
    assert (wrong.count, wrong.again, wrong.after_rewrite) == (1, 1, 1)
    assert (word.kind, word.block, word.block_offset_bytes) == ("stuck", 1, 56)
    assert word.offset_bytes == (WORDS + 7) * 8
    assert word.address == f"{memory.region.blocks[1].data_ptr() + 56:#x}"
    assert word.xor_mask == wrong.xor_mask == f"{BIT:#018x}"
    assert wrong.stride_bytes is None
    assert "1 stuck" in wrong.describe()


def test_a_word_that_changed_once(memory: Memory) -> None:
    """Wrong in two readings, and right after it was written anew."""
    memory.write(OWN_ADDRESS)
    memory.region.blocks[1][9] ^= 1
    memory.check("x", OWN_ADDRESS)
    (wrong,) = memory.wrong["x"]

    assert (wrong.count, wrong.again, wrong.after_rewrite) == (1, 1, 0)
    assert wrong.words[0].kind == "flipped"


def test_a_word_that_was_read_wrong_once(memory: Memory) -> None:
    """Right in the second reading."""
    memory.write(OWN_ADDRESS)
    readings = iter(range(100))
    flipping = flip([3])

    def before(block: torch.Tensor, first: int) -> None:
        if first == WORDS and next(readings) < 2:
            flipping(block, first)

    sick(memory).before_reading = before
    found = memory.check("x", OWN_ADDRESS)
    (wrong,) = memory.wrong["x"]

    assert found.mismatches == 1
    assert (wrong.count, wrong.again, wrong.after_rewrite) == (1, 0, 0)
    assert wrong.words[0].kind == "transient"


def test_many_words(memory: Memory) -> None:
    """Their stride and all of their bits are told, and a few of them in full."""
    sick(memory).after_writing = flip(range(5, WORDS, 96), 3)
    memory.write(constant(0x55))
    found = memory.check("x", constant(0x55))
    (wrong,) = memory.wrong["x"]

    assert found.mismatches == wrong.count == len(range(5, WORDS, 96))
    assert wrong.stride_bytes == 96 * 8
    assert wrong.xor_mask == f"{3:#018x}"
    assert len(wrong.words) == 16
    assert "a multiple of 768 bytes apart" in wrong.describe()


def test_two_rows_that_are_one(memory: Memory) -> None:
    """A constant does not see it, the own address does."""
    sick(memory).after_writing = lambda block, _: block[:64].copy_(block[64:128])
    for pattern, count in ((constant(0xAA), 0), (OWN_ADDRESS, 3 * 64)):
        memory.write(pattern)
        assert memory.check("x", pattern).mismatches == count


def test_transitions(memory: Memory) -> None:
    """A bit that cannot be cleared once it was set is found by moving inversion."""

    def hold(block: torch.Tensor, first: int) -> None:
        if not first:
            held[0] |= int(block[5]) & BIT
            block[5] |= held[0]

    held = [0]
    sick(memory).after_writing = hold
    found = [each.mismatches for each in trials.inversion(memory, "x")]

    assert sum(found) == 2
    held[0] = 0
    sick(memory).after_writing = lambda *_: None
    assert [each.mismatches for each in trials.inversion(memory, "x")] == [0] * 5
    for block in memory.region.blocks:
        assert block.numel() == WORDS


def test_retention(memory: Memory) -> None:
    """A bit that fades while nothing is done is found; one that stays is right."""

    def fade(_: float) -> None:
        memory.region.blocks[2][1] = 0

    waits: list[float] = []
    memory.seed, memory.dwell_s = 5, 0.6
    assert all(each.holds for each in trials.retention(memory, "x", waits.append))
    assert sum(waits) == pytest.approx(1.2)
    found = list(trials.retention(memory, "x", fade))
    assert [each.mismatches for each in found] == [1, 1]


def test_nothing_was_checked(memory: Memory) -> None:
    """A check of fewer words than there are is wrong, whatever it found."""
    sick(memory).check = lambda *_: Found(WORDS - 2, 0, {})  # type: ignore[method-assign]
    memory.write(OWN_ADDRESS)

    assert memory.check("x", OWN_ADDRESS).problem == "12282 of 12288 words were checked"
    assert memory.coverage().tested_bytes == 0  # of blocks that were read in part nothing counts


def test_wrong_and_not_told(memory: Memory) -> None:
    """Words that are counted as wrong and of which none is told are wrong too."""
    sick(memory).check = lambda *_: Found(WORDS, 2, {})  # type: ignore[method-assign]

    assert memory.check("x", OWN_ADDRESS).problem == "6 words wrong, and none of them told"


@pytest.mark.parametrize("wrong", [True, False])
def test_wrong_words_are_recorded_at_once(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, *, wrong: bool
) -> None:
    """The pass may be ended before it is over."""
    recorded: list[int] = []
    monkeypatch.setattr(breadcrumb, "record_wrong", lambda: recorded.append(len(memory.checked)))
    sick(memory).after_writing = flip([2]) if wrong else lambda *_: None
    memory.write(OWN_ADDRESS)
    memory.check("x", OWN_ADDRESS)

    assert len(recorded) == wrong
    assert all(blocks < len(memory.region.blocks) for blocks in recorded)


@pytest.mark.parametrize("first", [True, False])
def test_somebody_comes(memory: Memory, *, first: bool) -> None:
    """The test gives way; what was wrong until then is told all the same."""
    answers = iter(["", "", "", "", "1 process came"])
    sick(memory).after_writing = flip([2]) if first else lambda *_: None
    memory.others = lambda: next(answers)
    run = trials.family("own_address", _no_sample, memory)
    found, left_out = run_trials(run("cpu"), "cpu")

    if first:
        assert [each.mismatches for each in found] == [1]
    else:
        assert (found, left_out) == ((), (f"own_address: {GPU_BUSY}: 1 process came",))
        seen = Observation(
            device="cpu",
            families={},
            asked=("own_address",),
            busy=busy(memory.who) if memory.who else "",
        )
        finding = memory_finding("memory_pattern.own_address", seen)
        assert (finding.status, finding.message) == ("skip", f"{GPU_BUSY}: 1 process came")


def _no_sample(memory: Memory, check: str) -> Any:
    memory.write(OWN_ADDRESS)
    answers = iter(["", "", "1 process came"])
    memory.others = lambda: next(answers)
    yield memory.check(check, OWN_ADDRESS)


def test_somebody_comes_while_it_waits(memory: Memory) -> None:
    """Within a quarter of a second."""
    waits: list[float] = []
    memory.others = lambda: "2 processes came" if waits else ""
    memory.dwell_s = 60.0

    with pytest.raises(GaveWayError, match="2 processes"):
        list(trials.retention(memory, "x", waits.append))
    assert waits == [0.25]


def test_backwards(memory: Memory) -> None:
    """The blocks in the other order, with the same indices."""
    forwards = [(number, first) for number, first, _ in memory.blocks()]

    assert forwards == [(0, 0), (1, WORDS), (2, 2 * WORDS)]
    assert [each[:2] for each in memory.blocks(backwards=True)] == forwards[::-1]


def test_without_memory() -> None:
    """Nothing that can be had: the checks are skipped, and say so."""
    memory = Memory("cpu", Region((), 2**21, 2**20), ByTorch("cpu"))
    run = trials.family("own_address", trials.own_address, memory)
    found, left_out = run_trials(run("cpu"), "cpu")
    seen = Observation(
        device="cpu",
        families={},
        lacking={"own_address": left_out},
        not_implemented=("own_address",),
    )
    finding = memory_finding("memory_pattern.own_address", seen)

    assert found == ()
    assert finding.status == "skip"
    assert "not enough memory is free" in finding.message


def test_somebody_comes_after_the_ends_were_compared(memory: Memory) -> None:
    """A pass that was not ended is no pass, and what no check has read was not tested."""
    memory.region = Region(memory.region.blocks, memory.region.size_bytes, 2**30)
    looks = iter([""] * 7)
    memory.others = lambda: next(looks, "1 process came")
    finding, coverage = judged(memory)

    assert (finding.status, finding.message) == ("skip", f"{GPU_BUSY}: 1 process came")
    assert (coverage.tested_bytes, coverage.blocks) == (WORDS * 8, 1)


def test_who_came_is_not_forgotten(memory: Memory) -> None:
    """No later check begins, though nobody is told for half a second after each look."""
    answers = iter(["1 process came"])
    memory.others = lambda: next(answers, "")
    for steps in (trials.own_address, trials.planted, trials.random_words):
        found, left_out = run_trials(trials.family("x", steps, memory)("cpu"), "cpu")
        assert (found, left_out) == ((), (f"x: {GPU_BUSY}: 1 process came",))


def test_the_time_is_over(memory: Memory) -> None:
    """Nothing is known then either, and nobody is busy."""
    clock = iter([0.0] * 9 + [9.0])
    memory.until_s = 5.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(clock, 9.0))
        finding, coverage = judged(memory)

    assert (finding.status, finding.message) == ("skip", "the time for the test was over")
    assert memory.who == ""
    assert coverage.tested_bytes < memory.region.size_bytes


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 16.00 MiB"),
        RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"),
    ],
    ids=["out_of_memory", "nvml"],
)
def test_others_take_the_rest_of_the_memory(
    memory: Memory, error: RuntimeError, *, wrong: bool
) -> None:
    """The check is left out; a word that was wrong before that stays wrong."""
    way = sick(memory)
    way.after_writing = flip([2]) if wrong else lambda *_: None

    def before(_: torch.Tensor, first: int) -> None:
        if first == 2 * WORDS:
            raise error

    way.before_reading = before
    finding, _ = judged(memory)

    assert finding.status == ("fail" if wrong else "skip")
    assert (
        "1 words wrong" if wrong else "nothing was left beside the 98304 bytes"
    ) in finding.message


def test_a_device_that_breaks_is_no_want_of_memory(memory: Memory) -> None:
    """Any other error ends the operation."""

    def before(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    sick(memory).before_reading = before
    finding, _ = judged(memory)

    assert finding.status == "fail"
    assert "illegal memory access" in finding.message


def judged(memory: Memory) -> tuple[Finding, Coverage]:
    """The finding of the own address, and the coverage, after one run."""
    run = trials.family("own_address", trials.own_address, memory)
    found, left_out = run_trials(run("cpu"), "cpu")
    seen = Observation(
        device="cpu",
        families={"own_address": found} if found else {},
        lacking={"own_address": left_out} if left_out else {},
        not_implemented=() if found else ("own_address",),
        asked=("own_address",),
        busy=busy(memory.who) if memory.who else "",
        coverage=memory.coverage(),
        wrong={check: tuple(each) for check, each in memory.wrong.items()},
    )
    return memory_finding("memory_pattern.own_address", seen), memory.coverage()


def test_a_small_block_is_not_read_again_from_a_cache(memory: Memory) -> None:
    """Others are read between, until no cache holds it; a block larger than caches does that."""
    read: list[int] = []
    memory._forget(0)
    for cache_bytes, count in ((0, 0), (WORDS, 0), (WORDS * 4, 1), (WORDS * 8, 2), (2**30, 2)):
        memory.cache_bytes = cache_bytes
        read.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "sum", lambda block: read.append(block.data_ptr()))
            memory._forget(1)
        assert read == [memory.region.blocks[i].data_ptr() for i in (0, 2)[:count]], cache_bytes


def test_no_second_reading_is_a_caches(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches forget the block before it is read again, and after it was written anew."""
    memory.write(constant(0))
    memory.region.blocks[1][9] = 1
    done: list[str] = []
    for name in ("write", "check"):
        original = getattr(memory.way, name)

        def noted(*given: Any, name: str = name, original: Any = original) -> Any:
            done.extend([name] if given[1] == WORDS else [])
            return original(*given)

        monkeypatch.setattr(memory.way, name, noted)
    monkeypatch.setattr(memory, "_forget", lambda number: done.append(f"forget {number}"))
    memory.check("x", constant(0))

    assert done == ["check", "forget 1", "check", "write", "forget 1", "check"]


@pytest.mark.parametrize(
    ("device", "check", "tested", "status"),
    [
        ("cuda", "own_address", 99, "skip"),
        ("cuda", "own_address", 100, "pass"),
        ("cuda", "planted", 99, "pass"),
        ("cpu", "own_address", 99, "pass"),
    ],
)
def test_what_a_cache_may_have_answered(device: str, check: str, tested: int, status: str) -> None:
    """Of a GPU's memory nothing is known then; of the host's a sample is read, and it is told."""
    right = (Comparison(operation="own address by kernels", elements=9),)
    coverage = Coverage(way="kernels", free_bytes=400, tested_bytes=tested, cache_bytes=50)
    seen = Observation(device=device, families={check: right}, coverage=coverage)
    finding = memory_finding(f"memory_pattern.{check}", seen)

    assert finding.status == status
    assert ("a cache of 50 bytes may have answered" in finding.message) == (tested < 100)
    wrong = (Comparison(operation="own address by kernels", elements=9, mismatches=1),)
    seen = Observation(device=device, families={check: wrong}, coverage=coverage)
    assert memory_finding(f"memory_pattern.{check}", seen).status == "fail"


@pytest.mark.parametrize("gives_way", [False, True])
def test_nothing_is_kept_afterwards(memory: Memory, *, gives_way: bool) -> None:
    """Blocks are freed without the collector, also where an exception ended the test."""
    gc.disable()
    try:
        block = weakref.ref(memory.region.blocks[0])
        answers = iter([""] * 4)
        memory.others = (lambda: next(answers, "1 process came")) if gives_way else (lambda: "")
        judged(memory)
        memory.region = Region((), 0, None)
        assert block() is None
    finally:
        gc.enable()


def test_the_sentence_of_coverage() -> None:
    """Bytes, share and way are in it; what is not known is called so."""
    some = Coverage(way="torch", why="no NVRTC", free_bytes=1000, tested_bytes=994, blocks=3)
    assert some.describe() == "994 of 1000 free bytes (99.4 %) in 3 blocks, by torch (no NVRTC)"
    unknown = some.model_copy(update={"free_bytes": None, "why": ""})
    assert "an unknown amount" in unknown.describe()
    assert busy("x").startswith(GPU_BUSY)
