"""The kernel of `tensor_cores`: its loops run on the host, where instructions have stand-ins.

The stand-ins read matrices out of the registers of all lanes by NVIDIA's documented layout, so that
the host's answers hold only where both agree on it. The instructions themselves are compiled for
every architecture, and run on a GPU alone.
"""

import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from probes.contract import Finding
from probes.kit import kernels
from probes.kit.kernels import Unavailable
from probes.tensor_cores import machine, probe, rounds
from probes.tensor_cores.machine import ByKernels, Launch
from probes.tensor_cores.problems import planted, problem
from probes.tensor_cores.source import KERNEL, source
from probes.tensor_cores.units import REPEATS, UNITS, Unit, units_of
from tests import nvrtc_wheel
from tests.probes.verdicts import tripped
from tests.shim import Shim, build

#: With fp8; and the first with tensor cores that we reach, with smaller matrices.
NEW, OLD = (12, 0), (7, 5)

#: Those of the machine that the shim makes.
SMS = 3

Run = Callable[..., Any]


def stand_ins(units: tuple[Unit, ...]) -> str:
    """The units' functions for the host."""
    lines = [
        f"TENSOR_CORE({unit.name}, {unit.rows}, {unit.depth})"
        if unit.depth
        else f"{unit.name.upper()}({unit.name})"
        for unit in units
    ]
    return '#include "units.h"\n' + "\n".join(lines) + "\n"


def host_source(units: tuple[Unit, ...], old: str = "", new: str = "") -> str:
    """The kernel with the stand-ins; `old` and `new` change its text."""
    text = source(units, stand_ins(units))
    assert old in text
    return text.replace(old, new) if old else text


def on_host(shim: Shim, units: tuple[Unit, ...]) -> ByKernels:
    """The machine that the shim makes, which is not heated for long."""
    shim.library.shim_sms(SMS)
    made = ByKernels(shim.module(), "cpu", SMS, units, {})
    made.heat_s = 0.001
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Shim]:
    """The kernels of both GPUs."""
    return {
        which: build(host_source(units_of(which)), tmp_path_factory.mktemp("shim"))
        for which in (NEW, OLD)
    }


@pytest.fixture
def shim(built: dict[tuple[int, int], Shim]) -> Shim:
    """That of the newer GPU, without a fault."""
    built[NEW].library.shim_plant(b"", -1, -1, -1, 0, 0, 1)
    built[NEW].library.shim_moves(0)
    return built[NEW]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds, short ones."""
    monkeypatch.setattr(rounds, "ROUNDS", 2)
    monkeypatch.setattr(rounds, "_PASSES", 1)
    monkeypatch.setattr(rounds, "_HEATING_PASSES", 2)
    monkeypatch.setattr(rounds, "_CROWDED", (2, 4))
    monkeypatch.setattr(rounds, "_TRIES", 1)


def plant(
    shim: Shim,
    unit: str,
    *,
    sm: int = -1,
    partition: int = -1,
    lane: int = -1,
    word: int = 0,
    mask: int = 1,
    every: int = 1,
) -> None:
    """Flip bits of results on the host."""
    shim.library.shim_plant(unit.encode(), sm, partition, lane, word, mask, every)


def observed(monkeypatch: pytest.MonkeyPatch, made: Any) -> tuple[Any, dict[str, Finding]]:
    """The observation of a machine, and its findings by check."""
    monkeypatch.setattr(machine, "choose", lambda _: made)
    observation = probe.observe("cpu")
    return observation, {each.id.partition(".")[2]: each for each in probe.judge(observation)}


@pytest.mark.parametrize("which", [NEW, OLD])
@pytest.mark.parametrize("changed", [False, True])
def test_the_host_and_the_kernel_agree(
    built: dict[tuple[int, int], Shim], which: tuple[int, int], *, changed: bool
) -> None:
    """On every lane's digest and mask, in each type: layout, numbers, order and passes."""
    units = units_of(which)
    made = on_host(built[which], units)
    for kind, unit in enumerate(units):
        answers = made.run(Launch((kind,), blocks=2, warps=2, passes=3, planted=changed))
        right = (planted if changed else problem)(unit)

        assert (answers.digests == right.digests(3)).all(), unit
        assert (answers.masks == right.masks).all(), unit
        assert bool(right.masks.any()) is changed


def test_where_warps_were_and_what_they_ran(shim: Shim) -> None:
    """Blocks go round the multiprocessors, warps into slots; neighbours run other types."""
    units = units_of(NEW)
    launch = Launch((2, 0, 7), blocks=5, warps=4, passes=1, shift=1)
    answers = on_host(shim, units).run(launch)

    places = [
        [block % SMS << 16 | (block // SMS * 4 + warp)] * 2 for block, warp in np.ndindex(5, 4)
    ]
    assert answers.places.tolist() == places
    assert launch.kinds_of_warps()[:4].tolist() == [0, 7, 2, 0]
    for warp, kind in enumerate(launch.kinds_of_warps()):
        assert (answers.digests[warp] == problem(units[kind]).digests(1)).all()


@pytest.mark.parametrize("unit", units_of(NEW), ids=lambda unit: unit.name)
def test_one_bit_of_one_lane_is_seen(shim: Shim, unit: Unit) -> None:
    """At its lane, whatever word of the result it is in."""
    kind = units_of(NEW).index(unit)
    made = on_host(shim, units_of(NEW))
    count = 8 * unit.rows // 32 * unit.bits // 32 if unit.depth else 4
    for word in range(count):
        plant(shim, unit.name, sm=1, partition=2, lane=7, word=word, mask=1 << 20, every=1000)
        answers = made.run(Launch((kind,), blocks=SMS, warps=4, passes=1))
        wrong = np.argwhere(answers.digests != problem(unit).digests(1))

        assert wrong.tolist() == [[1 * 4 + 2, 7]], word
        assert int(answers.masks[6, 7]) >> 32 * (word % 2) & 0xFFFFFFFF
        assert not np.delete(answers.masks.ravel(), 6 * 32 + 7).any()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_sound_machine(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it passes, and what was covered is told."""
    observation, found = observed(monkeypatch, on_host(shim, units_of(NEW)))

    assert {each.status for each in found.values()} == {"pass"}, found
    assert observation.coverage.whole
    assert found["coverage"].message.startswith(f"{SMS} of {SMS} SMs, 12 of 12 sub-partitions x 10")
    assert {each.operation for each in observation.families["fp16"]} >= {
        *("alone", "crowded", "mixed", "long"),
    }


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("unit", "where"),
    [
        ("fp16", {"sm": 1, "partition": 2}),
        ("fp64", {"sm": 2}),
        ("fma_fp32", {"partition": 1, "lane": 30, "word": 3}),
        ("fp8_e4m3", {}),
        ("int8", {"sm": 0, "every": 1001}),
    ],
)
def test_a_fault_of_a_unit(
    shim: Shim, monkeypatch: pytest.MonkeyPatch, unit: str, where: dict[str, int]
) -> None:
    """Its check fails alone, with its places; other types are right, and operands matter."""
    plant(shim, unit, mask=1 << 30, **where)
    observation, found = observed(monkeypatch, on_host(shim, units_of(NEW)))

    bad = {name for name, each in found.items() if each.status != "pass"}
    assert bad - {"planted"} == {unit}
    wrong = observation.wrong[unit]
    for place in wrong.places:
        assert where.get("sm", place.multiprocessor) == place.multiprocessor
        assert where.get("partition", place.partition) == place.partition
        assert int(place.xor_mask, 16) >> 30 & 1
    assert wrong.everywhere is (not where)
    assert found[unit].action == ("drain" if where else "investigate")


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_warps_that_are_moved_count_for_no_place(
    shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they computed is right, and where is not known: that is told, and tried again."""
    shim.library.shim_moves(1)
    observation, found = observed(monkeypatch, on_host(shim, units_of(NEW)))

    assert {name for name, each in found.items() if each.status != "pass"} == {"coverage"}
    assert found["coverage"].status == "warn"
    assert observation.coverage.tries == rounds._TRIES
    assert observation.coverage.units["fp16"].moved_warps > 0


#: Text of the loops -> what it becomes: each must be seen.
WRONG_LOOPS = [
    ("pass < passes", "pass + 1 < passes"),
    ("step < 16", "step < 15"),
    ("i < 8; i++) multiply", "i < 7; i++) multiply"),
    ("cells + 32 * step", "cells"),
    ("hash = (hash ^ d[i])", "hash = (hash ^ d[0])"),
    ("digest * 0x9e3779b97f4a7c15ull + hash", "hash"),
    ("answer->x = digest", "answer->x = 0"),
    ("answer->y = (u64)odd << 32 | even", "answer->y = 0"),
    ("answer->y = (u64)odd << 32 | even", "answer->y = even"),
    ("(d[0] ^ own.right[0]) | (d[2] ^ own.right[2])", "(d[0] ^ own.right[0])"),
    ("row[lane]", "row[0]"),
    ("Unit::START * (128 * step", "Unit::START * (0 * step"),
    ("(u64)warp * 32 + lane", "(u64)warp * 32"),
    ("(warp + shift) % count", "warp % count"),
    ("kind * 512u", "0"),
    ("places[2 * warp] = before", "places[2 * warp] = 0"),
]


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("old", "new"), WRONG_LOOPS, ids=range(len(WRONG_LOOPS)))
def test_a_kernel_that_is_wrong_is_seen(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    """One that computes less, hashes less, or mixes up lanes, warps, types or places."""
    monkeypatch.setattr(rounds, "_PASSES", 2)
    units = tuple(unit for unit in units_of(NEW) if unit.name in {"fp16", "fp64", "mad_int32"})
    shim = build(host_source(units, old, new), tmp_path_factory.mktemp("shim"))
    _, found = observed(monkeypatch, on_host(shim, units))

    assert tripped(found.values())


@pytest.mark.kernels
@pytest.mark.parametrize("architecture", nvrtc_wheel.EACH)
def test_the_kernel_compiles(architecture: int) -> None:
    """With all units of every architecture."""
    units = units_of(divmod(architecture, 10))

    assert KERNEL.encode() in nvrtc_wheel.compiler().cubin(source(units), architecture)


#: Opcodes of the instructions that a tensor core executes, the lowest 12 bits of 16 bytes: found by
#: compiling for each architecture; NVIDIA names them HMMA, IMMA, DMMA and QMMA, and has no table.
OPCODES = {
    **dict.fromkeys(("fp16", "bf16", "tf32"), 0x23C),
    "int8": 0x237,
    "fp64": 0x23F,
    **dict.fromkeys(("fp8_e4m3", "fp8_e5m2"), 0x27A),
}


def instructions(cubin: bytes) -> Counter[int]:
    """Opcode -> how often it is in the code of an ELF file."""
    table, (count, names) = (
        struct.unpack_from("<Q", cubin, 0x28)[0],
        struct.unpack_from("<HH", cubin, 0x3C),
    )
    headers = [struct.unpack_from("<IIQQQQ", cubin, table + 64 * n) for n in range(count)]
    found: Counter[int] = Counter()
    for name, _, _, _, offset, size in headers:
        if cubin[headers[names][4] + name :].startswith(b".text"):
            words = np.frombuffer(cubin[offset : offset + size], "<u8")[::2]
            found.update((words & 0xFFF).tolist())
    return found


@pytest.mark.kernels
@pytest.mark.parametrize("architecture", nvrtc_wheel.EACH)
def test_a_tensor_core_executes_what_is_named_after_it(architecture: int) -> None:
    """No compiler has made other instructions of it, which would run on other units."""
    for unit in units_of(divmod(architecture, 10)):
        if unit.depth:
            found = instructions(nvrtc_wheel.compiler().cubin(source([unit]), architecture))
            assert found[OPCODES[unit.name]] == REPEATS, unit


@pytest.mark.kernels
def test_float8_of_hopper_is_executed_by_others() -> None:
    """Which is why it is left out there."""
    (unit,) = [unit for unit in units_of((8, 9)) if unit.name == "fp8_e4m3"]
    found = instructions(nvrtc_wheel.compiler().cubin(source([unit]), 90))

    assert found[OPCODES["fp8_e4m3"]] == 0
    assert found[OPCODES["fp16"]] > 0


@pytest.mark.kernels
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: f"{unit.name}-{unit.since}")
def test_what_is_left_out_before_does_not_compile(unit: Unit) -> None:
    """The table is what the compiler says: the newest older architecture has no such unit."""
    older = [each for each in nvrtc_wheel.ARCHITECTURES if divmod(each, 10) < unit.since]
    same_name = [each for each in UNITS if each.name == unit.name]
    if not older or unit is not same_name[0]:
        return
    with pytest.raises(Unavailable, match="does not compile"):
        nvrtc_wheel.compiler().cubin(source([unit]), older[-1])


def test_a_type_that_the_compiler_refuses_is_left_out(
    shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older NVRTC: the others run, and the reason is told."""

    def load(text: str, _: str) -> kernels.Module:
        if "e4m3" in text:
            raise Unavailable("ptxas: Unknown modifier '.e4m3'")
        return shim.module()

    class Properties:
        multi_processor_count = SMS

    monkeypatch.setattr(kernels, "load", load)
    monkeypatch.setattr(machine, "back_end", lambda _: "cuda")
    monkeypatch.setattr(machine, "capability", lambda _: NEW)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties())
    found = machine.choose("cpu")

    assert found.absent == {"fp8_e4m3": "ptxas: Unknown modifier '.e4m3'"}
    assert [unit.name for unit in found.units] == [
        unit.name for unit in units_of(NEW) if unit.name != "fp8_e4m3"
    ]
    assert found.multiprocessors == SMS
