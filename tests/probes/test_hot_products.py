"""The probe `hot_products`: this machine passes, and a product that is wrong once is told.

By torch's way and by the kernel, which the host runs under the shim.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.catalog import HOT_PRODUCTS
from probes.contract import GPU_BUSY, Comparison
from probes.faults.inject import comparing
from probes.faults.inject.patterns import one_a_warp, one_bit, stale, swapped, zeros
from probes.hot_products import kinds, observation, operands, probe, running, ways
from probes.hot_products.faults import FAULTS
from probes.hot_products.running import Products, Run
from probes.hot_products.source import SOURCE
from probes.hot_products.ways import ByKernels, ByTorch, Found, Way, Word
from probes.kit import breadcrumb
from probes.kit.references import compare
from probes.kit.tensors import refusal
from probes.node import memory_errors
from tests import nvrtc_wheel
from tests.probes.corrupt import Corrupt, nan, slightly_larger
from tests.probes.verdicts import ids, tripped
from tests.shim import Shim, build

SIZE: Final = 128
#: Of float8, which the CPU emulates.
SMALL: Final = 64
Observation = observation.Observation


class Clock:
    """Every look takes a thousandth of a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """The time, in seconds."""
        self.now_s += 0.001
        return self.now_s


class Board(memory_errors.NoBoard):
    """A GPU that gets hotter, and to which somebody may come."""

    def __init__(self, comes_after: int = 10**9) -> None:
        self.looks, self.comes_after, self.now_c = 0, comes_after, 40

    def others(self) -> str:
        """Nobody at first."""
        self.looks += 1
        return "1 process came to it" if self.looks > self.comes_after else ""

    def temperature_c(self) -> Any:
        """One degree more each time."""
        self.now_c += 1
        return self.now_c


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """The kernel, behind a fake driver."""
    return build(SOURCE, tmp_path_factory.mktemp("shim"))


@pytest.fixture(params=["torch", "kernels"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to compare."""
    if request.param == "torch":
        return ByTorch("cpu")
    shim: Shim = request.getfixturevalue("shim")
    return ByKernels(shim.module(), "cpu", multiprocessors=1, threads=32)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are small, and batches of them; what faults replace comes back."""
    monkeypatch.setattr(running, "_MOST_IN_A_BATCH", 8)
    monkeypatch.setattr(running, "size", lambda kind, _: SMALL if kind.name == "float8" else SIZE)
    for kind in (ByTorch, ByKernels):
        for name in ("compare", "found"):
            monkeypatch.setattr(kind, name, getattr(kind, name))
    monkeypatch.setattr(running, "Products", running.Products)


def observed(way: Way, *checks: str, board: Any = None, seconds: float = 0.002) -> Observation:
    """The observation of some checks by one way; time goes by looking at it."""
    with pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def opened(_: str) -> Iterator[Any]:
            yield board or memory_errors.NoBoard()

        table = {name: probe.FAMILIES[name] for name in checks or probe.FAMILIES}
        patch.setattr(probe, "FAMILIES", table)
        patch.setattr(ways, "choose", lambda _: (way, ""))
        patch.setattr(memory_errors, "opened", opened)
        patch.setattr(probe, "Run", lambda *given: replace(Run(*given), clock=Clock()))
        return probe.observe("cpu", probe.Limits(cpu_seconds=seconds))


def found(seen: Observation) -> set[str]:
    """The names of the checks that trip."""
    judged = [each for each in probe.judge(seen) if each.id.partition(".")[2] in seen.families]
    return {each.partition(".")[2] for each in tripped(judged)}


def test_this_machine_is_sound(way: Way) -> None:
    """Nothing trips, every check is made, and what was verified is told."""
    seen = observed(way)
    findings = {each.id.partition(".")[2]: each for each in probe.judge(seen)}

    assert {name for name, each in findings.items() if each.status == "fail"} == set()
    assert ids(probe.judge(seen)) == set(HOT_PRODUCTS.check_ids)
    skipped = {name for name, each in findings.items() if each.status == "skip"}
    assert "tf32" in skipped <= {"tf32", "float8"}
    assert findings["float32"].observed == [f"right rows by {way.name}", f"mm by {way.name}"]
    assert f"products of {SIZE}x{SIZE}" in findings["float32"].message
    verified = seen.verified["float32"]
    (products,) = (each for each in seen.families["float32"] if each.name.startswith("mm"))
    assert products.elements == SIZE * SIZE * verified.products
    assert verified.products >= 16


def test_what_is_measured() -> None:
    """Seconds, products and rates; nothing was verified where nothing ran."""
    seen = observed(ByTorch("cpu"), "float32", "int8")
    measured = {each.name: each for each in probe.measure(seen)}

    seconds = sum(each.verified_s for each in seen.verified.values())
    assert measured["verified_seconds"].value == pytest.approx(seconds)
    assert measured["verified_products"].value == sum(
        each.products for each in seen.verified.values()
    )
    flops = 2 * SIZE**3 * seen.verified["int8"].products / seen.verified["int8"].verified_s
    assert measured["int8_flop_per_second"].value == pytest.approx(flops)
    assert measured["verified_rate_ratio"].value > 0
    nothing = seen.model_copy(update={"verified": {}})
    assert [each.value for each in probe.measure(nothing)] == [0, 0]


def test_products_are_verified_for_the_seconds_that_are_asked_for(way: Way) -> None:
    """The share of one type, and not much more: what few seconds do is less."""
    share_s = 0.4 / len(kinds.KINDS)
    few, many = (observed(way, "float32", seconds=each).verified for each in (0.002, 0.4))

    assert few["float32"].verified_s < share_s <= many["float32"].verified_s < 1.5 * share_s
    assert many["float32"].products > few["float32"].products


@pytest.mark.parametrize("n", [64, 128, 1024])
def test_the_closed_form_is_the_product(n: int) -> None:
    """In integers; and what the bounds of the types ask for."""
    of = operands.pattern(n)
    a, b = of.a.astype(np.int64), of.b.astype(np.int64)

    np.testing.assert_array_equal(a @ b, of.product)
    assert np.abs(of.product).max() <= 240
    assert np.abs(a).max() <= 16
    assert np.abs(b).max() <= 15
    assert (of.product != 0).mean() > 0.9
    # Whole pairs: what a split sum may keep in a half type.
    for begin in range(0, n, 32):
        part = a[:, begin : begin + 32] @ b[begin : begin + 32]
        assert np.abs(part).max() <= 240
        assert (np.abs(a[:, begin : begin + 32]) @ np.abs(b[begin : begin + 32])).max() < 2**13
    assert len(np.unique(a, axis=0)) == len(a) == 509


@pytest.mark.parametrize("name", [name for name in kinds.KINDS if name != "tf32"])
def test_every_type_holds_its_operands_and_result(name: str) -> None:
    """Bit for bit, and the product of what is on the device is what the host says."""
    kind = kinds.KINDS[name]
    products = Products(kind, SIZE, "cpu")
    a, b = (each.double().numpy() for each in (products._a, products._b))
    first = products.first(1)
    right = products.rows.double().numpy()[(np.arange(SIZE) + first) % operands.PERIOD]

    np.testing.assert_array_equal(a[first : first + SIZE] @ b, right)
    assert (b[:, 0] != b[:, 1]).any()
    if name == "float64":
        assert (a.astype(np.float32) != a).any()


def test_no_two_products_in_a_row_are_equal() -> None:
    """So that a product that was not written is seen."""
    products = Products(kinds.KINDS["float32"], SIZE, "cpu")
    each = [products.product(number).clone() for number in range(5)]

    assert all((one != after).float().mean() > 0.9 for one, after in pairwise(each))
    assert torch.equal(each[0], each[4])


#: (operator, what becomes of its output, check, which calls)
BREAKS: list[tuple[str, Callable[[torch.Tensor], object], str, range]] = [
    ("mm", one_bit, "bfloat16", range(12, 13)),
    ("mm", one_bit, "float16", range(10**9)),
    ("mm", one_bit, "float32", range(9, 10)),
    ("mm", nan, "float32", range(7, 8)),
    ("mm", swapped, "float64", range(11, 12)),
    ("mm", one_a_warp, "float64", range(5, 6)),
    ("mm", slightly_larger, "float64", range(10**9)),
    ("mm", zeros, "float16", range(6, 7)),
    ("_int_mm", one_bit, "int8", range(10, 11)),
    ("_int_mm", zeros, "int8", range(10**9)),
    ("_scaled_mm", slightly_larger, "float8", range(8, 9)),
    ("index_select", one_bit, "float32", range(10**9)),
    ("arange", one_bit, "int8", range(10**9)),
    ("_to_copy", zeros, "float64", range(10**9)),
]


@pytest.mark.parametrize(
    ("operator", "spoil", "check", "calls"), BREAKS, ids=[f"{row[0]}-{row[2]}" for row in BREAKS]
)
def test_torch_broken_from_outside(
    operator: str,
    spoil: Callable[[torch.Tensor], object],
    check: str,
    calls: range,
    shim: Shim,
) -> None:
    """A product that is wrong, once or always, or operands that are, trip the check of the type."""
    way = ByKernels(shim.module(), "cpu", multiprocessors=1, threads=32)
    with Corrupt(operator, spoil, calls=calls) as corrupt:
        tripped_now = found(observed(way, check))

    assert corrupt.count > calls.start or calls.stop == 10**9
    assert tripped_now == {check}


def test_a_stale_product_is_seen(way: Way) -> None:
    """What the product before left."""
    with Corrupt("mm", stale()):
        assert found(observed(way, "float32")) == {"float32"}


@pytest.mark.parametrize(
    ("function", "checks"),
    [
        (comparing.blind, {"planted"}),
        (comparing.idle, {"planted", "float32"}),
        (comparing.half, {"planted", "float32"}),
        (comparing.other_rows, {"float32"}),
        (comparing.misread, {"float32"}),
    ],
)
def test_a_comparison_that_does_not_look(
    function: Callable[[], None], checks: set[str], way: Way
) -> None:
    """And one with something wrong beside it."""
    function()

    assert found(observed(way, "planted", "float32")) == checks


class _Wrong:
    """Makes one bit of some products of float32 wrong."""

    def __init__(self, *numbers: int, bit: int = 1 << 5) -> None:
        self.numbers, self.bit, self.calls = numbers, bit, 0

    def __call__(self, out: torch.Tensor) -> None:
        if self.calls in self.numbers:
            words = out.view(torch.int32)
            words[40, 17] ^= self.bit
            words[40, 17 + 64] ^= self.bit
        self.calls += 1


def test_what_is_told_of_a_wrong_product(way: Way) -> None:
    """Number, place, bits, second reading, repeats, time and temperature."""
    board = Board()
    first_of_loop = 3  # the one before, and two whose time is taken
    with Corrupt("mm", _Wrong(first_of_loop + 6)):
        seen = observed(way, "float32", board=board)
    (finding,) = [each for each in probe.judge(seen) if each.id.endswith("float32")]
    (wrong,) = seen.verified["float32"].wrong
    one = wrong.elements[0]

    assert finding.status == "fail"
    assert finding.action == "drain"
    assert wrong.number == 6
    assert (one.row, one.column, one.xor_mask) == (40, 17, "0x00000020")
    assert one.second_reading == "stored"
    assert (wrong.repeated, wrong.repeats) == (0, 3)
    assert wrong.stride_bytes == 256
    assert wrong.temperature_c is not None
    assert wrong.temperature_c > 40
    assert wrong.elapsed_s > 0
    of = operands.pattern(SIZE)
    row = (40 + kinds.FIRST_ROWS[6 % 4]) % operands.PERIOD
    assert one.expected == of.product[row, 17]
    flipped = np.float32(one.expected).view(np.uint32) ^ np.uint32(0x20)
    assert one.observed == flipped.view(np.float32)
    for text in ("product 6", "row 40, column 17", "bits 0x00000020", "in 0 of 3", "256 bytes"):
        assert text in finding.message
    assert finding.wrong == {f"mm by {way.name}": "bits"}


def test_a_wrong_product_that_repeats(way: Way) -> None:
    """Wrong again in each of the three that are tried."""
    with Corrupt("mm", _Wrong(*range(10**4))):
        seen = observed(way, "float32")
    verified = seen.verified["float32"]

    assert verified.wrong_words == 2 * verified.products
    assert len(verified.wrong) <= 8
    assert (verified.wrong[0].repeated, verified.wrong[0].repeats) == (3, 3)
    assert {each.repeats for each in verified.wrong[3:]} <= {0}


def test_a_library_that_is_wrong_is_no_reason_to_drain(way: Way) -> None:
    """Units of a GPU spoil a few words of a product: most of all words are another matter."""
    with Corrupt("mm", zeros):
        seen = observed(way, "float32")
    (finding,) = [each for each in probe.judge(seen) if each.id.endswith("float32")]

    assert (finding.status, finding.action) == ("fail", "investigate")
    assert seen.verified["float32"].mostly_wrong


@pytest.mark.parametrize(
    ("name", "bits", "again", "column", "mask", "reading"),
    [
        ("float16", 1 << 17, 1 << 17, 9, "0x0002", "stored"),
        ("bfloat16", 1 << 63, 0, 11, "0x8000", "misread"),
        ("float32", 1 << 40, 0, 5, "0x00000100", "misread"),
        ("float64", 1 << 52, 1 << 52, 2, "0x0010000000000000", "stored"),
        ("int8", 1 << 63, 1 << 63, 5, "0x80000000", "stored"),
    ],
)
def test_the_element_of_a_word(
    name: str, bits: int, again: int, column: int, mask: str, reading: str
) -> None:
    """The first of its elements that differs; the sign bit too."""
    products = Products(kinds.KINDS[name], SIZE, "cpu")
    element = products.element(Word(0, 3, 2, bits, again))
    right = float(products.host[3, column])

    assert (element.row, element.column, element.xor_mask) == (3, column, mask)
    assert element.second_reading == reading
    assert element.expected == right
    assert element.observed != right
    if name == "bfloat16":
        assert element.observed == -right


def test_somebody_who_comes_ends_it() -> None:
    """What was not verified yet is skipped as busy."""
    seen = observed(ByTorch("cpu"), "float32", "float64", "int8", board=Board(comes_after=0))
    statuses = {each.id.partition(".")[2]: each for each in probe.judge(seen)}

    assert seen.verified == {}
    for name in ("float32", "float64", "int8"):
        assert statuses[name].status == "skip"
        assert statuses[name].message.startswith(GPU_BUSY)


def test_what_was_verified_before_somebody_came_stays() -> None:
    """The type that was whole by then passes."""
    alone = Board()
    observed(ByTorch("cpu"), "float32", board=alone)
    seen = observed(ByTorch("cpu"), "float32", "int8", board=Board(comes_after=alone.looks))
    statuses = {each.id.partition(".")[2]: each.status for each in probe.judge(seen)}

    assert set(seen.verified) == {"float32"}
    assert (statuses["float32"], statuses["int8"]) == ("pass", "skip")


def test_what_was_wrong_before_somebody_came_is_told(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch has a wrong product: the one who comes then hides nothing."""
    recorded: list[int] = []
    board = Board(comes_after=0)
    monkeypatch.setattr(breadcrumb, "record_wrong", lambda: recorded.append(board.looks))
    observed(way, "float32")
    assert recorded == []

    with Corrupt("mm", _Wrong(3)):
        seen = observed(way, "float32", "float64", board=board)
    statuses = {each.id.partition(".")[2]: each for each in probe.judge(seen)}

    assert recorded[0] == 0  # before anybody was looked for
    assert statuses["float32"].status == "fail"
    assert "product 0" in statuses["float32"].message
    assert statuses["float64"].status == "skip"
    assert seen.busy.startswith(GPU_BUSY)


def test_right_rows_that_arrived_wrong_are_told_though_somebody_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the first product: who comes during it hides nothing either."""

    def spoiled(operation: str, held: torch.Tensor, right: Any) -> Comparison:
        held = held.clone()
        held[3, 5] += 1
        return compare(operation, held, right)

    monkeypatch.setattr(running, "compare", spoiled)
    seen = observed(ByTorch("cpu"), "float32", "float64", board=Board(comes_after=0))
    statuses = {each.id.partition(".")[2]: each.status for each in probe.judge(seen)}

    assert seen.verified == {}
    assert (statuses["float32"], statuses["float64"]) == ("fail", "skip")


@pytest.mark.parametrize("check", HOT_PRODUCTS.checks)
def test_a_wrong_family_trips_its_check_alone(check: str) -> None:
    """One wrong product of one type."""
    right = {name: (Comparison(operation="x", elements=9),) for name in probe.FAMILIES}
    wrong = Comparison(operation="mm by kernels", elements=9, mismatches=2)
    seen = probe.Observation(device="cpu", families={**right, check: (wrong,)})

    assert tripped(probe.judge(seen)) == {f"hot_products.{check}"}


def test_every_check_has_a_fault() -> None:
    """And each fault names checks of this probe alone."""
    assert {check for fault in FAULTS for check in fault.trips} == set(HOT_PRODUCTS.check_ids)


@pytest.mark.parametrize(
    ("free", "kind", "expected"),
    [
        (2**40, "bfloat16", 16384),
        (2**40, "float32", 8192),
        (2**40, "float64", 8192),
        (2**31, "bfloat16", 8192),
        (2**27, "float64", 1024),
        (2**10, "float64", 64),
        (None, "int8", 16384),
    ],
)
def test_the_size_fits_into_the_memory(
    free: int | None, kind: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of what is free, and no more than the catalogue says."""
    monkeypatch.undo()
    monkeypatch.setattr(running, "free_bytes", lambda _: free)
    monkeypatch.setattr(running, "Products", lambda *_: Sized())
    monkeypatch.setattr(running, "synchronize", lambda _: None)
    fast = Run("cuda:0", _Unwaiting(), 1.0, str, lambda: None, clock=lambda: 0.0)

    assert running.size(kinds.KINDS[kind], fast) == expected


class Sized:
    """Products that take no time."""

    def product(self, _: int) -> None:
        """Nothing."""


class _Unwaiting(ByTorch):
    """A way that keeps nothing beside the result."""

    waits = False  # type: ignore[misc]

    def __init__(self) -> None:
        super().__init__("cpu")


def test_a_slow_device_gets_small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """None takes longer than 50 ms, as far as one of 1024 tells."""
    monkeypatch.undo()
    monkeypatch.setattr(running, "free_bytes", lambda _: 2**40)
    monkeypatch.setattr(running, "Products", lambda *_: Sized())
    monkeypatch.setattr(running, "synchronize", lambda _: None)
    clock = Clock()  # a product takes a millisecond
    slow = Run("cuda:0", _Unwaiting(), 1.0, str, lambda: None, clock=clock)

    assert running.size(kinds.KINDS["float64"], slow) == 2048


def test_a_batch_of_the_kernel_waits_once(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products follow each other without a look at what was found."""
    way = ByKernels(shim.module(), "cpu", multiprocessors=1, threads=32)
    asked: list[int] = []
    compared: list[int] = []
    monkeypatch.setattr(running, "_ASK_S", 0.02)
    original, original_compare = ByKernels.found, ByKernels.compare

    def looking(self: Any) -> Found:
        asked.append(len(compared))
        return original(self)

    def comparing_one(self: Any, *given: Any) -> None:
        compared.append(given[-1])
        original_compare(self, *given)

    monkeypatch.setattr(ByKernels, "found", looking)
    monkeypatch.setattr(ByKernels, "compare", comparing_one)
    seen = observed(way, "float32")

    assert asked[0] > 1
    assert compared == list(range(seen.verified["float32"].products))


def test_right_rows_of_another_type_are_not_kept() -> None:
    """What was made of the rows of one type is not what the next is compared with."""
    way = ByTorch("cpu")
    for _ in range(3):
        products = Products(kinds.KINDS["float32"], SIZE, "cpu")
        products.compare(way, 0, products.product(0))
        products.right.bitwise_xor_(1)
        fresh = Products(kinds.KINDS["float32"], SIZE, "cpu")
        fresh.compare(way, 0, fresh.product(0))

    assert way.found().wrong == 0


@pytest.mark.kernels
@pytest.mark.parametrize("architecture", nvrtc_wheel.EACH)
def test_the_kernel_compiles_for_every_architecture(architecture: int) -> None:
    """Without a GPU, by NVIDIA's wheel."""
    image = nvrtc_wheel.compiler().cubin(SOURCE, architecture)

    assert image.startswith(b"\x7fELF")


def test_limits_are_bounded() -> None:
    """Seconds are more than none, and no more than the deadline leaves."""
    assert probe.Limits().seconds == 10
    assert refusal(lambda: probe.Limits(seconds=0))
    assert refusal(lambda: probe.Limits(seconds=10_000))
    assert probe.Limits(seconds=600).seconds < HOT_PRODUCTS.timeout_s
