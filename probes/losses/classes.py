"""Losses of classes: likelihoods and cross entropies."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.kit.gradients import tensor
from probes.kit.layer import FLOATS, SINGLES, Backward, Layer, trials
from probes.kit.operands import coarse, fractions, integers
from probes.kit.rounding import Array, Rounded, exponential, logarithm
from probes.kit.trial import Trial
from probes.losses import reductions

CLASSES: Final = 6
_IGNORED: Final = -100
_OTHER: Final = 2
WEIGHT: Final = np.array([0.5, 1, 2, 4, 1.5, 0.25])

#: (batch, classes), (batch, classes, length), images and volumes.
_SHAPES: Final = ((9, CLASSES), (2, CLASSES, 3, 4))
_OTHER_SHAPES: Final = ((3, CLASSES, 5), (2, CLASSES, 3, 2, 2), (1, CLASSES))

#: The classes of a vocabulary, and the tokens of a batch.
_LARGE: Final = ((5, 5003), (65_601, 3))


def likelihood(device: str) -> Iterator[Trial]:
    """nll_loss in one and two dimensions, with weights and an ignored class."""
    layers = []
    for shape in _SHAPES:
        x = coarse(shape, -4, 0, 311)
        for weight in (None, WEIGHT):
            for ignored in (_IGNORED, _OTHER):
                layers += _of_classes("nll_loss", x, weight, ignored)
    layers += _in_other_shapes("nll_loss", -4, 0)
    yield from trials(layers, device)


def cross_entropy(device: str) -> Iterator[Trial]:
    """cross_entropy of indices and of probabilities, smoothed and weighted."""
    layers = []
    for shape in _SHAPES:
        x = coarse(shape, -4, 4, 312)
        for weight in (None, WEIGHT):
            for smoothing in (0.0, 0.25):
                options = options_of(weight, label_smoothing=smoothing)
                layers += _of_classes("cross_entropy", x, weight, label_smoothing=smoothing)
                target = _shares(shape)
                factors = target * (1 - smoothing) + smoothing / CLASSES
                factors = factors * _spread(weight, shape)
                places = x.size // CLASSES
                layers += _layers("cross_entropy", x, target, factors, places, options)
        layers += _of_classes("cross_entropy", x, WEIGHT, _OTHER, label_smoothing=0.25)
    layers += _in_other_shapes("cross_entropy", -4, 4)
    yield from trials(layers, device)


def _of_classes(
    name: str, x: Array, weight: Array | None, ignored: int = _IGNORED, **options: Any
) -> list[Layer]:
    """A loss of class indices, in each reduction."""
    if ignored != _IGNORED or name == "nll_loss":
        options["ignore_index"] = ignored
    smoothing = options.get("label_smoothing", 0.0)
    factors, count = _of_indices(x.shape, weight, ignored, smoothing)
    target = _target(x.shape, ignored)
    return _layers(name, x, target, factors, count, options_of(weight, **options))


def _in_other_shapes(name: str, low: float, high: float) -> list[Layer]:
    """With other axes, without a batch, and of many classes and of many rows."""
    layers = []
    for shape in _OTHER_SHAPES:
        layers += _of_classes(name, coarse(shape, low, high, 319), None)
    for shape in _LARGE:
        (_, mean, _) = _of_classes(name, coarse(shape, low, high, 319), None)
        layers.append(replace(mean, dtypes=(torch.float32,)))
    return layers


def options_of(weight: Array | None, **more: Any) -> dict[str, Any]:
    """The options of a loss, with its weights where it has them."""
    return more if weight is None else {"weight": weight, **more}


def _target(shape: tuple[int, ...], ignored: int) -> Any:
    """Class indices (B, *), some of them ignored."""
    places = (shape[0], *shape[2:])
    target = integers(places, 0, shape[1] - 1, 316, np.int64)
    return np.where(fractions(places, 317) < 0.2, ignored, target)


def _shares(shape: tuple[int, ...]) -> Array:
    """Probabilities (B, C, *) that are multiples of 1/16."""
    places = (shape[0], *shape[2:])
    cuts = np.sort(integers((*places, CLASSES - 1), 0, 16, 318).astype(float), -1)
    edges = np.concatenate([np.zeros((*places, 1)), cuts, np.full((*places, 1), 16.0)], -1)
    return np.ascontiguousarray(np.moveaxis(np.diff(edges) / 16, -1, 1))


def _spread(weight: Array | None, shape: tuple[int, ...]) -> Array:
    values = np.ones(shape[1]) if weight is None else weight
    return values.reshape(1, -1, *([1] * (len(shape) - 2)))


def _of_indices(
    shape: tuple[int, ...], weight: Array | None, ignored: int, smoothing: float
) -> tuple[Array, float]:
    """The factor of each negative logarithm (B, C, *), and what the mean divides by."""
    target = _target(shape, ignored)
    chosen = np.zeros(shape)
    np.put_along_axis(chosen, np.where(target == ignored, 0, target)[:, None], 1.0, 1)
    kept = (target != ignored)[:, None]
    weights = _spread(weight, shape)
    factors = kept * weights * (chosen * (1 - smoothing) + smoothing / shape[1])
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
            partial(_call, name, target, options | reductions.chosen(reduction)),
            (x,),
            partial(_weighted, name == "cross_entropy", factors, count, reduction),
            ", ".join([*shown, reduction]),
            SINGLES if "weight" in options else FLOATS,  # to save time
            # nll_loss refuses the gradient of an image in channels_last.
            channels_last=len(x.shape) == 4 and name == "cross_entropy",
            stored=reductions.STORED,
        )
        for reduction in reductions.REDUCTIONS
    ]


def _call(name: str, target: Any, options: dict[str, Any], x: torch.Tensor) -> torch.Tensor:
    def beside(value: Any) -> Any:
        return tensor(value, str(x.device), x.dtype) if isinstance(value, np.ndarray) else value

    indices = target.dtype == np.int64
    given = torch.from_numpy(target).to(x.device) if indices else beside(target)
    named = {key: beside(value) for key, value in options.items()}
    call: Any = getattr(functional, name)
    if x.shape[0] > 1:
        out: torch.Tensor = call(x, given, **named)
        return out
    alone = call(x[0], given[0], **named)  # without a batch
    return alone[None] if options.get("reduction") == "none" else alone  # type: ignore[no-any-return]


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
        logs = (shifted - logarithm(exponential(shifted).total(1).stored())).stored()
    elements = -(logs * factors).stored().total(1, keepdims=False)
    divisor = count if reduction == "mean" else 1.0

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        each = g.moved(lambda array: np.broadcast_to(array, elements.value.shape)) / divisor
        of_logs = -(each.moved(lambda array: array[:, None]) * factors).stored(2)
        if not of_scores:
            return (of_logs,)
        return (of_logs - exponential(logs) * of_logs.total(1),)

    if reduction == "none":
        return elements, backward
    axes = tuple(range(elements.value.ndim))
    elements = elements.stored()
    return elements.total(axes, keepdims=False) / divisor, backward
