"""Losses of margins between classes, one right class or several."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from probes.kit.layer import Backward, Layer, trials
from probes.kit.operands import coarse, integers
from probes.kit.rounding import Array, Rounded, selected
from probes.kit.trial import Trial
from probes.losses.classes import CLASSES, WEIGHT, options_of
from probes.losses.reductions import losses


def margins(device: str) -> Iterator[Trial]:
    """Margins between classes, one right class or several."""
    x = coarse((5, CLASSES), -2, 2, 313) + np.arange(CLASSES) / 128
    index = integers((5,), 0, CLASSES - 1, 314, np.int64)
    layers: list[Layer] = []
    for p in (1, 2):
        for weight in (None, WEIGHT):
            reference = partial(_multi_margin, index, p, weight)
            layers += losses(
                "multi_margin_loss", (x,), reference, index, p=p, margin=0.75, **options_of(weight)
            )
    several = np.array([[3, 0, -1, 1, 2, 4], [0, -1, 2, 1, 3, 5], [5, 4, 3, 2, 1, -1]])
    layers += losses(
        "multilabel_margin_loss", (x[:3],), partial(_multilabel_margin, several), several
    )
    shares = 1.0 * integers((5, CLASSES), 0, 1, 315)
    for factors in (None, WEIGHT):
        reference = partial(_soft_margins, shares, 1.0 if factors is None else factors)
        layers += losses(
            "multilabel_soft_margin_loss", (x,), reference, shares, **options_of(factors)
        )
    yield from trials(layers, device)


def _hinges(x: Rounded, differences: Rounded, power: int) -> tuple[Rounded, Rounded]:
    """max(0, differences)^power, and its slope."""
    active = differences.value > 0
    positive = selected(active, differences, 0.0)
    if power == 1:
        return positive, x.exactly(np.asarray(1.0 * active))
    return positive * positive, positive * 2


def _multi_margin(
    index: Any, power: int, weight: Array | None, x: Rounded
) -> tuple[Rounded, Backward]:
    """The mean over classes of max(0, margin - x of the right class + x)^p, times its weight."""
    rows = np.arange(index.size)
    right = x[rows, index].moved(lambda array: array[:, None])
    others = np.ones((index.size, CLASSES))
    others[rows, index] = 0
    factors = others / CLASSES * (1.0 if weight is None else weight[index][:, None])
    values, slopes = _hinges(x, 0.75 - right + x, power)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        each = g.moved(lambda array: array[:, None]) * slopes * factors
        chosen = np.eye(CLASSES)[index]
        return (each - each.total(1) * chosen,)

    return (values * factors).total(1, keepdims=False), backward


def _multilabel_margin(several: Any, x: Rounded) -> tuple[Rounded, Backward]:
    """The sum over right classes and others of max(0, 1 - x of the right + x of the other) / C.

    The right classes of a row are those before the first -1.
    """
    right = np.zeros((several.shape[0], CLASSES), bool)
    for row, classes in zip(right, several, strict=True):
        row[[each for at, each in enumerate(classes) if -1 not in classes[: at + 1]]] = True
    pairs = (right[:, :, None] & ~right[:, None, :]) / CLASSES  # (B, right, other)
    own, other = (x.moved(lambda array, at=at: np.expand_dims(array, at)) for at in (2, 1))  # type: ignore[misc]
    values, slopes = _hinges(x, 1 - own + other, 1)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        each = g.moved(lambda array: array[:, None, None]) * slopes * pairs
        return (each.total(1, keepdims=False) - each.total(2, keepdims=False),)

    return (values * pairs).total((1, 2), keepdims=False), backward


def _soft_margins(t: Array, weight: Array | float, x: Rounded) -> tuple[Rounded, Backward]:
    """The mean over classes of the weighted binary cross entropy of logits."""
    share = 1 / (1 + np.exp(-x.value))
    value = t * np.log1p(np.exp(-x.value)) + (1 - t) * np.log1p(np.exp(x.value))
    elements = x.mapped(value, share - t, 1.0)
    factors = weight * np.ones(CLASSES) / CLASSES

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        slope = x.mapped(share, share * (1 - share), 0.25) - t
        return (g.moved(lambda array: array[:, None]) * slope * factors,)

    return (elements * factors).total(1, keepdims=False), backward
