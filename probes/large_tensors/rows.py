"""Normalisations, reductions and pooling of more rows than a launch has blocks; long rows."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, on_device
from probes.kit.operands import F32, fractions, integers
from probes.kit.references import compare
from probes.kit.trial import Trial
from probes.large_tensors.pattern import same
from probes.large_tensors.sizes import MILLION, Sized

_ROWS: Final = 65_541
_KINDS: Final = 7  # different rows, repeated: a period that divides no power of two
_WIDTH: Final = 9
_UNIT: Final = 2.0**-23
_F: Final = torch.nn.functional


def _softmax(wide: Array) -> Array:
    shifted = np.exp(wide - wide.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def _normal(wide: Array) -> Array:
    centred = wide - wide.mean(1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5))


#: Name -> call of rows, and its definition in float64. Values are within 6, results within 16.
_ROUNDED: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]]] = {
    "softmax": (lambda x: x.softmax(1), _softmax),
    "log_softmax": (lambda x: x.log_softmax(1), lambda a: np.log(_softmax(a))),
    "nn.functional.layer_norm": (lambda x: _F.layer_norm(x, x.shape[1:]), _normal),
    "logsumexp": (lambda x: x.logsumexp(1), lambda a: np.log(np.exp(a).sum(1))),
    "var": (lambda x: x.var(1), lambda a: a.var(1, ddof=1)),
}

#: Name -> call of rows, and of integers in NumPy: exact.
_EXACT: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]]] = {
    "sum": (lambda x: x.sum(1), lambda a: a.sum(1)),
    "amax": (lambda x: x.amax(1), lambda a: a.max(1)),
    "cumsum": (lambda x: x.cumsum(1), lambda a: a.cumsum(1)),
    "sort": (lambda x: x.sort(1).values, lambda a: np.sort(a, 1)),
    "nn.functional.max_pool1d": (
        lambda x: _F.max_pool1d(x[:, None], 3),
        lambda a: a.reshape(-1, 3, 3).max(2),
    ),
    "nn.functional.interpolate": (
        lambda x: _F.interpolate(x[:, None], scale_factor=2),
        lambda a: a.repeat(2, 1),
    ),
    "nn.functional.pad": (
        lambda x: _F.pad(x[:, None], (2, 1), "reflect"),
        lambda a: np.pad(a, ((0, 0), (2, 1)), "reflect"),
    ),
}


def rows(_device: str) -> Iterator[Trial]:
    """Many rows of nine elements, two rows of a million."""
    for name, (call, right) in _ROUNDED.items():
        yield Sized(name, partial(_many, name, call, right), _ROWS, 4 * 4 * _WIDTH)
    for name, (call, right) in _EXACT.items():
        yield Sized(name, partial(_many_exact, name, call, right), _ROWS, 8 * 4 * _WIDTH)
    yield Sized("softmax (long rows)", _long_softmax, MILLION, 2 * 4 * 4)
    yield Sized("nn.functional.layer_norm (long rows)", _long_norm, MILLION, 2 * 4 * 4)


def _repeated(few: Array, device: str, n: int) -> torch.Tensor:
    return on_device(few, device).repeat(-(-n // len(few)), 1)[:n]


def _many(
    name: str, call: Callable[[Any], Any], right: Callable[[Array], Array], n: int, device: str
) -> Iterator[Comparison]:
    few = (fractions((_KINDS, _WIDTH), 340) * 12 - 6).astype(F32)
    found = call(_repeated(few, device, n)).cpu().numpy()
    expected = right(few.astype(np.float64))[np.arange(n) % _KINDS]
    # Functions of 2 to 4 units, sums of nine terms; values up to 16.
    yield compare(f"{name} ({n} rows)", found, expected.astype(F32), 16 * (_WIDTH + 8) * _UNIT)


def _many_exact(
    name: str, call: Callable[[Any], Any], right: Callable[[Array], Array], n: int, device: str
) -> Iterator[Comparison]:
    few = integers((_KINDS, _WIDTH), 1, 9, 341)
    found = call(_repeated(few, device, n)).contiguous()
    yield same(f"{name} ({n} rows)", found, right(few).astype(F32).ravel())


def _long_softmax(n: int, device: str) -> Iterator[Comparison]:
    """Half of each row has weight 0, and one place at the end of the second a larger one."""
    x = torch.zeros((2, n), device=device)
    x[:, ::2] = -torch.inf
    x[1, -2] = np.log(2.0)
    counted = n // 2
    right = np.zeros((2, n), F32)
    right[0, 1::2] = 1 / counted
    right[1, 1::2] = 1 / (counted + 1)
    right[1, -2] *= 2
    # The denominator is a sum of n ones: its error is that of a summation in float32, by blocks
    # or pairs; one after another would end at 2^24, beyond n.
    yield compare("softmax (long rows)", x.softmax(1), right, 2.0**-12 / counted)


def _long_norm(n: int, device: str) -> Iterator[Comparison]:
    """Ones and threes: mean 2, variance 1, but for an odd number of elements one more three."""
    row = torch.ones(n, device=device)
    row[::2] = 3
    found = _F.layer_norm(row.expand(2, n), (n,))
    right = np.full((2, n), -1, F32)
    right[:, ::2] = 1
    yield compare("nn.functional.layer_norm (long rows)", found, right, 2.0**-12)
