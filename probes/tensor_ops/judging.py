"""The verdict on one family: what applies to the device, what its settings allow, what is wrong."""

from typing import Final

import torch

from probes.contract import Finding, agree, skipped
from probes.limits.tensor_ops import Limits
from probes.tensor_ops.seen import Seen

_HINT = (
    "run the probe on another device and on the CPU: wrong on one device only, drain it and reset "
    "the GPU; wrong everywhere, reinstall torch as it was pinned"
)
_HINTS: Final[dict[str, str]] = {
    "subnormals": "a library built with -ffast-math, or torch.set_flush_denormal(True), turned "
    "subnormals off: find the import after which `torch.tensor([1e-40]) * 1` is zero",
    "float32_matmul": "see `env | grep TF32` and torch.get_float32_matmul_precision(); unset the "
    "variable, or call torch.set_float32_matmul_precision('highest')",
    "float32_convolution": "see `env | grep TF32`; set torch.backends.cudnn.allow_tf32 = False",
}


def verdict(name: str, seen: Seen, limits: Limits) -> Finding:
    """Hold one family against its references."""
    check = f"tensor_ops.{name}"
    comparisons = seen.families.get(name, ())
    why = _does_not_apply(name, seen)
    if not why and any(not each.holds for each in comparisons):
        why = _is_allowed(name, seen, limits)
    if why:
        return skipped(check, why)
    finding = agree(check, comparisons, hint=_hint(name, seen))
    lesser = finding.status == "fail" and _may_differ(name, seen)
    return finding.model_copy(update={"status": "warn"}) if lesser else finding


def _hint(name: str, seen: Seen) -> str:
    hint = _HINTS.get(name, _HINT)
    if name.startswith("float32") and seen.precision.variables:
        pairs = seen.precision.variables.items()
        hint += "; set here: " + ", ".join(f"{key}={value}" for key, value in pairs)
    return hint


def _may_differ(name: str, seen: Seen) -> bool:
    """Whether a difference is worth a look, and no proof of a fault.

    Which thread draws which element of the stream is no promise of torch's; and only CPU and CUDA
    builds are known to keep subnormals.
    """
    kind = torch.device(seen.device).type
    return name == "random_philox" or (name == "subnormals" and kind not in {"cpu", "cuda"})


def _does_not_apply(name: str, seen: Seen) -> str:
    kind = torch.device(seen.device).type
    if name in seen.not_implemented:
        return f"the {kind} back-end implements none of these operations"
    if name == "random_mersenne" and kind != "cpu":
        return "MT19937 is the CPU's generator"
    if name == "random_philox" and kind != "cuda":
        return "Philox4x32-10 is the generator of CUDA and HIP"
    if name == "subnormals" and kind == "mps":
        return "Metal flushes subnormals by design"
    return ""


def _is_allowed(name: str, seen: Seen, limits: Limits) -> str:
    """Why a shortened float32 product is what was asked for; empty when it is a fault."""
    if limits.float32_products == "exact":
        return ""
    if name == "float32_matmul" and seen.precision.matmul_may_shorten:
        return f"shortened, as torch's float32 matmul precision {seen.precision.matmul!r} allows"
    if name == "float32_convolution" and seen.precision.convolution_may_shorten:
        return "shortened to TF32 or less, as this back-end's setting allows"
    return ""
