"""Losses of classes: likelihoods, cross entropies, margins between classes."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.kit.gradients import tensor
from probes.kit.layer import SINGLES, Backward, Layer, trials
from probes.kit.operands import coarse, fractions, integers
from probes.kit.rounding import Array, Rounded, exponential, logarithm, selected
from probes.kit.trial import Trial
from probes.losses.reductions import REDUCTIONS, losses

_CLASSES: Final = 6
_IGNORED: Final = -100
_OTHER: Final = 2
_WEIGHT: Final = np.array([0.5, 1, 2, 4, 1.5, 0.25])

#: (batch, classes) and (batch, classes, height, width).
_SHAPES: Final = ((9, _CLASSES), (2, _CLASSES, 3, 4))


def likelihood(device: str) -> Iterator[Trial]:
    """nll_loss in one and two dimensions, with weights and an ignored class."""
    layers = []
    for shape in _SHAPES:
        x = coarse(shape, -4, 0, 311)
        for weight in (None, _WEIGHT):
            for ignored in (_IGNORED, _OTHER):
                options = _options(weight, ignore_index=ignored)
                factors, count = _of_indices(shape, weight, ignored, 0.0)
                layers += _layers("nll_loss", x, _target(shape, ignored), factors, count, options)
    yield from trials(layers, device)


def cross_entropy(device: str) -> Iterator[Trial]:
    """cross_entropy of indices and of probabilities, smoothed and weighted."""
    layers = []
    for shape in _SHAPES:
        x = coarse(shape, -4, 4, 312)
        for weight in (None, _WEIGHT):
            for smoothing in (0.0, 0.25):
                options = _options(weight, label_smoothing=smoothing)
                factors, count = _of_indices(shape, weight, _IGNORED, smoothing)
                target: Any = _target(shape, _IGNORED)
                layers += _layers("cross_entropy", x, target, factors, count, options)
                target = _shares(shape)
                factors = target * (1 - smoothing) + smoothing / _CLASSES
                factors = factors * _spread(weight, shape)
                places = x.size // _CLASSES
                layers += _layers("cross_entropy", x, target, factors, places, options)
    yield from trials(layers, device)


def margins(device: str) -> Iterator[Trial]:
    """Margins between classes, one right class or several."""
    x = coarse((5, _CLASSES), -2, 2, 313) + np.arange(_CLASSES) / 128
    index = integers((5,), 0, _CLASSES - 1, 314, np.int64)
    layers: list[Layer] = []
    for p in (1, 2):
        for weight in (None, _WEIGHT):
            reference = partial(_multi_margin, index, p, weight)
            layers += losses(
                "multi_margin_loss", (x,), reference, index, p=p, margin=0.75, **_options(weight)
            )
    several = np.array([[3, 0, -1, 1, 2, 4], [0, -1, 2, 1, 3, 5], [5, 4, 3, 2, 1, -1]])
    layers += losses(
        "multilabel_margin_loss", (x[:3],), partial(_multilabel_margin, several), several
    )
    shares = 1.0 * integers((5, _CLASSES), 0, 1, 315)
    layers += losses("multilabel_soft_margin_loss", (x,), partial(_soft_margins, shares), shares)
    yield from trials(layers, device)


def _options(weight: Array | None, **more: Any) -> dict[str, Any]:
    return more if weight is None else {"weight": weight, **more}


def _target(shape: tuple[int, ...], ignored: int) -> Any:
    """Class indices (B, *), some of them ignored."""
    places = (shape[0], *shape[2:])
    target = integers(places, 0, _CLASSES - 1, 316, np.int64)
    return np.where(fractions(places, 317) < 0.2, ignored, target)


def _shares(shape: tuple[int, ...]) -> Array:
    """Probabilities (B, C, *) that are multiples of 1/16."""
    places = (shape[0], *shape[2:])
    cuts = np.sort(integers((*places, _CLASSES - 1), 0, 16, 318).astype(float), -1)
    edges = np.concatenate([np.zeros((*places, 1)), cuts, np.full((*places, 1), 16.0)], -1)
    return np.ascontiguousarray(np.moveaxis(np.diff(edges) / 16, -1, 1))


def _spread(weight: Array | None, shape: tuple[int, ...]) -> Array:
    values = np.ones(_CLASSES) if weight is None else weight
    return values.reshape(1, -1, *([1] * (len(shape) - 2)))


def _of_indices(
    shape: tuple[int, ...], weight: Array | None, ignored: int, smoothing: float
) -> tuple[Array, float]:
    """The factor of each negative logarithm (B, C, *), and what the mean divides by."""
    target = _target(shape, ignored)
    chosen = np.moveaxis(np.eye(_CLASSES)[np.where(target == ignored, 0, target)], -1, 1)
    kept = (target != ignored)[:, None]
    weights = _spread(weight, shape)
    factors = kept * weights * (chosen * (1 - smoothing) + smoothing / _CLASSES)
    return factors, float((kept * chosen * weights).sum())


def _layers(
    name: str, x: Array, target: Any, factors: Array, count: float, options: dict[str, Any]
) -> list[Layer]:
    """A loss in each reduction: the sum over classes of factors times negative logarithms."""
    shown = [f"{len(x.shape)} axes", "indices" if target.dtype == np.int64 else "probabilities"]
    shown += [key if key == "weight" else f"{key}={value}" for key, value in options.items()]
    return [
        Layer(
            name,
            partial(_call, name, target, options | {"reduction": reduction}),
            (x,),
            partial(_weighted, name == "cross_entropy", factors, count, reduction),
            ", ".join([*shown, reduction]),
            SINGLES,
        )
        for reduction in REDUCTIONS
    ]


def _call(name: str, target: Any, options: dict[str, Any], x: torch.Tensor) -> torch.Tensor:
    def beside(value: Any) -> Any:
        return tensor(value, str(x.device), x.dtype) if isinstance(value, np.ndarray) else value

    indices = target.dtype == np.int64
    given = torch.from_numpy(target).to(x.device) if indices else beside(target)
    named = {key: beside(value) for key, value in options.items()}
    out: torch.Tensor = getattr(functional, name)(x, given, **named)
    return out


def _weighted(
    of_scores: bool,  # noqa: FBT001 - else of logarithms
    factors: Array,
    count: float,
    reduction: str,
    x: Rounded,
) -> tuple[Rounded, Backward]:
    logs = x
    if of_scores:
        shifted = x - x.value.max(1, keepdims=True)
        logs = shifted - logarithm(exponential(shifted).total(1))
    elements = -(logs * factors).total(1, keepdims=False)
    divisor = count if reduction == "mean" else 1.0

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        each = g.moved(lambda array: np.broadcast_to(array, elements.value.shape)) / divisor
        of_logs = -(each.moved(lambda array: array[:, None]) * factors)
        if not of_scores:
            return (of_logs,)
        return (of_logs - exponential(logs) * of_logs.total(1),)

    if reduction == "none":
        return elements, backward
    axes = tuple(range(elements.value.ndim))
    return elements.total(axes, keepdims=False) / divisor, backward


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
    others = np.ones((index.size, _CLASSES))
    others[rows, index] = 0
    factors = others / _CLASSES * (1.0 if weight is None else weight[index][:, None])
    values, slopes = _hinges(x, 0.75 - right + x, power)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        each = g.moved(lambda array: array[:, None]) * slopes * factors
        chosen = np.eye(_CLASSES)[index]
        return (each - each.total(1) * chosen,)

    return (values * factors).total(1, keepdims=False), backward


def _multilabel_margin(several: Any, x: Rounded) -> tuple[Rounded, Backward]:
    """The sum over right classes and others of max(0, 1 - x of the right + x of the other) / C.

    The right classes of a row are those before the first -1.
    """
    right = np.zeros((several.shape[0], _CLASSES), bool)
    for row, classes in zip(right, several, strict=True):
        row[[each for at, each in enumerate(classes) if -1 not in classes[: at + 1]]] = True
    pairs = (right[:, :, None] & ~right[:, None, :]) / _CLASSES  # (B, right, other)
    own, other = (x.moved(lambda array, at=at: np.expand_dims(array, at)) for at in (2, 1))  # type: ignore[misc]
    values, slopes = _hinges(x, 1 - own + other, 1)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        each = g.moved(lambda array: array[:, None, None]) * slopes * pairs
        return (each.total(1, keepdims=False) - each.total(2, keepdims=False),)

    return (values * pairs).total((1, 2), keepdims=False), backward


def _soft_margins(t: Array, x: Rounded) -> tuple[Rounded, Backward]:
    """The mean over classes of the binary cross entropy of logits."""
    share = 1 / (1 + np.exp(-x.value))
    value = t * np.log1p(np.exp(-x.value)) + (1 - t) * np.log1p(np.exp(x.value))
    elements = x.mapped(value, share - t, 1.0)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        slope = x.mapped(share, share * (1 - share), 0.25) - t
        return (g.moved(lambda array: array[:, None]) * slope * (1 / _CLASSES),)

    return elements.total(1, keepdims=False) * (1 / _CLASSES), backward
