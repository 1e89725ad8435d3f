"""Problems of attention: shapes, masks, layouts, and operands that make errors visible.

Operands are multiples of 2^-7 below 2, so that each type holds them. A hidden number of each key
runs through scores, values and gradients: sums then have terms of one sign, and an error of 5 % is
larger than what rounding explains.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from probes.attention import reference
from probes.attention.bounds import Array, Bounded, Units, exact
from probes.kit.operands import fractions

Layout = Literal["contiguous", "transposed", "packed", "flat"]


@dataclass(frozen=True)
class Problem:
    """One call of scaled_dot_product_attention."""

    batch: int
    heads: int
    length: int
    keys: int
    size: int
    causal: bool = False
    mask: Literal["", "bool", "float", "additive"] = ""  # additive: 0 or -inf
    #: Shape of the mask before it is broadcast: the axes that are not 1, of "bhlk".
    mask_axes: str = "lk"
    scale: float | None = None
    groups: int = 1  # query heads of each key head
    layout: Layout = "contiguous"  # flat: without the axis of heads, of which there is one
    value_size: int = 0  # 0: that of query and key

    def __str__(self) -> str:
        """The shapes as `batch x heads x length x keys x size`, and what is not the default."""
        sizes = (self.batch, self.heads, self.length, self.keys, self.size)
        parts = ["x".join(map(str, sizes)), self.layout]
        parts += ["causal"] if self.causal else []
        parts += [f"{self.mask} mask {self.mask_axes}"] if self.mask else []
        parts += [f"scale {self.scale:g}"] if self.scale is not None else []
        parts += [f"{self.groups} heads a group"] if self.groups > 1 else []
        parts += [f"values of {self.value_size}"] if self.value_size else []
        return ", ".join(parts)

    @property
    def factor(self) -> float:
        """The scale in force."""
        return 1 / math.sqrt(self.size) if self.scale is None else self.scale

    def bias(self) -> Array:
        """What is added to the scores, as far as it is not broadcast."""
        if self.causal:  # aligned to the upper left corner, whatever the lengths
            seen = np.tri(self.length, self.keys, dtype=bool)
            return np.where(seen, 0.0, -np.inf)
        if not self.mask:
            return np.zeros(())
        values = self.mask_values()
        return np.where(values, 0.0, -np.inf) if self.mask == "bool" else values

    def mask_values(self) -> Array:
        """The mask: bool, True for a key that is seen, that as 0 or -inf, or eighths up to 2."""
        full = {"b": self.batch, "h": self.heads, "l": self.length, "k": self.keys}
        shape = tuple(full[axis] if axis in self.mask_axes else 1 for axis in "bhlk")
        drawn = fractions(shape, 7)
        if self.mask_axes == "lk":
            drawn = drawn[0, 0]
        if self.mask == "float":
            return np.round(32 * drawn - 16) / 8
        seen = drawn < 0.6
        seen[..., :1] = True  # a row that sees nothing is not documented
        return np.where(seen, 0.0, -np.inf) if self.mask == "additive" else seen


class Operands:
    """Query, key, value and upstream gradient of a problem, as float64 arrays."""

    def __init__(self, problem: Problem) -> None:
        batch, length, keys, size = problem.batch, problem.length, problem.keys, problem.size
        heads, groups = problem.heads // problem.groups, problem.groups
        value_size = problem.value_size or size
        unit = math.sqrt(1.2 / (abs(problem.factor) * size))

        def drawn(shape: tuple[int, ...], salt: int) -> Array:
            return 2 * fractions(shape, salt) - 1  # in (-1, 1)

        def signs(shape: tuple[int, ...], salt: int) -> Array:
            values = np.where(drawn(shape, salt) < 0, -1.0, 1.0)
            values[..., -1] = -values[..., -2]  # so that exchanged neighbours differ
            return values

        hidden = drawn((batch, heads, keys, 1), 11)
        hidden[:, :, -1] = 2.0  # the last key counts, however many there are
        direction = signs((1, heads, 1, size), 13)
        strength = 1 + 0.5 * drawn((batch, heads * groups, length, 1), 15)
        noise = 0.2 * drawn((batch, heads, keys, size), 17)
        key = unit * (hidden * direction + noise)
        noise = 0.2 * drawn((batch, heads * groups, length, size), 19)
        query = unit * (strength * direction.repeat(groups, 1) + noise)
        slope = signs((1, heads, 1, value_size), 21)
        noise = 0.2 * drawn((batch, heads, keys, value_size), 23)
        value = 0.5 * signs((1, heads, 1, value_size), 25) + 0.5 * hidden * slope + noise
        height = 0.7 + 0.2 * drawn((1, heads * groups, length, value_size), 27)
        upstream = slope.repeat(groups, 1) * height * (1 + 0.5 * drawn((batch, 1, length, 1), 29))
        self.query, self.key, self.value, self.upstream = map(
            rounded, (query, key, value, upstream)
        )


def rounded(values: Array) -> Array:
    """The nearest multiples of 2^-7 below 2, which each type holds."""
    return np.clip(np.round(values * 128), -255, 255) / 128


#: A family uses a problem in each type, one after the other. They are megabytes, so few are kept.
_KEPT = 4

operands = lru_cache(_KEPT)(Operands)


@lru_cache(_KEPT)
def expected(problem: Problem, by: Units) -> reference.Forward:
    """The output and its bounds."""
    each = operands(problem)
    key, value = (
        reference.grouped(exact(array), problem.groups) for array in (each.key, each.value)
    )
    return reference.forward(exact(each.query), key, value, problem.factor, problem.bias(), by)


@lru_cache(_KEPT)
def gradients(problem: Problem, by: Units) -> dict[str, Bounded]:
    """The gradients of query, key, value, and of a float mask."""
    each = operands(problem)
    key, value = (
        reference.grouped(exact(array), problem.groups) for array in (each.key, each.value)
    )
    found = reference.backward(
        expected(problem, by), exact(each.query), key, value, exact(each.upstream), by
    )
    wanted = {
        "query": found.query,
        "key": reference.ungrouped(found.key, problem.groups, by),
        "value": reference.ungrouped(found.value, problem.groups, by),
    }
    if problem.mask == "float":
        shape = np.shape(problem.mask_values())
        axes = tuple(axis for axis, name in enumerate("bhlk") if name not in problem.mask_axes)
        mask = found.scores.summed(axes, by.inner * problem.length + by.stored)
        wanted["mask"] = mask.moved(lambda array: array.reshape(shape))
    return wanted
