"""Elements read and written by their place."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.pattern import HIGHEST, LOWEST, PERIOD, pattern, same
from probes.large_tensors.sizes import COUNTED, MILLION, Sized, sized

#: Name -> writes new elements to the places i of x, which hold old ones; all are uint8.
_WRITES: Final[dict[str, Callable[[torch.Tensor, torch.Tensor, Any, Any], object]]] = {
    "scatter_": lambda x, i, _, new: x.scatter_(0, i, new),
    "index_put_": lambda x, i, _, new: x.index_put_((i,), new),
    "index_add_": lambda x, i, old, new: x.index_add_(0, i, new - old),
    "index_copy_": lambda x, i, _, new: x.index_copy_(0, i, new),
    "put_": lambda x, i, _, new: x.put_(i, new),
}

_WIDTH: Final = 16  # of the rows of a table


def places(n: int) -> Array:
    """Different places below n, in no order: both ends, around each limit, and thousands more."""
    limits = [2**k for k in (16, 20, 24, 30, 31) if 2**k < n]
    near = np.array([limit + step for limit in limits for step in (-1, 0, 1)], np.int64)
    far = integers((4096,), 0, 2**31 - 1, 310, np.int64) * (n // PERIOD) % n
    found = np.unique(np.r_[0, n - 1, n - 2, near, far])
    return np.asarray(found[np.argsort(integers(found.shape, 0, 2**30, 311), kind="stable")])


def gathers(device: str) -> Iterator[Trial]:
    """Reads through indices, rows of a table, and what a mask selects."""
    yield from sized("index_select", _read, device, 1)
    yield from sized("nn.functional.embedding", _rows, device, 1)
    yield Sized("nonzero", _found, COUNTED, 3)
    # The CPU counts in int64 where each selected element goes.
    on_cpu = torch.device(device).type == "cpu"
    yield Sized("masked_select", _selected, MILLION if on_cpu else COUNTED, 18)


def _read(n: int, device: str) -> Iterator[Comparison]:
    p, index = pattern(), places(n)
    x, i, right = p.on(device, n), torch.from_numpy(index).to(device), p.at(index)
    yield compare(f"index_select ({n} elements)", x.index_select(0, i), right)
    yield compare(f"Tensor.__getitem__ ({n} elements)", x[i], right)
    yield compare(f"gather ({n} elements)", x.gather(0, i), right)
    yield compare(f"take ({n} elements)", x.take(i), right)
    yield fact(f"Tensor.item ({n} elements)", int(x[-1]), int(p.at(np.array([n - 1]))[0]))


def _rows(n: int, device: str) -> Iterator[Comparison]:
    p, count = pattern(), n // _WIDTH
    table = p.on(device, count * _WIDTH).view(count, _WIDTH)
    index = places(count)
    right = p.at(index[:, None] * _WIDTH + np.arange(_WIDTH))
    i = torch.from_numpy(index).to(device)
    found = torch.nn.functional.embedding(i, table)
    yield compare(f"nn.functional.embedding ({n} elements)", found, right)
    yield compare(f"index_select (rows, {n} elements)", table.index_select(0, i), right)
    yield compare(f"Tensor.__getitem__ (rows, {n} elements)", table[i], right)


def _highest(n: int, device: str) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """The pattern, with its two last elements lowest; a mask of highest ones and those; its places.

    One of the last two places is odd: beyond 2^24 float32 cannot hold it.
    """
    p = pattern()
    x = p.on(device, n)
    places_of_one = np.flatnonzero(p.base == HIGHEST)
    right = (np.arange(n // PERIOD + 1)[:, None] * PERIOD + places_of_one).ravel()
    mask = x == HIGHEST
    mask[-2:] = True
    x[-2:] = LOWEST
    return x, mask, np.r_[right[right < n - 2], n - 2, n - 1]


def _found(n: int, device: str) -> Iterator[Comparison]:
    _, mask, right = _highest(n, device)
    yield compare("nonzero", mask.nonzero()[:, 0], right)


def _selected(n: int, device: str) -> Iterator[Comparison]:
    x, mask, places_of_all = _highest(n, device)
    values = np.full(len(places_of_all), HIGHEST, np.uint8)
    values[-2:] = LOWEST
    yield compare("masked_select", x.masked_select(mask), values)
    yield compare("Tensor.__getitem__ (mask)", x[mask], values)


def scatters(device: str) -> Iterator[Trial]:
    """Writes through indices; the rest stays. Counts of duplicates, beyond 2^24."""
    yield from sized("Tensor.scatter_", _written, device, 1, on_cpu_bytes=11)
    yield Sized("Tensor.scatter_add_", _counted, COUNTED, 9)


def _written(n: int, device: str) -> Iterator[Comparison]:
    p, index = pattern(), places(n)
    x, i = p.on(device, n), torch.from_numpy(index).to(device)
    before = torch.from_numpy(p.at(index)).to(device)
    changed = before + 1
    for name, write in _WRITES.items():
        write(x, i, before, changed)
        yield compare(f"Tensor.{name} ({n} elements)", x[i], p.at(index) + np.uint8(1))
        write(x, i, changed, before)
        yield same(f"Tensor.{name} (and back)", x, p.base)
    x.index_fill_(0, i, 3)
    yield compare(f"Tensor.index_fill_ ({n} elements)", x[i], np.full(index.shape, 3, np.uint8))
    left = p.total(n) - int(p.at(index).sum(dtype=np.int64)) + 3 * len(index)
    yield fact("Tensor.index_fill_ (the sum)", int(x.sum(dtype=torch.int64)), left)


def _counted(n: int, device: str) -> Iterator[Comparison]:
    """All at one place: more than float32 can count."""
    one = torch.ones(1, dtype=torch.int64, device=device).expand(n)
    counts = torch.zeros(3, dtype=torch.int64, device=device)
    counts.scatter_add_(0, one, one)
    yield compare("Tensor.scatter_add_ (one place)", counts, np.array([0, n, 0]))
    x = pattern().on(device, n).fill_(2)
    yield compare("bincount (one value)", torch.bincount(x, minlength=4), np.array([0, 0, n, 0]))
