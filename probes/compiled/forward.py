"""Forward computations that a compiler fuses, in one function."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import tensor
from probes.kit.operands import integers
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.trial import Custom, Trial

_ROWS: Final = 33
_COLUMNS: Final = 16
_LONG: Final = 3 * 2**15  # more than one thread's share
_UNIT: Final = UNIT_ROUNDOFF[torch.float32]


def forward(_device: str) -> Iterator[Trial]:
    """All of them in one graph, as a model has them."""
    yield Custom("forward", _forward)


def _function(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, n: torch.Tensor, long: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Results of x and y (ROWS, COLUMNS), w (COLUMNS, COLUMNS), n integers of x, long (LONG,)."""
    product = functional.relu(x @ w + y[0])
    return {
        "elementwise": (x * 2 + 1).relu() - y.abs() * 0.25,
        "where": torch.where(x > y, x - y, y.clamp(-3, 3)),
        "comparison": (x >= 0) & (y != x),
        "integers": n // 3 + n % 5 - (n << 2),
        "transposed": (x.t() + y.t()).contiguous(),
        "broadcast": x[:, :1] * y[:1] - x[0],
        "sum of rows": (x * y).sum(1),
        "sum of columns": (x + 1).sum(0),
        "sum of all": (x - y).sum(),
        "largest": x.amax(1) + y.amin(1),
        "place of the largest": (x * 64 + torch.arange(_COLUMNS, device=x.device)).argmax(1),
        "cumulative sum": x.cumsum(1),
        "any": (x > 999).any(1),
        "joined": torch.cat([x, y * 2], 1)[:, 3:-2],
        "product": product,
        "product, then sum": product.sum(1),
        "gathered": x[torch.arange(_ROWS - 1, -1, -1, device=x.device)],
        "long sum": (long * 3 - 1).sum(),
        "softmax": (x * 0.5).softmax(1),
        "layer_norm": functional.layer_norm(x, (_COLUMNS,), y[0], y[1]),
    }


def _operands() -> tuple[Any, ...]:
    shape = (_ROWS, _COLUMNS)
    x, y = (integers(shape, -8, 8, salt=salt).astype(np.float64) for salt in (41, 42))
    w = integers((_COLUMNS, _COLUMNS), -4, 4, salt=43).astype(np.float64)
    long = integers((_LONG,), -9, 9, salt=44).astype(np.float64)
    return x, y, w, x.astype(np.int64), long


def _expected() -> dict[str, tuple[Any, Any]]:
    """Name -> the right answer, and the error allowed; None: the bits are compared."""
    x, y, w, n, long = _operands()
    product = np.maximum(x @ w + y[0], 0)
    softmax = np.exp(x * 0.5 - (x * 0.5).max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    centred = x - x.mean(1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    exact: dict[str, Any] = {
        "elementwise": np.maximum(x * 2 + 1, 0) - np.abs(y) * 0.25,
        "where": np.where(x > y, x - y, np.clip(y, -3, 3)),
        "comparison": (x >= 0) & (y != x),
        "integers": n // 3 + n % 5 - (n << 2),
        "transposed": (x + y).T,
        "broadcast": x[:, :1] * y[:1] - x[0],
        "sum of rows": (x * y).sum(1),
        "sum of columns": (x + 1).sum(0),
        "sum of all": (x - y).sum(),
        "largest": x.max(1) + y.min(1),
        "place of the largest": (x * 64 + np.arange(_COLUMNS)).argmax(1),
        "cumulative sum": x.cumsum(1),
        "any": (x > 999).any(1),
        "joined": np.concatenate([x, y * 2], 1)[:, 3:-2],
        "product": product,
        "product, then sum": product.sum(1),
        "gathered": x[::-1],
        "long sum": (long * 3 - 1).sum(),
    }
    # Sums of n terms (Higham, section 3.1), and exp within 2 ulp and the rounding of its operand.
    relative = (2 * _COLUMNS + 64) * _UNIT
    bounded = {
        "softmax": (softmax, relative * softmax),
        "layer_norm": (normed * y[0] + y[1], relative * (np.abs(normed * y[0]) + np.abs(y[1]) + 1)),
    }
    return {**{name: (right, None) for name, right in exact.items()}, **bounded}


def _forward(device: str) -> Iterator[Comparison]:
    x, y, w, n, long = _operands()
    operands = [tensor(each, device) for each in (x, y, w)]
    whole = torch.from_numpy(n).to(device)
    with torch.no_grad():
        found = compiled(_function)(*operands, whole, tensor(long, device))
    for name, (right, allowed) in _expected().items():
        array = np.asarray(right)
        if array.dtype == np.float64:
            array = np.add(array, 0.0).astype(np.float32)
        yield compare(name, _plus_zero(found[name]), np.asarray(array), allowed)


def _plus_zero(found: torch.Tensor) -> torch.Tensor:
    """The tensor with zeros made positive: their sign is not promised."""
    return found + 0 if found.is_floating_point() else found
