"""The algorithms of optimizers that look at a matrix as a whole, in float64, by their own pages.

https://docs.pytorch.org/docs/stable/generated/torch.optim.Adafactor.html
https://docs.pytorch.org/docs/stable/generated/torch.optim.Muon.html
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from probes.kit.rounding import Array, Rounded, exact, larger, square_root
from probes.optimizer.algorithms import average, signed

#: Muon's page computes in bfloat16. `Rounded` has room for four roundings in each operation, of
#: which there are one or two here.
_MUON_UNIT = 2.0**-9

#: How far two of its singular values are apart at most: from the third iteration on they are
#: between 0.6 and 1.3, roundings to bfloat16 among them, and before that no larger.
_APART = 0.7


def _root_mean_square(x: Rounded) -> Rounded:
    return square_root((x * x).mean(tuple(range(x.value.ndim))))


def adafactor(
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[Rounded]:
    """torch.optim.Adafactor of one parameter; eps None is the distance from 1 to what follows."""
    steps = []
    smallest = 2 * theta.unit if eps[0] is None else eps[0]
    rows = columns = v = theta * 0.0
    if theta.value.ndim > 1:
        rows, columns = rows.mean(-1), columns.mean(-2)
    for t, gradient in enumerate(gradients, 1):
        g = signed(theta, gradient, 0.0, maximize=maximize)
        beta = 1 - t**beta2_decay
        rate = larger(_root_mean_square(theta), exact(eps[1], theta.unit))
        rate = rate * min(lr, 1 / math.sqrt(t))
        theta = theta - theta * (lr * weight_decay)
        squares = g * g
        if theta.value.ndim > 1:
            rows = average(rows, squares.mean(-1), beta)
            columns = average(columns, squares.mean(-2), beta)
            v = rows * columns / larger(rows.mean(-2), exact(smallest, theta.unit))
        else:
            v = average(v, squares, beta)
        update = g / square_root(larger(v, exact(smallest**2, theta.unit)))
        clipped = larger(_root_mean_square(update) / d, exact(1.0, theta.unit))
        theta = theta - update * rate / clipped
        steps.append(theta)
    return steps


def muon(  # noqa: PLR0913 - torch's own options
    theta: Rounded,
    gradients: Sequence[Array],
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
    ns_steps: int = 5,
    adjust_lr_fn: str = "original",
) -> list[Rounded]:
    """torch.optim.Muon, for gradients with one element at most in each row and column.

    They are their own singular values: the iteration goes on in each element by itself.
    """
    steps = []
    a, b, c = ns_coefficients
    length, width = theta.value.shape
    tall = math.sqrt(max(1.0, length / width))
    ratio = tall if adjust_lr_fn == "original" else 0.2 * math.sqrt(max(length, width))
    buffer = theta * 0.0
    for gradient in gradients:
        buffer = buffer * momentum + gradient
        x = replace(buffer * momentum + gradient if nesterov else buffer, unit=_MUON_UNIT)
        x = x * (1 / float(np.linalg.norm(x.value)))
        for _ in range(ns_steps):
            gram = x * x
            x = x * a + (gram * b + gram * gram * c) * x
            x = replace(x, error=np.where(x.value == 0, 0.0, np.minimum(x.error, _APART)))
        theta = theta - theta * (lr * weight_decay)
        theta = theta - replace(x, unit=theta.unit) * (lr * ratio)
        steps.append(theta)
    return steps
