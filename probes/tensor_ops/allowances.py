"""When a wrong answer is no fault: shortened by a setting, or not promised by the back-end."""

from collections.abc import Sequence
from typing import Final

from probes.contract import Comparison
from probes.kit.families import Observation, raised_with
from probes.tensor_ops.accumulation import PRODUCTS
from probes.tensor_ops.spec import Limits

#: Families in which Metal differs by design: quotients, roots and powers are not correctly rounded,
#: and subnormals are flushed.
_LOOSE_ON_MPS: Final = frozenset(
    {
        *("arithmetic", "in_place", "integer_division", "comparison", "special_values"),
        *("elementwise", "types"),
    }
)

#: Families that only CPU, CUDA and HIP builds are known to keep: subnormals, sums of half types in
#: float32, and NaN in every order and extreme.
_KNOWN_ON: Final = frozenset({"cpu", "cuda", "hip"})
_UNKNOWN_ELSEWHERE: Final = frozenset({"subnormals", "accumulation", "not_finite"})

#: Relative error of a product of positive numbers with bfloat16 operands: 2^-8 each, with a margin.
_BFLOAT16_OPERANDS: Final = 2.0**-6
_OLD_SETTINGS: Final = {"highest", "high", "medium"}  # of torch.set_float32_matmul_precision


def is_inconclusive(name: str, observation: Observation, wrong: Sequence[Comparison]) -> bool:
    """Whether a difference does not prove a fault, so that it is only a warning.

    torch does not promise the numbers of a seed: they may change between releases on the CPU, and
    between numbers of threads on GPUs.
    """
    if name in {"random_philox", "random_mersenne"}:
        return True
    kind = observation.back_end_type
    if kind == "mps":
        return name in _LOOSE_ON_MPS | _UNKNOWN_ELSEWHERE
    if kind == "hip" and name == "matmul_exact":
        # HIP limits the blocks of a launch in y and z: a batch of 65537 exceeds that.
        return all(
            "bmm" in each.operation and raised_with(each, "invalid config") for each in wrong
        )
    return name in _UNKNOWN_ELSEWHERE and kind not in _KNOWN_ON


def shortening_reason(
    name: str, observation: Observation, limits: Limits, wrong: Sequence[Comparison]
) -> str:
    """Why a shortened float32 product is allowed by the settings; empty when it is a fault.

    An error larger than shortened operands explain is always a fault.
    """
    setting = observation.precision
    if name == "accumulation" and setting.half_sums_may_shorten:
        excused = all(map(_is_product_of_float16, wrong))
        return "summed in float16, as a setting of torch allows" if excused else ""
    if limits.float32_products == "exact":
        return ""
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


def _is_product_of_float16(comparison: Comparison) -> bool:
    return comparison.name in PRODUCTS and "(float16" in comparison.operation


def _within_bfloat16_operands(comparison: Comparison) -> bool:
    """Whether operands rounded to bfloat16 explain the error of the worst element."""
    expected, observed = comparison.expected, comparison.observed
    if not isinstance(expected, (int, float)) or not isinstance(observed, (int, float)):
        return False
    return abs(observed - expected) <= _BFLOAT16_OPERANDS * abs(expected)
