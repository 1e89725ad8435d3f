"""Likelihoods: Kullback and Leibler's divergence, Poisson's and Gauss's."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, tensor
from probes.kit.layer import SINGLES, Backward, Layer, Reference, trials
from probes.kit.operands import coarse, integers
from probes.kit.references import compare
from probes.kit.rounding import Array, Rounded, logarithm
from probes.kit.trial import Custom, Trial
from probes.losses.elements import SHAPE, SHARE, SIGNS, TARGET, X, by
from probes.losses.reductions import REDUCTIONS, chosen, losses, reduced


def likelihoods(device: str) -> Iterator[Trial]:
    """Kullback and Leibler's divergence, Poisson's and Gauss's likelihoods."""
    t, logs = SHARE, np.round(np.log(SHARE) * 32) / 32
    counts = integers(SHAPE, 0, 6, 307).astype(np.float64)
    stirling = np.where(
        counts > 1,
        counts * np.log(np.maximum(counts, 1))
        - counts
        + np.log(2 * np.pi * np.maximum(counts, 1)) / 2,
        0,
    )
    rates = coarse(SHAPE, 0.5, 4, 308)
    ways = ("none", "mean", "sum", "batchmean")
    layers = [
        *losses(
            "kl_div",
            (X,),
            by(lambda x: t * (np.log(t) - x), lambda x: -t + 0 * x),
            t,
            reductions=ways,
        ),
        *losses(
            "kl_div",
            (X,),
            by(lambda x: np.exp(logs) * (logs - x), lambda x: -np.exp(logs) + 0 * x),
            logs,
            log_target=True,
            reductions=ways,
        ),
        *losses(
            "poisson_nll_loss",
            (X,),
            by(lambda x: np.exp(x) - counts * x, lambda x: np.exp(x) - counts, 64.0),
            counts,
        ),
        *losses(
            "poisson_nll_loss",
            (rates,),
            by(
                lambda x: x - counts * np.log(x + 1e-8) + stirling,
                lambda x: 1 - counts / (x + 1e-8),
                64.0,
            ),
            counts,
            log_input=False,
            full=True,
        ),
    ]
    variance = coarse(SHAPE, 0.25, 4, 309)
    for full in (False, True):
        constant = math.log(2 * math.pi) / 2 if full else 0.0
        reference = partial(_gaussian_reference, constant)
        layers += _likelihoods_of_gauss(reference, variance, f"full={full}", full=full)
    one = coarse((*SHAPE[:-1], 1), 0.25, 4, 309)
    layers += _likelihoods_of_gauss(partial(_gaussian_reference, 0.0), one, "a variance each row")
    # Targets are shares with none at all among them.
    some = np.where(SIGNS > 0, t, 0.0)
    logs_of = np.log(np.where(some > 0, some, 1.0))
    layers += losses(
        "kl_div", (X,), by(lambda x: some * (logs_of - x), lambda x: -some + 0 * x), some
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
            (X, variance),
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


def _gaussian(options: Any, x: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    target = tensor(TARGET, str(x.device), x.dtype)
    return functional.gaussian_nll_loss(x, target, variance, **options)


def _gaussian_reference(constant: float, x: Rounded, variance: Rounded) -> tuple[Rounded, Backward]:
    """(log v + (x - t)^2 / v) / 2."""
    d = x - TARGET
    share = d * d / variance

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        of_variance = g * (1 / variance - share / variance) * 0.5
        if variance.value.shape != x.value.shape:
            of_variance = of_variance.total(-1)
        return g * d / variance, of_variance

    return (logarithm(variance) + share) * 0.5 + constant, backward
