"""Activations of one element, and gates."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from probes.kit.layer import Backward, Layer, function
from probes.kit.rounding import Rounded, joined, logistic, selected
from probes.kit.typed.curves import PIECEWISE, SMOOTH, X, layer

#: An image: kernels of their own take channels_last.
_IMAGE: Final = X.reshape(3, 5, 3, 3)


def activations() -> Iterator[Layer]:
    """Functions of one element, PReLU and GLU."""
    for curve in (*SMOOTH, *PIECEWISE):
        call = function(curve.name, **curve.options)
        yield layer(curve, call, x=_IMAGE, channels_last=True)
    weight = np.array([0.25, -0.5, 0.125, 2.0, -1.0])
    yield Layer("prelu", function("prelu"), (X, weight), _prelu, "a weight each channel")
    yield Layer("prelu", function("prelu"), (X, weight[:1]), _prelu, "one weight")
    yield Layer("glu", function("glu", 0), (np.concatenate([X, X[::-1]]),), _glu)


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
