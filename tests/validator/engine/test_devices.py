"""Which devices a run is about, and which of them others are using."""

from dataclasses import replace
from typing import Any

import pytest

from probes.catalog import AUTOGRAD, CATALOG, LINALG, TENSOR_OPS
from validator.engine import processes
from validator.engine.devices import (
    choose,
    is_called,
    may_be_accelerator,
    side_by_side,
    why_busy,
    why_no_name,
)
from validator.engine.plan import Plan
from validator.engine.run import Run
from validator.report import CPU, Device, GpuProcess
from validator.settings.model import Settings

GPUS = tuple(
    Device(
        name=f"cuda:{index}",
        type="cuda",
        index=index,
        uuid=f"GPU-0{index}020304-0506-0708-090a-0b0c0d0e0f00",
        pci_bus_id=f"0000:{index + 10:02x}:00.0",
        memory_bytes=80 << 30,
        memory_free_bytes=79 << 30,
        process_count=0,
        compute_mode="default",
    )
    for index in range(2)
)


@pytest.mark.parametrize(
    "name",
    [
        "cuda:1",
        "CUDA:1",
        "GPU-01020304-0506-0708-090a-0b0c0d0e0f00",
        "gpu-0102",
        "0000:0b:00.0",
        "00000000:0B:00.0",
        "0b:00.0",
    ],
)
def test_a_gpu_goes_by_many_names(name: str) -> None:
    """Index, UUID or its start, PCI address in every tool's spelling."""
    assert [is_called(gpu, name) for gpu in GPUS] == [False, True]


@pytest.mark.parametrize("name", ["cuda:2", "GPU-", "0001:0b:00.0", "cpu", "", "0c:00.0"])
def test_other_names_are_not_taken_for_a_gpu(name: str) -> None:
    """Too short a start of a UUID, another PCI domain, nothing at all."""
    assert not any(is_called(gpu, name) for gpu in GPUS)


def test_without_a_wish_all_gpus_are_chosen_and_not_the_cpu() -> None:
    """The CPU joins when asked for, or when there is no accelerator."""
    assert choose((), GPUS) == (GPUS, ())
    assert choose((), ()) == ((CPU,), ())


def test_wishes_are_met_in_the_order_of_the_devices_and_once() -> None:
    """A device that is named twice runs once; a name that is none comes back."""
    wanted = ("cpu", "0b:00.0", "cuda:1", "cuda:9")

    assert choose(wanted, GPUS) == ((GPUS[1], CPU), ("cuda:9",))


INSTANCES = tuple(
    Device(
        name=f"cuda:0:{slot}",
        type="cuda",
        alone=True,
        uuid=f"MIG-0{slot}020304-0506-0708-090a-0b0c0d0e0f00",
        parent_uuid=GPUS[0].uuid,
        pci_bus_id=GPUS[0].pci_bus_id,
        process_count=0,
        memory_free_bytes=9 << 30,
    )
    for slot in range(7)
)


@pytest.mark.parametrize("name", ["cuda:0:3", "MIG-03020304-0506", "mig-0302"])
def test_an_instance_goes_by_its_name_and_its_uuid(name: str) -> None:
    """The name of the report and the metrics, and what nvidia-smi calls it."""
    assert choose((name,), (*INSTANCES, GPUS[1])) == ((INSTANCES[3],), ())


@pytest.mark.parametrize("name", ["cuda:0", GPUS[0].uuid, "0a:00.0"])
def test_the_name_of_a_gpu_means_all_its_instances(name: str) -> None:
    """By index, UUID or PCI address; the whole GPU beside is not meant."""
    assert choose((name,), (*INSTANCES, GPUS[1])) == (INSTANCES, ())


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("cuda", True),
        ("cuda:3", True),
        ("cuda:0:3", True),
        ("xpu:1", True),
        ("GPU-01020304", True),
        ("MIG-GPU-01020304-0506/7/0", True),
        ("00000000:0B:00.0", True),
        ("0b:00.0", True),
        ("cpu", False),
        ("cpu:0", False),
        ("cuda3", False),
        ("3", False),
        ("GPU-", False),
        ("", False),
    ],
)
def test_a_typing_error_is_no_promise(name: str, may: bool) -> None:  # noqa: FBT001
    """Only what could be the name of an accelerator promises that it is there."""
    assert may_be_accelerator(name) is may


def test_an_instance_is_cuda_0_in_its_own_process() -> None:
    """A name of three parts is none that torch knows."""
    assert INSTANCES[3].torch_name == "cuda:0"
    assert GPUS[1].torch_name == "cuda:1"


def test_an_instance_that_others_fill_is_busy_and_its_neighbour_is_not() -> None:
    """Politeness goes by the instance's own processes and memory."""
    busy = INSTANCES[0].model_copy(update={"process_count": 1, "memory_free_bytes": 1 << 28})

    assert "1 other process on it leave" in why_busy(TENSOR_OPS, busy)
    assert why_busy(TENSOR_OPS, INSTANCES[1]) == ""


def test_a_type_means_all_its_devices() -> None:
    """`cuda` is every CUDA device."""
    assert choose(("cuda",), GPUS) == (GPUS, ())


BUSY: dict[str, tuple[dict[str, Any], str]] = {
    "exclusive": ({"process_count": 1, "compute_mode": "exclusive_process"}, "exclusive_process"),
    "full": ({"process_count": 2, "memory_free_bytes": 1 << 28}, "2 other processes on it leave"),
}


@pytest.mark.parametrize(("fields", "text"), BUSY.values(), ids=BUSY)
def test_a_gpu_that_others_hold_is_busy(fields: dict[str, object], text: str) -> None:
    """Another's exclusive mode, and another's memory."""
    assert text in why_busy(TENSOR_OPS, GPUS[0].model_copy(update=fields))


def test_a_quick_probe_fits_beside_others_and_a_deep_one_does_not() -> None:
    """Within its memory budget a quick probe disturbs nobody; a dearer one loads the GPU."""
    shared = GPUS[0].model_copy(update={"process_count": 1})

    assert why_busy(TENSOR_OPS, shared) == ""
    assert "deep" in why_busy(replace(TENSOR_OPS, profile="deep"), shared)


def test_who_keeps_it_busy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Program, process and memory where they are known, and how much the GPU is used."""
    monkeypatch.setattr(processes, "name", lambda pid: "python3" if pid == 12 else "")
    users = (GpuProcess(pid=12, memory_bytes=3 << 30), GpuProcess(pid=77))
    shared = GPUS[0].model_copy(
        update={"process_count": 2, "processes": users, "utilization_percent": 87}
    )
    deep = replace(TENSOR_OPS, profile="deep")

    assert why_busy(deep, shared) == (
        "2 other processes on it, and a deep probe would disturb them: "
        "python3 (pid 12, 3072 MiB), pid 77; in use 87 % of the time"
    )
    assert why_busy(TENSOR_OPS, shared) == ""


def test_what_may_be_left_over_is_told_with_how_to_end_it() -> None:
    """It holds memory and nobody computes; what computes, or holds little, is left alone."""
    deep = replace(TENSOR_OPS, profile="deep")
    users = (GpuProcess(pid=12, memory_bytes=3 << 30), GpuProcess(pid=77, memory_bytes=9 << 20))
    held = GPUS[0].model_copy(
        update={"process_count": 2, "processes": users, "utilization_percent": 0}
    )
    small = held.model_copy(update={"processes": users[1:]})
    used = held.model_copy(update={"utilization_percent": 1})

    assert why_busy(deep, held).endswith(
        "in use 0 % of the time; if no job needs what computes nothing, on the node: kill 12"
    )
    assert "kill" not in why_busy(deep, small) + why_busy(deep, used)
    assert why_busy(TENSOR_OPS, held) == ""


def test_who_is_not_listed_and_computes_keeps_it_busy() -> None:
    """Use and memory tell of them; either alone is what a board does by itself."""
    deep = replace(TENSOR_OPS, profile="deep")
    both = {"utilization_percent": 40, "memory_used_bytes": 5 << 30}
    used = GPUS[0].model_copy(update=both)

    assert why_busy(deep, used) == (
        "in use 40 % of the time with 5120 MiB taken, by whom is not told"
    )
    assert why_busy(TENSOR_OPS, used) == ""
    assert why_busy(deep, used, gives_way=False) == ""
    for field, value in (("utilization_percent", 5), ("memory_used_bytes", 200 << 20)):
        assert why_busy(deep, used.model_copy(update={field: value})) == ""
        assert why_busy(deep, used.model_copy(update={field: None})) == ""


def test_a_burn_disturbs_others_and_needs_its_memory_all_the_same() -> None:
    """Whoever asks for it has decided; an exclusive mode and full memory let nobody in."""
    deep = replace(TENSOR_OPS, profile="deep")
    shared = GPUS[0].model_copy(update={"process_count": 1})

    assert why_busy(deep, shared, gives_way=False) == ""
    for fields, text in BUSY.values():
        held = GPUS[0].model_copy(update=fields)
        assert text in why_busy(deep, held, gives_way=False)


def test_little_memory_without_others_is_not_contention() -> None:
    """Nobody is there to be polite to: the probes run, and cuda_available tells of the memory."""
    assert why_busy(TENSOR_OPS, GPUS[0].model_copy(update={"memory_free_bytes": 1})) == ""


def test_what_nvml_cannot_tell_is_no_reason_to_skip() -> None:
    """Unknown is not busy."""
    unknown = {"process_count": None, "memory_free_bytes": None, "compute_mode": None}

    assert why_busy(TENSOR_OPS, GPUS[0].model_copy(update=unknown)) == ""
    beside_others = {**unknown, "process_count": 1}
    assert why_busy(TENSOR_OPS, GPUS[0].model_copy(update=beside_others)) == ""


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({}, 16),  # a core each
        ({"memory_free_bytes": 16 << 30}, 8),
        ({"memory_free_bytes": 1 << 20}, 1),
        ({"memory_free_bytes": None}, 1),
        ({"compute_mode": "exclusive_process"}, 1),
    ],
)
def test_as_many_processes_as_cores_and_memory_allow(changed: dict[str, Any], count: int) -> None:
    """Each with a context and the memory of the dearest probe, in half of what is free."""
    gpu = GPUS[0].model_copy(update=changed)
    cheap = replace(TENSOR_OPS, memory_bytes=1 << 20)
    dear = replace(TENSOR_OPS, memory_bytes=256 << 20)

    assert side_by_side([cheap, dear], gpu, cores=16) == count
    assert side_by_side([dear], CPU, cores=3) == 3


def test_half_of_the_memory_is_left_to_whoever_comes() -> None:
    """Whatever the board: all rows together, and what one of them takes where there is much."""
    heavy = [one for one in CATALOG if one.profile == "standard" and not one.alone]
    context = 768 << 20
    most = max(one.memory_bytes for one in heavy)
    more = max(one.optional_memory_bytes for one in heavy)
    for gib in range(4, 200):
        free = gib << 30
        rows = side_by_side(heavy, GPUS[0].model_copy(update={"memory_free_bytes": free}), 4)
        # A probe takes more only where at least twice as much is free.
        taken = rows * (context + most) + (more if free >= 2 * more else 0)
        assert rows == 1 or taken <= free // 2


@pytest.mark.parametrize(
    "name",
    [
        *(
            "cpu",
            "CPU",
            "cuda",
            "cuda:0",
            "CUDA:1",
            "cuda:0:3",
            "xpu",
            "xpu:1",
            "npu:0",
            "tpu",
            "mps",
        ),
        *("musa:2", "hpu", "mlu:0", "mtia", "fake:0", "privateuseone:0", "tpu"),
        *("GPU-7d8c1b0a", "MIG-7d8c1b0a-1", "0f:00.0", "00000000:0F:00.0"),
    ],
)
def test_what_may_be_a_device_is_no_typing_error(name: str) -> None:
    """A back-end that nobody here has heard of may be one."""
    assert why_no_name(name) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpu", "did you mean 'cuda'?"),
        ("gpu:1", "did you mean 'cuda:1'?"),
        ("gpu0", "did you mean 'cuda:0'?"),
        ("GPU 3", "did you mean 'cuda:3'?"),
        ("hip:2", "did you mean 'cuda:2'?"),
        ("7", "did you mean 'cuda:7'?"),
        ("cuda0", "did you mean 'cuda:0'?"),
        ("cud:0", "did you mean 'cuda:0'?"),
        ("cuad", "did you mean 'cuda'?"),
        ("cpu:0", "did you mean 'cpu'?"),
        ("cpuu", "did you mean 'cpu'?"),
        ("", "write cuda:0, a UUID, a PCI id or cpu"),
        ("gpu-7", "write cuda:0, a UUID, a PCI id or cpu"),
        ("what is", "write cuda:0, a UUID, a PCI id or cpu"),
    ],
)
def test_a_typing_error_is_told(name: str, meant: str) -> None:
    """A device that was asked for and is not there is a failed node: `cud:0` never was one."""
    assert why_no_name(name).startswith(f"{name!r} is no device's name; ")
    assert why_no_name(name).endswith(meant)


def test_with_mps_an_exclusive_mode_is_that_of_its_server() -> None:
    """It lets in whoever asks: others count as they do on any GPU."""
    held = {"compute_mode": "exclusive_process", "process_count": 1}
    gpu = GPUS[0].model_copy(update={**held, "backend": "cuda-mps"})

    assert why_busy(TENSOR_OPS, gpu) == ""
    assert "deep" in why_busy(replace(TENSOR_OPS, profile="deep"), gpu)
    assert "exclusive" in why_busy(TENSOR_OPS, gpu.model_copy(update={"backend": "cuda"}))


def test_a_plan_may_be_about_some_devices_alone() -> None:
    """By UUID or by name; a probe that is not named runs on all, and a GPU that is gone on none."""
    only_on = {LINALG.name: frozenset({"GPU-1", "GPU-9"}), TENSOR_OPS.name: frozenset({"cuda:0"})}
    plan = Plan((TENSOR_OPS, LINALG, AUTOGRAD), "standard", "schedule", only_on=only_on)
    run = Run(plan, Settings(), lambda _: None, {}, early=None, nice=0)
    devices = [
        Device(name=f"cuda:{n}", type="cuda", index=n, uuid=f"GPU-{n}").model_dump()
        for n in range(3)
    ]
    run._plan_devices({"devices": devices})
    alone = [(spec.name, device.name) for spec, device in run._planned if spec is not AUTOGRAD]

    assert alone == [("tensor_ops", "cuda:0"), ("linalg", "cuda:1")]
    assert sum(spec is AUTOGRAD for spec, _ in run._planned) == 3
