"""The algorithms of torch.optim's documentation, in float64, each from its own page.

https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html and the like. Each takes the
parameters, the gradients of each step and the options, and returns the parameters after each step.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from probes.kit.rounding import (
    Array,
    Rounded,
    exact,
    larger,
    magnitude,
    square_root,
)
from probes.optimizer.corrections import bias_correction

#: Plain arrays where every operation is exact, else numbers with their error.
N = TypeVar("N", Array, Rounded)

#: Unit roundoff of float32, the type of NAdam's running product whatever the parameters' type is.
_PRODUCT_UNIT = 2.0**-24


def sgd(
    theta: N,
    gradients: Sequence[Array],
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> list[N]:
    """torch.optim.SGD: the first momentum is the gradient, without dampening."""
    steps: list[N] = []
    b: Any = None
    for gradient in gradients:
        g: Any = theta * 0.0 + (-gradient if maximize else gradient)
        if weight_decay:
            g = g + theta * weight_decay
        if momentum:
            b = g if b is None else b * momentum + g * (1 - dampening)
            g = g + b * momentum if nesterov else b
        theta = theta - g * lr
        steps.append(theta)
    return steps


def signed(
    theta: Rounded, gradient: Array, weight_decay: float, *, maximize: bool = False
) -> Rounded:
    """The gradient with its sign and the decay added: g + lambda theta."""
    g = exact(-gradient if maximize else gradient, theta.unit)
    return g + theta * weight_decay if weight_decay else g


def average(average: Rounded, new: Rounded, beta: float) -> Rounded:
    """The running average: beta average + (1 - beta) new."""
    return average * beta + new * (1 - beta)


def adam(  # noqa: PLR0913 - torch's own options
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled: bool = False,
) -> list[Rounded]:
    """torch.optim.Adam; with `decoupled` torch.optim.AdamW."""
    steps = []
    m = v = largest = theta * 0.0
    for t, gradient in enumerate(gradients, 1):
        g = signed(theta, gradient, 0.0 if decoupled else weight_decay, maximize=maximize)
        if decoupled and weight_decay:
            theta = theta - theta * (lr * weight_decay)
        m, v = average(m, g, betas[0]), average(v, g * g, betas[1])
        largest = larger(largest, v)
        unbiased = (largest if amsgrad else v) / bias_correction(betas[1], t, theta.unit)
        step = m / bias_correction(betas[0], t, theta.unit) / (square_root(unbiased) + eps)
        theta = theta - step * lr
        steps.append(theta)
    return steps


def adamw(
    theta: Rounded, gradients: Sequence[Array], *, weight_decay: float = 1e-2, **options: Any
) -> list[Rounded]:
    """torch.optim.AdamW: the decay does not go through the averages."""
    return adam(theta, gradients, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(  # noqa: PLR0913 - torch's own options
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.RMSprop."""
    steps = []
    v = mean = b = theta * 0.0
    for gradient in gradients:
        g = signed(theta, gradient, weight_decay, maximize=maximize)
        v, mean = average(v, g * g, alpha), average(mean, g, alpha)
        step = g / (square_root(v - mean * mean if centered else v) + eps)
        b = b * momentum + step
        theta = theta - b * lr
        steps.append(theta)
    return steps


def adagrad(
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.Adagrad."""
    steps = []
    total = theta * 0.0 + initial_accumulator_value
    for t, gradient in enumerate(gradients, 1):
        g = signed(theta, gradient, weight_decay, maximize=maximize)
        total = total + g * g
        theta = theta - g * (lr / (1 + (t - 1) * lr_decay)) / (square_root(total) + eps)
        steps.append(theta)
    return steps


def adamax(
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.Adamax."""
    steps = []
    m = u = theta * 0.0
    for t, gradient in enumerate(gradients, 1):
        g = signed(theta, gradient, weight_decay, maximize=maximize)
        m, u = average(m, g, betas[0]), larger(u * betas[1], magnitude(g) + eps)
        theta = theta - m * lr / (bias_correction(betas[0], t, theta.unit) * u)
        steps.append(theta)
    return steps


def nadam(  # noqa: PLR0913 - torch's own options
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.NAdam."""
    steps = []
    m = v = theta * 0.0
    product = 1.0
    for t, gradient in enumerate(gradients, 1):
        coupled = 0.0 if decoupled_weight_decay else weight_decay
        g = signed(theta, gradient, coupled, maximize=maximize)
        if decoupled_weight_decay:
            theta = theta - theta * (lr * weight_decay)
        mu, following = (
            betas[0] * (1 - 0.5 * 0.96 ** (step * momentum_decay)) for step in (t, t + 1)
        )
        product *= mu
        m, v = average(m, g, betas[0]), average(v, g * g, betas[1])
        direction = m * following / _one_less(product * following, t, theta.unit)
        direction = direction + g * (1 - mu) / _one_less(product, t, theta.unit)
        unbiased = v / bias_correction(betas[1], t, theta.unit)
        theta = theta - direction * lr / (square_root(unbiased) + eps)
        steps.append(theta)
    return steps


def _one_less(product: float, step: int, unit: float) -> Rounded:
    """1 - product, where the product was rounded to float32 at each step."""
    error = 2 * (step + 1) * _PRODUCT_UNIT * product
    return Rounded(np.asarray(1 - product), np.asarray(error), unit)
