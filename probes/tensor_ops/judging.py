"""The finding for one family: skipped, allowed by the settings, inconclusive, wrong or right."""

from typing import Final

import torch

from probes.contract import Finding
from probes.kit.families import HINT, Observation, family_finding, wrong_operations
from probes.tensor_ops.allowances import is_inconclusive, shortening_reason
from probes.tensor_ops.spec import Limits

_HINTS: Final[dict[str, str]] = {
    "subnormals": "a library built with -ffast-math, or torch.set_flush_denormal(True), turned "
    "subnormals off: find the import after which `torch.tensor([1e-40]) * 1` is zero",
    "float32_matmul": "see `env | grep TF32` and torch.get_float32_matmul_precision(); unset the "
    "variable, or call torch.set_float32_matmul_precision('highest')",
    "float32_convolution": "see `env | grep TF32`; set torch.backends.cudnn.allow_tf32 = False",
    "accumulation": "see torch.backends.cuda.matmul.allow_fp16_accumulation; then " + HINT,
    "random_mersenne": "torch promises no numbers across its releases: if `random_seeds` passes, "
    "note the release; else reinstall torch as it was pinned",
}


def finding(name: str, observation: Observation, limits: Limits) -> Finding:
    """The finding for one family of operations."""
    wrong = wrong_operations(name, observation)
    why = _reason_to_skip(name, observation)
    if not why and wrong:
        why = shortening_reason(name, observation, limits, wrong)
    return family_finding(
        f"tensor_ops.{name}",
        observation,
        hint=_hint(name, observation),
        why=why,
        inconclusive=is_inconclusive(name, observation, wrong),
    )


def _hint(name: str, observation: Observation) -> str:
    hint = _HINTS.get(name, HINT)
    if name.startswith("float32") and observation.precision.variables:
        pairs = observation.precision.variables.items()
        hint += "; set here: " + ", ".join(f"{key}={value}" for key, value in pairs)
    return hint


def _reason_to_skip(name: str, observation: Observation) -> str:
    kind = torch.device(observation.device).type
    if name == "random_mersenne" and kind != "cpu":
        return "MT19937 is the CPU's generator"
    if name == "random_philox" and kind != "cuda":
        return "Philox4x32-10 is the generator of CUDA and HIP"
    if name == "subnormals" and kind == "mps":
        return "Metal flushes subnormals by design"
    return ""
