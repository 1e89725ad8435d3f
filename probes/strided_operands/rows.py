"""Softmax and normalisations of operands of every layout, within bounds on rounding.

Weights and biases are laid out as the operands are. Sums have up to 132 terms.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.kit.trial import Trial
from probes.strided_operands.memory import Operand
from probes.strided_operands.operations import SINGLE, Operation, read

_UNIT: Final = 2.0**-23
_X: Final = Operand((4, 6, 33), -4, 4)
_IMAGE: Final = Operand((3, 6, 5, 4), -4, 4)
_LARGEST: Final = 4.0
#: Large enough that no row is divided by a tiny deviation.
_EPS: Final = 1.0


def _softmax(x: Any, axis: int) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def _normal(x: Any, axes: tuple[int, ...]) -> Any:
    """(x - mean) / sqrt(variance + eps) over these axes."""
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + _EPS)


def normal_error(terms: int, scale: float = 1.0) -> float:
    """The error of a normalised number, times the largest weight.

    The mean has an error of (terms + 2) units of the largest number; the variance of (terms + 8)
    units of its square, twice where it is a difference of squares, and half of that times the
    number remains. The reciprocal root and its use take 8 units more. A deviation is at least 1.
    """
    of_mean = (terms + 2) * _LARGEST
    of_variance = (terms + 8) * _LARGEST**2 * 2 / 2 * 2 * _LARGEST
    return (of_mean + of_variance + 8 * 2 * _LARGEST) * _UNIT * scale


def _row(
    name: str,
    operands: tuple[Operand, ...],
    answer: Callable[..., Any],
    error: float,
    *after: Any,
    **fields: Any,
) -> Operation:
    given = {"dtypes": SINGLE, "out": False, "allowed": lambda *_: error}
    return Operation(name, operands, answer, after, **{**given, **fields})


def _softmaxes() -> Iterator[Operation]:
    for axis in range(3):
        size = _X.shape[axis]

        def soft(x: Any, axis: int = axis) -> Any:
            return _softmax(x, axis)

        def logarithm(x: Any, axis: int = axis) -> Any:
            return np.log(_softmax(x, axis))

        # An exponential and a quotient, and as many additions as there are terms.
        yield _row("softmax", (_X,), soft, (size + 8) * _UNIT, axis, out=True)
        yield _row("log_softmax", (_X,), logarithm, (size + 8) * 16 * _UNIT, axis, out=True)


def _norms() -> Iterator[Operation]:
    weight, bias = Operand((33,), -2, 2), Operand((33,))
    f = "nn.functional"

    def layer(x: Any, w: Any, b: Any) -> Any:
        return _normal(x, (2,)) * w + b

    yield _row(f"{f}.layer_norm", (_X, weight, bias), layer, normal_error(33, 2), call=_layer_norm)
    channels = Operand((6,), -2, 2)

    def group(x: Any, w: Any, b: Any) -> Any:
        parts = _normal(x.reshape(3, 2, -1), (2,)).reshape(x.shape)
        return parts * w.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)

    yield _row(
        f"{f}.group_norm",
        (_IMAGE, channels, channels),
        group,
        normal_error(60, 2),
        call=_group_norm,
    )

    def batch(x: Any, w: Any, b: Any) -> Any:
        return _normal(x, (0, 2, 3)) * w.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)

    yield _row(
        f"{f}.batch_norm",
        (_IMAGE, channels, channels),
        batch,
        normal_error(60, 2),
        call=_batch_norm,
    )

    def running(x: Any, mean: Any, variance: Any, w: Any) -> Any:
        mean, variance, w = (each.reshape(-1, 1, 1) for each in (mean, variance, w))
        return (x - mean) / np.sqrt(variance + _EPS) * w

    yield _row(
        f"{f}.batch_norm",
        (_IMAGE, channels, Operand((6,), 0, 8), channels),
        running,
        normal_error(1, 2),
        call=_running_norm,
    )


def _layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    return torch.nn.functional.layer_norm(x, (33,), weight, bias, _EPS)


def _group_norm(x: Any, weight: Any, bias: Any) -> Any:
    return torch.nn.functional.group_norm(x, 2, weight, bias, _EPS)


def _batch_norm(x: Any, weight: Any, bias: Any) -> Any:
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=_EPS)


def _running_norm(x: Any, mean: Any, variance: Any, weight: Any) -> Any:
    return torch.nn.functional.batch_norm(x, mean, variance, weight, eps=_EPS)


ROWS: Final = (*_softmaxes(), *_norms())


def rows(device: str) -> Iterator[Trial]:
    """Softmax over each dimension; layer, group and batch norm."""
    return read(ROWS, device)
