"""Activations in place, as `inplace=True` and torch's names with an underscore have them."""

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch.nn import functional

from probes.kit.layer import Layer
from probes.kit.typed.curves import BY_RESULT, PIECEWISE, SMOOTH, Curve, layer

#: Functions of torch.nn.functional with the option `inplace`.
_WITH_OPTION: Final = {
    *("silu", "mish", "elu", "celu", "selu", "hardsigmoid", "hardswish"),
    *("relu", "relu6", "leaky_relu", "hardtanh", "threshold"),
}
#: Methods of tensors.
_METHODS: Final = {"sigmoid", "tanh"}

#: These have but their result in the backward, whose slope is the result plus a constant there.
_BY_RESULT: Final = {
    **BY_RESULT,
    "elu": lambda y: 1.0 * (y < 0),
    "celu": lambda y: (y < 0) / 2,
    "selu": lambda y: 1.0 * (y < 0),
}


def activations_in_place() -> Iterator[Layer]:
    """The operand has the result, and the gradient is that of the function."""
    ways = ((_WITH_OPTION, _by_option), (_METHODS, _by_method))
    yield from (
        layer(curve, way(curve), "in place", by_result=_BY_RESULT)
        for names, way in ways
        for curve in (*SMOOTH, *PIECEWISE)
        if curve.name in names
    )


def _by_option(curve: Curve) -> Callable[..., torch.Tensor]:
    def call(x: torch.Tensor) -> torch.Tensor:
        written = x.clone()
        getattr(functional, curve.name)(written, **curve.options, inplace=True)
        return written

    return call


def _by_method(curve: Curve) -> Callable[..., torch.Tensor]:
    def call(x: torch.Tensor) -> torch.Tensor:
        written = x.clone()
        getattr(written, f"{curve.name}_")()
        return written

    return call
