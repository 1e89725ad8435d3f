"""Activations of one element, gates, and the softmax family."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.kit.layer import (
    FLOATS,
    HALVES,
    SINGLES,
    Backward,
    Layer,
    Reference,
    function,
    pointwise,
    trials,
)
from probes.kit.operands import integers
from probes.kit.rounding import (
    Array,
    Rounded,
    exponential,
    joined,
    logarithm,
    logistic,
    selected,
)
from probes.kit.trial import Trial

Function = Callable[[Array], Any]

#: Odd multiples of 1/32 up to 6: no element is where a formula changes, and each type has them.
_X: Final = (2.0 * integers((3, 5, 9), -96, 95, 171) + 1) / 32

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


#: Function of torch.nn.functional, its options, the function, its derivative.
_SMOOTH: Final[tuple[tuple[str, dict[str, object], Function, Function], ...]] = (
    ("gelu", {}, lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2, _gelu_slope),
    ("gelu", {"approximate": "tanh"}, _gelu_by_tanh, _gelu_by_tanh_slope),
    (
        "silu",
        {},
        lambda x: x * _logistic(x),
        lambda x: _logistic(x) * (1 + x * (1 - _logistic(x))),
    ),
    ("mish", {}, lambda x: x * np.tanh(np.log1p(np.exp(x))), _mish_slope),
    ("sigmoid", {}, _logistic, lambda x: _logistic(x) * _logistic(-x)),
    ("tanh", {}, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    ("logsigmoid", {}, lambda x: -np.log1p(np.exp(-x)), lambda x: _logistic(-x)),
    ("softplus", {}, lambda x: np.log1p(np.exp(x)), _logistic),
    (
        "softplus",
        {"beta": 2.0, "threshold": 4.0},
        lambda x: np.where(2 * x > 4, x, np.log1p(np.exp(2 * x)) / 2),
        lambda x: np.where(2 * x > 4, 1, _logistic(2 * x)),
    ),
    (
        "elu",
        {"alpha": 0.5},
        lambda x: np.where(x > 0, x, np.expm1(x) / 2),
        lambda x: np.where(x > 0, 1, np.exp(x) / 2),
    ),
    (
        "celu",
        {"alpha": 2.0},
        lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2)),
        lambda x: np.where(x > 0, 1, np.exp(x / 2)),
    ),
    (
        "selu",
        {},
        lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(x)),
        lambda x: _SELU_SCALE * np.where(x > 0, 1, _SELU_ALPHA * np.exp(x)),
    ),
    ("softsign", {}, lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    ("tanhshrink", {}, lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2),
    (
        "hardsigmoid",
        {},
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
        lambda x: (np.abs(x) < 3) / 6,
    ),
    (
        "hardswish",
        {},
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(x > 3, 1, (np.abs(x) < 3) * (x / 3 + 0.5)),
    ),
)

#: The same, where each type computes each element exactly.
_PIECEWISE: Final[tuple[tuple[str, dict[str, object], Function, Function], ...]] = (
    ("relu", {}, lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0)),
    ("relu6", {}, lambda x: np.clip(x, 0, 6), lambda x: 1.0 * ((x > 0) & (x < 6))),
    (
        "leaky_relu",
        {"negative_slope": 0.25},
        lambda x: np.where(x > 0, x, x / 4),
        lambda x: np.where(x > 0, 1, 0.25),
    ),
    (
        "hardtanh",
        {"min_val": -2.0, "max_val": 3.0},
        lambda x: np.clip(x, -2, 3),
        lambda x: 1.0 * ((x > -2) & (x < 3)),
    ),
    (
        "threshold",
        {"threshold": 1.0, "value": -2.0},
        lambda x: np.where(x > 1, x, -2),
        lambda x: 1.0 * (x > 1),
    ),
    (
        "hardshrink",
        {"lambd": 0.5},
        lambda x: np.where(np.abs(x) > 0.5, x, 0),
        lambda x: 1.0 * (np.abs(x) > 0.5),
    ),
    (
        "softshrink",
        {"lambd": 0.5},
        lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
        lambda x: 1.0 * (np.abs(x) > 0.5),
    ),
)

#: The derivative of the slope by the result, where the backward takes up the result.
_BY_RESULT: Final[dict[str, Function]] = {"sigmoid": lambda y: 1 - 2 * y, "tanh": lambda y: 2 * y}

#: The types, where not all. Made of several operations, each of which rounds to a half type; and
#: the sixth of hardsigmoid and hardswish is one of float32 in each type, in the gradient of the
#: first on the CPU (torch 2.13), in the second itself on CUDA (torch 2.11).
_TYPES: Final = {
    "softsign": SINGLES,
    "tanhshrink": SINGLES,
    "hardsigmoid": (torch.float32, *HALVES),
    "hardswish": (torch.float32, *HALVES),
}


def activations(device: str) -> Iterator[Trial]:
    """Functions of one element, PReLU and GLU."""
    layers = []
    for table, exact in ((_SMOOTH, False), (_PIECEWISE, True)):
        for name, options, value, slope in table:
            variant = ", ".join(f"{key}={each}" for key, each in options.items())
            reference = pointwise(value, slope, by_result=_BY_RESULT.get(name), exact_in_all=exact)
            dtypes = _TYPES.get(name, FLOATS)
            layers.append(Layer(name, function(name, **options), (_X,), reference, variant, dtypes))
    relu = pointwise(lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0), exact_in_all=True)
    layers.append(Layer("relu", _relu_in_place, (_X,), relu, "in place"))
    weight = np.array([0.25, -0.5, 0.125, 2.0, -1.0])
    layers.append(Layer("prelu", function("prelu"), (_X, weight), _prelu, "a weight each channel"))
    layers.append(Layer("prelu", function("prelu"), (_X, weight[:1]), _prelu, "one weight"))
    layers.append(Layer("glu", function("glu", 0), (np.concatenate([_X, _X[::-1]]),), _glu))
    yield from trials(layers, device)


def softmax(device: str) -> Iterator[Trial]:
    """Softmax, softmin and log_softmax along the last axis and along an inner one."""
    references: dict[str, Callable[[int], Reference]] = {
        "softmax": lambda axis: _softmax(axis, 1),
        "softmin": lambda axis: _softmax(axis, -1),
        "log_softmax": _log_softmax,
    }
    wide = (2.0 * integers((4, 130), -96, 95, 172) + 1) / 32
    layers = [
        Layer(name, function(name, dim=axis), (x,), reference(axis), f"axis {axis} of {x.ndim}")
        for name, reference in references.items()
        for x, axis in ((_X, 1), (wide, -1))
    ]
    yield from trials(layers, device)


def _relu_in_place(x: torch.Tensor) -> torch.Tensor:
    return functional.relu(x.clone(), inplace=True)


def _prelu(x: Rounded, weight: Rounded) -> tuple[Rounded, Backward]:
    """max(0, x) + w min(0, x), with a w for each channel, the second axis."""
    w = weight.moved(lambda array: array.reshape(1, -1, 1))
    positive = x.value > 0

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        of_weight = selected(~positive, g * x, 0.0).stored()
        axes = (0, 2) if weight.value.size > 1 else (0, 1, 2)
        total = of_weight.total(axes, keepdims=False)
        return selected(positive, g, g * w), total.moved(lambda a: a.reshape(weight.value.shape))

    return selected(positive, x, x * w), backward


def _glu(x: Rounded) -> tuple[Rounded, Backward]:
    """The first half times the logistic function of the second."""
    half = x.value.shape[0] // 2
    a, gate = x[:half], logistic(x[half:])

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        kept = gate.stored()
        return (joined([g * kept, g * a * kept * (1 - kept)]),)

    return a * gate, backward


def _shares(x: Rounded, axis: int) -> tuple[Rounded, Rounded]:
    """X less its largest element, and the logarithm of the sum of its exponentials."""
    shifted = x - x.value.max(axis, keepdims=True)
    return shifted, logarithm(exponential(shifted).total(axis))


def _softmax(axis: int, sign: int) -> Reference:
    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        shifted, total = _shares(x if sign > 0 else -x, axis)
        p = exponential(shifted - total)

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            kept = p.stored()  # the backward takes up the result
            terms = (g * kept).stored()  # CUDA's is handed these products
            gradient = terms - kept * terms.total(axis)
            return (gradient if sign > 0 else -gradient,)

        return p, backward

    return reference


def _log_softmax(axis: int) -> Reference:
    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        shifted, total = _shares(x, axis)
        logs = shifted - total

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            return (g - exponential(logs.stored()) * g.total(axis),)

        return logs, backward

    return reference
