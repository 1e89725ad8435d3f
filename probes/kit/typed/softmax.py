"""Softmax, softmin and log_softmax."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from probes.kit.layer import Backward, Layer, Reference, function
from probes.kit.operands import integers
from probes.kit.rounding import Array, Rounded, exponential, logarithm
from probes.kit.typed.curves import X

_NAMES: Final = ("softmax", "softmin", "log_softmax")

#: So large that their exponentials are infinite in float32, and exact in each type.
_LARGE: Final = 96 + np.round(2 * X) / 2


def softmax() -> Iterator[Layer]:
    """Softmax, softmin and log_softmax along the last axis and along an inner one."""
    wide = (2.0 * integers((4, 130), -96, 95, 172) + 1) / 32
    image = X.reshape(3, 5, 3, 3)
    operands = ((X, 1), (wide, -1), (image, 1), (_LARGE, -1))
    yield from (along(axis, x, name) for name in _NAMES for x, axis in operands)


def along(axis: int, x: Array, name: str, variant: str = "") -> Layer:
    """One of them along an axis; of an image in channels_last too."""
    reference = {
        "softmax": partial(_softmax, axis, 1),
        "softmin": partial(_softmax, axis, -1),
        "log_softmax": partial(_log_softmax, axis),
    }[name]()
    shown = variant or f"axis {axis} of {x.ndim}"
    call = function(name, dim=axis)
    return Layer(name, call, (x,), reference, shown, channels_last=x.ndim > 3)


def _shares(x: Rounded, axis: int) -> tuple[Rounded, Rounded]:
    """X less its largest element, and the logarithm of the sum of its exponentials."""
    shifted = x - x.value.max(axis, keepdims=True)
    # The CPU keeps that sum in the half type.
    return shifted, logarithm(exponential(shifted).total(axis).stored())


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
