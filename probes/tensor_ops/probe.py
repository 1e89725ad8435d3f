"""Observes all families on a device, and judges the observation."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, Observation
from probes.tensor_ops import (
    accumulation,
    arithmetic,
    comparison,
    conversion,
    convolutions,
    creation,
    double,
    draws,
    elementwise,
    in_place,
    integers,
    layout,
    neural,
    not_finite,
    ordering,
    parts,
    products,
    reductions,
    seeding,
    sizes,
    streams,
    types,
    views,
)
from probes.tensor_ops.judging import finding
from probes.tensor_ops.spec import Limits

__all__ = ["FAMILIES", "Limits", "Observation", "judge", "observe", "operations"]

#: Check -> function that yields the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    # First, so that the first call of a function in a process gets ordinary numbers, many of them:
    # with special values, a kernel of low accuracy would be right.
    "elementwise": elementwise.elementwise,
    "neural": neural.neural,
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
    "not_finite": not_finite.not_finite,
    "reductions": reductions.reductions,
    "sorting": ordering.sorting,
    "scatter": ordering.scatter,
    "types": types.types,
    "large": sizes.large,
    "empty": sizes.empty,
    "matmul_exact": products.matmul_exact,
    "float32_matmul": products.float32_matmul,
    "accumulation": accumulation.accumulation,
    "double": double.double,
    "convolution": convolutions.convolution,
    "float32_convolution": convolutions.float32_convolution,
    "random_mersenne": streams.mersenne,
    "random_philox": streams.philox,
    "random_seeds": seeding.seeds,
    "random_moments": draws.moments,
}


def observe(device: str) -> Observation:
    """Try every operation of every family on the device."""
    return families.observe(FAMILIES, device, threaded={"large"})


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield a finding for every family."""
    for name in FAMILIES:
        yield finding(name, observation, limits)


def operations(observation: Observation) -> frozenset[str]:
    """The distinct operations that were compared, whatever their family, type and layout."""
    return frozenset(
        each.operation.partition(" (")[0].removeprefix("Tensor.")
        for family in observation.families.values()
        for each in family
    )
