"""When a wrong answer is no fault: shortened by a setting, or not promised by the back-end."""

import math
from collections.abc import Sequence
from typing import Final

import torch

from probes.contract import Comparison
from probes.tensor_ops.observation import Observation
from probes.tensor_ops.spec import Limits

#: Families in which Metal differs by design: quotients, roots and powers are not correctly rounded,
#: subnormals are flushed, and before torch 2.10 a singular matrix raised no error.
_LOOSE_ON_MPS: Final = frozenset(
    {
        *("arithmetic", "in_place", "integer_division", "comparison", "special_values"),
        *("elementwise", "linalg_solve"),
    }
)

#: Relative error of a product of positive numbers with bfloat16 operands: 2^-8 each, with a margin.
_BFLOAT16_OPERANDS: Final = 2.0**-6
#: Unit roundoff of TF32 divided by that of float32: the factor for a bound.
_TF32_UNITS: Final = 2.0**13

_OLD_SETTINGS: Final = {"highest", "high", "medium"}  # of torch.set_float32_matmul_precision

#: From this compute capability on cuBLAS lacks some batched solvers (PyTorch pull request 197184).
_CONSUMER_BLACKWELL: Final = (12, 0)


def back_end_of(observation: Observation) -> str:
    """The observed back-end; for an old recording, torch's device type."""
    return observation.back_end or torch.device(observation.device).type


def is_inconclusive(name: str, observation: Observation, wrong: Sequence[Comparison]) -> bool:
    """Whether a difference does not prove a fault, so that it is only a warning.

    torch does not promise the numbers of a seed: they may change between releases on the CPU, and
    between numbers of threads on GPUs. Only CPU, CUDA and HIP builds are known to keep subnormals.
    """
    if name in {"random_philox", "random_mersenne"}:
        return True
    kind = back_end_of(observation)
    if kind == "mps":
        return name in _LOOSE_ON_MPS
    if kind == "hip" and name == "matmul_exact":
        # HIP limits the blocks of a launch in y and z: a batch of 65537 exceeds that.
        return all(
            "bmm" in each.operation and _raised_with(each, "invalid config") for each in wrong
        )
    if kind == "cuda" and name.startswith("linalg"):
        recent = (
            observation.capability is not None and observation.capability >= _CONSUMER_BLACKWELL
        )
        return recent and all(
            _raised_with(each, "not_supported", "not supported") for each in wrong
        )
    return name == "subnormals" and kind not in {"cpu", "cuda", "hip"}


def shortening_reason(
    name: str, observation: Observation, limits: Limits, wrong: Sequence[Comparison]
) -> str:
    """Why a shortened float32 product is allowed by the settings; empty when it is a fault.

    An error larger than shortened operands explain is always a fault.
    """
    setting = observation.precision
    if limits.float32_products == "exact":
        return ""
    if name.startswith("linalg"):
        forced = setting.forced_by and all(map(_within_tf32, wrong))
        return f"shortened, as {setting.forced_by} forces it" if forced else ""
    if not all(map(_within_bfloat16_operands, wrong)):
        return ""
    if name == "float32_matmul" and setting.matmul_may_shorten:
        setting_text = f"torch's float32 matmul precision {setting.matmul!r}"
        if setting.matmul not in _OLD_SETTINGS:  # then it is the error that the old switch raised
            setting_text = "a mix of torch's old and new switches"
        return f"shortened, as {setting.forced_by or setting_text} allows"
    if name == "float32_convolution" and setting.convolution_may_shorten:
        return "shortened to TF32 or less, as this back-end's setting allows"
    return ""


def _raised_with(comparison: Comparison, *texts: str) -> bool:
    """Whether the operation raised an error with one of these texts."""
    problem = comparison.problem.lower()
    return problem.startswith("raised") and any(text in problem for text in texts)


def _within_bfloat16_operands(comparison: Comparison) -> bool:
    """Whether operands rounded to bfloat16 explain the error of the worst element."""
    expected, observed = comparison.expected, comparison.observed
    if not isinstance(expected, (int, float)) or not isinstance(observed, (int, float)):
        return False
    return abs(observed - expected) <= _BFLOAT16_OPERANDS * abs(expected)


def _within_tf32(comparison: Comparison) -> bool:
    """Whether the worst error is within its bound with TF32's unit in place of float32's."""
    error, allowed = comparison.worst_error, comparison.allowed_error
    if error is None or allowed is None:
        return False
    return math.isfinite(error) and error <= allowed * _TF32_UNITS
