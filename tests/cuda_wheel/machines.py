"""Sick machines as the fake drivers act them, and what the texts heard there are called."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from probes.kit.symptoms import SYMPTOMS

ROOT: Final = Path(__file__).parents[2]
RECORDED: Final = ROOT / "tests" / "golden" / "cuda_errors.json"

#: Known causes, hints and actions, by name.
NAMED: Final = {symptom.name: symptom for symptom in SYMPTOMS}

#: What cuInit returns -> the symptom that both its name and torch's text are.
CODES: Final = {
    3: "driver_not_initialized",
    34: "stub_library",
    46: "device_busy",
    100: "no_device",
    101: "invalid_device_ordinal",
    802: "fabric_not_ready",
    803: "driver_combination",
    804: "forward_compatibility",
    805: "mps_unreachable",
    999: "unknown_error",
}

#: A machine on which torch cannot start -> how the fakes act it, and the symptom of torch's text.
TORCH: Final[dict[str, tuple[dict[str, int], str]]] = {
    **{f"cuInit {code}": ({"FAKE_CUDA_INIT": code}, name) for code, name in CODES.items()},
    "driver of CUDA 11.4": ({"FAKE_CUDA_VERSION": 11040}, "driver_too_old"),
    "no driver": ({}, "no_driver"),
}

#: The same for NVML: what its start, or the handle of GPU 0, returns.
NVML: Final[dict[str, tuple[dict[str, int], str]]] = {
    "start 9": ({"FAKE_NVML_INIT": 9}, "nvml_driver_not_loaded"),
    "start 18": ({"FAKE_NVML_INIT": 18}, "nvml_version_mismatch"),
    "start 999": ({"FAKE_NVML_INIT": 999}, "lost_access"),
    "handle 15": ({"FAKE_NVML_LOST": 0, "FAKE_NVML_LOST_CODE": 15}, "gpu_lost"),
    "handle 16": ({"FAKE_NVML_LOST": 0, "FAKE_NVML_LOST_CODE": 16}, "gpu_reset_required"),
    "no driver": ({}, "nvml_library_missing"),
}

#: Starts torch and NVML, and prints what each said.
_LISTENER: Final = """
import importlib.metadata, json, warnings
import torch
from probes.node import nvml
error = ""
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    torch.cuda.is_available()
management = nvml.read()
print(json.dumps({
    "torch": torch.__version__,
    "pynvml": importlib.metadata.version("nvidia-ml-py"),
    "error": error,
    "warnings": [str(each.message) for each in caught],
    "nvml": management.error or "".join(gpu.error for gpu in management.gpus),
}))
"""


def environment(libraries: Path | None, **fakes: str | int) -> dict[str, str]:
    """This process's variables without those that steer CUDA or us, and with the fakes' own.

    The fake driver is of CUDA 13.0, new enough for every build. Without `libraries` there is none.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("CUDA_", "NVIDIA_", "GPU_VALIDATOR_", "FAKE_", "LD_"))
    }
    path = {"LD_LIBRARY_PATH": str(libraries)} if libraries else {}
    # A driver that is not there proves nothing, and its faults have to fail all the same.
    told = {"FAKE_CUDA_VERSION": 13000, "GPU_VALIDATOR_EXPECT__UNPROVEN": "fail", **fakes}
    return {**kept, **path, **{key: str(value) for key, value in told.items()}}


def listen(python: str, libraries: Path | None, **fakes: int) -> dict[str, Any]:
    """What torch and pynvml of that interpreter say on such a machine."""
    child = subprocess.run(
        [python, "-c", _LISTENER],
        env=environment(libraries, **fakes),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    told: dict[str, Any] = json.loads(child.stdout)
    return told


def recorded() -> dict[str, Any]:
    """The texts of all versions that were listened to."""
    texts: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return texts
