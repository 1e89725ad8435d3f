"""Attention with the kernel that torch picks: shapes, masks, scales, groups, and gradients.

Lengths are 64 and 192, which are 64 modulo 128, and 257, which no tile divides. No tensor takes
more than 1 MiB.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from probes.attention.problems import Problem
from probes.attention.running import compare_gradients, compare_output, name_of
from probes.kit.capabilities import floats
from probes.kit.trial import Custom, Trial

_PLAIN: Final = (
    Problem(2, 2, 64, 64, 16),
    Problem(2, 1, 192, 192, 64, layout="packed"),
    Problem(1, 1, 257, 257, 80, layout="transposed"),
    Problem(2, 1, 64, 192, 128, layout="transposed"),
    Problem(2, 2, 192, 64, 80),
    Problem(2, 2, 1, 257, 64),  # one new token, as in generation
    Problem(3, 5, 64, 64, 36),  # a size that fused kernels fill up to a multiple of 8
    Problem(1, 1, 64, 64, 256),
    Problem(1, 1, 1, 2049, 64),
    Problem(3, 1, 64, 64, 64, layout="flat"),
    Problem(2, 2, 64, 64, 96, value_size=64),
)
_CAUSAL: Final = (
    Problem(2, 2, 64, 64, 64, causal=True),
    Problem(2, 1, 192, 192, 80, causal=True, layout="packed"),
    Problem(1, 1, 257, 257, 128, causal=True, layout="transposed"),
    Problem(2, 2, 64, 192, 16, causal=True),
    Problem(2, 2, 192, 64, 64, causal=True, layout="transposed"),
)
_MASKS: Final = (
    Problem(2, 2, 64, 64, 64, mask="bool"),
    Problem(2, 1, 192, 192, 16, mask="bool", mask_axes="bk", layout="packed"),
    Problem(2, 2, 64, 192, 80, mask="bool", mask_axes="blk"),
    Problem(2, 3, 64, 64, 64, mask="bool", mask_axes="bhlk", layout="transposed"),
    Problem(2, 2, 64, 64, 128, mask="float"),
    Problem(2, 2, 192, 64, 64, mask="float", mask_axes="hlk", layout="transposed"),
    Problem(1, 1, 257, 257, 16, mask="float", mask_axes="bhlk"),
    Problem(2, 2, 64, 64, 64, mask="additive", mask_axes="blk", layout="transposed"),
)
_SCALES: Final = (
    Problem(2, 2, 64, 64, 64, scale=0.5),
    Problem(2, 1, 192, 192, 16, scale=0.03125, layout="packed"),
    Problem(2, 1, 64, 192, 128, scale=0.25, causal=True, layout="transposed"),
)
_GROUPED: Final = (
    Problem(2, 4, 64, 64, 64, groups=2),
    Problem(2, 4, 64, 64, 16, groups=2, causal=True, layout="transposed"),
    Problem(2, 3, 64, 192, 80, groups=3),
    Problem(2, 4, 64, 64, 64, groups=2, mask="bool", mask_axes="blk"),
)
_GRADIENTS: Final = (
    _PLAIN[0],
    _PLAIN[3],
    _CAUSAL[2],
    _MASKS[2],
    _MASKS[4],
    Problem(2, 2, 64, 64, 64, mask="float", mask_axes="hlk", layout="transposed"),
    _SCALES[0],
    Problem(3, 5, 64, 64, 36),
)


def outputs(problems: Iterable[Problem], device: str) -> Iterator[Trial]:
    """The output of each problem in each floating type."""
    for problem in problems:
        for dtype in floats(device):
            name = f"scaled_dot_product_attention {name_of(dtype)}"
            yield Custom(name, partial(compare_output, problem, dtype), dtype)


def plain(device: str) -> Iterator[Trial]:
    """Without a mask."""
    return outputs(_PLAIN, device)


def causal(device: str) -> Iterator[Trial]:
    """With `is_causal`, whose mask is aligned to the upper left corner."""
    return outputs(_CAUSAL, device)


def masks(device: str) -> Iterator[Trial]:
    """With masks of bool and of float."""
    return outputs(_MASKS, device)


def scales(device: str) -> Iterator[Trial]:
    """With a scale that is not the default."""
    return outputs(_SCALES, device)


def grouped_heads(device: str) -> Iterator[Trial]:
    """With fewer key heads than query heads."""
    return outputs(_GROUPED, device)


def gradients(device: str) -> Iterator[Trial]:
    """The gradients of problems of all families but grouped heads, which not all torch have."""
    for problem in _GRADIENTS:
        for dtype in floats(device):
            name = f"gradient of query {name_of(dtype)}"
            yield Custom(name, partial(compare_gradients, problem, dtype), dtype)


def grouped_gradients(device: str) -> Iterator[Trial]:
    """The gradients of grouped heads."""
    for problem in _GROUPED[:2]:
        for dtype in floats(device):
            name = f"gradient of query {name_of(dtype)}"
            yield Custom(name, partial(compare_gradients, problem, dtype), dtype)
