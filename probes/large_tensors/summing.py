"""Sums, counts, means and scans, and the places of extremes."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import Array
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.pattern import LOWEST, PERIOD, pattern, same
from probes.large_tensors.sizes import COUNTED, MILLION, Sized, sized
from probes.large_tensors.tiled import Tiled

_ABOVE: Final = 99
_FACTOR: Final = 4099  # of the terms of a scan
_HALF_PERIOD: Final = 2 * 1019  # a prime factor: it divides no power of two


def sums(device: str) -> Iterator[Trial]:
    """Whole and by axis: the sums go beyond 2^31, the counts beyond 2^24.

    The CPU converts bytes to int64 before it adds them.
    """
    yield from sized("sum", _sum, device, 1, on_cpu_bytes=9)
    yield from sized("sum by axis", _by_axis, device, 1, on_cpu_bytes=9)
    yield from sized("count_nonzero", _counts, device, 2, on_cpu_bytes=9)
    yield from sized("cumsum", _scan, device, 2)
    yield Sized("cumsum of int64", _scan_of_integers, MILLION, 30)
    signs = _signs()
    yield Tiled("cumprod", _products, lambda a: a.cumprod(dtype=np.int8), (signs,), COUNTED)
    on_cpu = torch.device(device).type == "cpu"
    yield Sized("cummax", _running_extremes, MILLION if on_cpu else COUNTED, 60)
    yield from sized("sum of an expanded one", _expanded, device, 0, on_cpu_bytes=8)


def _sum(count: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    yield fact("sum", int(p.on(device, count).sum()), p.total(count))


def _by_axis(count: int, device: str) -> Iterator[Comparison]:
    p, rows = pattern(), count // PERIOD
    x = p.on(device, rows * PERIOD).view(rows, PERIOD)
    yield compare("sum (over rows)", x.sum(0), p.base.astype(np.int64) * rows)


def _counts(count: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    above = p.on(device, count) > _ABOVE
    right = p.total(count, p.base > _ABOVE)
    yield fact("count_nonzero", int(torch.count_nonzero(above)), right)
    yield fact("sum (bool)", int(above.sum()), right)
    above.fill_(True)
    yield fact("all", bool(above.all()), True)
    above[-1] = False
    yield fact("all (but the last)", bool(above.all()), False)
    above.logical_not_()
    yield fact("any (the last)", bool(above.any()), True)


def _scan(count: int, device: str) -> Iterator[Comparison]:
    """In uint8: modulo 256 the sums have the pattern's period."""
    p = pattern()
    found = p.on(device, count).cumsum(0, dtype=torch.uint8)
    yield same("cumsum (uint8)", found, p.prefix[1:].astype(np.uint8))


def _scan_of_integers(count: int, device: str) -> Iterator[Comparison]:
    """The last sums are beyond 2^31."""
    p, rows = pattern(), count // PERIOD
    found = (p.on(device, count).to(torch.int64) * _FACTOR).cumsum(0)
    first = np.arange(rows)[:, None] * p.total(PERIOD)
    right = (first + p.prefix[1:]) * _FACTOR
    yield compare("cumsum (int64)", found[: rows * PERIOD], right.ravel())
    yield fact("cumsum (int64, the last)", int(found[-1]), p.total(count) * _FACTOR)


def _signs() -> Array:
    """Ones and an even number of minus ones: their products have the same period."""
    half = 2 * integers((_HALF_PERIOD,), 0, 1, 305, np.int8) - 1
    return np.concatenate([half, -half])


def _products(x: torch.Tensor) -> torch.Tensor:
    return x.cumprod(0, dtype=torch.int8)


def _running_extremes(count: int, device: str) -> Iterator[Comparison]:
    """Of numbers that rise at every second place and are 0 between: no two extremes are equal."""
    x = torch.arange(1, count + 1, dtype=torch.int32, device=device)
    x[1::2] = 0
    place = torch.arange(count, device=device) // 2 * 2
    for name, sign in (("cummax", 1), ("cummin", -1)):
        values, index = getattr(x * sign, name)(0)
        yield fact(f"{name} (wrong values)", int((values != sign * (place + 1)).sum()), 0)
        yield fact(f"{name} (wrong places)", int((index != place).sum()), 0)


def _expanded(count: int, device: str) -> Iterator[Comparison]:
    """One element at all addresses: nothing but the counting can be wrong."""
    one = torch.ones(1, dtype=torch.int32, device=device).expand(count)
    yield fact("sum (int32, expanded)", int(one.sum()), count)
    if has_dtype(device, torch.float64):
        wide = torch.ones(1, dtype=torch.float64, device=device).expand(count)
        yield fact("mean (float64, expanded)", float(wide.mean()), 1.0)


def extremes(device: str) -> Iterator[Trial]:
    """Unique extremes around the limits of index types, and at both ends."""
    yield from sized("argmax", _places, device, 1)


def _places(count: int, device: str) -> Iterator[Comparison]:
    x = pattern().on(device, count)
    around = (2**20 + 3, 2**24 + 1) if count > COUNTED else (2**20 + 3,)
    for place in (*around, count - 2, count - 1):
        for value, calls in ((255, (torch.argmax, torch.max)), (1, (torch.argmin, torch.min))):
            kept = x[place].clone()
            x[place] = value
            yield from _found(x, value, place, *calls)
            x[place] = kept
    yield fact("aminmax", tuple(int(each) for each in torch.aminmax(x)), (LOWEST, _highest()))


def _found(
    x: torch.Tensor, value: int, place: int, position: Any, extreme: Any
) -> Iterator[Comparison]:
    name = extreme.__name__
    yield fact(f"{position.__name__} (at {place})", int(position(x)), place)
    yield fact(f"{name} (at {place})", int(extreme(x)), value)
    values, index = extreme(x, 0)
    yield fact(f"{name} (of an axis, at {place})", (int(values), int(index)), (value, place))


def _highest() -> int:
    highest: Array = pattern().base.max()
    return int(highest)
