"""Settings in force: torch's own here, each change told, and a fingerprint of them all."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from probes.catalog import TORCH_SETTINGS
from probes.contract import Finding
from probes.kit import defaults
from probes.torch_settings import probe
from probes.torch_settings.faults import FAULTS
from tests.probes.under_fault import tripped_by_fault
from tests.probes.verdicts import ids, tripped

OWN = probe.observe("cpu")


def judged(observation: probe.Observation, **limits: Any) -> dict[str, Finding]:
    """The findings by check."""
    found = list(probe.judge(observation, probe.Limits(**limits)))
    assert ids(found) == set(TORCH_SETTINGS.check_ids)
    return {finding.id.partition(".")[2]: finding for finding in found}


def changed(**settings: str) -> probe.Observation:
    """Torch's own settings but for some, by the end of their name."""
    new = {
        name: next((value for end, value in settings.items() if name.endswith(end)), old)
        for name, old in OWN.settings.items()
    }
    assert new != OWN.settings
    return OWN.model_copy(update={"settings": new})


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of this shell's."""
    for name in probe.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_torch_s_own_settings_pass() -> None:
    """And every question has an answer, or is not in this release."""
    assert tripped(judged(probe.observe("cpu")).values()) == set()
    assert OWN.settings["get_float32_matmul_precision()"] == "highest"
    assert OWN.settings["is_grad_enabled()"] == "True"
    assert set(OWN.settings) == set(probe.QUESTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_its_check_alone(fault: Any) -> None:
    """In a process of its own: not every setting can be put back."""
    assert tripped_by_fault("torch_settings")[fault.name] == set(fault.trips)


@pytest.mark.parametrize(
    ("settings", "check", "told"),
    [
        ({"matmul_precision()": "medium"}, "matmul_precision", "'medium'"),
        ({"cuda.matmul.fp32_precision": "tf32"}, "matmul_precision", "cuda.matmul.fp32"),
        ({"mkldnn.matmul.fp32_precision": "bf16"}, "matmul_precision", "mkldnn.matmul.fp32"),
        ({"allow_fp16_accumulation": "True"}, "matmul_precision", "fp16_accumulation"),
        ({"is_inference_mode_enabled()": "True"}, "gradients", "inference_mode"),
        ({"mkldnn.enabled": "False"}, "kernels", "mkldnn"),
        ({"math_sdp_enabled()": "False"}, "kernels", "math_sdp"),
        ({"mem_efficient_sdp_enabled()": "False"}, "kernels", "mem_efficient"),
    ],
)
def test_each_switch_is_named(settings: dict[str, str], check: str, told: str) -> None:
    """By the check that is about it, as a warning."""
    found = judged(changed(**settings))

    assert tripped(found.values()) == {f"torch_settings.{check}"}
    assert found[check].status == "warn"
    assert told in found[check].message


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("NVIDIA_TF32_OVERRIDE", "0", ""),
        ("NVIDIA_TF32_OVERRIDE", "1", "matmul_precision"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1", "matmul_precision"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "strict", ""),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "ANY", "matmul_precision"),
        ("HSA_OVERRIDE_GFX_VERSION", "9.4.2", "variables"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "0", ""),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "on", ""),
        ("CUBLAS_EMULATE_SINGLE_PRECISION", "1", "matmul_precision"),
        ("CUBLAS_EMULATE_SINGLE_PRECISION", "0", ""),
        ("CUBLAS_EMULATE_DOUBLE_PRECISION", "1", "variables"),
        ("ATEN_CPU_CAPABILITY", "default", "variables"),
        ("PYTORCH_JIT", "1", ""),
        ("PYTORCH_JIT", "0", "variables"),
        ("TORCHDYNAMO_DISABLE", "false", ""),
        ("TORCHDYNAMO_DISABLE", "1", "variables"),
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "0", "variables"),
        ("TORCH_LINALG_PREFER_CUSOLVER", "0", ""),
        ("CUDA_LAUNCH_BLOCKING", "0", ""),
        ("CUDA_LAUNCH_BLOCKING", "1", "variables"),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", ""),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8", ""),
    ],
)
def test_variables(name: str, value: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that change results are told; others are in the fingerprint alone."""
    monkeypatch.setenv(name, value)
    seen = probe.observe("cpu")

    assert tripped(judged(seen).values()) == ({f"torch_settings.{check}"} if check else set())
    assert seen.fingerprint != OWN.fingerprint


def test_settings_that_a_release_does_not_have_are_no_change() -> None:
    """Old and new releases have other switches."""
    missing = OWN.model_copy(update={"settings": dict.fromkeys(OWN.settings, "cannot be told")})
    mixed = changed(**{"matmul_precision()": "PyTorch is checking whether allow_tf32 is set"})

    assert tripped(judged(missing).values()) == set()
    assert tripped(judged(mixed).values()) == set()
    old = {name: value for name, value in OWN.settings.items() if "fp32" not in name}
    told = {**old, "backends.cudnn.fp32_precision": "cannot be told"}
    assert (
        OWN.model_copy(update={"settings": old}).fingerprint
        == OWN.model_copy(update={"settings": told}).fingerprint
    )


def test_the_fingerprint_is_that_of_the_settings() -> None:
    """Equal where they are, and other where one of them is."""
    assert probe.observe("cpu").fingerprint == probe.observe("cpu").fingerprint
    assert len({changed(benchmark="True").fingerprint, OWN.fingerprint}) == 2
    assert OWN.model_copy(update={"changed_defaults": {"a": "b"}}).fingerprint != OWN.fingerprint
    (measured,) = probe.measure(OWN)
    assert f"{int(measured.value):012x}" == OWN.fingerprint


SWITCHES: dict[str, Callable[[bool], Any]] = {
    "deterministic fill": torch._C._set_deterministic_fill_uninitialized_memory,
    "threads of backward": torch._C._set_multithreading_enabled,
    "sums of half attention": torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp,
    "the order of einsum": lambda on: setattr(torch.backends.opt_einsum, "enabled", on),
    "cudnn.benchmark": lambda on: setattr(torch.backends.cudnn, "benchmark", on),
}


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)
def test_each_of_torch_s_switches_is_in_the_fingerprint(switch: Callable[[bool], Any]) -> None:
    """On and off differ, and back again is what it was."""
    found = []
    before = probe.observe("cpu")
    try:
        for on in (True, False, True):
            switch(on)
            found.append(probe.observe("cpu").fingerprint)
    finally:
        for on in (False, True):
            switch(on)
            if probe.observe("cpu").fingerprint == before.fingerprint:
                break

    assert len(set(found)) == 2
    assert found[0] == found[2]
    assert before.fingerprint == probe.observe("cpu").fingerprint


@pytest.mark.slow
def test_the_fingerprint_is_that_of_every_process() -> None:
    """Whatever was imported first, and however many threads there are."""
    program = "from probes.torch_settings import probe; print(probe.observe('cpu').fingerprint)"
    found = {
        subprocess.run(
            [sys.executable, "-c", f"{first}\n{program}"],
            env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for first, threads in (("", "1"), ("import numpy, torch.optim, torch._dynamo", "2"))
    }

    assert found == {f"{OWN.fingerprint}\n"}


def test_settings_that_are_promised_pass() -> None:
    """A site that wants TF32 says so by the fingerprint; any other one then fails."""
    wanted = changed(**{"matmul_precision()": "high"})

    assert tripped(judged(wanted, fingerprint=wanted.fingerprint).values()) == set()
    broken = judged(OWN, fingerprint=wanted.fingerprint)["fingerprint"]
    assert (broken.status, broken.action) == ("fail", "fix_image")


def test_defaults_that_the_worker_restores_are_in_it() -> None:
    """As they were before."""
    torch.set_default_dtype(torch.float64)
    try:
        with defaults.pinned():
            seen = probe.observe("cpu")
    finally:
        torch.set_default_dtype(torch.float32)

    assert seen.changed_defaults == {"torch.get_default_dtype()": "torch.float64"}
