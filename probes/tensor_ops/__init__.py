"""Creating, moving, combining and drawing tensors gives the right answer, element by element.

Why: a build with fast math, a mismatched cuBLAS, a miscompiled indexing kernel or a sick compute
     unit gives wrong numbers without an error, and a training run drifts for days before it shows.
Fix: run the probe on another device and on the CPU: wrong on one device only, drain it; wrong
     everywhere, reinstall torch as it was pinned.
Ref: https://docs.pytorch.org/docs/stable/torch.html
     https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison, Finding, agree, skipped
from probes.tensor_ops import (
    arithmetic,
    comparison,
    conversion,
    convolutions,
    creation,
    decomposing,
    draws,
    elementwise,
    in_place,
    integers,
    layout,
    neural,
    ordering,
    parts,
    products,
    reductions,
    sizes,
    solving,
    streams,
    views,
)
from probes.tensor_ops.seen import Limits, Seen
from probes.tensor_ops.trial import Trial, run

__all__ = ["FAMILIES", "Limits", "Seen", "judge", "observe", "operations"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[dict[str, Callable[[str], Iterable[Trial]]]] = {
    "creation": creation.creation,
    "conversion": conversion.conversion,
    "item": in_place.item,
    "arithmetic": arithmetic.arithmetic,
    "in_place": in_place.in_place,
    "views": views.views,
    "transposing": layout.transposing,
    "indexing": layout.indexing,
    "slicing": parts.slicing,
    "joining": parts.joining,
    "integer_division": integers.integer_division,
    "bitwise": integers.bitwise,
    "rounding": arithmetic.rounding,
    "comparison": comparison.comparison,
    "special_values": comparison.special_values,
    "subnormals": comparison.subnormals,
    "reductions": reductions.reductions,
    "sorting": ordering.sorting,
    "scatter": ordering.scatter,
    "large": sizes.large,
    "empty": sizes.empty,
    "elementwise": elementwise.elementwise,
    "complex_numbers": neural.complex_numbers,
    "neural": neural.neural,
    "matmul_exact": products.matmul_exact,
    "float32_matmul": products.float32_matmul,
    "convolution": convolutions.convolution,
    "float32_convolution": convolutions.float32_convolution,
    "linalg_solve": solving.solving,
    "linalg_decompose": decomposing.decomposing,
    "random_mersenne": streams.mersenne,
    "random_philox": streams.philox,
    "random_seeds": streams.seeds,
    "random_moments": draws.moments,
}

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


def observe(device: str) -> Seen:
    """Try every operation of every family on the device."""
    families: dict[str, tuple[Comparison, ...]] = {}
    not_implemented: list[str] = []
    with np.errstate(all="ignore"):  # the references are asked for NaN and infinities too
        for name, family in FAMILIES.items():
            with _threads(None if name == "large" else 1):
                comparisons, lacking = run(family(device), device)
            if comparisons:
                families[name] = comparisons
            elif lacking:
                not_implemented.append(name)
    return Seen(
        device=device,
        families=families,
        not_implemented=tuple(not_implemented),
        precision=products.precision(device),
    )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """That many threads on the host: small operations gain nothing from more.

    With more, each waits for the others by spinning: on a busy node that takes seconds.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


def judge(seen: Seen, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Hold every family against its references."""
    for name in FAMILIES:
        check = f"tensor_ops.{name}"
        comparisons = seen.families.get(name, ())
        why = _does_not_apply(name, seen)
        if not why and any(not each.holds for each in comparisons):
            why = _is_allowed(name, seen, limits)
        if why:
            yield skipped(check, why)
        else:
            yield agree(check, comparisons, hint=_HINTS.get(name, _HINT))


def operations(seen: Seen) -> frozenset[str]:
    """The distinct operations that were compared, whatever their family, type and layout."""
    return frozenset(
        each.operation.partition(" (")[0] for family in seen.families.values() for each in family
    )


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
    if limits.float32_products == "exact" or seen.precision.variables:
        return ""
    if name == "float32_matmul" and seen.precision.matmul_may_shorten:
        return f"shortened, as torch's float32 matmul precision {seen.precision.matmul!r} allows"
    if name == "float32_convolution" and seen.precision.convolution_may_shorten:
        return "shortened to TF32 or less, as this back-end's setting allows"
    return ""
