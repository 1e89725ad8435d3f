"""The probe `memory_pattern`: this machine passes, and memory that is wrong is found."""

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from probes.catalog import MEMORY_PATTERN
from probes.contract import Comparison
from probes.faults.inject import memory as inject
from probes.faults.inject.patterns import one_bit, zeros
from probes.kit import kernels
from probes.kit.memory_test import region, running, ways
from probes.kit.memory_test.observation import Coverage, Wrong
from probes.memory_pattern import probe
from probes.memory_pattern.faults import FAULTS
from probes.node import memory_errors
from probes.node.memory_errors import Counters
from probes.worker import proven as worker_proven
from tests.probes.corrupt import Corrupt
from tests.probes.verdicts import ids, tripped


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def found() -> set[str]:
    """The names of the checks that trip now."""
    return {each.partition(".")[2] for each in tripped(probe.judge(probe.observe("cpu")))}


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What faults replace comes back after each test."""
    for way in (ways.ByTorch, ways.ByKernels):
        for name in ("write", "check"):
            monkeypatch.setattr(way, name, getattr(way, name))
    monkeypatch.setattr(memory_errors, "opened", memory_errors.opened)
    monkeypatch.setattr(region, "_blocks", region._blocks)
    monkeypatch.setattr(region, "wanted", region.wanted)


def test_this_machine_is_sound() -> None:
    """Nothing trips, every check is made, and how much was tested is told."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(MEMORY_PATTERN.check_ids)
    assert [each.status for each in findings] == ["pass", "pass", "skip", "skip"]
    assert findings[0].message.startswith("33554432 of ")
    assert "by torch (the cpu back-end has no NVRTC)" in findings[0].message
    assert findings[0].observed == ["ends of blocks by torch", "own address by torch"]
    words = {each.operation: each.elements for each in sound().families["own_address"]}
    assert words["own address by torch"] * 8 == sound().coverage.tested_bytes == 32 << 20


def test_half_stays_free_and_each_run_has_words_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever comes while it runs as scheduled finds room; what a run left is wrong in the next."""
    plans: list[running.Plan] = []

    def run(_: object, device: str, plan: running.Plan, __: object) -> dict[str, Any]:
        plans.append(plan)
        return {"device": device, "families": {}}

    monkeypatch.setattr(probe, "run", run)
    for _ in range(2):
        probe.observe("cpu")

    assert [plan.share for plan in plans] == [0.5, 0.5]
    assert plans[0].seed != plans[1].seed


def test_what_is_measured() -> None:
    """Bytes tested and free, and two rates."""
    measured = {each.name: each for each in probe.measure(sound())}

    assert measured["memory_tested_bytes"].value == 32 << 20
    assert measured["memory_free_before_bytes"].value == sound().coverage.free_bytes
    assert measured["memory_write_bytes_per_second"].value > 1e6
    assert measured["memory_check_bytes_per_second"].unit == "bytes_per_second"
    nothing = sound().model_copy(update={"coverage": Coverage()})
    assert [each.name for each in probe.measure(nothing)] == ["memory_tested_bytes"]


def test_no_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors of the test are freed with it, and nothing of torch's state is changed."""
    blocks: list[weakref.ref[torch.Tensor]] = []

    def allocate(device: str, share: float) -> region.Region:
        taken = original(device, share)
        blocks.extend(weakref.ref(block) for block in taken.blocks)
        return taken

    original = region.allocate
    monkeypatch.setattr(region, "allocate", allocate)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    probe.observe("cpu")

    assert len(blocks) == 2
    assert all(block() is None for block in blocks)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("check", ["own_address", "planted"])
def test_a_wrong_family_trips_its_check_alone(check: str) -> None:
    """One wrong word, with what is known of it in the message."""
    right = {name: (Comparison(operation="x", elements=9),) for name in probe.FAMILIES}
    wrong = Comparison(operation="own address by kernels", elements=9, mismatches=2)
    told = Wrong(pattern="own address", count=2, again=2, after_rewrite=2, xor_mask="0x1")
    observation = probe.Observation(
        device="cpu", families={**right, check: (wrong,)}, wrong={check: (told,)}
    )
    findings = list(probe.judge(observation))

    assert tripped(findings) == {f"memory_pattern.{check}"}
    (failed,) = [each for each in findings if each.status == "fail"]
    assert "2 words wrong, 2 when read again" in failed.message
    assert failed.action == "drain"
    assert failed.wrong == {"own address by kernels": "bits"}


@pytest.mark.parametrize(
    ("proven", "status"),
    [
        ([], "warn"),
        (["own address by kernels"], "warn"),
        (["own address by torch"], "fail"),
        (["own address by kernels", "own address by torch"], "fail"),
    ],
)
def test_each_way_is_proven_apart(
    proven: list[str], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU a wrong word is a failure only where that way has passed on such a one."""
    check = "memory_pattern.own_address"
    table = {"cuda": {check: {"on": ["a board"], "operations": proven}}} if proven else {}
    monkeypatch.setattr(worker_proven, "_proven", lambda: table)
    wrong = Comparison(operation="own address by torch", elements=9, mismatches=1)
    observation = probe.Observation(
        device="cuda:0", families={"own_address": (wrong,), "planted": (wrong,)}
    )
    findings = worker_proven.soften(probe.judge(observation), MEMORY_PATTERN.certain, "cuda")
    (finding,) = [each for each in findings if each.id == check]

    assert finding.status == status


def test_a_counter_trips_its_check_alone() -> None:
    """An uncorrected error while the memory was tested."""
    before = Counters(uncorrected=0)
    counted = {"before": before, "after": Counters(uncorrected=1)}

    assert tripped(probe.judge(sound().model_copy(update=counted))) == {
        "memory_pattern.error_counters"
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_what_it_says(fault: Any) -> None:
    """And nothing else; what no check has looked at was not tested."""
    for injection in fault.inject:
        function = getattr(inject, injection.function.partition(".")[2])
        function(**injection.arguments)
    also = {"memory_pattern.coverage"} if fault.name.endswith("idle") else set()

    assert {f"memory_pattern.{check}" for check in found()} == {*fault.trips, *also}


#: (operator of torch, what becomes of its output, checks that must trip)
BREAKS: list[tuple[str, Callable[[torch.Tensor], object], set[str]]] = [
    ("add", one_bit, {"own_address"}),
    ("add", zeros, {"own_address"}),
    ("mul_", one_bit, {"own_address"}),
    ("mul_", zeros, {"own_address"}),
    ("bitwise_right_shift", zeros, {"own_address"}),
    ("bitwise_and_", one_bit, {"own_address"}),
    ("copy_", one_bit, {"own_address", "planted"}),
    ("copy_", zeros, {"own_address", "planted"}),
    ("bitwise_xor", zeros, {"planted"}),
    ("bitwise_xor", one_bit, {"own_address"}),
    ("count_nonzero", zeros, {"planted"}),
    ("nonzero", zeros, {"planted"}),
    ("index_select", zeros, {"planted"}),
    ("arange", one_bit, {"own_address"}),
]


@pytest.mark.parametrize(
    ("operator", "spoil", "checks"),
    BREAKS,
    ids=[f"{each[0]}-{each[1].__name__}" for each in BREAKS],
)
def test_torch_broken_from_outside(
    operator: str, spoil: Callable[[torch.Tensor], object], checks: set[str]
) -> None:
    """Whatever torch computes wrong, the pattern, the comparison or a copy, a check says so."""
    with Corrupt(operator, spoil) as corrupt:
        tripped_now = found()

    assert corrupt.count > 0
    assert tripped_now >= checks


def test_the_fault_is_at_the_bit_that_it_names() -> None:
    """The word of the faults lacks the bit."""
    inject.stuck()
    observation = probe.observe("cpu")
    (wrong,) = observation.wrong["own_address"]

    assert wrong.words[0].offset_bytes == inject.WORD * 8
    assert wrong.words[0].kind == "stuck"
    assert wrong.xor_mask == f"{1 << inject.BIT:#018x}"


def test_why_no_kernels_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of what is missing stands in the finding."""

    def load(*_: str) -> None:
        raise kernels.Unavailable("no NVRTC that fits: libnvrtc.so.13 is missing")

    monkeypatch.setattr(kernels, "load", load)
    findings = list(probe.judge(probe.observe("cpu")))

    assert "by torch (no NVRTC that fits: libnvrtc.so.13 is missing)" in findings[0].message
