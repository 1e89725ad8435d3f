"""Functions of one element: their formulas, and layers made of them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from probes.kit.layer import FLOATS, HALVES, SINGLES, Layer, pointwise
from probes.kit.operands import integers
from probes.kit.rounding import Array

Function = Callable[[Array], Any]


class Curve(NamedTuple):
    """A function of torch.nn.functional with its options, its formula and its derivative."""

    name: str
    options: dict[str, Any]
    value: Function
    slope: Function


#: Odd multiples of 1/32 up to 6: no element is where a formula changes, and each type has them.
X: Final = (2.0 * integers((3, 5, 9), -96, 95, 171) + 1) / 32

_SELU_SCALE: Final = 1.0507009873554804934193349852946
_SELU_ALPHA: Final = 1.6732632423543772848170429916717

_erf: Final = np.vectorize(math.erf)


def _logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu_slope(x: Array) -> Array:
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return np.asarray((1 + _erf(x / math.sqrt(2))) / 2 + x * density)


def _gelu_by_tanh(x: Array) -> Array:
    return np.asarray(x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _gelu_by_tanh_slope(x: Array) -> Array:
    factor = math.sqrt(2 / math.pi)
    t = np.tanh(factor * (x + 0.044715 * x**3))
    return np.asarray((1 + t) / 2 + x / 2 * (1 - t**2) * factor * (1 + 3 * 0.044715 * x**2))


def _mish_slope(x: Array) -> Array:
    t = np.tanh(np.log1p(np.exp(x)))
    return np.asarray(t + x * (1 - t**2) * _logistic(x))


SMOOTH: Final[tuple[Curve, ...]] = (
    Curve("gelu", {}, lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2, _gelu_slope),
    Curve("gelu", {"approximate": "tanh"}, _gelu_by_tanh, _gelu_by_tanh_slope),
    Curve(
        "silu",
        {},
        lambda x: x * _logistic(x),
        lambda x: _logistic(x) * (1 + x * (1 - _logistic(x))),
    ),
    Curve("mish", {}, lambda x: x * np.tanh(np.log1p(np.exp(x))), _mish_slope),
    Curve("sigmoid", {}, _logistic, lambda x: _logistic(x) * _logistic(-x)),
    Curve("tanh", {}, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    Curve("logsigmoid", {}, lambda x: -np.log1p(np.exp(-x)), lambda x: _logistic(-x)),
    Curve("softplus", {}, lambda x: np.log1p(np.exp(x)), _logistic),
    Curve(
        "softplus",
        {"beta": 2.0, "threshold": 4.0},
        lambda x: np.where(2 * x > 4, x, np.log1p(np.exp(2 * x)) / 2),
        lambda x: np.where(2 * x > 4, 1, _logistic(2 * x)),
    ),
    Curve(
        "elu",
        {"alpha": 0.5},
        lambda x: np.where(x > 0, x, np.expm1(x) / 2),
        lambda x: np.where(x > 0, 1, np.exp(x) / 2),
    ),
    Curve(
        "celu",
        {"alpha": 2.0},
        lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2)),
        lambda x: np.where(x > 0, 1, np.exp(x / 2)),
    ),
    Curve(
        "selu",
        {},
        lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(x)),
        lambda x: _SELU_SCALE * np.where(x > 0, 1, _SELU_ALPHA * np.exp(x)),
    ),
    Curve("softsign", {}, lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    Curve("tanhshrink", {}, lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2),
    Curve(
        "hardsigmoid",
        {},
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
        lambda x: (np.abs(x) < 3) / 6,
    ),
    Curve(
        "hardswish",
        {},
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(x > 3, 1, (np.abs(x) < 3) * (x / 3 + 0.5)),
    ),
)

#: The same, where each type computes each element exactly.
PIECEWISE: Final[tuple[Curve, ...]] = (
    Curve("relu", {}, lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0)),
    Curve("relu6", {}, lambda x: np.clip(x, 0, 6), lambda x: 1.0 * ((x > 0) & (x < 6))),
    Curve(
        "leaky_relu",
        {"negative_slope": 0.25},
        lambda x: np.where(x > 0, x, x / 4),
        lambda x: np.where(x > 0, 1, 0.25),
    ),
    Curve(
        "hardtanh",
        {"min_val": -2.0, "max_val": 3.0},
        lambda x: np.clip(x, -2, 3),
        lambda x: 1.0 * ((x > -2) & (x < 3)),
    ),
    Curve(
        "threshold",
        {"threshold": 1.0, "value": -2.0},
        lambda x: np.where(x > 1, x, -2),
        lambda x: 1.0 * (x > 1),
    ),
    Curve(
        "hardshrink",
        {"lambd": 0.5},
        lambda x: np.where(np.abs(x) > 0.5, x, 0),
        lambda x: 1.0 * (np.abs(x) > 0.5),
    ),
    Curve(
        "softshrink",
        {"lambd": 0.5},
        lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
        lambda x: 1.0 * (np.abs(x) > 0.5),
    ),
)

#: The derivative of the slope by the result, where the backward takes up the result.
BY_RESULT: Final[dict[str, Function]] = {"sigmoid": lambda y: 1 - 2 * y, "tanh": lambda y: 2 * y}

#: The types, where not all. Made of several operations, each of which rounds to a half type; and
#: the sixth of hardsigmoid and hardswish is one of float32 in each type, in the gradient of the
#: first on the CPU (torch 2.13), in the second itself on CUDA (torch 2.11).
_TYPES: Final = {
    "softsign": SINGLES,
    "tanhshrink": SINGLES,
    "hardsigmoid": (torch.float32, *HALVES),
    "hardswish": (torch.float32, *HALVES),
}


def layer(
    curve: Curve,
    call: Callable[..., torch.Tensor],
    variant: str = "",
    x: Array = X,
    *,
    by_result: Mapping[str, Function] = BY_RESULT,
    channels_last: bool = False,
) -> Layer:
    """A call that computes the function of each element, in each type that has bounds."""
    reference = pointwise(
        curve.value,
        curve.slope,
        by_result=by_result.get(curve.name),
        exact_in_all=curve in PIECEWISE,
    )
    shown = [f"{key}={each}" for key, each in curve.options.items()]
    shown += [variant] if variant else []
    dtypes = _TYPES.get(curve.name, FLOATS)
    return Layer(curve.name, call, (x,), reference, ", ".join(shown), dtypes, channels_last)
