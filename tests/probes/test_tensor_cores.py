"""The probe `tensor_cores`: what the host computes, a pretended GPU under faults, verdicts."""

import itertools
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import TENSOR_CORES
from probes.contract import GPU_BUSY, Finding
from probes.faults.inject import tensor_units as inject
from probes.faults.inject.tensor_units import Pretended
from probes.kit import breadcrumb
from probes.kit.kernels import Unavailable
from probes.node import memory_errors
from probes.tensor_cores import fragments, machine, probe, rounds
from probes.tensor_cores.faults import FAULTS
from probes.tensor_cores.machine import Launch
from probes.tensor_cores.observation import Coverage, Covered, Observation
from probes.tensor_cores.problems import planted, problem
from probes.tensor_cores.source import source
from probes.tensor_cores.units import NAMES, REPEATS, UNITS, WIDTHS, Unit, lacking, units_of
from tests.probes.verdicts import ids, tripped

#: Result -> below which sums of integers are exact in its accumulators.
EXACT = {"f32": 2**24, "s32": 2**31, "f64": 2**53}

#: Of fp8, whose units keep fewer bits of a sum.
EXACT_FP8 = 2**12

PRODUCTS = [unit for unit in UNITS if unit.depth]


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What faults replace comes back after each test."""
    monkeypatch.setattr(machine, "choose", machine.choose)


def findings(observation: Observation) -> dict[str, Finding]:
    """The findings by check, without the probe's prefix."""
    return {each.id.partition(".")[2]: each for each in probe.judge(observation)}


def observed(monkeypatch: pytest.MonkeyPatch, made: Any) -> Observation:
    """The observation of a machine."""
    monkeypatch.setattr(machine, "choose", lambda _: made)
    return probe.observe("cpu")


# ---- what the host computes


@pytest.mark.parametrize("unit", PRODUCTS, ids=lambda unit: f"{unit.name}-{unit.depth}")
def test_products_are_exact_in_every_order(unit: Unit) -> None:
    """No sum of products, in whatever order, leaves what accumulators hold; none is zero."""
    bound = REPEATS * unit.depth * unit.largest[0] * unit.largest[1]
    given = problem(unit)

    assert bound < (EXACT_FP8 if unit.name.startswith("fp8") else EXACT[unit.result])
    assert given.right.shape == (16, 32, 4)
    used = 8 * unit.rows // 32 * unit.bits // 32
    words = given.right[:, :, :used]
    values = words if unit.bits == 32 else words[:, :, 0::2] | words[:, :, 1::2]
    assert values.all()
    assert unit.start or not given.right[:, :, used:].any()


#: Operand -> the bits of its mantissa and of its exponent.
FIELDS = {
    "fp16": (10, 5),
    "bf16": (7, 8),
    "tf32": (10, 8),  # of the upper 19
    "fp64": (52, 11),
    "e4m3": (3, 4),
    "e5m2": (2, 5),
    "fp32": (23, 8),
}


def elements(words: Any, unit: Unit, count: int) -> Any:
    """The bits of all elements in the first registers of all lanes, as integers."""
    sizes = {"fp64": np.uint64, "fp16": np.uint16, "bf16": np.uint16}
    kind = sizes.get(unit.operand, np.uint8 if unit.operand in {"e4m3", "e5m2"} else np.uint32)
    found = np.ascontiguousarray(words[:, :, :count]).view(kind).ravel()
    return found >> 13 if unit.operand == "tf32" else found


def used_words(unit: Unit) -> tuple[int, int]:
    """Registers of A and of B that the instruction reads."""
    if not unit.depth:
        return fragments.WORDS, fragments.WORDS
    each = 2 if unit.operand == "fp64" else 1
    width = WIDTHS[unit.operand]
    return tuple(each * rows * unit.depth // 32 // width for rows in (unit.rows, 8))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "unit",
    [unit for unit in UNITS if unit.operand in FIELDS],
    ids=lambda unit: f"{unit.name}-{unit.depth}",
)
def test_operands_use_all_bits_of_their_type(unit: Unit) -> None:
    """Each bit of exponent, mantissa and sign is 0 and 1 somewhere; every number is normal."""
    mantissa, exponent = FIELDS[unit.operand]
    given = problem(unit)
    found = [
        elements(words, unit, count)
        for words, count in zip((given.a, given.b), used_words(unit), strict=True)
    ]
    for each in found:
        power = each.astype(np.uint64) >> np.uint64(mantissa) & np.uint64(2**exponent - 1)
        assert power.min() > 0
        assert power.max() < 2**exponent - (unit.operand != "e4m3")
    every = np.concatenate(found)
    width = mantissa + exponent + 1
    # A mantissa as long as float64's is not that of a product's operand: 24 bits times 23.
    unused = 2 ** (mantissa - 23) - 1 if unit.name == "fp64" else 0
    assert int(np.bitwise_or.reduce(every)) == 2**width - 1 - unused
    assert int(np.bitwise_and.reduce(every)) & ~(unit.depth == 0) == 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: f"{unit.name}-{unit.depth}")
def test_results_use_the_bits_of_their_type(unit: Unit) -> None:
    """Each is 0 and 1 somewhere, those of integers' accumulators up to the sign."""
    count = 8 * unit.rows // 32 * unit.bits // 32 if unit.depth else 4
    kind = {"f64": np.uint64}.get(unit.result, np.uint32)
    found = np.ascontiguousarray(problem(unit).right[:, :, :count]).view(kind).ravel()
    exponents = {np.uint64: (52, 11), np.uint32: (23, 8)}[kind]
    first, bits = (0, 32) if unit.result in {"s32", "u32"} else exponents
    # Exponents of products of short types: as far as those reach.
    bits = {"fp16": 5, "e4m3": 4, "e5m2": 5}.get(unit.operand, bits)
    mask = ((1 << bits) - 1) << first | 1 << (unit.bits - 1)

    assert int(np.bitwise_or.reduce(found)) & mask == mask
    assert int(np.bitwise_and.reduce(found)) & mask == 0
    if unit.result in {"f32", "f64"}:
        values = found.view(np.float64 if unit.bits == 64 else np.float32)
        assert np.isfinite(values).all()
        assert (np.abs(values) >= np.finfo(values.dtype).tiny).all()


@pytest.mark.parametrize(
    ("operand", "dtype", "values"),
    [
        ("fp16", torch.float16, range(-2047, 2048)),
        ("bf16", torch.bfloat16, range(-255, 256)),
        ("e4m3", torch.float8_e4m3fn, range(-15, 16)),
        ("e5m2", torch.float8_e5m2, range(-7, 8)),
        ("int8", torch.int8, range(-127, 128)),
        ("tf32", torch.float32, range(-2047, 2048)),
        ("fp64", torch.float64, [2**24 - 1, -(2**23)]),
        ("fp32", torch.float32, [2**24 - 1, 1 - 2**24]),
    ],
)
def test_numbers_are_stored_as_torch_stores_them(
    operand: Any, dtype: torch.dtype, values: Any
) -> None:
    """Bit for bit; TF32 with the lowest 13 bits zero."""
    found = fragments.stored(np.array(values, np.int64), operand)
    right = torch.tensor(list(values), dtype=torch.float64).to(dtype)

    assert found.tobytes() == right.view(torch.uint8).numpy().tobytes()
    if operand == "tf32":
        assert not (found & 0x1FFF).any()


@pytest.mark.parametrize(
    ("operand", "dtype", "values", "powers"),
    [
        ("fp16", torch.float16, (2047, -1, 3, -31), (5, -14, -10, 11)),
        ("bf16", torch.bfloat16, (255, -1, 77, 3), (116, -126, -60, 100)),
        ("tf32", torch.float32, (2047, -1, 31, 5), (116, -126, 3, -80)),
        ("e4m3", torch.float8_e4m3fn, (15, -1, 13, 1), (4, -6, -4, 8)),
        ("e5m2", torch.float8_e5m2, (7, -1, 5, 3), (13, -14, -9, 14)),
        ("fp64", torch.float64, (2**24 - 1, -1, 5, 7), (940, -1000, 17, -3)),
    ],
)
def test_numbers_times_powers_of_two_are_stored_as_torch_stores_them(
    operand: Any, dtype: torch.dtype, values: tuple[int, ...], powers: tuple[int, ...]
) -> None:
    """At either end of what the type holds."""
    found = fragments.stored(np.array(values, np.int64), operand, np.array(powers))
    right = torch.tensor(np.ldexp(np.array(values, np.float64), powers)).to(dtype)

    assert found.tobytes() == right.view(torch.uint8).numpy().tobytes()
    assert np.isfinite(right.double().numpy()).all()


def test_where_elements_are() -> None:
    """The places that NVIDIA's tables give for some lanes of m16n8k16."""
    unit = next(unit for unit in units_of((9, 0)) if unit.name == "fp16")
    a, b = np.arange(16 * 16).reshape(1, 16, 16), np.arange(16 * 8).reshape(1, 16, 8)
    d = np.arange(16 * 8).reshape(1, 16, 8)
    lane = 6  # group 1, member 2

    in_a = fragments.of_a(a, unit)[0, lane].view(np.float16)
    assert in_a.tolist() == [
        a[0, i, k]
        for i, k in [
            *((1, 4), (1, 5), (9, 4), (9, 5)),
            *((1, 12), (1, 13), (9, 12), (9, 13)),
        ]
    ]
    in_b = fragments.of_b(b, unit)[0, lane].view(np.float16)
    assert in_b.tolist()[:4] == [b[0, k, 1] for k in (4, 5, 12, 13)]
    in_d = fragments.of_d(d, unit)[0, lane].view(np.float32)
    assert in_d.tolist() == [d[0, i, j] for i, j in ((1, 4), (1, 5), (9, 4), (9, 5))]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: f"{unit.name}-{unit.depth}")
def test_one_changed_operand_changes_what_depends_on_it(unit: Unit) -> None:
    """A row of a product is in the lanes of one group; a scalar in one lane."""
    changed = problem(unit).hashes != planted(unit).hashes

    assert np.flatnonzero(changed).tolist() == ([0, 1, 2, 3] if unit.depth else [0])
    assert ((planted(unit).masks != 0) == changed).all()
    assert not problem(unit).masks.any()
    assert (planted(unit).right == problem(unit).right).all()
    assert (planted(unit).a != problem(unit).a).sum() in {1, 2}


def test_passes_are_told_apart() -> None:
    """Each number of passes has its digest, and so has each lane and type."""
    units = units_of((8, 9))
    every = [problem(unit).digests(passes) for unit in units for passes in (1, 2, 3, 512)]

    assert len(np.unique(np.concatenate(every))) == 32 * 4 * len(units)


# ---- which units there are


@pytest.mark.parametrize(
    ("capability", "names"),
    [
        ((6, 1), ""),
        ((7, 0), "fma_fp32 fma_fp64 mad_int32"),
        ((7, 5), "fp16 int8 fma_fp32 fma_fp64 mad_int32"),
        ((8, 0), "fp16 bf16 tf32 int8 fp64 fma_fp32 fma_fp64 mad_int32"),
        ((8, 9), " ".join(NAMES)),
        ((9, 0), "fp16 bf16 tf32 int8 fp64 fma_fp32 fma_fp64 mad_int32"),
        ((10, 3), "fp16 bf16 tf32 int8 fp64 fma_fp32 fma_fp64 mad_int32"),
        ((12, 1), " ".join(NAMES)),
    ],
)
def test_the_units_of_a_gpu(capability: tuple[int, int], names: str) -> None:
    """One for each name; each that is left out has a reason."""
    found = [unit.name for unit in units_of(capability)]

    assert found == names.split()
    for name in set(NAMES) - set(found):
        assert f"{capability[0]}.{capability[1]}" in lacking(name, capability)
    if capability[0] in {9, 10}:
        assert "wgmma" in lacking("fp8_e4m3", capability)


def test_the_source_names_every_instruction() -> None:
    """Of the units that are asked for, and no other; and what tells where a warp is."""
    text = source(units_of((8, 0)))

    assert "mov.u32 %0, %%smid;" in text
    assert "mov.u32 %0, %%warpid;" in text

    for unit in UNITS:
        assert (f'"{unit.instruction} ' in text) == (unit in units_of((8, 0)))


# ---- the probe


def test_without_kernels_nothing_is_claimed() -> None:
    """The CPU has no multiprocessors: every check is skipped, with the reason."""
    found = list(probe.judge(probe.observe("cpu")))

    assert ids(found) == set(TENSOR_CORES.check_ids)
    assert {each.status for each in found} == {"skip"}
    assert found[0].message == (
        "only a kernel of our own tells where it ran: the cpu back-end has no NVRTC"
    )


def test_another_vendor_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """ROCm calls its devices cuda too, and has a capability of its own kind."""
    monkeypatch.setattr(machine, "back_end", lambda _: "hip")
    monkeypatch.setattr(machine, "capability", lambda _: (9, 4))
    with pytest.raises(Unavailable, match="the hip back-end has no NVRTC"):
        machine.choose("cuda:0")


def test_a_gpu_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is covered."""
    monkeypatch.setattr(machine, "back_end", lambda _: "cuda")
    monkeypatch.setattr(machine, "capability", lambda _: (6, 1))
    found = list(probe.judge(probe.observe("cpu")))

    assert {each.status for each in found} == {"skip"}
    assert "not covered on compute capability 6.1" in found[0].message


def test_a_sound_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything passes, and each finding says how much of it."""
    observation = observed(monkeypatch, Pretended())
    found = findings(observation)

    assert {each.status for each in found.values()} == {"pass"}
    assert found["fp16"].message == "6 of 6 SMs, 24 sub-partitions"
    assert found["coverage"].message.startswith("6 of 6 SMs, 24 of 24 sub-partitions x 10 types")
    assert found["coverage"].observed == 6
    assert observation.coverage.heated_s > 0
    assert Observation.model_validate_json(observation.model_dump_json()) == observation
    (measured,) = probe.measure(observation)
    assert (measured.name, measured.value, measured.threshold) == (
        *("multiprocessors_verified", 6.0, 6.0),
    )


def test_a_gpu_without_fp8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two checks are skipped with the reason; the rest is covered whole."""
    found = findings(observed(monkeypatch, Pretended((9, 0))))

    skipped = {name for name, each in found.items() if each.status == "skip"}
    assert skipped == {"fp8_e4m3", "fp8_e5m2"}
    assert "compiled to float16 products" in found["fp8_e4m3"].message
    assert found["coverage"].status == "pass"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_what_it_says(fault: Any) -> None:
    """And what must be spared is; faults of one type trip its check alone."""
    (injection,) = fault.inject
    getattr(inject, injection.function.partition(".")[2])(**injection.arguments)
    found = tripped(probe.judge(probe.observe("cpu")))

    assert found >= set(fault.trips)
    assert not found & set(fault.spares)
    if injection.function != "tensor_units.silent":
        assert found == set(fault.trips)


@pytest.mark.parametrize("unit", NAMES)
def test_a_wrong_place_is_named(unit: str) -> None:
    """By multiprocessor, sub-partition, slots, lanes, bits, and when it was wrong."""
    inject.wrong(unit, multiprocessors=(4,), partitions=(1,), when="hot")
    observation = probe.observe("cpu")
    finding = findings(observation)[unit]
    (place,) = observation.wrong[unit].places

    assert (place.multiprocessor, place.partition, place.lanes) == (4, 1, (9,))
    assert {slot % 4 for slot in place.slots} == {1}
    assert int(place.xor_mask, 16) == 1 << 17
    assert place.rounds["cold"][0] == 0
    assert place.rounds["hot"] == (place.rounds["hot"][1],) * 2
    assert not place.from_the_first
    assert finding.status == "fail"
    assert finding.action == "drain"
    assert "SM 4 sub-partition 1 (warps 1 5 9" in finding.message
    assert f"bits {place.xor_mask}, rounds cold 0 of " in finding.message


@pytest.mark.parametrize("field", ["digests", "masks"])
@pytest.mark.parametrize(("in_planted", "check"), [(False, "int8"), (True, "planted")])
def test_either_answer_counts(
    monkeypatch: pytest.MonkeyPatch, field: str, check: str, *, in_planted: bool
) -> None:
    """A digest that is wrong alone, and bits that the device alone saw differ."""

    class Spoiled(Pretended):
        def run(self, launch: Launch) -> machine.Answers:
            answers = super().run(launch)
            changed = getattr(answers, field).copy()
            if launch.planted == in_planted and launch.kinds == (3,):
                changed[2, 5] ^= np.uint64(4)
            return answers._replace(**{field: changed})

    assert tripped(probe.judge(observed(monkeypatch, Spoiled()))) == {f"tensor_cores.{check}"}


@pytest.mark.parametrize("after", [1, machine.UNWRITTEN])
def test_a_warp_that_was_moved_counts_for_no_place(
    monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Nor does one that did not get to its end: where it computed is not known."""

    class Moved(Pretended):
        def run(self, launch: Launch) -> machine.Answers:
            answers = super().run(launch)
            answers.places[answers.places[:, 0] >> 16 == 4, 1] = after
            return answers

    observation = observed(monkeypatch, Moved())
    covered = observation.coverage.units["fp16"]

    assert covered.multiprocessors == 5
    assert covered.missing[0] == "SM 4 sub-partition 0"
    assert (covered.moved_warps > 0) == (after == 1)
    assert tripped(probe.judge(observation)) == {"tensor_cores.coverage"}


def test_neighbours_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round beside others gives a warp another type, before and after the heat."""
    launches: list[Launch] = []

    class Watched(Pretended):
        def run(self, launch: Launch) -> machine.Answers:
            launches.append(launch)
            return super().run(launch)

    observed(monkeypatch, Watched())

    mixed = [each.shift for each in launches if len(each.kinds) > 1 and each.passes < 64]
    assert mixed == [0, 1, 2, 0, 1, 2]
    assert {each.passes for each in launches} == {8, 512}
    assert {(each.blocks, each.warps) for each in launches} == {(6, 4), (48, 8)}


def test_an_intermittent_one_is_counted() -> None:
    """In how many of how many rounds, and that the first was right."""
    inject.wrong("tf32", every=5)
    (place,) = probe.observe("cpu").wrong["tf32"].places
    wrong, of = (sum(each) for each in zip(*place.rounds.values(), strict=True))

    assert 0 < wrong < of
    assert not place.from_the_first


def test_where_every_place_is_wrong_no_unit_is_blamed() -> None:
    """It still fails, and says what to look at."""
    inject.wrong("fp16", multiprocessors=(), partitions=())
    observation = probe.observe("cpu")
    finding = findings(observation)["fp16"]

    assert finding.status == "fail"
    assert finding.action == "investigate"
    assert "this probe is wrong, not the GPU" in finding.hint
    assert finding.message.startswith("24 of 24 sub-partitions on 6 SMs wrong: ")
    assert finding.message.endswith(", and 8 more")
    assert len(finding.message) < 4096


def test_garbage_for_a_place_is_no_place() -> None:
    """A wrong warp that does not say where it ran is told all the same."""
    inject.silent()
    observation = probe.observe("cpu")
    (place,) = observation.wrong["fp16"].places

    assert (place.multiprocessor, place.partition) == (-1, -1)
    assert "a warp that did not say where it ran" in findings(observation)["fp16"].message
    assert observation.coverage.units["fp16"].multiprocessors == 5


@pytest.mark.parametrize(
    ("seen", "partitions", "status"),
    [
        (132, 528, "pass"),
        (133, 532, "pass"),
        (131, 524, "warn"),
        (132, 527, "warn"),
        (0, 0, "warn"),
    ],
)
def test_how_much_has_to_be_covered(seen: int, partitions: int, status: str) -> None:
    """All that the device counts, in every type: less is told, never passed over."""
    whole = Covered(multiprocessors=132, partitions=528)
    part = Covered(multiprocessors=seen, partitions=partitions, missing=("SM 9 sub-partition 2",))
    coverage = Coverage(multiprocessors=132, units={"fp16": whole, "bf16": part}, tries=4)
    observation = Observation(device="cuda:0", families={}, coverage=coverage)
    finding = findings(observation)["coverage"]

    assert finding.status == status
    if status == "warn":
        assert f"{seen} of 132 SMs, {partitions} of 528 sub-partitions x 2" in finding.message
        assert "not seen in 4 more tries: SM 9 sub-partition 2 (bf16)" in finding.message


def test_nothing_at_all_is_not_covered() -> None:
    """An observation in which no type ran."""
    observation = Observation(device="cuda:0", families={})

    assert findings(observation)["coverage"].status == "warn"


def test_further_launches_find_what_the_first_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A multiprocessor that is busy gets its blocks later."""

    class Late(Pretended):
        launches = 0

        def run(self, launch: Launch) -> machine.Answers:
            answers = super().run(launch)
            self.launches += launch.blocks > 8 * self.multiprocessors
            if self.launches < 3:
                answers.places[answers.places >> 16 == 2] -= np.uint32(1 << 16)
            return answers

    observation = observed(monkeypatch, Late())

    assert observation.coverage.tries == 2
    assert findings(observation)["coverage"].status == "pass"


class _Board(memory_errors.NoBoard):
    """Somebody comes at that question."""

    def __init__(self, when: int) -> None:
        self._questions = itertools.count(1)
        self._when = when

    def others(self) -> str:
        return "1 process came to it" if next(self._questions) >= self._when else ""


@pytest.mark.parametrize("when", [1, 11, 40, 120])
def test_it_gives_way(monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """Whatever was right until then says nothing of the rest."""
    monkeypatch.setattr(memory_errors, "opened", lambda _: _opened(_Board(when)))
    found = findings(observed(monkeypatch, Pretended()))

    assert {each.status for each in found.values()} == {"skip"}
    assert {each.message for each in found.values()} == {f"{GPU_BUSY}: 1 process came to it"}


def test_what_was_wrong_before_somebody_came_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no excuse for it."""
    inject.wrong("fp16")
    recorded: list[str] = []
    monkeypatch.setattr(breadcrumb, "record_wrong", lambda: recorded.append("wrong"))
    monkeypatch.setattr(memory_errors, "opened", lambda _: _opened(_Board(60)))
    found = findings(probe.observe("cpu"))

    assert recorded
    assert found["fp16"].status == "fail"
    assert {each.status for name, each in found.items() if name != "fp16"} == {"skip"}


def _opened(board: memory_errors.NoBoard) -> Any:
    return nullcontext(board)


def test_a_check_that_is_left_out_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has killed a process before: its unit is in no launch, beside others neither."""
    launched: set[int] = set()

    class Watched(Pretended):
        def run(self, launch: Launch) -> machine.Answers:
            launched.update(launch.kinds)
            return super().run(launch)

    breadcrumb.begin(frozenset({"bf16", "planted"}))
    try:
        found = findings(observed(monkeypatch, Watched()))
    finally:
        breadcrumb.begin()

    assert launched == set(range(10)) - {1}
    assert found["coverage"].status == "pass"
    assert found["fp16"].status == "pass"


@pytest.mark.parametrize("check", TENSOR_CORES.checks)
def test_a_check_alone(check: str) -> None:
    """As a retry makes it: what fails is seen again without the others."""
    inject.wrong("fp16")
    breadcrumb.begin(frozenset(TENSOR_CORES.checks) - {check})
    try:
        found = findings(probe.observe("cpu"))
    finally:
        breadcrumb.begin()

    right = {"fp16": "fail", "coverage": "skip"}.get(check, "pass")
    assert found[check].status == right


def test_heating_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over, however long one launch takes."""
    clock = itertools.count(0, 0.4)
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    made = Pretended()
    made.heat_s = 1.5
    observation = observed(monkeypatch, made)

    assert 1.5 <= observation.coverage.heated_s < 2.5
