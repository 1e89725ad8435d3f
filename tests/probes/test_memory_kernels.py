"""The memory probes by our kernels, as the host runs them: sound memory passes, faults trip."""

from importlib import import_module
from typing import Any

import pytest
import torch

from probes.faults.inject import memory as inject
from probes.faults.memory import BLIND
from probes.kit.memory_test import region, ways
from probes.kit.memory_test.source import SOURCE
from probes.kit.memory_test.ways import ByKernels
from probes.memory_full.faults import FAULTS as FULL
from probes.memory_pattern.faults import FAULTS as PATTERN
from probes.node import memory_errors
from tests.probes.verdicts import tripped
from tests.shim import Shim, build

#: The faults of memory itself, and of what looks at it.
FAULTS = [
    fault
    for fault in (*PATTERN, *FULL)
    if not fault.name.partition(".")[2].startswith(("counts", "scarce"))
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """The kernels, behind a fake driver."""
    return build(SOURCE, tmp_path_factory.mktemp("shim"))


@pytest.fixture(autouse=True)
def _kernels(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels run, over four blocks of a mebibyte; what faults replace comes back."""
    for kind in (ways.ByTorch, ways.ByKernels):
        for name in ("write", "check"):
            monkeypatch.setattr(kind, name, getattr(kind, name))
    monkeypatch.setattr(memory_errors, "opened", memory_errors.opened)
    monkeypatch.setattr(region, "_blocks", region._blocks)
    monkeypatch.setattr(region, "wanted", lambda *_: (8 << 20, 1 << 30))
    monkeypatch.setattr(region, "BLOCK_BYTES", {"cpu": 2 << 20})
    way = ByKernels(shim.module(), "cpu", multiprocessors=1, threads=32)
    monkeypatch.setattr(ways, "choose", lambda _: (way, ""))


def observed(name: str) -> tuple[Any, set[str]]:
    """The observation of a probe, and the checks that trip."""
    probe = import_module(f"probes.{name}.probe")
    observation = probe.observe("cpu")
    return observation, tripped(probe.judge(observation))


@pytest.mark.parametrize("name", ["memory_pattern", "memory_full"])
def test_sound_memory(name: str) -> None:
    """Nothing trips; the operations are called after the kernels, proven apart from torch's."""
    observation, found = observed(name)

    assert found == set()
    assert observation.coverage.way == "kernels"
    assert len(observation.families) == len(observation.asked)
    operations = [each.operation for each in observation.families["own_address"]]
    assert operations == ["ends of blocks by kernels", "own address by kernels"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Any) -> None:
    """Whatever the memory does, or the check leaves out."""
    injection = fault.inject[-1]
    getattr(inject, injection.function.partition(".")[2])(**injection.arguments)
    observation, found = observed(fault.probes[0])

    assert found >= set(fault.trips)
    assert not found & set(fault.spares)
    assert fault.event is BLIND or observation.wrong


def test_where_a_stuck_bit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes from the start of what was tested, in the block that it is in."""

    def write(way: Any, block: torch.Tensor, first: int, pattern: Any) -> None:
        original(way, block, first, pattern)
        if first == 3 * 2**18:
            block[70_000:71_000:100].bitwise_or_(0x8000)

    original = ByKernels.write
    monkeypatch.setattr(ByKernels, "write", write)
    (wrong,) = observed("memory_pattern")[0].wrong["own_address"]

    assert {word.kind for word in wrong.words} == {"stuck"}
    assert {word.block for word in wrong.words} == {3}
    assert wrong.words[0].offset_bytes >= (3 * 2**18 + 70_000) * 8
    assert wrong.xor_mask == f"{0x8000:#018x}"
    assert wrong.stride_bytes is not None
    assert wrong.stride_bytes % 800 == 0
