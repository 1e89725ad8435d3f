"""The probe `memory_full`: this machine passes, and each pattern finds what the others do not."""

from functools import cache
from typing import Any

import pytest

from probes.catalog import MEMORY_FULL
from probes.contract import GPU_BUSY, Comparison
from probes.faults.inject import memory as inject
from probes.kit.memory_test import region, ways
from probes.kit.memory_test.observation import Coverage
from probes.memory_full import probe
from probes.memory_full.faults import FAULTS
from probes.node import memory_errors
from tests.probes.verdicts import ids, tripped

GIB = 2**30


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What faults replace comes back after each test."""
    for way in (ways.ByTorch, ways.ByKernels):
        for name in ("write", "check"):
            monkeypatch.setattr(way, name, getattr(way, name))
    monkeypatch.setattr(memory_errors, "opened", memory_errors.opened)
    monkeypatch.setattr(region, "_blocks", region._blocks)
    monkeypatch.setattr(region, "wanted", region.wanted)


@pytest.mark.slow
def test_this_machine_is_sound() -> None:
    """Nothing trips, and every check is made; of the host's memory a sample is tested."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(MEMORY_FULL.check_ids)
    skipped = {each.id: each.message for each in findings if each.status == "skip"}
    assert set(skipped) == {"memory_full.coverage", "memory_full.error_counters"}
    assert skipped["memory_full.coverage"].startswith("the host uses this memory too: 33554432 of")
    assert int(sound().seed, 16) > 0
    patterns = [each.operation for each in sound().families["constants"]]
    assert patterns == [f"0x{byte} by torch" for byte in ("00", "ff", "55", "aa")]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_what_it_says(fault: Any) -> None:
    """And what must be spared is."""
    for injection in fault.inject:
        function = getattr(inject, injection.function.partition(".")[2])
        function(**injection.arguments)
    found = tripped(probe.judge(probe.observe("cpu")))

    assert found >= set(fault.trips)
    assert not found & set(fault.spares)


@pytest.mark.parametrize("check", probe.FAMILIES)
def test_a_wrong_family_trips_its_check_alone(check: str) -> None:
    """One wrong word in a pattern."""
    right = {name: (Comparison(operation="x", elements=9),) for name in probe.FAMILIES}
    wrong = Comparison(operation="random by kernels", elements=9, mismatches=2)
    observation = probe.Observation(device="cpu", families={**right, check: (wrong,)})

    assert tripped(probe.judge(observation)) == {f"memory_full.{check}"}


@pytest.mark.parametrize(
    ("wanted", "tested", "busy", "status", "text"),
    [
        (97, 97, "", "pass", ""),
        (97, 95, "", "pass", ""),
        (97, 94, "", "warn", "tested: 100931731456 of 107374182400 free bytes (94.0 %)"),
        (97, 0, "", "warn", "(0.0 %)"),
        (0, 0, "", "skip", "the host uses this memory too"),
        (97, 40, f"{GPU_BUSY}: 1 process came to it", "skip", "1 process came"),
        (50, 50, "", "skip", "the host uses this memory too"),
        (50, 10, "", "skip", "the host uses this memory too"),
    ],
)
def test_less_than_was_wanted(wanted: int, tested: int, busy: str, status: str, text: str) -> None:
    """It is a warning, never a silent pass; where it could not be wanted the check is skipped."""
    coverage = Coverage(
        way="kernels", free_bytes=100 * GIB, wanted_bytes=wanted * GIB, tested_bytes=tested * GIB
    )
    right = {name: (Comparison(operation="x", elements=9),) for name in probe.FAMILIES}
    observation = probe.Observation(device="cuda", families=right, coverage=coverage, busy=busy)
    (finding,) = [each for each in probe.judge(observation) if each.id.endswith("coverage")]

    assert finding.status == status
    assert text in finding.message


def test_none_of_nothing_is_no_coverage() -> None:
    """Where nothing is free nothing was tested."""
    coverage = Coverage(way="kernels", free_bytes=0)
    observation = probe.Observation(device="cuda", families={}, coverage=coverage)
    (finding,) = [each for each in probe.judge(observation) if each.id.endswith("coverage")]

    assert finding.status == "warn"
    assert "0 of 0 free bytes (0.0 %)" in finding.message


def test_an_unknown_amount_is_called_so() -> None:
    """A back-end that does not tell how much is free."""
    coverage = sound().coverage.model_copy(update={"free_bytes": None})
    findings = probe.judge(sound().model_copy(update={"coverage": coverage}))
    (finding,) = [each for each in findings if each.id.endswith("coverage")]

    assert finding.status == "skip"
    assert finding.message.startswith("how much is free cannot be told")


def test_memory_that_is_not_to_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault `scarce` trips the coverage where a share is wanted."""
    inject.small()
    monkeypatch.setattr(probe, "FAMILIES", {"random": probe.FAMILIES["random"]})
    assert tripped(probe.judge(probe.observe("cpu"))) == set()
    inject.scarce()

    assert tripped(probe.judge(probe.observe("cpu"))) == {"memory_full.coverage"}
