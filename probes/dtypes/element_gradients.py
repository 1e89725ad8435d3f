"""Gradients of functions of one element and of two."""

import math
from collections.abc import Callable, Iterator
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
    yield Layer("xlogy", torch.xlogy, (X, _POSITIVE), _xlogy, dtypes=SINGLES)


def _xlogy(x: Rounded, y: Rounded) -> tuple[Rounded, Backward]:
    logs = y.mapped(np.log(y.value), 1 / y.value, 2.0)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        return g * logs, g * x / y

    return x * logs, backward
