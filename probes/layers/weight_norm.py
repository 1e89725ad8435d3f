"""Weights by their length and direction, as speech models and vocoders have them.

w = g v / |v|, with a norm for each index along one axis, has for an upstream gradient u the
gradients dg = s / |v| with s = sum(u v), and dv = g / |v| (u - v s / |v|^2).
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

import torch

from probes.kit.layer import Backward, Layer, trials
from probes.kit.operands import coarse
from probes.kit.rounding import Rounded, square_root
from probes.kit.trial import Trial

#: Shapes of weights, and the axis that keeps its norms: the first and the last one have a kernel.
_CASES: Final = (((5, 4, 3), 0), ((3, 130), 0), ((4, 3, 5), 2), ((4, 5, 3), 1))


def weight_norm(device: str) -> Iterator[Trial]:
    """Along the first, the last and an inner axis."""
    layers = []
    for shape, axis in _CASES:
        lengths = tuple(size if at == axis else 1 for at, size in enumerate(shape))
        operands = (coarse(shape, -2, 2, 281) + 1 / 32, coarse(lengths, 0.5, 2, 282))
        variant = f"{'x'.join(map(str, shape))} along axis {axis}"
        reference = partial(_reference, axis)
        layers.append(Layer("weight_norm", partial(_call, axis), operands, reference, variant))
    yield from trials(layers, device)


def _call(axis: int, v: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = torch._weight_norm(v, g, axis)
    return out


def _reference(axis: int, v: Rounded, g: Rounded) -> tuple[Rounded, Backward]:
    others = tuple(each for each in range(v.value.ndim) if each != axis)
    norm = square_root((v * v).total(others)).stored()
    factor = (g / norm).stored()

    def backward(u: Rounded) -> tuple[Rounded, ...]:
        share = (u * v).stored().total(others).stored() / norm
        inner = u - (v * (share / norm)).stored(2)
        return (factor * inner).stored(), share

    return (v * factor).stored(), backward
