"""Functions and reductions that autocast runs in float32 on GPUs."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.amp.regions import Array
from probes.amp.rows import Row
from probes.kit.operands import integers

_CUDA: Final = ("cuda",)
_GPU: Final = ("cuda", "xpu")

#: Units of float32 that one function may be off by, and half a unit more for a reference that is
#: itself rounded: the largest error in OpenCL's table of functions, which CUDA's stays below.
ONE: Final = 33.0

#: The same for a handful of functions and roundings in a row.
SEVERAL: Final = 4 * ONE


def small() -> Array:
    """Numbers from -127/64 to 127/64 in steps of 1/64: 7 bits, exact in every type."""
    return np.arange(-127, 128, dtype=np.float64) / 64


def large(shape: tuple[int, ...], salt: int) -> Array:
    """Integers from -127 to 127: exact in every type, which their sums and products are not."""
    return integers(shape, -127, 127, salt, np.float64)


def rows() -> Iterator[Row]:
    """Functions, powers, softmax, sums and norms."""
    yield from _functions()
    yield from _powers()
    yield from _softmax()
    yield from _reductions()


def _functions() -> Iterator[Row]:
    x = small()
    inside, above, positive = x[np.abs(x) < 0.97], x[x > -0.97], x[x > 0]
    half = x[np.abs(x) <= 0.5]
    on: dict[str, tuple[Callable[[Any], Any], Array, tuple[str, ...]]] = {
        "acos": (np.arccos, inside, _CUDA),
        "asin": (np.arcsin, inside[inside != 0], _CUDA),
        "cosh": (np.cosh, x, _CUDA),
        "erfinv": (_erfinv, half, _CUDA),
        "exp": (np.exp, x, _GPU),
        "expm1": (np.expm1, x, _CUDA),
        "log": (np.log, positive, _GPU),
        "log10": (np.log10, positive, _CUDA),
        "log1p": (np.log1p, above, _CUDA),
        "log2": (np.log2, positive, _CUDA),
        "reciprocal": (np.reciprocal, positive, _GPU),
        "rsqrt": (lambda v: 1 / np.sqrt(v), positive, _GPU),
        "sinh": (np.sinh, x, _CUDA),
        "tan": (np.tan, inside, _CUDA),
    }
    for name, (function, points, types) in on.items():
        yield Row(name, getattr(torch, name), (points,), function(points), types, ONE)
    right = np.log1p(np.exp(x))
    yield Row("softplus", torch.nn.functional.softplus, (x,), right, _CUDA, SEVERAL)


def _erfinv(values: Array) -> Array:
    """The inverse of math.erf, by Newton's method."""
    found = values.copy()
    for _ in range(30):
        error = np.array([math.erf(each) for each in found]) - values
        found -= error * np.sqrt(np.pi) / 2 * np.exp(found**2)
    return np.asarray(found)


def _powers() -> Iterator[Row]:
    x = small()
    x = x[x > 0]
    powers = np.resize([-2.0, 0.5, 3.0, 1.5], x.shape)
    yield Row("pow", torch.pow, (x, powers), x**powers, _GPU, ONE)
    yield Row("__pow__", lambda v: v**3, (x,), x**3, _GPU, ONE)
    yield Row("__rpow__", lambda v: 2.0**v, (x,), 2.0**x, _GPU, ONE)
    yield Row("__rdiv__", lambda v: v.__rdiv__(3.0), (x,), 3 / x, _GPU, ONE)
    yield Row("__rtruediv__", lambda v: 3.0 / v, (x,), 3 / x, _GPU, ONE)


def _softmax() -> Iterator[Row]:
    x = small().reshape(5, 51)
    functional = torch.nn.functional
    weights = np.exp(x - x.max(1, keepdims=True))
    total = weights.sum(1, keepdims=True)
    yield Row("softmax", lambda v: functional.softmax(v, 1), (x,), weights / total, _GPU, SEVERAL)
    right = x - x.max(1, keepdims=True) - np.log(total)
    scale = np.abs(x) + np.abs(x).max(1, keepdims=True) + np.abs(np.log(total))
    yield Row(
        "log_softmax", lambda v: functional.log_softmax(v, 1), (x,), right, _GPU, SEVERAL, scale
    )
    weights = np.exp(-x - (-x).max(1, keepdims=True))
    right = weights / weights.sum(1, keepdims=True)
    yield Row("softmin", lambda v: functional.softmin(v, 1), (x,), right, _GPU, SEVERAL)


def _reductions() -> Iterator[Row]:
    """Sums of integers below 2^24 are exact in float32, and not in the lower types."""
    x, y = large((24, 40), 1), large((24, 40), 2)
    yield Row("sum", torch.sum, (x,), np.asarray(x.sum()), _GPU)
    yield Row("sum", lambda v: v.sum(1), (x,), x.sum(1), _GPU)
    yield Row("cumsum", lambda v: v.cumsum(1), (x,), x.cumsum(1), _GPU)
    odd = np.array([[3.0, 5.0, -7.0, 11.0, 13.0, 17.0], [1.0, -1.0, 19.0, 23.0, 2.0, 29.0]])
    yield Row("cumprod", lambda v: v.cumprod(1), (odd,), odd.cumprod(1), _CUDA)
    yield Row("norm", lambda v: torch.norm(v, 1), (x,), np.asarray(np.abs(x).sum()), _CUDA)
    distance = np.asarray(np.abs(x - y).sum())
    yield Row("dist", lambda v, w: torch.dist(v, w, 1), (x, y), distance, _GPU)
    pairs = [np.abs(x[i] - x[j]).sum() for i in range(6) for j in range(i + 1, 6)]
    yield Row("pdist", lambda v: torch.pdist(v, 1), (x[:6].copy(),), np.array(pairs), _CUDA)
    limit = 100.0
    norms = np.abs(x).sum(1, keepdims=True)
    right = x * (limit / (norms + 1e-7))
    yield Row("renorm", lambda v: torch.renorm(v, 1, 0, limit), (x,), right, _CUDA, SEVERAL)
    functional = torch.nn.functional
    yield Row("normalize", lambda v: functional.normalize(v, p=1.0), (x,), x / norms, _GPU, SEVERAL)
    # Mean 0 and variance 1, so that the root of 1 + 3 is exact.
    pattern = np.tile([-1.0, 1.0], (3, 16))
    right = pattern / 2
    layer, group = functional.layer_norm, functional.group_norm
    yield Row("layer_norm", lambda v: layer(v, (32,), eps=3.0), (pattern,), right, _GPU, SEVERAL)
    yield Row("group_norm", lambda v: group(v, 4, eps=3.0), (pattern,), right, _GPU, SEVERAL)
