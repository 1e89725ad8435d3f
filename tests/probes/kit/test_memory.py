"""Memory of a device: what a probe took, and what is given back; a made-up allocator."""

from typing import Any

import pytest
import torch

from probes.contract import MIB
from probes.kit import memory


class Allocator:
    """What a back-end's module tells of a device's memory, in bytes."""

    def __init__(self) -> None:
        self.started = True
        self.free = 1000 * MIB
        self.reserved = self.allocated = self.peak = 0
        self.emptied = 0

    def is_initialized(self) -> bool:
        """Whether the back-end has been started."""
        return self.started

    def mem_get_info(self, _device: Any) -> tuple[int, int]:
        """Free and whole memory."""
        return self.free, 2000 * MIB

    def memory_reserved(self, _device: Any) -> int:
        """What the allocator holds."""
        return self.reserved

    def memory_allocated(self, _device: Any) -> int:
        """What tensors hold."""
        return self.allocated

    def max_memory_reserved(self, _device: Any) -> int:
        """The most that the allocator held."""
        return self.peak

    def reset_peak_memory_stats(self, _device: Any) -> None:
        """Forget the peak."""
        self.peak = self.reserved

    def empty_cache(self) -> None:
        """Give back what no tensor holds."""
        self.emptied += 1


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    """The memory of `xpu:0`."""
    fake = Allocator()
    monkeypatch.setattr(torch, "xpu", fake)
    return fake


def test_what_was_taken_is_the_most_at_a_time(allocator: Allocator) -> None:
    """What is held at the end, by libraries too, and what was given back before."""
    allocator.reserved, allocator.peak = 50 * MIB, 900 * MIB  # of an earlier probe
    watch = memory.MemoryWatch("xpu:0")
    allocator.peak, allocator.reserved = 250 * MIB, 80 * MIB
    allocator.free -= (80 - 50) * MIB + 98 * MIB  # 98 MiB by a library

    assert watch.taken_bytes() == (80 - 50 + 98 + 250 - 80) * MIB


def test_memory_that_others_gave_back_is_not_taken(allocator: Allocator) -> None:
    """Never less than nothing."""
    watch = memory.MemoryWatch("xpu:0")
    allocator.free += 500 * MIB

    assert watch.taken_bytes() == 0


def test_a_backend_that_has_not_started_is_not_asked(allocator: Allocator) -> None:
    """Asking would start it, before the probe that starts it."""
    allocator.started = False

    assert memory.MemoryWatch("xpu:0").taken_bytes() is None
    memory.give_back("xpu:0")
    assert allocator.emptied == 0


def test_the_host_and_a_backend_that_counts_nothing_tell_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then nothing is measured, and nothing is given back."""
    monkeypatch.setattr(torch, "xpu", object())

    assert memory.MemoryWatch("xpu:0").taken_bytes() is None
    assert memory.MemoryWatch("cpu").taken_bytes() is None
    memory.give_back("xpu:0")


@pytest.mark.parametrize(("unused", "emptied"), [(65 * MIB, 1), (64 * MIB, 0), (0, 0)])
def test_much_unused_memory_is_given_back(unused: int, emptied: int, allocator: Allocator) -> None:
    """Little is kept for the next operations."""
    allocator.allocated = 10 * MIB
    allocator.reserved = allocator.allocated + unused
    memory.give_back("xpu:0")

    assert allocator.emptied == emptied


@pytest.mark.parametrize("name", ["mem_get_info", "max_memory_reserved", "memory_reserved"])
def test_a_question_without_an_answer_decides_nothing(
    name: str, allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some boards cannot tell their free memory, and a sick one raises whatever it is asked."""
    before = memory.MemoryWatch("xpu:0")

    def raising(*_: object) -> None:
        raise RuntimeError("the device does not support querying the available free memory")

    monkeypatch.setattr(allocator, name, raising)

    assert before.taken_bytes() is None
    assert name != "mem_get_info" or memory.MemoryWatch("xpu:0").taken_bytes() is None
    memory.give_back("xpu:0")


def test_an_allocator_that_cannot_ask_nvml_has_no_memory() -> None:
    """As torch fails on an instance or behind a mask when nothing is free."""
    text = 'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1131'

    assert memory.out_of_memory(RuntimeError(text))
    assert memory.out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not memory.out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
