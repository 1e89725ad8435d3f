"""The table of gradients that round: of softmax, normalisations and cross entropy."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.strided_operands.backward import Derivative
from probes.strided_operands.memory import Operand, dense_on_cpu

_functional: Any = torch.nn.functional

_UNIT: Final = 2.0**-23
_X: Final = Operand((4, 6, 33), -4, 4)
_IMAGE: Final = Operand((3, 6, 5, 4), -4, 4)
_EPS: Final = 1.0
_LARGEST: Final = 4.0


def _softmax(x: Any, axis: int) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def _softmaxes() -> Iterator[Derivative]:
    for axis in (1, 2):
        # Of y(g - sum(gy)): y has an error of n + 8 units, the sum n more, and g is at most 3.
        error = 2 * 3 * (2 * (_X.shape[axis] + 8) + 4) * _UNIT

        def soft(g: Any, x: Any, axis: int = axis) -> tuple[Any, ...]:
            y = _softmax(x, axis)
            return (y * (g - (g * y).sum(axis, keepdims=True)),)

        def logarithm(g: Any, x: Any, axis: int = axis) -> tuple[Any, ...]:
            return (g - _softmax(x, axis) * g.sum(axis, keepdims=True),)

        yield Derivative(
            "softmax",
            (_X,),
            _X.shape,
            lambda x, axis=axis: torch.softmax(x, axis),
            soft,
            allowed=lambda *_, error=error: (error,),
        )
        yield Derivative(
            "log_softmax",
            (_X,),
            _X.shape,
            lambda x, axis=axis: torch.log_softmax(x, axis),
            logarithm,
            allowed=lambda *_, error=error, n=_X.shape[axis]: (error * n,),
        )


class _Norm:
    """Gradients of (x - mean) / sqrt(variance + eps) * w + b over some axes, and their bounds.

    `axes`: over which x is normalised; `kept`: the axes of w and b.
    """

    def __init__(
        self, shape: tuple[int, ...], axes: tuple[int, ...], kept: tuple[int, ...]
    ) -> None:
        self.shape, self.axes = shape, axes
        self.summed = tuple(axis for axis in range(len(shape)) if axis not in kept)
        self.wide = tuple(n if axis in kept else 1 for axis, n in enumerate(shape))
        self.terms = int(np.prod([shape[axis] for axis in axes]))

    def _normal(self, x: Any) -> tuple[Any, Any]:
        x = x.reshape(self.shape)
        centred = x - x.mean(self.axes, keepdims=True)
        deviation = np.sqrt((centred**2).mean(self.axes, keepdims=True) + _EPS)
        return centred / deviation, deviation

    def gradients(self, g: Any, x: Any, w: Any, b: Any) -> tuple[Any, ...]:
        """Those of x, w and b."""
        normal, deviation = self._normal(x)
        g = g.reshape(self.shape)
        scaled = g * w.reshape(self.wide)
        mean = scaled.mean(self.axes, keepdims=True)
        slope = (scaled * normal).mean(self.axes, keepdims=True)
        of_x = (scaled - mean - normal * slope) / deviation
        return (
            of_x.reshape(x.shape),
            (g * normal).sum(self.summed).reshape(w.shape),
            g.sum(self.summed).reshape(b.shape),
        )

    def allowed(self, g: Any, x: Any, w: Any, b: Any) -> tuple[Any, ...]:
        """The errors: of the deviation and of each sum, times the sizes that they meet."""
        normal, deviation = (np.abs(each) for each in self._normal(x))
        g = np.abs(g.reshape(self.shape))
        scaled = g * np.abs(w.reshape(self.wide))
        # The variance may be a difference of squares; a deviation has half its relative error.
        relative = (self.terms + 16) * (2 + _LARGEST**2 / deviation**2) * _UNIT
        # A normalised number may be small, its error is that of the mean.
        size = normal + _LARGEST / deviation
        slope = (scaled * size).mean(self.axes, keepdims=True)
        of_x = (
            4
            * relative
            * (scaled + scaled.mean(self.axes, keepdims=True) + size * slope)
            / deviation
        )
        count = int(np.prod(self.shape)) // b.size
        of_w = ((count * _UNIT + relative) * g * size).sum(self.summed)
        of_b = count * _UNIT * g.sum(self.summed)
        return of_x.reshape(x.shape), of_w.reshape(w.shape), of_b.reshape(b.shape)


def _norms() -> Iterator[Derivative]:
    weight, channels = Operand((33,), -2, 2), Operand((6,), -2, 2)
    layer = _Norm(_X.shape, (2,), (2,))
    batch = _Norm(_IMAGE.shape, (0, 2, 3), (1,))
    group = _Norm((3, 2, 3, 5, 4), (2, 3, 4), (1, 2))
    yield Derivative(
        "nn.functional.layer_norm",
        (_X, weight, weight),
        _X.shape,
        lambda x, w, b: _functional.layer_norm(x, (33,), w, b, _EPS),
        layer.gradients,
        allowed=layer.allowed,
    )
    yield Derivative(
        "nn.functional.batch_norm",
        (_IMAGE, channels, channels),
        _IMAGE.shape,
        _batch_norm,
        batch.gradients,
        allowed=batch.allowed,
    )
    yield Derivative(
        "nn.functional.group_norm",
        (_IMAGE, channels, channels),
        _IMAGE.shape,
        lambda x, w, b: _functional.group_norm(x, 2, w, b, _EPS),
        group.gradients,
        allowed=group.allowed,
    )


def _batch_norm(x: Any, w: Any, b: Any) -> Any:
    w = dense_on_cpu(w)  # its strides are ignored in the backward of channels_last
    return _functional.batch_norm(x, None, None, w, b, training=True, eps=_EPS)


def _losses() -> Iterator[Derivative]:
    classes, weight = Operand((8,), 0, 4, torch.int64), Operand((5,), 1, 3)

    def gradients(g: Any, x: Any, target: Any, weights: Any) -> tuple[Any, ...]:
        hot = np.eye(5)[target]
        return ((g * weights[target])[:, None] * (_softmax(x, 1) - hot),)

    yield Derivative(
        "nn.functional.cross_entropy",
        (Operand((8, 5), -4, 4), classes, weight),
        (8,),
        lambda x, t, w: _functional.cross_entropy(x, t, w, reduction="none"),
        gradients,
        allowed=lambda *_: (3 * 3 * (5 + 12) * _UNIT,),
        count=1,
    )
    bits = Operand((4, 5, 33), 0, 1)
    yield Derivative(
        "nn.functional.binary_cross_entropy_with_logits",
        (Operand((4, 5, 33), -4, 4), bits),
        (4, 5, 33),
        lambda x, y: _functional.binary_cross_entropy_with_logits(x, y, reduction="none"),
        lambda g, x, y: (g * (1 / (1 + np.exp(-x)) - y),),
        allowed=lambda *_: (3 * 8 * _UNIT,),
        count=1,
    )


ROUNDED: Final = (*_softmaxes(), *_norms(), *_losses())
