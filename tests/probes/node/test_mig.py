"""Which devices of a node with MIG need their own process, and which device it is shown."""

import os
from pathlib import Path
from typing import Any

import pytest

from probes.node import mig
from probes.node.nvml import MigInstance, Nvml, NvmlGpu
from tests import fakes


def uuid(gpu: int, slot: int) -> str:
    """The UUID of one instance of the node below."""
    return f"MIG-0000000{gpu}-0000-0000-0000-00000000000{slot}"


def mig_gpu(gpu: int, slots: int) -> NvmlGpu:
    """A GPU with MIG on and some instances."""
    instances = tuple(MigInstance(slot=slot, uuid=uuid(gpu, slot)) for slot in range(slots))
    return NvmlGpu(
        index=gpu,
        uuid=f"GPU-000000{gpu}0",
        mig_enabled=True,
        mig_uuids=tuple(instance.uuid for instance in instances),
        mig_instances=instances,
    )


WHOLE = NvmlGpu(index=1, uuid="GPU-00000010", mig_enabled=False)

#: Seven instances and a whole GPU; a third GPU has MIG on and no instance.
MIXED = Nvml(gpus=(mig_gpu(0, 7), WHOLE, mig_gpu(2, 0)))


def names(nvml_state: Nvml, **environment: str) -> list[str]:
    """The names of the devices that need a process of their own."""
    return [each.name for each in mig.separate_devices(nvml_state, environment)]


def test_seven_instances_and_a_whole_gpu_are_eight_devices() -> None:
    """Each has its own UUID; a process that sees an instance does not see the whole GPU."""
    found = mig.separate_devices(MIXED, {})

    assert [each.name for each in found] == [*(f"cuda:0:{slot}" for slot in range(7)), "cuda:1"]
    assert [each.uuid for each in found] == [*(uuid(0, slot) for slot in range(7)), WHOLE.uuid]


@pytest.mark.parametrize(
    "gpus",
    [
        (),
        (WHOLE,),
        (WHOLE, WHOLE.model_copy(update={"index": 2})),
        (mig_gpu(0, 1),),
        (mig_gpu(0, 0),),
    ],
    ids=["no GPU", "one GPU", "two GPUs", "one instance", "no instance"],
)
def test_what_cuda_shows_by_itself_needs_no_process_of_its_own(gpus: tuple[NvmlGpu, ...]) -> None:
    """Whole GPUs, and a single instance, are torch's cuda:0, cuda:1 in one process."""
    assert names(Nvml(gpus=gpus)) == []


def test_another_jobs_gpu_is_left_out() -> None:
    """A GPU that NVML may not describe belongs to another job."""
    closed = NvmlGpu(index=1, accessible=False)

    assert names(Nvml(gpus=(mig_gpu(0, 2), closed))) == ["cuda:0:0", "cuda:0:1"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (f"{uuid(0, 3)},{uuid(0, 5)}", ["cuda:0:3", "cuda:0:5"]),
        (
            f"{uuid(0, 3)},MIG-of-another-node,{uuid(0, 5)}",
            [],
        ),  # only one is left, which CUDA shows
        (f"{uuid(0, 1)},GPU-00000010", ["cuda:0:1", "cuda:1"]),
        ("GPU-00000000", [f"cuda:0:{slot}" for slot in range(7)]),
        (uuid(0, 3), []),
        ("0,1", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_the_variable_narrows(visible: str, expected: list[str]) -> None:
    """A GPU's UUID selects its instances, a bad entry hides the rest, numbers are ignored."""
    assert names(MIXED, CUDA_VISIBLE_DEVICES=visible) == expected


def test_a_process_is_shown_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is set to one UUID, and its earlier value is kept for the checks."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "before")
    monkeypatch.setenv("_GPU_VALIDATOR_VISIBLE_BEFORE", "")  # so that it is put back
    monkeypatch.delenv("_GPU_VALIDATOR_VISIBLE_BEFORE")
    assert mig.visible_before(os.environ) is None

    mig.show_only(uuid(0, 3))

    assert os.environ["CUDA_VISIBLE_DEVICES"] == uuid(0, 3)
    assert mig.visible_before(os.environ) == "before"


def test_a_fake_node_is_surveyed_through_nvml(tmp_path: Path) -> None:
    """Through the real pynvml: seven instances of each of two GPUs, a third one whole."""
    libraries = fakes.build(tmp_path)
    answer: Any = fakes.ask(
        "nvml.read().model_dump_json()",
        libraries,
        FAKE_NVML_COUNT=3,
        FAKE_NVML_MIG=1,
        FAKE_NVML_SLOTS="0123456",
        FAKE_NVML_WHOLE=2,
    )
    found = mig.separate_devices(Nvml.model_validate(answer), {})

    assert [each.name for each in found][5:9] == ["cuda:0:5", "cuda:0:6", "cuda:1:0", "cuda:1:1"]
    assert found[-1].name == "cuda:2"
    assert len({each.uuid for each in found}) == 15
