"""Dropout of attention in training: how much is dropped, what is left, and the same backward.

With the unit matrix as values the output is the matrix of probabilities, so that what was dropped
is seen: a probability is 0 or p / (1 - dropout_p). Backward must drop the same ones.
"""

from collections.abc import Iterator
from functools import partial
from math import sqrt
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.attention import reference
from probes.attention.bounds import Array, exact, units
from probes.attention.problems import Problem, expected, operands, rounded
from probes.attention.running import compare_bounded, name_of
from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.generators import random_state_kept
from probes.kit.gradients import root, tensor
from probes.kit.operands import fractions
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact

#: As many keys as the width of a value; a probability is 0.001 at least.
_PROBLEMS: Final = (
    (Problem(2, 4, 192, 64, 64), 0.25),
    (Problem(2, 4, 64, 64, 64, causal=True), 0.5),
)

#: Standard deviations: one false alarm in 4e11 comparisons.
_SIGMAS: Final = 7

#: Fused kernels compare a byte, so that the share is a multiple of 2^-8.
_STEP: Final = 2.0**-8

_SEED: Final = 7654


def dropout(device: str) -> Iterator[Trial]:
    """Each problem in each type; the module in train()."""
    for problem, share in _PROBLEMS:
        for dtype in floats(device):
            name = f"dropout_p {name_of(dtype)}"
            yield Custom(name, partial(_compared, problem, share, dtype), dtype)
    yield Custom("MultiheadAttention dropout", _module)


def _compared(
    problem: Problem, share: float, dtype: torch.dtype, device: str
) -> Iterator[Comparison]:
    by, each = units(device, dtype), operands(problem)
    value = np.broadcast_to(np.eye(problem.keys), each.value.shape)
    arrays = (each.query, each.key, value)
    leaves = [tensor(array, device, dtype).requires_grad_() for array in arrays]
    call: Any = torch.nn.functional.scaled_dot_product_attention
    with random_state_kept(device):
        torch.manual_seed(_SEED)
        first, second = (call(*leaves, dropout_p=share, is_causal=problem.causal) for _ in range(2))
    label = f"dropout_p {name_of(dtype)} ({problem}, p={share}"
    found = expected(problem, by)
    seen = np.broadcast_to(found.probabilities.value > 0, first.shape)
    kept, again = (each.detach().cpu().double().numpy() != 0 for each in (first, second))
    yield from _counted(f"{label}, share that is kept)", kept[seen], 1 - share)
    alike = share**2 + (1 - share) ** 2
    yield from _counted(f"{label}, alike in two calls)", (kept == again)[seen], alike)
    neighbours = (kept[:, :-1] == kept[:, 1:])[seen[:, :-1] & seen[:, 1:]]
    yield from _counted(f"{label}, alike in two heads)", neighbours, alike)

    factors = np.where(kept, 1 / (1 - share), 0.0)
    forward = reference.dropped(found, exact(value), factors, by)
    yield from compare_bounded(f"{label})", first, forward.output, dtype, by)
    upstream = _upstream(tuple(first.shape))
    gradients = torch.autograd.grad(root(first, tensor(upstream, device, dtype)), leaves)
    query, key = exact(each.query), exact(each.key)
    right = reference.backward(forward, query, key, exact(value), exact(upstream), by, factors)
    for name, gradient in zip(("query", "key", "value"), gradients, strict=True):
        text = f"{label}, gradient of {name})"
        bounded = getattr(right, name)
        yield compare(text, gradient, bounded.value, bounded.error)


def _upstream(shape: tuple[int, ...]) -> Array:
    """Numbers of one sign, so that an error of a share of them is no less of their sum."""
    return rounded(0.5 + fractions(shape, 31))


def _counted(label: str, held: Array, chance: float) -> Iterator[Comparison]:
    """Compare how often it held with its chance."""
    allowed = 2 * _STEP + _SIGMAS * sqrt(chance * (1 - chance) / held.size)
    found = float(held.mean())
    problem = "" if abs(found - chance) <= allowed else f"{found:.4f} where {chance:.4f} is right"
    yield Comparison(operation=label, elements=held.size, problem=problem)


def _module(device: str) -> Iterator[Comparison]:
    """In train() two calls differ, in eval() they do not."""
    with random_state_kept(device):
        torch.manual_seed(_SEED)
        attention = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True, dtype=torch.float32)
        attention = attention.to(device)
        x = tensor(fractions((2, 24, 16), 33), device)
        for training in (True, False):
            attention.train(training)
            with torch.no_grad():
                first, second = (
                    attention(x, x, x, need_weights=False)[0].cpu().numpy() for _ in range(2)
                )
            # In eval() kernels may add in another order each time.
            differs = bool(np.abs(first - second).max() > 1e-3 * np.abs(first).max())
            yield fact(f"MultiheadAttention dropout (training={training})", differs, training)
