"""Sorts, searches and sets of a million elements."""

from collections.abc import Iterator

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, on_device
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.pattern import PERIOD, Pattern, pattern, same
from probes.large_tensors.sizes import COUNTED, MILLION, Sized


def ordering(device: str) -> Iterator[Trial]:
    """Positions are compared too: the sort is stable. The CPU takes long for more than 2^20."""
    many = MILLION if torch.device(device).type == "cpu" else COUNTED
    yield Sized("sort", _sorted, MILLION, 40)
    yield Sized("argsort", _in_order, many, 60)
    yield Sized("topk", _largest, many, 40)
    yield Sized("unique", _unique, many, 80)
    yield Sized("median", _middle, many, 40)
    yield Sized("mode", _most_frequent, MILLION, 40)
    yield Sized("searchsorted", _searched, COUNTED, 4)


def _sorted(n: int, device: str) -> Iterator[Comparison]:
    array = np.resize(integers((PERIOD,), -(2**15), 2**15 - 1, 320, np.int16), n)
    order = np.argsort(array, kind="stable")
    values, index = on_device(array, device).sort(stable=True)
    yield compare("sort (values)", values, array[order])
    yield compare("sort (positions)", index, order)


def _in_order(n: int, device: str) -> Iterator[Comparison]:
    """Equal bytes in their order, which makes the positions a permutation."""
    p = pattern()
    x = p.on(device, n)
    index = x.argsort(stable=True)
    values, counts = _counted(p, n)
    found = x[index]
    yield compare("argsort (values)", found, np.repeat(values, counts))
    rises = (found[1:] > found[:-1]) | (index[1:] > index[:-1])
    yield fact("argsort (order of equal ones)", bool(rises.all()), True)


def _counted(p: Pattern, n: int) -> tuple[Array, Array]:
    """The values among the first n elements, in order, and how often each is there."""
    values, counts = np.unique(p.base, return_counts=True)
    rest = np.bincount(p.base[: n % PERIOD], minlength=256)
    return values, counts * (n // PERIOD) + rest[values]


def _middle(n: int, device: str) -> Iterator[Comparison]:
    """The lower one of two; which place of equal ones is not promised."""
    p = pattern()
    x = p.on(device, n)
    values, counts = _counted(p, n)
    right = int(values[np.searchsorted(counts.cumsum(), (n - 1) // 2, side="right")])
    yield fact("median", int(x.median()), right)
    value, place = x.median(0)
    yield fact("median (of an axis)", (int(value), int(x[place])), (right, right))


def _most_frequent(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    x = p.on(device, n)
    x[1::2] = 255  # half of all, beyond any other
    value, place = x.mode(0)
    yield fact("mode", (int(value), int(x[place])), (255, 255))


def _largest(n: int, device: str) -> Iterator[Comparison]:
    x = pattern().on(device, n)
    chosen = np.array([n - 1, 2**20 + 1, 5])
    x[torch.from_numpy(chosen).to(device)] = torch.tensor(
        [255, 254, 253], dtype=torch.uint8, device=device
    )
    values, index = x.topk(3)
    yield compare("topk (values)", values, np.array([255, 254, 253], np.uint8))
    yield compare("topk (positions)", index, chosen)
    value, place = x.kthvalue(n)
    yield fact("kthvalue", (int(value), int(place)), (255, n - 1))


def _unique(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    x = p.on(device, n)
    values, right = _counted(p, n)
    found, inverse, counted = x.unique(return_inverse=True, return_counts=True)
    yield compare("unique", found, values)
    yield compare("unique (counts)", counted, right)
    yield same("unique (inverse)", inverse, np.searchsorted(values, p.base))


def _searched(n: int, device: str) -> Iterator[Comparison]:
    edges = torch.arange(n, dtype=torch.int32, device=device)
    wanted = np.r_[0, 1, 2**20 + 1, 2**24 - 1, 2**24 + 1, n - 1, n].astype(np.int32)
    wanted = np.r_[wanted, integers((4096,), 0, n - 1, 321, np.int32)]
    found = torch.searchsorted(edges, on_device(wanted, device))
    yield compare("searchsorted", found, wanted.astype(np.int64))
    found = torch.bucketize(on_device(wanted, device), edges, right=True)
    yield compare("bucketize", found, np.minimum(wanted.astype(np.int64) + 1, n))
    yield fact("arange", int(edges[-1]), n - 1)
