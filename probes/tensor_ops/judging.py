"""The finding for one family: skipped, allowed by the settings, inconclusive, wrong or right."""

from typing import Final

import torch

from probes.contract import Finding, agree, skipped
from probes.tensor_ops.allowances import back_end_of, is_inconclusive, shortening_reason
from probes.tensor_ops.observation import Observation
from probes.tensor_ops.spec import Limits

_HINT = (
    "compare with another device and with the CPU: wrong on one device only, drain it and reset "
    "the GPU; wrong everywhere, reinstall torch as it was pinned"
)
_HINTS: Final[dict[str, str]] = {
    "subnormals": "a library built with -ffast-math, or torch.set_flush_denormal(True), turned "
    "subnormals off: find the import after which `torch.tensor([1e-40]) * 1` is zero",
    "float32_matmul": "see `env | grep TF32` and torch.get_float32_matmul_precision(); unset the "
    "variable, or call torch.set_float32_matmul_precision('highest')",
    "float32_convolution": "see `env | grep TF32`; set torch.backends.cudnn.allow_tf32 = False",
    "random_mersenne": "torch promises no numbers across its releases: if `random_seeds` passes, "
    "note the release; else reinstall torch as it was pinned",
    **dict.fromkeys(
        ("linalg_solve", "linalg_decompose"),
        "the image's own library comes first (cuSOLVER, MAGMA, rocSOLVER, LAPACK): compare with a "
        "second device and the same image; wrong there too, change the image; wrong on one "
        "device only, drain it and reset the GPU",
    ),
}


def family_finding(name: str, observation: Observation, limits: Limits) -> Finding:
    """The finding for one family of operations."""
    check = f"tensor_ops.{name}"
    comparisons = observation.families.get(name, ())
    wrong = [each for each in comparisons if not each.holds]
    why = _reason_to_skip(name, observation)
    if not why and wrong:
        why = shortening_reason(name, observation, limits, wrong)
    if why:
        return skipped(check, why)
    finding = agree(check, comparisons, hint=_family_hint(name, observation))
    if finding.status == "fail" and wrong and is_inconclusive(name, observation, wrong):
        return finding.model_copy(update={"status": "warn"})
    if finding.status == "pass" and (absent := observation.lacking.get(name)):
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        return finding.model_copy(update={"message": f"left out: {absent[0]}{more}"})
    return finding


def _family_hint(name: str, observation: Observation) -> str:
    hint = _HINTS.get(name, _HINT)
    if name.startswith(("float32", "linalg")) and observation.precision.variables:
        pairs = observation.precision.variables.items()
        hint += "; set here: " + ", ".join(f"{key}={value}" for key, value in pairs)
    return hint


def _reason_to_skip(name: str, observation: Observation) -> str:
    kind = torch.device(observation.device).type
    if name in observation.not_implemented:
        why = f": {observation.lacking[name][0]}" if observation.lacking.get(name) else ""
        return f"the {back_end_of(observation)} back-end implements none of these operations{why}"
    if name == "random_mersenne" and kind != "cpu":
        return "MT19937 is the CPU's generator"
    if name == "random_philox" and kind != "cuda":
        return "Philox4x32-10 is the generator of CUDA and HIP"
    if name == "subnormals" and kind == "mps":
        return "Metal flushes subnormals by design"
    return ""
