"""Functions that write to their inputs, or return parts of them."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import host, tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact

_COUNT: Final = 12


def in_place(_device: str) -> Iterator[Trial]:
    """Writes that the caller must see, and results that share memory with an input."""
    yield Custom("writes", _writes)
    yield Custom("shared inputs", _shared)


def _write(x: torch.Tensor, y: torch.Tensor, table: torch.Tensor) -> Any:
    before = x * 1
    x.add_(1)
    x[2:5].mul_(2)
    y.view(3, 4).t()[0].copy_(x[:3])
    table[1] = y[3:7]
    table.select(0, 2).zero_()
    return before, x.view(4, 3), y, table.sum(0)


def _writes(device: str) -> Iterator[Comparison]:
    numbers = np.arange(_COUNT, dtype=np.float64)
    x, y, table = tensor(numbers, device), tensor(-numbers, device), tensor(np.ones((3, 4)), device)
    with torch.no_grad():
        before, view, same, total = compiled(_write)(x, y, table)
    right_x, right_y, right_table = numbers + 1, -numbers, np.ones((3, 4))
    right_x[2:5] *= 2
    right_y[[0, 4, 8]] = right_x[:3]
    right_table[1] = right_y[3:7]
    right_table[2] = 0
    rows = [
        ("read before it is written", before, numbers),
        ("written input", x, right_x),
        ("written through a view", y, right_y),
        ("written rows", table, right_table),
        ("returned view", view, right_x.reshape(4, 3)),
        ("sum after writes", total, right_table.sum(0)),
    ]
    for name, found, right in rows:
        yield compare(name, host(found), (right + 0.0).astype(np.float32))
    yield fact("returned view (shares memory)", view.data_ptr(), x.data_ptr())
    yield fact("returned input (shares memory)", same.data_ptr(), y.data_ptr())


def _overlap(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    left.add_(10)
    return right * 2


def _shared(device: str) -> Iterator[Comparison]:
    """Two inputs of one memory: a write to one is seen through the other."""
    base, expected = tensor(np.arange(8), device), np.arange(8.0)
    with torch.no_grad():
        found = compiled(_overlap)(base[:5], base[3:])
    expected[:5] += 10
    yield compare("shared inputs", host(found), (expected[3:] * 2).astype(np.float32))
    yield compare("shared inputs (written)", host(base), expected.astype(np.float32))
