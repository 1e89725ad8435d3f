"""Losses of each element: distances, binary cross entropies, likelihoods."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.layer import FLOATS, SINGLES, Backward, Layer, Reference, pointwise, trials
from probes.kit.operands import coarse, integers
from probes.kit.references import compare
from probes.kit.rounding import Array, Rounded, logarithm
from probes.kit.trial import Custom, Trial
from probes.losses.reductions import REDUCTIONS, chosen, losses, reduced

_SHAPE: Final = (4, 3, 7)
_X: Final = coarse(_SHAPE, -4, 4, 301)
_TARGET: Final = coarse(_SHAPE, -3, 3, 302) + 1 / 64  # never equal to an element, nor 1 away
_SHARE: Final = coarse(_SHAPE, 0.1, 0.9, 303)
_SIGNS: Final = 2.0 * integers(_SHAPE, 0, 1, 304) - 1
_WEIGHT: Final = coarse(_SHAPE, 0.5, 2, 305)

#: The largest operand of these.
_SIZE: Final = 8.0


def distances(device: str) -> Iterator[Trial]:
    """Mean squared and absolute errors, smooth L1, Huber's, and margins of signed targets."""
    t = _TARGET
    beta, delta, margin = 0.5, 1.5, 0.75
    layers = [
        *losses(
            "mse_loss",
            (_X,),
            _by(lambda x: (x - t) ** 2, lambda x: 2 * (x - t), 64.0),
            t,
            dtypes=FLOATS,
        ),
        *losses(
            "l1_loss",
            (_X,),
            _by(lambda x: np.abs(x - t), lambda x: np.sign(x - t)),
            t,
            dtypes=FLOATS,
        ),
        *losses(
            "smooth_l1_loss",
            (_X,),
            _by(
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
            (_X,),
            _by(lambda x: np.abs(x - t), lambda x: np.sign(x - t)),
            t,
            beta=0.0,
        ),
        *losses(
            "huber_loss",
            (_X,),
            _by(
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
            (_X,),
            _by(
                lambda x: np.log1p(np.exp(-_SIGNS * x)),
                lambda x: -_SIGNS / (1 + np.exp(_SIGNS * x)),
            ),
            _SIGNS,
        ),
        *losses(
            "hinge_embedding_loss",
            (_X + 1 / 64,),
            _by(
                lambda x: np.where(_SIGNS > 0, x, np.maximum(0, margin - x)),
                lambda x: np.where(_SIGNS > 0, 1, -1.0 * (x < margin)),
            ),
            _SIGNS,
            margin=margin,
        ),
    ]
    yield from trials(layers, device)


def binary(device: str) -> Iterator[Trial]:
    """Binary cross entropy of shares and of logits, with weights and with pos_weight."""
    t, w = _SHARE, _WEIGHT
    p = coarse(_SHAPE, 0.1, 0.9, 306)
    positive = np.array([0.5, 1, 2, 3, 1.5, 0.25, 4])
    layers = []
    ways: list[tuple[Array, dict[str, Any]]] = [(np.ones(_SHAPE), {}), (w, {"weight": w})]
    for weight, options in ways:
        layers += losses(
            "binary_cross_entropy",
            (p,),
            _by(
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
        weight = options.get("weight", np.ones(_SHAPE))
        layers += losses(
            "binary_cross_entropy_with_logits",
            (_X,),
            _by(
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


def likelihoods(device: str) -> Iterator[Trial]:
    """Kullback and Leibler's divergence, Poisson's and Gauss's likelihoods."""
    t, logs = _SHARE, np.round(np.log(_SHARE) * 32) / 32
    counts = integers(_SHAPE, 0, 6, 307).astype(np.float64)
    stirling = np.where(
        counts > 1,
        counts * np.log(np.maximum(counts, 1))
        - counts
        + np.log(2 * np.pi * np.maximum(counts, 1)) / 2,
        0,
    )
    rates = coarse(_SHAPE, 0.5, 4, 308)
    ways = ("none", "mean", "sum", "batchmean")
    layers = [
        *losses(
            "kl_div",
            (_X,),
            _by(lambda x: t * (np.log(t) - x), lambda x: -t + 0 * x),
            t,
            reductions=ways,
        ),
        *losses(
            "kl_div",
            (_X,),
            _by(lambda x: np.exp(logs) * (logs - x), lambda x: -np.exp(logs) + 0 * x),
            logs,
            log_target=True,
            reductions=ways,
        ),
        *losses(
            "poisson_nll_loss",
            (_X,),
            _by(lambda x: np.exp(x) - counts * x, lambda x: np.exp(x) - counts, 64.0),
            counts,
        ),
        *losses(
            "poisson_nll_loss",
            (rates,),
            _by(
                lambda x: x - counts * np.log(x + 1e-8) + stirling,
                lambda x: 1 - counts / (x + 1e-8),
                64.0,
            ),
            counts,
            log_input=False,
            full=True,
        ),
    ]
    variance = coarse(_SHAPE, 0.25, 4, 309)
    for full in (False, True):
        constant = math.log(2 * math.pi) / 2 if full else 0.0
        reference = partial(_gaussian_reference, constant)
        layers += _likelihoods_of_gauss(reference, variance, f"full={full}", full=full)
    one = coarse((*_SHAPE[:-1], 1), 0.25, 4, 309)
    layers += _likelihoods_of_gauss(partial(_gaussian_reference, 0.0), one, "a variance each row")
    # Targets are shares with none at all among them.
    some = np.where(_SIGNS > 0, t, 0.0)
    logs_of = np.log(np.where(some > 0, some, 1.0))
    layers += losses(
        "kl_div", (_X,), _by(lambda x: some * (logs_of - x), lambda x: -some + 0 * x), some
    )
    yield from trials(layers, device)
    yield Custom("gaussian_nll_loss", _least_variance, torch.float32)


def _likelihoods_of_gauss(
    reference: Reference, variance: Array, variant: str, **options: Any
) -> list[Layer]:
    return [
        Layer(
            "gaussian_nll_loss",
            partial(_gaussian, options | chosen(reduction)),
            (_X, variance),
            reduced(reference, reduction),
            f"{variant}, {reduction}",
            SINGLES,
        )
        for reduction in REDUCTIONS
    ]


def _least_variance(device: str) -> Iterator[Comparison]:
    """A variance is at least eps: (log 1/4 + 1 / (1/4)) / 2."""
    zeros = tensor([0.0] * 4, device)
    found = functional.gaussian_nll_loss(zeros + 1, zeros, zeros + 2.0**-4, eps=0.25)
    right = (math.log(0.25) + 4) / 2
    yield compare("gaussian_nll_loss (eps)", host(found), np.array(right), np.array(1e-5))


def _by(value: Any, slope: Any, size: float = _SIZE) -> Any:
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


def _gaussian(options: Any, x: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    target = tensor(_TARGET, str(x.device), x.dtype)
    return functional.gaussian_nll_loss(x, target, variance, **options)


def _gaussian_reference(constant: float, x: Rounded, variance: Rounded) -> tuple[Rounded, Backward]:
    """(log v + (x - t)^2 / v) / 2."""
    d = x - _TARGET
    share = d * d / variance

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        of_variance = g * (1 / variance - share / variance) * 0.5
        if variance.value.shape != x.value.shape:
            of_variance = of_variance.total(-1)
        return g * d / variance, of_variance

    return (logarithm(variance) + share) * 0.5 + constant, backward
