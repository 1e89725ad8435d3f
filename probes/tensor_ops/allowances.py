"""When a wrong answer is no fault: what settings shorten, and what a back-end promises nobody."""

import math
from collections.abc import Sequence
from typing import Final

import torch

from probes.contract import Comparison
from probes.tensor_ops.observation import Observation
from probes.tensor_ops.spec import Limits

#: Where Metal does otherwise by design: quotients, roots and powers are not rounded correctly,
#: subnormals are flushed, and before torch 2.10 a singular matrix raised nothing.
_LOOSE_ON_MPS: Final = frozenset(
    {
        *("arithmetic", "in_place", "integer_division", "comparison", "special_values"),
        *("elementwise", "linalg_solve"),
    }
)

#: What operands of bfloat16 cost a product of positive numbers: 2^-8 each, and a little.
_SHORT_OPERANDS: Final = 2.0**-6
#: Units of TF32 to one of float32, by which a bound grows.
_TF32_UNITS: Final = 2.0**13

_OLD_SETTINGS: Final = {"highest", "high", "medium"}  # of torch.set_float32_matmul_precision

#: From here on some of cuBLAS's batched solvers are not there (pytorch pull request 197184).
_CONSUMER_BLACKWELL: Final = (12, 0)


def kind_of(observation: Observation) -> str:
    """The back-end that was seen; of an old recording, what torch calls it."""
    return observation.back_end or torch.device(observation.device).type


def is_no_proof(name: str, observation: Observation, wrong: Sequence[Comparison]) -> bool:
    """Whether a difference is worth a look, and no proof of a fault.

    Which numbers a seed gives is no promise of torch's, on the CPU from release to release, and on
    GPUs from thread to thread; only CPU, CUDA and HIP builds are known to keep subnormals.
    """
    if name in {"random_philox", "random_mersenne"}:
        return True
    kind = kind_of(observation)
    if kind == "mps":
        return name in _LOOSE_ON_MPS
    if kind == "hip" and name == "matmul_exact":
        # A batch of 65537 is more than the blocks that a launch may have there in y and z.
        return all("bmm" in each.operation and _said(each, "invalid config") for each in wrong)
    if kind == "cuda" and name.startswith("linalg"):
        recent = (
            observation.capability is not None and observation.capability >= _CONSUMER_BLACKWELL
        )
        return recent and all(_said(each, "not_supported", "not supported") for each in wrong)
    return name == "subnormals" and kind not in {"cpu", "cuda", "hip"}


def shortened(
    name: str, observation: Observation, limits: Limits, wrong: Sequence[Comparison]
) -> str:
    """Why a shortened float32 product is what was asked for; empty when it is a fault.

    What is wrong by more than short operands explain is a fault whatever was asked for.
    """
    setting = observation.precision
    if limits.float32_products == "exact":
        return ""
    if name.startswith("linalg"):
        forced = setting.forced_by and all(map(_within_tf32, wrong))
        return f"shortened, as {setting.forced_by} forces it" if forced else ""
    if not all(map(_merely_short, wrong)):
        return ""
    if name == "float32_matmul" and setting.matmul_may_shorten:
        told = f"torch's float32 matmul precision {setting.matmul!r}"
        if setting.matmul not in _OLD_SETTINGS:  # then it is what the old switch raised
            told = "a mix of torch's old and new switches"
        return f"shortened, as {setting.forced_by or told} allows"
    if name == "float32_convolution" and setting.convolution_may_shorten:
        return "shortened to TF32 or less, as this back-end's setting allows"
    return ""


def _said(comparison: Comparison, *texts: str) -> bool:
    """Whether an operation raised, in words like these, rather than giving a wrong answer."""
    said = comparison.problem.lower()
    return said.startswith("raised") and any(text in said for text in texts)


def _merely_short(comparison: Comparison) -> bool:
    """Whether the worst element is as far off as operands of bfloat16 may put it, and no more."""
    expected, observed = comparison.expected, comparison.observed
    if not isinstance(expected, (int, float)) or not isinstance(observed, (int, float)):
        return False
    return abs(observed - expected) <= _SHORT_OPERANDS * abs(expected)


def _within_tf32(comparison: Comparison) -> bool:
    """Whether the worst element is within its bound for TF32's unit instead of float32's."""
    error, allowed = comparison.worst_error, comparison.allowed_error
    if error is None or allowed is None:
        return False
    return math.isfinite(error) and error <= allowed * _TF32_UNITS
