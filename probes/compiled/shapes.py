"""The same function for other sizes."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import host, integers, leaf
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact

_WIDTH: Final = 4
#: The second size makes a general function, 0 and 1 get functions of their own.
_SIZES: Final = (5, 7, 19, 1, 0, 6)
_BRANCH: Final = 6


def dynamic_shapes(_device: str) -> Iterator[Trial]:
    """Sizes that follow each other, and one that is said to change."""
    yield Custom("sizes", _sizes)
    yield Custom("branches", _branches)
    yield Custom("marked sizes", _marked)


def _function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (x * 2 + 1).sum(0), torch.cat([x[1:], x[:1]]) * x.shape[0]


def _compare(label: str, call: Any, size: int, device: str) -> Iterator[Comparison]:
    array = integers((size, _WIDTH), 30 + size)
    with torch.no_grad():
        total, rolled = call(leaf(array, device))
    right = np.roll(array, -1, 0) * size if size else array
    yield compare(f"{label} (sum of {size})", host(total), (array * 2 + 1).sum(0).astype("f4") + 0)
    yield compare(f"{label} ({size} rows)", host(rolled), right.astype(np.float32) + 0)


def _sizes(device: str) -> Iterator[Comparison]:
    call = compiled(_function)
    for size in _SIZES:
        yield from _compare("sizes", call, size, device)


def _branching(x: torch.Tensor) -> torch.Tensor:
    if x.shape[0] > _BRANCH:
        return x[:_BRANCH] + 1
    return x.new_full((x.shape[0], 2), x.shape[0])


def _branches(device: str) -> Iterator[Comparison]:
    """A branch on a size is taken anew for each size; only captured, not compiled."""
    call = compiled(_branching, backend="eager")
    for size in (3, 9, 5, _BRANCH, _BRANCH + 1, 1, 0):
        array = integers((size, 2), 60 + size)
        right = array[:_BRANCH] + 1 if size > _BRANCH else np.full((size, 2), size)
        found = call(leaf(array, device).detach())
        yield compare(f"branches ({size})", host(found), right.astype(np.float32))


def _marked(device: str) -> Iterator[Comparison]:
    """A size that is marked as dynamic is not compiled anew."""
    mark: Any = torch._dynamo.mark_dynamic
    counts: list[int] = []

    def counting(graph: Any, _inputs: Any) -> Any:
        counts.append(1)
        return graph.forward

    call = compiled(_function, backend=counting)
    for size in (8, 11, 3):
        x = leaf(integers((size, _WIDTH), 30 + size), device).detach()
        mark(x, 0)
        total, _ = call(x)
        right = (integers((size, _WIDTH), 30 + size) * 2 + 1).sum(0)
        yield compare(f"marked sizes ({size})", host(total), right.astype(np.float32) + 0)
    yield fact("marked sizes (functions)", len(counts), 1)
