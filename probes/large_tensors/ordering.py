"""Sorts, searches and sets of a million elements."""

from collections.abc import Iterator

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import on_device
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.pattern import PERIOD, pattern, same
from probes.large_tensors.sizes import COUNTED, MILLION, Sized


def ordering(_device: str) -> Iterator[Trial]:
    """Positions are compared too: the sort is stable."""
    yield Sized("sort", _sorted, MILLION, 40)
    yield Sized("topk", _largest, MILLION, 40)
    yield Sized("unique", _unique, MILLION, 80)
    yield Sized("searchsorted", _searched, COUNTED, 4)


def _sorted(n: int, device: str) -> Iterator[Comparison]:
    array = np.resize(integers((PERIOD,), -(2**15), 2**15 - 1, 320, np.int16), n)
    order = np.argsort(array, kind="stable")
    values, index = on_device(array, device).sort(stable=True)
    yield compare("sort (values)", values, array[order])
    yield compare("sort (positions)", index, order)


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
    values, counts = np.unique(p.base, return_counts=True)
    rest = np.bincount(p.base[: n % len(p.base)], minlength=256)
    right = counts * (n // len(p.base)) + rest[values]
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
