"""The two ways to write and check a block: kernels of our own, and torch's operations."""

from typing import Final, NamedTuple, Protocol

import torch

from probes.kit import kernels
from probes.kit.kernels import Argument, Module, pointer, u64
from probes.kit.memory import free_bytes
from probes.kit.memory_test.source import HEADER, SOURCE
from probes.kit.memory_test.words import (
    FIRST_FACTOR,
    ONES,
    SECOND_FACTOR,
    SHIFT,
    WORD_BYTES,
    Pattern,
)

#: Wrong words of one pass over a block that are told one by one.
ROOM: Final = 1024

_THREADS: Final = 512  # of a block of the launch
_BLOCKS_AN_SM: Final = 16

#: Words that torch computes at once: two buffers of them are in a CPU's cache, or a GPU's.
_CHUNK: Final = {"cpu": 2**16}
_CHUNK_ELSEWHERE: Final = 2**21

#: What is free is that many buffers at least.
_BUFFERS: Final = 32


class Found(NamedTuple):
    """What one pass over a block found: index in the block -> the bits that differ."""

    checked: int
    wrong: int
    words: dict[int, int]  # up to ROOM of the wrong ones, in no order
    bits: int = 0  # that differ in any wrong word
    first: int | None = None  # the least index of all wrong words


class Way(Protocol):
    """Writes and checks blocks of int64; `first` is the index of a block's first word."""

    @property
    def name(self) -> str:
        """`kernels` or `torch`."""

    def write(
        self, block: torch.Tensor, first: int, pattern: Pattern, *, downwards: bool = False
    ) -> None:
        """Write the pattern to all of the block, from its start or from its end on."""

    def check(self, block: torch.Tensor, first: int, pattern: Pattern) -> Found:
        """Read all of the block, once, and compare it with the pattern."""


def signed(value: int) -> int:
    """64 bits as the int64 that torch takes."""
    return value - 2**64 if value >= 2**63 else value


def _chunk(device: str) -> int:
    """How many words torch computes at once on a device, fewer where little is free."""
    size = _CHUNK.get(torch.device(device).type, _CHUNK_ELSEWHERE)
    free = free_bytes(device)
    return size if free is None else max(1, min(size, free // (_BUFFERS * WORD_BYTES)))


def _any(bits: torch.Tensor) -> int:
    """The bits that are set in any of the words, which are spoiled by it."""
    size = len(bits)
    while size > 1:
        half = size // 2
        bits[:half].bitwise_or_(bits[size - half : size])
        size -= half
    return int(bits[0]) & ONES


class ByTorch:
    """Torch's operations, a chunk at a time: on every back-end, and several times slower."""

    name: Final = "torch"

    def __init__(self, device: str, chunk: int = 0) -> None:
        """Take the buffers: three of `chunk` words, by default what suits the device."""
        size = chunk or _chunk(device)
        self._index = torch.arange(size, dtype=torch.int64, device=device)
        self._words = torch.empty_like(self._index)
        self._shifted = torch.empty_like(self._index)

    def write(
        self, block: torch.Tensor, first: int, pattern: Pattern, *, downwards: bool = False
    ) -> None:
        """Compute each chunk and copy it; a constant is filled in."""
        if not pattern.hashed:
            block.fill_(signed(pattern.mask))
            return
        size = len(self._index)
        begins = range(0, len(block), size)
        for begin in reversed(begins) if downwards else begins:
            part = block[begin : begin + size]
            part.copy_(self._right(first + begin, len(part), pattern))

    def check(self, block: torch.Tensor, first: int, pattern: Pattern) -> Found:
        """Compute each chunk and compare; what differs is kept from this one reading."""
        size, checked, wrong, any_bits = len(self._index), 0, 0, 0
        least: int | None = None
        words: dict[int, int] = {}
        for begin in range(0, len(block), size):
            part = block[begin : begin + size]
            bits = self._right(first + begin, len(part), pattern)
            bits = torch.bitwise_xor(part, bits, out=self._shifted[: len(part)])
            checked += bits.numel()
            if count := int(bits.count_nonzero()):
                wrong += count
                every = bits.nonzero().flatten()
                places = every[: ROOM - len(words)]
                masks = bits.index_select(0, places).tolist()
                found = zip(places.tolist(), masks, strict=True)
                words |= {begin + place: mask & ONES for place, mask in found}
                if least is None and len(every):
                    least = begin + int(every[0])
                any_bits |= _any(bits)
        return Found(checked, wrong, words, any_bits, least)

    def _right(self, first: int, count: int, pattern: Pattern) -> torch.Tensor:
        """The words from that index on, in a buffer that the next call uses again."""
        words, shifted = self._words[:count], self._shifted[:count]
        if not pattern.hashed:
            return words.fill_(signed(pattern.mask))
        torch.add(self._index[:count], first, out=words)
        words.bitwise_xor_(signed(pattern.seed))
        for factor in (FIRST_FACTOR, SECOND_FACTOR):
            words.mul_(signed(factor))  # modulo 2^64
            torch.bitwise_right_shift(words, SHIFT, out=shifted)
            words.bitwise_xor_(shifted.bitwise_and_(2 ** (64 - SHIFT) - 1))
        return words.bitwise_xor_(signed(pattern.mask)) if pattern.mask else words


class ByKernels:
    """Kernels of our own, at the rate of the memory."""

    name: Final = "kernels"

    def __init__(
        self, module: Module, device: str, multiprocessors: int, threads: int = _THREADS
    ) -> None:
        """Take the buffers for what the threads tell."""
        self._module = module
        self._blocks, self._threads = _BLOCKS_AN_SM * multiprocessors, threads
        shape = (self._blocks * self._threads, 2)
        self._counts = torch.zeros(shape, dtype=torch.int32, device=device)
        self._found = torch.zeros(HEADER + 2 * ROOM, dtype=torch.int64, device=device)

    def write(
        self, block: torch.Tensor, first: int, pattern: Pattern, *, downwards: bool = False
    ) -> None:
        """Launch the kernel that writes."""
        arguments = self._arguments(block, first, pattern)
        self._launch("write_words", [*arguments, u64(int(downwards))])

    def check(self, block: torch.Tensor, first: int, pattern: Pattern) -> Found:
        """Launch the kernel that checks, and wait for it."""
        self._counts.zero_()
        self._found.zero_()
        self._found[2:HEADER].fill_(-1)  # no index is greater
        own = [pointer(self._counts), pointer(self._found), u64(ROOM)]
        self._launch("check_words", [*self._arguments(block, first, pattern), *own])
        checked, wrong = self._counts.sum(0, dtype=torch.int64).tolist()
        if not wrong:
            return Found(checked, wrong, {})
        told, bits, least = self._found[:HEADER].tolist()
        pairs = self._found[HEADER : HEADER + 2 * min(ROOM, told)].view(-1, 2).tolist()
        words = {index: mask & ONES for index, mask in pairs}
        return Found(checked, wrong, words, bits & ONES, None if least < 0 else least)

    def _arguments(self, block: torch.Tensor, first: int, pattern: Pattern) -> list[Argument]:
        numbers = (len(block) // 2, first, int(pattern.hashed), pattern.seed, pattern.mask)
        return [pointer(block), *map(u64, numbers)]

    def _launch(self, name: str, arguments: list[Argument]) -> None:
        self._module.launch(name, blocks=self._blocks, threads=self._threads, arguments=arguments)


def choose(device: str) -> tuple[Way, str]:
    """The faster way that the device has, and why it is not kernels; "" where it is."""
    try:
        module = kernels.load(SOURCE, device)
    except kernels.Unavailable as why:
        return ByTorch(device), str(why)
    count = torch.cuda.get_device_properties(torch.device(device)).multi_processor_count
    return ByKernels(module, device, count), ""
