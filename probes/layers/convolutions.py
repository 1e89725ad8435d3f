"""Convolutions in half types, forward and backward: plain, grouped, dilated, transposed.

Operands are 1, -1, 3 and -3, and so few that each sum is an integer of at most 256, which each half
type holds. Strides and dilations of 2 keep libraries from Winograd's and Fourier's algorithms,
which round; MIOpen may use Winograd there as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np

from probes.kit.capabilities import back_end
from probes.kit.layer import HALVES, Backward, Layer, function, trials
from probes.kit.operands import integers, odd
from probes.kit.rounding import Array, Rounded
from probes.kit.trial import Trial
from probes.layers.windows import windows


@dataclass(frozen=True)
class Convolution:
    """One convolution: of an image (B, C, *S) with weights (O, C / groups, *K)."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int = 2
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    output_padding: int = 0

    @property
    def axes(self) -> int:
        """The number of dimensions."""
        return len(self.image) - 2

    @property
    def options(self) -> dict[str, Any]:
        """The options of the call."""
        names = ("stride", "padding", "dilation", "groups")
        options = {name: getattr(self, name) for name in names}
        return options | ({"output_padding": self.output_padding} if self.transposed else {})


_CASES: Final = (
    Convolution((2, 4, 19), (3, 4, 3), padding=1),
    Convolution((2, 4, 9, 8), (3, 4, 3, 3), padding=1),
    Convolution((2, 4, 9, 8), (6, 2, 2, 3), groups=2),
    Convolution((2, 4, 9, 8), (4, 1, 3, 3), padding=1, groups=4),
    Convolution((2, 3, 7, 6), (3, 3, 2, 2), stride=1, dilation=2, padding=1),
    Convolution((1, 2, 5, 6, 5), (3, 2, 2, 3, 2)),
    Convolution((2, 4, 9), (4, 3, 3), transposed=True),
    Convolution((2, 3, 4, 4), (3, 2, 3, 3), padding=1, transposed=True, output_padding=1),
    Convolution((1, 4, 4, 3), (4, 1, 2, 2), groups=2, transposed=True),
)


def convolutions(device: str) -> Iterator[Trial]:
    """Each case in both half types, with its bias, also in channels_last."""
    slack = 0.25 if back_end(device) == "hip" else 0.0
    layers = []
    for case in _CASES:
        outputs = case.weight[1] * case.groups if case.transposed else case.weight[0]
        operands = (
            2.0 * integers(case.image, 0, 1, 261) - 1,
            2.0 * integers(case.weight, 0, 1, 262) - 1,
            odd((outputs,), 263),
        )
        name = f"conv_transpose{case.axes}d" if case.transposed else f"conv{case.axes}d"
        shapes = " by ".join("x".join(map(str, shape)) for shape in (case.image, case.weight))
        options = ", ".join(f"{key}={each}" for key, each in case.options.items())
        layers.append(
            Layer(
                name,
                function(name, **case.options),
                operands,
                partial(_reference, case, slack),
                f"{shapes}, {options}",
                HALVES,
                channels_last=case.axes > 1,
            )
        )
    yield from trials(layers, device)


def _reference(
    case: Convolution, slack: float, x: Rounded, weight: Rounded, bias: Rounded
) -> tuple[Rounded, Backward]:
    """A convolution gathers windows, its transpose scatters into them."""
    wide = (1, -1, *([1] * case.axes))

    def forward(x: Array, weight: Array, bias: Array) -> Array:
        if not case.transposed:
            return _gathered(case, x, weight) + bias.reshape(wide)
        outer = [
            (size - 1) * case.stride
            + case.dilation * (kernel - 1)
            + 1
            - 2 * case.padding
            + case.output_padding
            for size, kernel in zip(case.image[2:], case.weight[2:], strict=True)
        ]
        return _scattered(case, x, weight, outer) + bias.reshape(wide)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        def of_image(g: Array, weight: Array) -> Array:
            if case.transposed:
                return _gathered(case, g, weight)
            return _scattered(case, g, weight, case.image[2:])

        def of_weight(g: Array, x: Array) -> Array:
            return _correlated(case, *((g, x) if case.transposed else (x, g)))

        over = (0, *range(2, 2 + case.axes))
        return (
            _summed(x, of_image, (g, weight), slack),
            _summed(x, of_weight, (g, x), slack),
            _summed(x, lambda g: g.sum(over), (g,), slack),
        )

    return _summed(x, forward, (x, weight, bias), slack), backward


def _summed(like: Rounded, formula: Any, operands: Sequence[Rounded], slack: float) -> Rounded:
    """The sum by that formula, exact where the sum of magnitudes is an integer of the type."""
    values = [each.value for each in operands]
    sizes = formula(*map(np.abs, values))
    unit = max(like.unit, like.storage)
    error = np.zeros_like(sizes) if sizes.max() * unit <= 1 else 2 * unit * sizes * sizes
    return replace(like, value=formula(*values), error=error + slack)


def _windows(case: Convolution, x: Array) -> Any:
    """The windows of one group's image: (B, C, *outputs, *K)."""
    axes = case.axes
    return windows(
        x, case.weight[2:], [case.stride] * axes, [case.padding] * axes, [case.dilation] * axes
    )


def _by_group(case: Convolution, x: Array, weight: Array) -> list[tuple[Array, Array]]:
    """The channels of the image and of the weights' first axis, group by group."""
    parts = np.split(x, case.groups, 1), np.split(weight, case.groups, 0)
    return list(zip(*parts, strict=True))


def _gathered(case: Convolution, x: Array, weight: Array) -> Array:
    """(B, C, *S) with (O, C / groups, *K) as (B, O, *outputs)."""
    parts = []
    inner = tuple(range(-case.axes, 0))
    for image, kernel in _by_group(case, x, weight):
        found = np.tensordot(_windows(case, image), kernel, ((1, *inner), (1, *inner)))
        parts.append(np.moveaxis(found, -1, 1))
    return np.concatenate(parts, 1)


def _scattered(case: Convolution, g: Array, weight: Array, sizes: Sequence[int]) -> Array:
    """The transpose of `_gathered`: (B, O, *outputs) as (B, C, *sizes)."""
    pad = case.padding
    parts = []
    for gradient, kernel in _by_group(case, g, weight):
        wide = np.zeros((g.shape[0], kernel.shape[1], *(size + 2 * pad for size in sizes)))
        for offset in product(*map(range, kernel.shape[2:])):
            at: Any = (..., *offset)
            contribution = np.tensordot(gradient, kernel[at], (1, 0))
            starts = [start * case.dilation for start in offset]
            ends = [
                start + (count - 1) * case.stride + 1
                for start, count in zip(starts, g.shape[2:], strict=True)
            ]
            places: Any = (
                ...,
                *(slice(a, b, case.stride) for a, b in zip(starts, ends, strict=True)),
            )
            wide[places] += np.moveaxis(contribution, -1, 1)
        inside: Any = (..., *(slice(pad, pad + size) for size in sizes))
        parts.append(wide[inside])
    return np.concatenate(parts, 1)


def _correlated(case: Convolution, x: Array, g: Array) -> Array:
    """The gradient of the weights: (B, C, *S) with (B, O, *outputs) as (O, C / groups, *K)."""
    parts = []
    outer = (0, *range(2, 2 + case.axes))
    pairs = zip(np.split(x, case.groups, 1), np.split(g, case.groups, 1), strict=True)
    for image, gradient in pairs:
        used: Any = (slice(None), slice(None), *(slice(size) for size in g.shape[2:]))
        parts.append(np.tensordot(gradient, _windows(case, image)[used], (outer, outer)))
    return np.concatenate(parts, 0)
