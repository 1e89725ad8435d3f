"""Observes all families on a device, and judges the observation."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison, Finding
from probes.kit import breadcrumb
from probes.kit.capabilities import back_end, capability
from probes.kit.precision import Precision, full_precision, read
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
    seeding,
    sizes,
    solving,
    streams,
    views,
)
from probes.tensor_ops.judging import family_finding
from probes.tensor_ops.observation import Observation
from probes.tensor_ops.spec import Limits
from probes.tensor_ops.trial import Trial, run_trials

__all__ = ["FAMILIES", "Limits", "Observation", "judge", "observe", "operations"]

#: Check -> function that yields the trials of its family, in the catalogue's order.
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
    "random_seeds": seeding.seeds,
    "random_moments": draws.moments,
}


def observe(device: str) -> Observation:
    """Try every operation of every family on the device."""
    families: dict[str, tuple[Comparison, ...]] = {}
    lacking: dict[str, tuple[str, ...]] = {}
    setting = read(device)
    with np.errstate(all="ignore"):  # references have NaN and infinities too
        for name, family in breadcrumb.families(FAMILIES):
            with _host_threads(None if name == "large" else 1), _linalg_precision(name, setting):
                comparisons, absent = run_trials(family(device), device)
            if comparisons:
                families[name] = comparisons
            if absent:
                lacking[name] = absent
    return Observation(
        device=device,
        families=families,
        not_implemented=tuple(name for name in lacking if name not in families),
        precision=setting,
        back_end=back_end(device),
        capability=capability(device),
        lacking=lacking,
    )


@contextmanager
def _host_threads(count: int | None) -> Iterator[None]:
    """Set the number of host threads (None: leave it), and restore it.

    Small operations are not faster with more threads, and on a busy node threads that spin while
    they wait for each other cost seconds.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _linalg_precision(name: str, setting: Precision) -> Iterator[None]:
    """Full float32 precision for linear algebra, whose bounds need it."""
    if not (name.startswith("linalg") and setting.matmul_may_shorten):
        yield
        return
    with full_precision():
        yield


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield a finding for every family."""
    for name in FAMILIES:
        yield family_finding(name, observation, limits)


def operations(observation: Observation) -> frozenset[str]:
    """The distinct operations that were compared, whatever their family, type and layout."""
    return frozenset(
        each.operation.partition(" (")[0].removeprefix("Tensor.")
        for family in observation.families.values()
        for each in family
    )
