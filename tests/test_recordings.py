"""Reports recorded on real GPUs, judged again by today's rules, sound and with every fault."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from probes.autograd import probe as autograd
from probes.contract import Comparison, Observation, Result
from probes.cuda_available import probe as cuda_available
from probes.device_transfer import probe as device_transfer
from probes.gradcheck import probe as gradcheck
from probes.linalg import probe as linalg
from probes.special_functions import probe as special_functions
from probes.tensor_ops import probe as tensor_ops
from probes.torch_version import probe as torch_version
from probes.train_eval import probe as train_eval
from tests.probes.edits import edited
from tests.probes.verdicts import tripped
from tools import proven as maker
from validator.report import Report

FILES = sorted(maker.RECORDINGS.glob("*.json"))
H200 = maker.RECORDINGS / "h200-torch2.11-cu130.json"

WRONG = Comparison(
    operation="planted", elements=9, mismatches=1, first_index=(3,), worst_index=(3,), xor_mask="1"
)
#: Where a probe keeps the comparisons of a check.
FAMILIES: dict[str, Callable[[Any], dict[str, tuple[Comparison, ...]]]] = {
    "tensor_ops": lambda seen: seen.families,
    "autograd": lambda seen: seen.families,
    "gradcheck": lambda seen: seen.families,
    "linalg": lambda seen: seen.families,
    "special_functions": lambda seen: seen.families,
    "train_eval": lambda seen: seen.comparisons,
    "device_transfer": lambda seen: seen.comparisons,
}


@cache
def recorded(file: Path) -> Report:
    """A recorded report."""
    return maker.recording(file)


def result_of(probe: str) -> Result:
    """The H200's result of one probe."""
    return next(result for result in recorded(H200).results if result.probe == probe)


def judge(probe: str, seen: Observation) -> set[str]:
    """The checks that an observation trips."""
    modules: dict[str, Any] = {
        "autograd": autograd,
        "gradcheck": gradcheck,
        "linalg": linalg,
        "special_functions": special_functions,
        "cuda_available": cuda_available,
        "device_transfer": device_transfer,
        "tensor_ops": tensor_ops,
        "torch_version": torch_version,
        "train_eval": train_eval,
    }
    module = modules[probe]
    # What TF32 may shorten is a failure only where nobody allowed it.
    exact = (tensor_ops.Limits(float32_products="exact"),) if module is tensor_ops else ()
    return tripped(module.judge(seen, *exact))


#: Checks that found a defect of the recorded torch -> its issue.
DEFECTS: Final = {"layers.average_pooling": "https://github.com/pytorch/pytorch/issues/188344"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recorded_node_has_the_same_verdicts_today(file: Path) -> None:
    """No check that passed on real hardware fails or warns by rules that came later."""
    for result in recorded(file).results:
        findings = {finding.id: finding.status for finding in maker.findings_of(result)}
        before = {finding.id: finding.status for finding in result.findings}

        assert result.observation is not None, result.probe
        bad = {name for name, status in findings.items() if status in {"fail", "warn"}}
        assert bad <= DEFECTS.keys()
        assert {before[name] for name in bad} <= {"warn"}, "unproven then, and since"
        assert before.keys() <= findings.keys(), "a check that was recorded is gone"
        for name in before.keys() - bad:  # what was left out by the settings of then may pass
            assert findings[name] in {before[name], "pass"}, name


def families() -> Iterator[tuple[str, str]]:
    """Every check of operations that the H200's report holds."""
    for probe, of in FAMILIES.items():
        yield from ((probe, check) for check in of(maker.observation_of(result_of(probe))))


@pytest.mark.parametrize(("probe", "check"), list(families()))
def test_a_wrong_operation_on_the_h200_fails_its_check_alone(probe: str, check: str) -> None:
    """Each family's verdict on a GPU, from what a GPU gave: one wrong element and it trips."""
    seen = maker.observation_of(result_of(probe))
    field = "comparisons" if probe in {"train_eval", "device_transfer"} else "families"
    groups = FAMILIES[probe](seen)
    spoiled = seen.model_copy(update={field: {**groups, check: (*groups[check], WRONG)}})

    assert judge(probe, spoiled) == {f"{probe}.{check}"}


def facts() -> Iterator[tuple[str, str, str]]:
    """Every fact of autograd's engine in the H200's report: probe, check, name."""
    for probe in ("autograd", "gradcheck"):
        seen: Any = maker.observation_of(result_of(probe))
        for check, known in seen.facts.items():
            yield from ((probe, check, name) for name in known)


@pytest.mark.parametrize(("probe", "check", "name"), list(facts()))
def test_a_fact_of_the_engine_that_is_another_on_the_h200_fails_its_check(
    probe: str, check: str, name: str
) -> None:
    """Each fact counts, whatever the device."""
    seen: Any = maker.observation_of(result_of(probe))
    spoiled = {**seen.facts, check: {**seen.facts[check], name: "another"}}

    assert judge(probe, seen.model_copy(update={"facts": spoiled})) == {f"{probe}.{check}"}


NO_KERNEL: dict[str, Any] = {"kernel.comparisons": (), "kernel.first_s": None}
UNSUPPORTED = {
    "torch.version": "2.1.0+cu130",
    "distributions.0.version": "2.1.0",
    "build.compiled_torch": "2.1.0",
}

#: (check, changes to what the H200's node said that trip it and nothing else)
EDITS: list[tuple[str, dict[str, Any]]] = [
    ("cuda_available.device_nodes", {"nodes.2.problem": "EIO: Input/output error", **NO_KERNEL}),
    ("cuda_available.driver_starts", {"driver.init_code": 999, "driver.init_name": "UNKNOWN"}),
    ("cuda_available.nvml_answers", {"nvml.gpus.0.error": "nvmlDeviceGetMemoryInfo: GPU is lost"}),
    ("cuda_available.torch_starts", {"framework.warnings": ("No CUDA GPUs are available",)}),
    ("cuda_available.is_available", {"framework.available": False}),
    ("cuda_available.visible_devices", {"variables.CUDA_VISIBLE_DEVICES": "0,7"}),
    ("cuda_available.counts_agree", {"driver.device_count": 2}),
    ("cuda_available.accelerator_api", {"generic.type": "xpu"}),
    ("cuda_available.kernel", {"kernel.comparisons.1": WRONG}),
    ("cuda_available.first_kernel", {"kernel.first_s": 90.0}),
    ("cuda_available.identity", {"framework.name": "NVIDIA A100-SXM4-80GB"}),
    ("cuda_available.memory_size", {"framework.memory_total_bytes": 80 * 1024**3}),
    ("cuda_available.memory_free", {"nvml.gpus.0.memory_free_bytes": 2**28}),
    ("cuda_available.compute_mode", {"nvml.gpus.0.compute_mode": "prohibited"}),
    ("torch_version.imports", {"torch.compiled": None}),
    ("torch_version.metadata", {"distributions.0.version": "2.10.0"}),
    ("torch_version.compiled_version", {"build.compiled_torch": "2.10.0"}),
    ("torch_version.requirements", {"needs.0.installed": None}),
    ("torch_version.version", UNSUPPORTED),
    ("torch_version.build_kind", {"hardware.vendors": ("amd",)}),
    ("torch_version.local_tag", {"torch.version": "2.11.0+cu126"}),
    ("torch_version.driver_cuda", {"driver.driver_version": 11080}),
    ("torch_version.driver_files", {"kernel_module": "535.129.03"}),
    ("torch_version.architectures", {"build.arch_flags": ("sm_100", "sm_120")}),
    ("torch_version.libcuda", {"driver.path": "/usr/local/cuda/lib64/stubs/libcuda.so"}),
    ("torch_version.cudnn", {"cudnn_version": None, "cudnn_error": "RuntimeError: incompatible"}),
    ("torch_version.cudnn_libraries", {"libraries.0.path": "/opt/conda/lib/libcudnn_graph.so.9"}),
    ("torch_version.nccl", {"nccl_loaded": (3, 0, 0)}),
    ("torch_version.loaded_once", {"libraries.23.family": "cuda"}),
    ("torch_version.foreign_libraries", {"ahead": ("/usr/local/cuda/lib64/libcudnn",)}),
    ("torch_version.numpy_to_torch", {"numpy_to_torch.0": WRONG}),
    ("torch_version.torch_to_numpy", {"torch_to_numpy.0": WRONG}),
    ("torch_version.numpy_scalars", {"numpy_scalars.0": WRONG}),
]


@pytest.mark.parametrize(("check", "changes"), EDITS, ids=[check for check, _ in EDITS])
def test_a_fault_of_the_h200s_node_trips_its_check_alone(
    check: str, changes: dict[str, Any]
) -> None:
    """Each verdict on driver, NVML, libraries and versions, from what a real node said."""
    probe = check.partition(".")[0]
    # Only where no kernel ran do closed device nodes count, and that is a finding of its own.
    also = {"cuda_available.kernel"} if check == "cuda_available.device_nodes" else set()

    assert judge(probe, edited(maker.observation_of(result_of(probe)), changes)) == {check} | also


def test_every_verdict_on_the_gpu_is_judged_from_the_recording() -> None:
    """No check that passed on the H200 is left without a fault here."""
    covered = {check for check, _ in EDITS}
    covered |= {f"{probe}.{check}" for probe, check in families()}
    covered |= {f"{probe}.{check}" for probe, check, _ in facts()}
    passed = {
        finding.id
        for result in recorded(H200).results
        for finding in result.findings
        if finding.status == "pass" and result.probe != "numpy_sharing"  # of the host's CPU
    }

    # A promise of the user's that no observation holds: tested where limits are.
    assert passed - covered == {"cuda_available.enough_gpus"}
