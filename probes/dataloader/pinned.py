"""Batches in pinned memory and on a device, and workers that use the device they cannot use."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.dataloader.batches import compare_rows
from probes.dataloader.datasets import Calls, Rows
from probes.dataloader.running import gathered
from probes.kit.references import compare
from probes.kit.tensors import synchronize
from probes.kit.trial import Custom, Trial, fact, refused

_ROWS: Final = 64
_SIZE: Final = 16
_HERE: Final = "the CPU is the host: nothing is pinned for it"
_OF_CUDA: Final = "torch documents for CUDA alone that it cannot be used after a fork"


def why_not_pinned(device: str) -> str:
    """Why no memory can be pinned for that device; empty when it can be, or should be.

    CUDA and HIP must be able to pin: an error there is reported by the check.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return _HERE
    try:
        torch.zeros(1).pin_memory()
    except (NotImplementedError, RuntimeError) as error:
        return "" if kind == "cuda" else str(error).splitlines()[0]
    return ""


def why_not_forked(device: str) -> str:
    """Why it is not asked whether the device refuses to be used after a fork; empty if it is."""
    return "" if torch.device(device).type == "cuda" else _OF_CUDA


def _current(device: str) -> AbstractContextManager[Any]:
    """Make the device the current one: a loader pins in a thread that uses the current one."""
    place = torch.device(device)
    use: Any = getattr(getattr(torch, place.type, None), "device", None)
    return use(place) if use is not None and place.index is not None else nullcontext()


class _Own:
    """A batch of the user's own type, which knows how it is pinned."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.asked = 0

    def pin_memory(self) -> "_Own":
        """Pin the tensor, and count."""
        self.tensor = self.tensor.pin_memory()
        self.asked += 1
        return self


def pinned(_device: str) -> Iterator[Trial]:
    """Batches of tensors, nested ones, and of the user's own type."""
    yield Custom("no worker, pinned", partial(_rows, 0))
    yield Custom("two workers, pinned", partial(_rows, 2))
    yield Custom("nested, pinned", _nested)


def _pins() -> bool:
    """Whether pinned memory is told as such: with confidential computing it is not."""
    return torch.zeros(1).pin_memory().is_pinned()


def _rows(workers: int, device: str) -> Iterator[Comparison]:
    label = f"{'two workers' if workers else 'no worker'}, pinned"
    dataset = Rows(_ROWS)
    indices = [list(range(first, first + _SIZE)) for first in range(0, _ROWS, _SIZE)]
    with _current(device):
        found = gathered(dataset, workers, batch_size=_SIZE, pin_memory=True)
    yield from compare_rows(label, found, indices, dataset.table)
    if torch.device(device).type == "cuda" and _pins():
        told = [rows.is_pinned() and given.is_pinned() for rows, given in found]
        yield fact(f"{label} (is_pinned)", told, [True] * len(told))
    copies = [rows.to(device, non_blocking=True) for rows, _ in found]
    synchronize(device)
    for right, copy in zip(indices, copies, strict=True):
        yield compare(f"{label} (on the device)", copy, dataset.table[right])


def _own_batch(samples: list[Any]) -> dict[str, Any]:
    tensor = torch.stack([row for row, _ in samples])
    return {"own": _Own(tensor), "list": [tensor, (tensor + 1, "text")]}


def _nested(device: str) -> Iterator[Comparison]:
    dataset = Rows(4)
    with _current(device):
        (found,) = gathered(dataset, 1, batch_size=4, collate_fn=_own_batch, pin_memory=True)
    first, (second, text) = found["list"]
    yield fact("nested, pinned (text)", text, "text")
    yield compare("nested, pinned", first.to(device), dataset.table)
    yield compare("nested, pinned", second.to(device), dataset.table + np.float32(1))
    yield compare("nested, pinned", found["own"].tensor, dataset.table)
    if torch.device(device).type == "cuda":
        yield fact("nested, pinned (own method)", found["own"].asked, 1)


def forked_use(_device: str) -> Iterator[Trial]:
    """A worker that makes a tensor on the device."""
    yield Custom("use after a fork", _forked_use)


def _forked_use(device: str) -> Iterator[Comparison]:
    torch.zeros(1, device=device)  # the device is in use before the fork
    synchronize(device)
    dataset = Calls(1, lambda _: int(torch.ones(1, device=device).item()))
    yield refused("use after a fork", lambda: gathered(dataset, 1), "RuntimeError")
