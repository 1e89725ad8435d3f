"""The algorithms of optimizers whose steps adapt otherwise than by Adam's averages, in float64.

Each from its own page, as in `probes.optimizer.algorithms`; ASGD from the article that its page
names: https://docs.pytorch.org/docs/stable/generated/torch.optim.ASGD.html.
"""

from collections.abc import Sequence

import numpy as np

from probes.kit.rounding import Array, Rounded, exact, larger, selected, square_root
from probes.optimizer.algorithms import average, signed
from probes.optimizer.corrections import bias_correction

#: Up to this length of the average the variance of RAdam's rate is not tractable.
_TRACTABLE = 5

#: Unit roundoff of float32, the type of ASGD's rate whatever the parameters' type is.
_RATE_UNIT = 2.0**-24


def radam(
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.RAdam."""
    steps = []
    m = v = theta * 0.0
    longest = 2 / (1 - betas[1]) - 1
    for t, gradient in enumerate(gradients, 1):
        coupled = 0.0 if decoupled_weight_decay else weight_decay
        g = signed(theta, gradient, coupled, maximize=maximize)
        if decoupled_weight_decay:
            theta = theta - theta * (lr * weight_decay)
        m, v = average(m, g, betas[0]), average(v, g * g, betas[1])
        step = m / bias_correction(betas[0], t, theta.unit)
        correction = bias_correction(betas[1], t, theta.unit)
        length = longest - 2 * t * betas[1] ** t / float(correction.value)
        if length > _TRACTABLE:
            rectified = (length - 4) * (length - 2) * longest
            rectified /= (longest - 4) * (longest - 2) * length
            step = step * square_root(correction) / (square_root(v) + eps) * rectified**0.5
        theta = theta - step * lr
        steps.append(theta)
    return steps


def adadelta(
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.Adadelta."""
    steps = []
    v = u = theta * 0.0
    for gradient in gradients:
        g = signed(theta, gradient, weight_decay, maximize=maximize)
        v = average(v, g * g, rho)
        step = square_root(u + eps) / square_root(v + eps) * g
        u = average(u, step * step, rho)
        theta = theta - step * lr
        steps.append(theta)
    return steps


def asgd(
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.ASGD's parameters; their average is kept beside them. Exact where alpha is 1."""
    steps = []
    for t, gradient in enumerate(gradients):
        g = signed(theta, gradient, weight_decay, maximize=maximize)
        rate = lr / (1 + lambd * lr * t) ** alpha
        # torch 2.2's form for lists takes the power of the count alone. The page names no formula.
        other = lr / (1 + lambd * lr * t**alpha)
        error = 2 * _RATE_UNIT * rate + abs(rate - other)
        eta = Rounded(np.asarray(rate), np.asarray(error), theta.unit)
        theta = theta - theta * (eta * lambd) - eta * g
        steps.append(theta)
    return steps


def rprop(
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.Rprop: a step too far is not taken back, and the next one is like a first."""
    steps = []
    eta, before = theta * 0.0 + lr, np.zeros_like(theta.value)
    for gradient in gradients:
        g = -gradient if maximize else gradient
        agrees, turned = g * before > 0, g * before < 0
        eta = selected(agrees, eta * etas[1], selected(turned, eta * etas[0], eta))
        low, high = (exact(limit, theta.unit) for limit in step_sizes)
        eta = -larger(-larger(eta, low), -high)
        before = np.where(turned, 0.0, g)
        theta = theta - eta * np.sign(before)
        steps.append(theta)
    return steps
