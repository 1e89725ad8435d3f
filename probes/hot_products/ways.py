"""The two ways to compare a result bit by bit on its device: a kernel of our own, and torch's."""

from typing import Final, NamedTuple, Protocol

import torch

from probes.hot_products.operands import PERIOD
from probes.hot_products.source import FIELDS, SOURCE
from probes.kit import kernels
from probes.kit.kernels import Module, pointer, u64

WORD_BYTES: Final = 8
_ONES: Final = 2**64 - 1

#: Wrong words of one batch that are told one by one.
ROOM: Final = 1024

_THREADS: Final = 256  # of a block of the launch
_BLOCKS_AN_SM: Final = 8


class Word(NamedTuple):
    """A wrong word of 64 bits: of which product, where, and how."""

    product: int
    row: int
    word: int  # of the row
    bits: int  # that differ
    again: int  # that differ when it is read again


class Found(NamedTuple):
    """What the comparisons since the last asking found."""

    compared: int  # words
    wrong: int  # words
    words: tuple[Word, ...]  # the first ROOM, in no order


class Way(Protocol):
    """Compares results with the rows that they repeat; those are int64 words, (PERIOD, words)."""

    @property
    def name(self) -> str:
        """`kernels` or `torch`."""

    @property
    def waits(self) -> bool:
        """Whether each comparison waits for its product."""

    def compare(self, result: torch.Tensor, right: torch.Tensor, first: int, product: int) -> None:
        """Compare a result of words, whose row r must be the right row (r + first) % PERIOD."""

    def found(self) -> Found:
        """What was found since this was last asked; waits for the device."""


class ByTorch:
    """Torch's operations: on every back-end, product by product."""

    name: Final = "torch"
    waits: Final = True

    def __init__(self, device: str) -> None:
        """Nothing is taken before the first comparison."""
        self._device = device
        self._right: torch.Tensor | None = None
        self._whole: dict[tuple[int, int], torch.Tensor] = {}
        self._compared = self._wrong = 0
        self._words: list[Word] = []

    def compare(self, result: torch.Tensor, right: torch.Tensor, first: int, product: int) -> None:
        """Compare at once; a word that differs is read again."""
        whole = self._rows(right, first, len(result))
        different = result.ne(whole)
        self._compared += different.numel()
        wrong = int(different.count_nonzero())
        if not wrong:
            return
        self._wrong += wrong
        places = different.nonzero()[: ROOM - len(self._words)]
        rows, words = places.unbind(1)
        bits = (result[rows, words] ^ whole[rows, words]).tolist()
        again = (result[rows, words] ^ whole[rows, words]).tolist()
        told = zip(rows.tolist(), words.tolist(), bits, again, strict=True)
        self._words += [Word(product, row, word, x & _ONES, y & _ONES) for row, word, x, y in told]

    def found(self) -> Found:
        """What was found since this was last asked."""
        found = Found(self._compared, self._wrong, tuple(self._words))
        self._compared = self._wrong = 0
        self._words = []
        return found

    def _rows(self, right: torch.Tensor, first: int, count: int) -> torch.Tensor:
        """All rows that are right, made once for each first row."""
        if right is not self._right:
            self._right, self._whole = right, {}
        if (first, count) not in self._whole:
            rows = (torch.arange(count, device=self._device) + first) % PERIOD
            self._whole[first, count] = right.index_select(0, rows)
        return self._whole[first, count]


class ByKernels:
    """A kernel of our own, which reads the result once and waits for nothing."""

    name: Final = "kernels"
    waits: Final = False

    def __init__(
        self, module: Module, device: str, multiprocessors: int, threads: int = _THREADS
    ) -> None:
        """Take the buffers for what the threads tell."""
        self._module = module
        self._blocks, self._threads = _BLOCKS_AN_SM * multiprocessors, threads
        self._counts = torch.zeros(self._blocks * threads, dtype=torch.int32, device=device)
        self._found = torch.zeros(1 + FIELDS * ROOM, dtype=torch.int64, device=device)

    def compare(self, result: torch.Tensor, right: torch.Tensor, first: int, product: int) -> None:
        """Launch the kernel."""
        rows, words = result.shape
        numbers = (rows, words // 2, first, PERIOD, product)
        arguments = [pointer(result), pointer(right), *map(u64, numbers)]
        arguments += [pointer(self._counts), pointer(self._found), u64(ROOM)]
        self._module.launch(
            "compare_rows", blocks=self._blocks, threads=self._threads, arguments=arguments
        )

    def found(self) -> Found:
        """Wait for the kernels, and start anew."""
        compared = int(self._counts.sum(dtype=torch.int64))
        wrong = int(self._found[0])
        told = self._found[1 : 1 + FIELDS * min(ROOM, wrong)].view(-1, FIELDS).tolist()
        self._counts.zero_()
        self._found.zero_()
        words = tuple(Word(p, row, word, x & _ONES, y & _ONES) for p, row, word, x, y in told)
        return Found(compared, wrong, words)


def choose(device: str) -> tuple[Way, str]:
    """The faster way that the device has, and why it is not kernels; "" where it is."""
    try:
        module = kernels.load(SOURCE, device)
    except kernels.Unavailable as why:
        return ByTorch(device), str(why)
    count = torch.cuda.get_device_properties(torch.device(device)).multi_processor_count
    return ByKernels(module, device, count), ""
