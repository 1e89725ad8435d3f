"""Multiplies for a time, and compares every product with the one that the host computed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.hot_products.kinds import FIRST_ROWS, Kind
from probes.hot_products.observation import Verified, WrongElement, WrongProduct, stride_bytes
from probes.hot_products.operands import PERIOD, pattern, right_rows
from probes.hot_products.spec import ROOM_BYTES
from probes.hot_products.ways import WORD_BYTES, Found, Way, Word
from probes.kit import breadcrumb
from probes.kit.case import NUMPY_OF, Array
from probes.kit.memory import free_bytes
from probes.kit.references import compare
from probes.kit.tensors import synchronize

#: Rows and columns, largest first: whole tiles of every kernel, and whole words of 16 bytes.
_SIZES: Final = (16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64)
#: The sizes by which the rate is estimated, each where it takes no longer than that by the one
#: before: of small ones the start is most of the time.
_ESTIMATED_BY: Final = (256, 1024)
_ESTIMATE_S: Final = 2.0

#: One product takes no longer, as far as that can be told before.
_PRODUCT_S: Final = 0.05
_PRODUCT_ON_CPU_S: Final = 0.005
#: What is found is asked for so often; a device that is asked waits for a moment.
_ASK_S: Final = 0.25
_MOST_IN_A_BATCH: Final = 512
#: Products of each type, however long they take.
_LEAST: Final = 16

#: Products by which the rate without comparisons is measured.
_PLAIN: Final = 2

#: Wrong products that are computed again, and how often.
_CLASSIFIED: Final = 3
_REPEATS: Final = 3
#: Wrong elements of a product that are kept.
_KEPT: Final = 8


class GaveWayError(Exception):
    """Somebody else came to the device; the text says who."""


@dataclass
class Run:
    """What the types of one run share, and what was seen of each."""

    device: str
    way: Way
    seconds: float  # for each type
    others: Callable[[], str]  # who came to the device since
    temperature: Callable[[], int | None]
    clock: Callable[[], float] = time.monotonic
    began_s: float | None = None
    verified: dict[str, Verified] = field(default_factory=dict)
    gave_way: str = ""

    def elapsed_s(self) -> float:
        """Since the first product of the run."""
        now = self.clock()
        self.began_s = now if self.began_s is None else self.began_s
        return now - self.began_s


class Products:
    """The products of one type on one device: operands, the right rows, a result."""

    def __init__(self, kind: Kind, n: int, device: str) -> None:
        """Make the operands there; the right rows come from the host."""
        self.kind, self.n = kind, n
        of = pattern(n)
        wide = right_rows(of, n, np.float64) * kind.scale
        self.host: Array = wide.astype(NUMPY_OF[kind.result])
        self.rows = torch.from_numpy(self.host).to(device, kind.result)  # (PERIOD, n)
        self.right = self.rows.view(torch.int64)
        self._a, self._b = kind.factors(of, n, device)
        self._out = torch.zeros((n, n), dtype=kind.result, device=device)

    def product(self, number: int) -> torch.Tensor:
        """A product: of the same rows every fourth time."""
        first = self.first(number)
        return self.kind.multiply(self._a[first : first + self.n], self._b, self._out)

    def first(self, number: int) -> int:
        """The first row of the first factor in a product."""
        return FIRST_ROWS[number % len(FIRST_ROWS)]

    @property
    def words(self) -> int:
        """Of 64 bits in a result."""
        return self.n * self.n * self.kind.result.itemsize // WORD_BYTES

    def compare(self, way: Way, number: int, result: torch.Tensor) -> None:
        """Have the way compare a product, as words."""
        way.compare(result.view(torch.int64), self.right, self.first(number), number)

    def element(self, word: Word) -> WrongElement:
        """The first wrong element of a word."""
        size = self.kind.result.itemsize
        width = 8 * size
        lane = next(k for k in range(WORD_BYTES // size) if word.bits >> (k * width) & _mask(width))
        column = word.word * WORD_BYTES // size + lane
        bits = word.bits >> (lane * width) & _mask(width)
        again = word.again >> (lane * width) & _mask(width)
        right = self.host[(word.row + self.first(word.product)) % PERIOD, column]
        return WrongElement(
            row=word.row,
            column=column,
            expected=float(right),
            observed=_with_bits(float(right), bits, self.kind.result),
            xor_mask=f"{bits:#0{2 + 2 * size}x}",
            second_reading="stored" if again else "misread",
        )


def _mask(width: int) -> int:
    return (1 << width) - 1


def _with_bits(value: float, bits: int, dtype: torch.dtype) -> float:
    """The value with some of its bits flipped."""
    width = 8 * dtype.itemsize
    words: Any = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    signed = bits - (1 << width) if bits >> (width - 1) else bits
    word = torch.tensor([value], dtype=torch.float64).to(dtype).view(words)
    return float((word ^ signed).view(dtype).double())


def verify(kind: Kind, run: Run) -> Iterator[Comparison]:
    """Compare products of one type, for the seconds of the run, with those of the host.

    Raises:
        LeftOut: the device has no such products.
        GaveWayError: somebody came; what was wrong until then is told before.
    """
    with kind.within(run.device):
        n = size(kind, run)
        products = Products(kind, n, run.device)
        label = f"({kind.name}, {n}x{n})"
        held = products.rows.cpu()
        if held.dtype == torch.bfloat16:
            held = held.float()
        yield compare(f"right rows by {run.way.name} {label}", held, products.host)
        loop = _Loop(products, run)
        came: GaveWayError | None = None
        try:
            loop.run()
        except GaveWayError as who:
            came = who
        if came is None or loop.is_wrong:
            run.verified[kind.name] = loop.verified()
            yield loop.comparison(f"mm by {run.way.name} {label}")
        if came is not None:
            raise came


class _Loop:
    """The products of one type, one after another."""

    def __init__(self, products: Products, run: Run) -> None:
        self._products, self._run = products, run
        self._count = self._compared = self._wrong_words = 0
        self._verified_s = self._plain_s = 0.0
        self._wrong: list[WrongProduct] = []
        self._first: WrongElement | None = None
        self._hottest: int | None = None

    def run(self) -> None:
        """Multiply and compare until the time is over."""
        self._plain_s = self._time_plain(_PLAIN)
        batch = 1
        if not self._run.way.waits:
            batch = max(1, min(_MOST_IN_A_BATCH, int(_ASK_S / max(self._plain_s, 1e-6))))
        while True:
            began_s = self._run.clock()
            for number in range(self._count, self._count + batch):
                result = self._products.product(number)
                self._products.compare(self._run.way, number, result)
            found = self._run.way.found()
            self._verified_s += self._run.clock() - began_s
            self._count += batch
            self._compared += found.compared
            if found.wrong:
                self._look(found)
            self._feel()
            if self._verified_s >= self._run.seconds and self._count >= _LEAST:
                break
            if who := self._run.others():
                raise GaveWayError(who)
        # Once more, at the clocks of a hot device.
        self._plain_s = self._time_plain(max(_PLAIN, batch // 2))

    def _time_plain(self, count: int) -> float:
        """Seconds of a product that is not compared, by so many."""
        self._run.elapsed_s()
        self._products.product(0)
        synchronize(self._run.device)
        began_s = self._run.clock()
        for number in range(count):
            self._products.product(number)
        synchronize(self._run.device)
        return (self._run.clock() - began_s) / count

    def _feel(self) -> None:
        now = self._run.temperature()
        self._hottest = now if self._hottest is None else max(self._hottest, now or 0)

    def _look(self, found: Found) -> None:
        """Keep what is known of each wrong product, and compute the first ones again."""
        breadcrumb.record_wrong()
        self._wrong_words += found.wrong
        for number in sorted({word.product for word in found.words}):
            if len(self._wrong) >= _KEPT:
                return
            words = sorted(word for word in found.words if word.product == number)
            elements = tuple(map(self._products.element, words[:_KEPT]))
            if self._first is None:
                self._first = elements[0]
            again = len(self._wrong) < _CLASSIFIED
            row_words = self._products.right.shape[1]
            self._wrong.append(
                WrongProduct(
                    number=number,
                    elapsed_s=self._run.elapsed_s(),
                    temperature_c=self._run.temperature(),
                    repeated=self._repeated(number) if again else 0,
                    repeats=_REPEATS if again else 0,
                    stride_bytes=stride_bytes([each.row * row_words + each.word for each in words]),
                    elements=elements,
                )
            )

    def _repeated(self, number: int) -> int:
        """How often the same product is wrong when it is computed again."""
        wrong = 0
        for _ in range(_REPEATS):
            self._products.compare(self._run.way, number, self._products.product(number))
            wrong += bool(self._run.way.found().wrong)
        return wrong

    @property
    def is_wrong(self) -> bool:
        """Whether some product was wrong."""
        return self._wrong_words > 0

    def verified(self) -> Verified:
        """What was verified."""
        return Verified(
            size=self._products.n,
            products=self._count,
            verified_s=self._verified_s,
            plain_s=self._plain_s,
            words=self._compared,
            wrong_words=self._wrong_words,
            wrong=tuple(self._wrong),
            hottest_c=self._hottest,
        )

    def comparison(self, operation: str) -> Comparison:
        """All products as one comparison; an index is product, row and column."""
        n, words = self._products.n, self._products.words * self._count
        if self._first is not None:
            first, number = self._first, self._wrong[0].number
            return Comparison(
                operation=operation,
                elements=n * n * self._count,
                mismatches=self._wrong_words,
                first_index=(number, first.row, first.column),
                worst_index=(number, first.row, first.column),
                expected=first.expected,
                observed=first.observed,
                xor_mask=first.xor_mask,
            )
        problem = "" if self._compared == words else f"{self._compared} of {words} words compared"
        if self._wrong_words:
            problem = f"{self._wrong_words} words wrong, and none of them told"
        return Comparison(operation=operation, elements=n * n * self._count, problem=problem)


def size(kind: Kind, run: Run) -> int:
    """The largest size that fits into the memory, and whose product takes no more than 50 ms."""
    on_cpu = torch.device(run.device).type == "cpu"
    free = free_bytes(run.device)
    room = ROOM_BYTES if free is None else min(ROOM_BYTES, free // 4)
    # What waits keeps the right rows for each place to start, too.
    kept = len(FIRST_ROWS) * kind.result.itemsize if run.way.waits else 0
    fitting = [n for n in _SIZES if kind.bytes_needed(n) + kept * n * n <= room] or [_SIZES[-1]]
    most_s = _PRODUCT_ON_CPU_S if on_cpu else _PRODUCT_S
    first, seconds = fitting[-1], 0.0
    for n in (first, *(each for each in _ESTIMATED_BY if first < each <= fitting[0])):
        if (on_cpu and n > fitting[-1]) or seconds * (n / first) ** 3 > _ESTIMATE_S:
            break  # an emulation: the estimate by the smallest must do
        first, seconds = n, _seconds(Products(kind, n, run.device), run)
    return next((n for n in fitting if seconds * (n / first) ** 3 <= most_s), fitting[-1])


def _seconds(products: Products, run: Run) -> float:
    """What the second product takes."""
    products.product(0)
    synchronize(run.device)
    began_s = run.clock()
    products.product(1)
    synchronize(run.device)
    return max(run.clock() - began_s, 1e-9)
