"""Sparse gradients, as an embedding gives them: rows that are not named keep every bit."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.gradients import integers, leaf, root, tensor
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import Array, Rounded, exact, square_root
from probes.kit.trial import Custom, Trial, fact
from probes.optimizer import algorithms
from probes.optimizer.corrections import bias_correction

_ROWS: Final = 11
_WIDTH: Final = 5

#: The rows of each step, in no order, one of them twice; row 8 in no step.
_STEPS: Final = ((3, 0, 3, 10), (10, 7, 5, 7), (3, 1, 2, 1))

_FLOAT32: Final = UNIT_ROUNDOFF[torch.float32]

_OPTIMIZERS: Final[dict[str, dict[str, Any]]] = {
    "SGD": {"lr": 0.5},
    "Adagrad": {"lr": 0.25, "lr_decay": 0.5},
    "SparseAdam": {"lr": 0.25, "betas": (0.75, 0.875)},
}


def sparse(_device: str) -> Iterator[Trial]:
    """Each optimizer that takes them."""
    for name, options in _OPTIMIZERS.items():
        yield Custom(name, partial(_compared, name, options), torch.float32)


def _upstream(step: int) -> Array:
    return integers((len(_STEPS[step]), _WIDTH), 61 + step)


def _gradients() -> list[Array]:
    """The same gradients, dense: what a row gets twice is added."""
    dense = []
    for step, rows in enumerate(_STEPS):
        gradient = np.zeros((_ROWS, _WIDTH))
        np.add.at(gradient, list(rows), _upstream(step))
        dense.append(gradient)
    return dense


def _sparse_adam(
    theta: Rounded, gradients: list[Array], *, lr: float, betas: tuple[float, float]
) -> list[Rounded]:
    """torch.optim.SparseAdam: averages and parameters of rows without a gradient stay."""
    steps = []
    m = v = theta * 0.0
    for t, gradient in enumerate(gradients, 1):
        named = np.isin(np.arange(_ROWS), _STEPS[t - 1]).astype(float)[:, None]
        g = exact(gradient, theta.unit)
        m = m + (g - m) * ((1 - betas[0]) * named)
        v = v + (g * g - v) * ((1 - betas[1]) * named)
        rate = square_root(bias_correction(betas[1], t, theta.unit)) * lr
        rate = rate / bias_correction(betas[0], t, theta.unit)
        # 1e-8, torch's eps, where a row may have no average yet.
        theta = theta - rate * (m / (square_root(v) + 1e-8)) * named
        steps.append(theta)
    return steps


def _compared(name: str, options: dict[str, Any], device: str) -> Iterator[Comparison]:
    start = integers((_ROWS, _WIDTH), 60)
    table = leaf(start, device)
    optimizer = getattr(torch.optim, name)([table], **options)
    algorithm = _sparse_adam if name == "SparseAdam" else getattr(algorithms, name.lower())
    right = algorithm(exact(start, _FLOAT32), _gradients(), **options)
    before = start.astype(np.float32)
    for step, rows in enumerate(_STEPS):
        optimizer.zero_grad()
        indices = torch.tensor(rows, dtype=torch.int64).to(device)
        output = torch.nn.functional.embedding(indices, table, sparse=True)
        root(output, tensor(_upstream(step), device)).backward()
        yield fact(f"{name} (sparse)", table.grad is not None and table.grad.is_sparse, True)
        optimizer.step()
        label = f"{name} (sparse, step {step + 1}"
        now = table.detach().cpu().numpy().copy()
        yield compare(f"{label})", now, right[step].value, right[step].error)
        others = ~np.isin(np.arange(_ROWS), rows)
        yield compare(f"{label}, other rows)", now[others], before[others])
        before = now
