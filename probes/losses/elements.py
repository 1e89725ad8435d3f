"""Losses of each element: distances and binary cross entropies."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.layer import FLOATS, pointwise, trials
from probes.kit.operands import coarse, integers
from probes.kit.references import compare
from probes.kit.rounding import Array
from probes.kit.trial import Custom, Trial
from probes.losses.reductions import losses

SHAPE: Final = (4, 3, 7)
X: Final = coarse(SHAPE, -4, 4, 301)
TARGET: Final = coarse(SHAPE, -3, 3, 302) + 1 / 64  # never equal to an element, nor 1 away
SHARE: Final = coarse(SHAPE, 0.1, 0.9, 303)
SIGNS: Final = 2.0 * integers(SHAPE, 0, 1, 304) - 1
_WEIGHT: Final = coarse(SHAPE, 0.5, 2, 305)

#: The largest operand of these.
_SIZE: Final = 8.0


def distances(device: str) -> Iterator[Trial]:
    """Mean squared and absolute errors, smooth L1, Huber's, and margins of signed targets."""
    t = TARGET
    beta, delta, margin = 0.5, 1.5, 0.75
    layers = [
        *losses(
            "mse_loss",
            (X,),
            by(lambda x: (x - t) ** 2, lambda x: 2 * (x - t), 64.0),
            t,
            dtypes=FLOATS,
        ),
        *losses(
            "l1_loss",
            (X,),
            by(lambda x: np.abs(x - t), lambda x: np.sign(x - t)),
            t,
            dtypes=FLOATS,
        ),
        *losses(
            "smooth_l1_loss",
            (X,),
            by(
                lambda x: np.where(
                    np.abs(x - t) < beta, (x - t) ** 2 / (2 * beta), np.abs(x - t) - beta / 2
                ),
                lambda x: np.clip((x - t) / beta, -1, 1),
            ),
            t,
            dtypes=FLOATS,
            beta=beta,
        ),
        *losses(
            "smooth_l1_loss",
            (X,),
            by(lambda x: np.abs(x - t), lambda x: np.sign(x - t)),
            t,
            beta=0.0,
        ),
        *losses(
            "huber_loss",
            (X,),
            by(
                lambda x: np.where(
                    np.abs(x - t) < delta, (x - t) ** 2 / 2, delta * (np.abs(x - t) - delta / 2)
                ),
                lambda x: np.clip(x - t, -delta, delta),
            ),
            t,
            dtypes=FLOATS,
            delta=delta,
        ),
        *losses(
            "soft_margin_loss",
            (X,),
            by(
                lambda x: np.log1p(np.exp(-SIGNS * x)),
                lambda x: -SIGNS / (1 + np.exp(SIGNS * x)),
            ),
            SIGNS,
        ),
        *losses(
            "hinge_embedding_loss",
            (X + 1 / 64,),
            by(
                lambda x: np.where(SIGNS > 0, x, np.maximum(0, margin - x)),
                lambda x: np.where(SIGNS > 0, 1, -1.0 * (x < margin)),
            ),
            SIGNS,
            margin=margin,
        ),
    ]
    yield from trials(layers, device)


def binary(device: str) -> Iterator[Trial]:
    """Binary cross entropy of shares and of logits, with weights and with pos_weight."""
    t, w = SHARE, _WEIGHT
    p = coarse(SHAPE, 0.1, 0.9, 306)
    positive = np.array([0.5, 1, 2, 3, 1.5, 0.25, 4])
    layers = []
    ways: list[tuple[Array, dict[str, Any]]] = [(np.ones(SHAPE), {}), (w, {"weight": w})]
    for weight, options in ways:
        layers += losses(
            "binary_cross_entropy",
            (p,),
            by(
                partial(_cross_entropy, t, weight),
                lambda x, weight=weight: weight * (x - t) / (x * (1 - x)),
                128.0,
            ),
            t,
            **options,
        )
    ways = [
        (np.ones(7), {}),
        (positive, {"pos_weight": positive}),
        (np.ones(7), {"weight": w}),
    ]
    for factor, options in ways:
        weight = options.get("weight", np.ones(SHAPE))
        layers += losses(
            "binary_cross_entropy_with_logits",
            (X,),
            by(
                partial(_by_logits, t, factor, weight),
                partial(_by_logits_slope, t, factor, weight),
                32.0,
            ),
            t,
            **options,
        )
    yield from trials(layers, device)
    yield Custom("binary_cross_entropy", _certain, torch.float32)
    yield Custom("binary_cross_entropy_with_logits", _large_logits, torch.float32)


def by(value: Any, slope: Any, size: float = _SIZE) -> Any:
    """The reference of a loss of each element, with its derivative."""
    return pointwise(value, slope, size=size)


def _cross_entropy(t: Array, weight: Array, x: Array) -> Array:
    return np.asarray(-weight * (t * np.log(x) + (1 - t) * np.log(1 - x)))


def _by_logits(t: Array, factor: Array, weight: Array, x: Array) -> Array:
    positive, negative = np.log1p(np.exp(-x)), np.log1p(np.exp(x))
    return np.asarray(weight * (factor * t * positive + (1 - t) * negative))


def _by_logits_slope(t: Array, factor: Array, weight: Array, x: Array) -> Array:
    share = 1 / (1 + np.exp(-x))
    return np.asarray(weight * ((1 - t) * share - factor * t * (1 - share)))


def _certain(device: str) -> Iterator[Comparison]:
    """Shares of 0 and 1: logarithms are not below -100, so that a loss stays finite."""
    x, t = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    found = functional.binary_cross_entropy(tensor(x, device), tensor(t, device), reduction="none")
    yield compare(
        "binary_cross_entropy (certain)", found + 0.0, np.array([0, 100, 100, 0], np.float32)
    )


def _large_logits(device: str) -> Iterator[Comparison]:
    """Logits of 100, whose exponential is infinite in float32: the loss is 0 or 100."""
    x, t = leaf([100.0, 100.0, -100.0, -100.0], device), [0.0, 1.0, 0.0, 1.0]
    call = functional.binary_cross_entropy_with_logits
    found = call(x, tensor(t, device), reduction="none")
    (gradient,) = torch.autograd.grad(root(found, tensor([1.0] * 4, device)), x)
    name = "binary_cross_entropy_with_logits (large"
    tiny = np.full(4, 1e-30)  # e^-100 is below the smallest normal number
    yield compare(f"{name})", host(found), np.array([100.0, 0, 0, 100]), tiny)
    yield compare(f"{name}, gradient)", host(gradient), np.array([1.0, 0, 0, -1]), tiny)
