"""Gradients of functions of one element and of two."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.dtypes.functions import digamma
from probes.kit.layer import SINGLES, Backward, Layer, Reference, linear, pointwise
from probes.kit.operands import integers
from probes.kit.rounding import Rounded
from probes.kit.typed.linear_maps import POWERS, SHAPE, X, beside

_POSITIVE: Final = np.asarray(integers(SHAPE, 1, 9, 72) / 2.0, np.float64)


def elements() -> Iterator[Layer]:
    """Limits, powers, quotients, roots, exponentials and logarithms."""
    halved = (2.0 * integers(SHAPE, -7, 6, 75) + 1) / 2  # never a limit

    def piecewise(value: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Reference:
        return pointwise(value, slope, exact_in_all=True)

    def within(x: Any) -> Any:
        return 1.0 * ((x > -2) & (x < 3))

    yield Layer(
        "clamp", lambda x: x.clamp(-2, 3), (halved,), piecewise(lambda x: np.clip(x, -2, 3), within)
    )
    at_least = piecewise(lambda x: np.maximum(x, 1), lambda x: 1.0 * (x > 1))
    yield Layer("clamp_min", lambda x: x.clamp_min(1), (halved,), at_least)
    yield Layer("abs", lambda x: x.abs(), (halved,), piecewise(np.abs, np.sign))
    square = piecewise(np.square, lambda x: 2 * x)
    yield Layer("pow", lambda x: x.pow(2), (X,), square)
    yield Layer("square", lambda x: x.square(), (X,), square)
    quotient = linear(lambda b: b / POWERS, 2)
    yield Layer("div", lambda x: x / beside(POWERS, x), (X,), quotient)
    root = pointwise(np.sqrt, lambda x: 0.5 / np.sqrt(x), by_result=lambda y: -0.5 / y**2)
    yield Layer("sqrt", lambda x: x.sqrt(), (_POSITIVE,), root)
    exponential = pointwise(np.exp, np.exp, by_result=np.ones_like)
    yield Layer("exp", lambda x: x.exp(), (X / 4,), exponential)
    logarithm = pointwise(np.log, lambda x: 1 / x)
    yield Layer("log", lambda x: x.log(), (_POSITIVE,), logarithm)
    gamma = pointwise(np.vectorize(math.lgamma), np.vectorize(lambda x: digamma(int(2 * x), 2)))
    yield Layer("lgamma", lambda x: x.lgamma(), (_POSITIVE,), gamma)
    yield from _functions()
    yield Layer("xlogy", torch.xlogy, (X, _POSITIVE), _xlogy, dtypes=SINGLES)


def _functions() -> Iterator[Layer]:
    """Functions that norms, rotations and activations are written with."""
    inverse_root = pointwise(
        lambda x: 1 / np.sqrt(x), lambda x: -0.5 * x**-1.5, by_result=lambda y: 1.5 * y**2
    )
    yield Layer("rsqrt", lambda x: x.rsqrt(), (_POSITIVE,), inverse_root)
    inverse = pointwise(lambda x: 1 / x, lambda x: -(x**-2.0), by_result=lambda y: 2 * y)
    yield Layer("reciprocal", lambda x: x.reciprocal(), (_POSITIVE,), inverse)
    yield Layer("sin", lambda x: x.sin(), (X / 4,), pointwise(np.sin, np.cos))
    yield Layer("cos", lambda x: x.cos(), (X / 4,), pointwise(np.cos, lambda x: -np.sin(x)))
    yield Layer("log1p", lambda x: x.log1p(), (_POSITIVE,), pointwise(np.log1p, _of_log1p))
    below = pointwise(np.expm1, np.exp, by_result=np.ones_like)
    yield Layer("expm1", lambda x: x.expm1(), (X / 4,), below)
    erf = pointwise(np.vectorize(math.erf), lambda x: 2 / math.sqrt(math.pi) * np.exp(-(x**2)))
    yield Layer("erf", lambda x: x.erf(), (X / 4,), erf, stored=3)


def _of_log1p(x: Any) -> Any:
    return 1 / (1 + x)


def pairs() -> Iterator[Layer]:
    """Functions of two and three operands, exact for these integers and powers of 2."""
    halved = (2.0 * integers(SHAPE, -7, 6, 81) + 1) / 2  # never equal to an integer
    y, z = (np.asarray(integers(SHAPE, -6, 6, 82 + salt), np.float64) for salt in range(2))

    def larger(x: Rounded, y: Rounded) -> tuple[Rounded, Backward]:
        first = 1.0 * (x.value > y.value)
        return x.exactly(np.maximum(x.value, y.value)), _shared(first, 1 - first)

    def smaller(x: Rounded, y: Rounded) -> tuple[Rounded, Backward]:
        first = 1.0 * (x.value < y.value)
        return x.exactly(np.minimum(x.value, y.value)), _shared(first, 1 - first)

    def plus_product(x: Rounded, y: Rounded, z: Rounded) -> tuple[Rounded, Backward]:
        found = x.exactly(x.value + 2 * y.value * z.value)
        return found, _shared(np.ones(SHAPE), 2 * z.value, 2 * y.value)

    def plus_quotient(x: Rounded, y: Rounded, p: Rounded) -> tuple[Rounded, Backward]:
        found = x.exactly(x.value + 2 * y.value / p.value)
        return found, _shared(np.ones(SHAPE), 2 / p.value, -2 * y.value / p.value**2)

    def between(x: Rounded, y: Rounded) -> tuple[Rounded, Backward]:
        found = x.exactly(0.75 * x.value + 0.25 * y.value)
        return found, _shared(np.full(SHAPE, 0.75), np.full(SHAPE, 0.25))

    yield Layer("maximum", torch.maximum, (X, halved), larger)
    yield Layer("minimum", torch.minimum, (X, halved), smaller)
    yield Layer("addcmul", partial(torch.addcmul, value=2), (X, y, z), plus_product)
    yield Layer("addcdiv", partial(torch.addcdiv, value=2), (X, y, POWERS), plus_quotient)
    yield Layer("lerp", lambda x, y: torch.lerp(x, y, 0.25), (X, y), between)


def _shared(*slopes: Any) -> Backward:
    """The backward of a function with these slopes, whose products are exact."""

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        return tuple(g.exactly(g.value * slope) for slope in slopes)

    return backward


def _xlogy(x: Rounded, y: Rounded) -> tuple[Rounded, Backward]:
    logs = y.mapped(np.log(y.value), 1 / y.value, 2.0)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        return g * logs, g * x / y

    return x * logs, backward
