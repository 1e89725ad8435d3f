"""Gradients of integers, which are exact whatever is fused and in which order it is summed."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import host, integers, leaf, tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial

_ROWS: Final = 12
_INNER: Final = 5
_OUTER: Final = 7
_NAMES: Final = ("input", "weight", "bias", "table", "scale", "joined")
_PLACES: Final = np.array([0, 3, 3, 1, 0, 3])


def gradients(_device: str) -> Iterator[Trial]:
    """One function with a loss, as a training step has it."""
    yield Custom("gradients", _gradients)


def _loss(
    x: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor,
    table: torch.Tensor,
    scale: torch.Tensor,
    joined: torch.Tensor,
    target: torch.Tensor,
    places: torch.Tensor,
) -> torch.Tensor:
    """Shapes: x (ROWS, INNER), w (INNER, OUTER), b (OUTER,), table (4, OUTER), scale (OUTER, 1)."""
    hidden = functional.relu(x @ w + b)
    rows = functional.embedding(places, table) * scale.t()
    both = torch.cat([joined, joined.t() * 2], 1)[:, 1:-1]
    return ((hidden - target) * (hidden - target)).sum() + (rows * rows).sum() + (both**2).sum()


def _operands() -> tuple[Any, ...]:
    x, w, b = integers((_ROWS, _INNER), 1), integers((_INNER, _OUTER), 2), integers((_OUTER,), 3)
    table, scale, joined = integers((4, _OUTER), 4), integers((_OUTER, 1), 5), integers((3, 3), 6)
    return x, w, b, table, scale, joined


def _expected(target: Any) -> tuple[Any, ...]:
    x, w, b, table, scale, joined = _operands()
    before = x @ w + b
    slope = 2 * (np.maximum(before, 0) - target) * (before > 0)
    rows = table[_PLACES] * scale.T
    of_table = np.zeros_like(table)
    np.add.at(of_table, _PLACES, 2 * rows * scale.T)
    of_scale = (2 * rows * table[_PLACES]).sum(0)[:, None]
    both = np.concatenate([joined, joined.T * 2], 1)
    both[:, [0, -1]] = 0  # cut off
    of_joined = 2 * both[:, :3] + (4 * both[:, 3:]).T
    return slope @ w.T, x.T @ slope, slope.sum(0), of_table, of_scale, of_joined


def _gradients(device: str) -> Iterator[Comparison]:
    target = integers((_ROWS, _OUTER), 7)
    leaves = [leaf(each, device) for each in _operands()]
    places = torch.from_numpy(_PLACES).to(device)
    compiled(_loss)(*leaves, tensor(target, device), places).backward()
    for name, each, right in zip(_NAMES, leaves, _expected(target), strict=True):
        if each.grad is None:
            yield Comparison(operation=name, problem="no gradient")
            continue
        yield compare(name, host(each.grad), (right + 0.0).astype(np.float32))
