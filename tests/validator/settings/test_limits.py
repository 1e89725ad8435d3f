"""Limits of probes are checked when the settings are read: no run is spoilt by a wrong one."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from probes.catalog import BY_NAME, CATALOG
from probes.contract import ProbeSpec
from tests.test_layers import modules_after
from validator.engine.plan import limits
from validator.settings.loading import load
from validator.settings.values import SettingsError

PREFIX = "GPU_VALIDATOR_PROBES__"

WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": (
        "cuda_available",
        {"fre_memory_bytes": 1},
        (
            "unknown key 'probes.cuda_available.limits.fre_memory_bytes'; "
            "did you mean 'probes.cuda_available.limits.free_memory_bytes'?"
        ),
    ),
    "no number": (
        "cuda_available",
        {"free_memory_bytes": "lots"},
        (
            "probes.cuda_available.limits.free_memory_bytes: Input should be a valid integer, "
            "unable to parse string as an integer (got 'lots')"
        ),
    ),
    "negative": (
        "cuda_available",
        {"first_kernel_s": -1},
        (
            "probes.cuda_available.limits.first_kernel_s: Input should be greater than or equal to "
            "0 (got -1)"
        ),
    ),
    "neither number nor word": (
        "cuda_available",
        {"gpus": "atuo"},
        (
            "probes.cuda_available.limits.gpus: 'atuo' is not one of auto or a number; "
            "did you mean 'auto'?"
        ),
    ),
    "no list": (
        "cuda_available",
        {"compute_modes": 3},
        "probes.cuda_available.limits.compute_modes: Input should be a valid tuple (got 3)",
    ),
    "no mode": (
        "cuda_available",
        {"compute_modes": ["exclusive"]},
        (
            "probes.cuda_available.limits.compute_modes: 'exclusive' is no compute mode; known: "
            "default, exclusive_thread, prohibited, exclusive_process"
        ),
    ),
    "no JSON": (
        "cuda_available",
        {"compute_modes": "[default"},
        "probes.cuda_available.limits.compute_modes: '[default' is no list in JSON",
    ),
    "no choice": (
        "tensor_ops",
        {"float32_products": "exat"},
        (
            "probes.tensor_ops.limits.float32_products: 'exat' is not one of as_set, exact; "
            "did you mean 'exact'?"
        ),
    ),
    "no versions": (
        "torch_version",
        {"torch": "=> 2"},
        "probes.torch_version.limits.torch: Invalid specifier: '=> 2'; write a PEP 440 specifier",
    ),
    "of a probe that has none": (
        "autograd",
        {"error": 1},
        (
            "probes.autograd.limits: autograd has no limits (got {'error': 1}); probes that have "
            "some: torch_version, cuda_available, telemetry, container, torch_settings, tensor_ops"
        ),
    ),
}


@pytest.mark.parametrize(("probe", "wrong", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_limit_is_refused(probe: str, wrong: dict[str, Any], text: str) -> None:
    """The key, the value, and what would be right."""
    with pytest.raises(SettingsError) as refused:
        load(flags={"probes": {probe: {"limits": wrong}}})

    assert str(refused.value).startswith(text)


def test_every_wrong_limit_is_told_at_once_with_its_file(tmp_path: Path) -> None:
    """Nobody mends a file one error at a time."""
    file = tmp_path / "settings.yaml"
    file.write_text(
        "probes:\n"
        "  cuda_available: {limits: {gpus: x, first_kernel_s: y}}\n"
        "  autograd: {limits: {a: 1}}\n",
        encoding="utf-8",
    )
    with pytest.raises(SettingsError) as refused:
        load(file)

    told = str(refused.value).split("; ")
    assert told[0].startswith(f"{file}:2: probes.cuda_available.limits.gpus: 'x'")
    assert told[1].startswith(f"{file}:2: probes.cuda_available.limits.first_kernel_s: ")
    assert told[2].startswith(f"{file}:3: probes.autograd.limits: ")


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("CUDA_AVAILABLE__LIMITS__FREE_MEMORY_BYTE", "1", "unknown key 'probes.cuda_available."),
        ("CUDA_AVAILABLE__LIMITS__GPUS", "many", "probes.cuda_available.limits.gpus: 'many' is"),
        ("TENSOR_OPS__LIMITS", '{"float32_products": 1}', "probes.tensor_ops.limits.float32_prod"),
        ("AUTOGRAD__LIMITS__ERROR", "1", "probes.autograd.limits: autograd has no limits"),
    ],
)
def test_a_wrong_limit_in_the_environment_names_its_variable(
    variable: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same check, whatever the source."""
    monkeypatch.setenv(PREFIX + variable, value)
    with pytest.raises(SettingsError) as refused:
        load()

    assert str(refused.value).startswith(f"environment variable {PREFIX}{variable}: {text}")


#: What `cuda_available` is told of a node by the defaults.
NODE = {"gpus": "auto", "mig_instances": None, "asked": ()}

RIGHT: dict[str, tuple[dict[str, str], str, dict[str, Any]]] = {
    "number": (
        {"CUDA_AVAILABLE__LIMITS__FREE_MEMORY_BYTES": "12"},
        "cuda_available",
        {**NODE, "free_memory_bytes": 12},
    ),
    "word": ({"CUDA_AVAILABLE__LIMITS__GPUS": "auto"}, "cuda_available", NODE),
    "list": (
        {"CUDA_AVAILABLE__LIMITS__COMPUTE_MODES": "default, exclusive_process"},
        "cuda_available",
        {**NODE, "compute_modes": ["default", "exclusive_process"]},
    ),
    "list in JSON": (
        {"CUDA_AVAILABLE__LIMITS__COMPUTE_MODES": '["prohibited"]'},
        "cuda_available",
        {**NODE, "compute_modes": ["prohibited"]},
    ),
    "switch": (
        {"TORCH_VERSION__LIMITS__FORWARD_COMPAT": "true"},
        "torch_version",
        {"torch": None, "gpus": "auto", "forward_compat": True},
    ),
}


@pytest.mark.parametrize(("variables", "probe", "expected"), RIGHT.values(), ids=RIGHT)
def test_right_limits_reach_the_probe_in_their_own_types(
    variables: dict[str, str], probe: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment gives text, and the probe gets numbers, lists and switches."""
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)

    assert limits(BY_NAME[probe], load()) == expected


@pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.name)
@pytest.mark.torch
def test_the_limits_in_the_catalogue_are_those_of_the_probe(spec: ProbeSpec) -> None:
    """Settings and worker read the same model, and a probe without limits takes none."""
    probe = importlib.import_module(spec.module)

    assert getattr(probe, "Limits", None) is spec.limits


def test_reading_limits_needs_no_torch() -> None:
    """The daemon reads them too, and never imports what may hang."""
    both = ("cuda_available", "torch_version")
    flags = {"probes": {name: {"limits": {"gpus": 1}} for name in both}}
    program = f"from validator.settings.loading import load; load(flags={flags!r})"

    assert not {"torch", "numpy", "pynvml"} & modules_after(program)
