"""How much memory is taken for the test: a share of what is free, and never what others need."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from probes.kit.memory_test import region
from probes.kit.memory_test.region import Region, allocate, wanted

GIB = 2**30
PAGE = 2 * 2**20


def test_how_much_is_taken_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample, and no more than half of what is free."""
    for free, right in ((None, 32 << 20), (2**40, 32 << 20), (8 << 20, 4 << 20)):
        monkeypatch.setattr(region, "free_bytes", lambda _, free=free: free)
        assert wanted("cpu", 0.97) == (right, free)
        assert allocate("cpu", 0.97).size_bytes == right


@pytest.mark.parametrize(
    ("device", "integrated", "right"),
    [("cuda:1", 0, 97), ("cuda", 1, 50), ("xpu", 0, 50), ("privateuseone:0", 0, 50)],
)
def test_how_much_is_taken_of_a_device(
    device: str, integrated: int, right: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of a GPU's own memory, and half of memory that the host may use too."""

    class Properties:
        is_integrated = integrated

    monkeypatch.setattr(region, "free_bytes", lambda _: 100)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties())

    assert wanted(device, 0.97) == (right, 100)
    assert wanted(device, 0.5)[0] == 50


@pytest.mark.parametrize("kind", [torch.cuda.OutOfMemoryError, RuntimeError])
def test_memory_that_is_not_to_be_had(
    kind: type[RuntimeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less is taken, down to a page; any other error is one."""
    limit, text = 21 << 20, "CUDA out of memory. Tried to allocate 2.00 GiB"
    taken: list[int] = []

    def empty(count: int, **_: Any) -> torch.Tensor:
        if sum(taken) + count * 8 > limit:
            raise kind(text)
        taken.append(count * 8)
        return torch.zeros(count, dtype=torch.int64)

    monkeypatch.setattr(torch, "empty", empty)
    assert allocate("cpu", 0.5).size_bytes == 20 << 20
    assert [size >> 20 for size in taken] == [16, 4]

    taken.clear()
    text = "an illegal memory access was encountered"
    if kind is RuntimeError:
        with pytest.raises(RuntimeError, match="illegal"):
            allocate("cpu", 0.5)


class Board:
    """A GPU's memory: what is free, and who takes some while blocks are taken."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.taken: list[int] = []
        self.before_each: Callable[[int], None] = lambda _: None
        self.integrated = 0

    def empty(self, count: int, **_: Any) -> Any:
        """One block."""
        self.before_each(len(self.taken))
        if count * 8 > self.free:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.free -= count * 8
        self.taken.append(count * 8)
        return range(count)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    """80 GiB, nearly all free."""
    made = Board(79 * GIB + 12_345)

    class Properties:
        @property
        def is_integrated(self) -> int:
            return made.integrated

    monkeypatch.setattr(torch, "empty", made.empty)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties())
    monkeypatch.setattr(region, "free_bytes", lambda device: made.free if "c" in device else None)
    return made


@pytest.mark.parametrize("free", [79 * GIB + 12_345, 11 * GIB, 3 * PAGE, PAGE, 0])
def test_half_of_what_is_free_stays_free(board: Board, free: int) -> None:
    """However much there is."""
    board.free = free
    taken = allocate("cuda:0", 0.5)

    assert board.free >= free / 2
    assert sum(board.taken) == taken.size_bytes > free / 2 - PAGE - 1 or free < 2 * PAGE


@pytest.mark.parametrize("share", [0.5, 0.97])
@pytest.mark.parametrize("theirs", [GIB, 20 * GIB, 38 * GIB])
@pytest.mark.parametrize("when", [0, 1, 4])
def test_others_take_memory_meanwhile(board: Board, share: float, theirs: int, when: int) -> None:
    """The share is of what is free without ours then: the rest is for them, to the last block."""

    def come(number: int) -> None:
        if number == when:
            board.free -= theirs

    free = board.free
    board.before_each = come
    taken = allocate("cuda:0", share)

    assert taken.wanted_bytes == int(free * share)
    # The block that was asked for when they came had been allowed before.
    left = (1 - share) * (board.free + taken.size_bytes)
    assert board.free >= left - 4 * GIB * (1 - share) - PAGE or not theirs
    assert board.free >= left - PAGE or len(board.taken) <= when + 1
    assert taken.size_bytes <= taken.wanted_bytes


def test_nothing_is_taken_of_the_last_of_it(board: Board) -> None:
    """Others leave less than their half: no block is halved until all is gone."""

    def come(number: int) -> None:
        if number == 0:
            board.free = 3 * GIB

    board.before_each = come
    taken = allocate("cuda:0", 0.5)

    assert taken.size_bytes <= 3 * GIB // 2 + 2 * GIB
    assert board.free >= GIB


def test_the_host_has_less_free_than_an_integrated_gpu_says(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is the host's, with the limit of the container: half of the lesser."""
    board.integrated = 1
    host = {"cpu": 4 * GIB}
    monkeypatch.setattr(region, "free_bytes", lambda device: host.get(device, board.free))
    taken = allocate("cuda:0", 0.97)

    assert (taken.wanted_bytes, taken.free_bytes) == (2 * GIB, 4 * GIB)
    assert taken.size_bytes == 2 * GIB
    board.integrated = 0
    assert wanted("cuda:0", 0.97) == (int(board.free * 0.97), board.free)


@pytest.mark.parametrize(
    ("most", "sizes"), [(10**9, [8, 8, 2]), (16, [8, 8]), (13, [8, 4]), (0, [2])]
)
def test_the_first_of_a_region(most: int, sizes: list[int]) -> None:
    """Whole pages, one at least, with the same addresses."""
    mib = 2**20
    blocks = tuple(torch.zeros(size * mib // 8, dtype=torch.int64) for size in (8, 8, 2))
    part = Region(blocks, 18 * mib, 99 * mib).at_most(most * mib)

    assert [len(block) * 8 // mib for block in part.blocks] == sizes
    assert [block.data_ptr() for block in part.blocks] == [
        block.data_ptr() for block in blocks[: len(sizes)]
    ]
