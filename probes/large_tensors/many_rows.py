"""Normalisations and losses of a million rows, of wide rows and of long ones, with gradients."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, on_device
from probes.kit.gradients import integers as odd
from probes.kit.gradients import recording, root
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.trial import Trial
from probes.large_tensors.pattern import same
from probes.large_tensors.sizes import COUNTED, MILLION, Sized
from probes.large_tensors.tiled import KINDS, Call, Tiled, Total, backward, gradient_of

_F: Final = torch.nn.functional
_WIDTH: Final = 4
_CLASSES: Final = 3
_WIDE: Final = 4093  # of rows that have more than 2^24 elements in all
_WIDE_ROWS: Final = COUNTED // _WIDE + 2
_NARROW: Final = 17  # of rows that a CPU is faster with, of more than 2^20 elements in all
_NARROW_ROWS: Final = 65_541
_PERIOD: Final = 4093
#: Functions of a few units in the last place, and sums of _WIDTH terms.
_ROUNDING: Final = 2.0**-18
#: The same with sums of _WIDE terms, by blocks or pairs.
_WIDE_ROUNDING: Final = 2.0**-15
#: Sums of a million terms in float32, by blocks or pairs.
_LONG_ROUNDING: Final = 2.0**-10


def distinct(shape: tuple[int, ...], prime: int = 29) -> Array:
    """Different integers but 0, of both signs, below a prime in size: fewer than it."""
    values = np.arange(1, prime) * 5 % prime
    signed = np.where(values % 2 == 0, values, -values)
    return np.asarray(signed[: int(np.prod(shape))].reshape(shape), np.float64)


def _softmax(a: Array) -> Array:
    shifted = np.exp(a - a.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def _softmax_both(a: Array, g: Array) -> tuple[Array, Array]:
    y = _softmax(a)
    return y, y * (g - (y * g).sum(1, keepdims=True))


def _log_softmax_both(a: Array, g: Array) -> tuple[Array, Array]:
    y = _softmax(a)
    return np.log(y), g - y * g.sum(1, keepdims=True)


def _normal_both(a: Array, g: Array) -> tuple[Array, Array]:
    spread = np.sqrt(a.var(1, keepdims=True) + 1e-5)
    y = (a - a.mean(1, keepdims=True)) / spread
    along = (g * y).mean(1, keepdims=True)
    return y, (g - g.mean(1, keepdims=True) - y * along) / spread


#: Name -> call of rows, its results and gradients in NumPy.
_NORMALISED: Final[dict[str, tuple[Call, Call]]] = {
    "softmax": (lambda x: x.softmax(1), _softmax_both),
    "log_softmax": (lambda x: x.log_softmax(1), _log_softmax_both),
    "nn.functional.layer_norm": (lambda x: _F.layer_norm(x, x.shape[1:]), _normal_both),
}


def many_rows(device: str) -> Iterator[Trial]:
    """A million rows and wide rows with gradients; two rows of a million."""
    x, g = distinct((KINDS, _WIDTH)) / 8, odd((KINDS, _WIDTH), 361)
    on_cpu = torch.device(device).type == "cpu"
    few, rows = (x, g), MILLION
    if on_cpu:
        few, rows = (_wide(_NARROW), _wide(_NARROW, 3)), _NARROW_ROWS
    for name, (call, right) in _NORMALISED.items():
        yield Tiled(name, backward(call), right, few, rows, _ROUNDING)
    for name in ("softmax", "nn.functional.layer_norm"):
        call, right = _NORMALISED[name]
        right = _value(right)
        if name == "softmax" or not on_cpu:
            yield Tiled(name, call, right, (_wide(_WIDE),), _WIDE_ROWS, _WIDE_ROUNDING)
        yield Tiled(name, call, right, (x[:, :2],), MILLION, _ROUNDING)
    few = (few[0], g[:, 0])
    yield Tiled("linalg.vector_norm", backward(_norm), _norm_both, few, rows, _ROUNDING)
    yield Tiled("nn.functional.batch_norm", _batch_norm, _scaled, (x,), MILLION, _ROUNDING)
    yield Sized("softmax (long rows, backward)", _long_gradients, MILLION, 8 * 4)


def _wide(width: int, salt: int = 0) -> Array:
    return np.asarray(integers((KINDS, width), -16, 16, 362 + salt, np.float64) / 8)


def _norm(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x, dim=1)  # type: ignore[no-any-return]


def _norm_both(a: Array, g: Array) -> tuple[Array, Array]:
    norms = np.sqrt((a**2).sum(1))
    return norms, a * (g / norms)[:, None]


def _value(right: Call) -> Call:
    """The results without the gradients."""
    return lambda a: right(a, np.zeros_like(a))[0]


def _batch_norm(x: torch.Tensor) -> torch.Tensor:
    """As at evaluation, with mean 1, variance 4 and without an epsilon that could be seen."""
    mean, variance = torch.ones_like(x[0]), torch.full_like(x[0], 4)
    return _F.batch_norm(x, mean, variance, eps=1e-12)


def _scaled(a: Array) -> Array:
    return np.asarray((a - 1) / 2)


def _long_gradients(n: int, device: str) -> Iterator[Comparison]:
    """Of equal elements: each has the weight 1/n, and the gradient's mean has a closed form."""
    base = odd((_PERIOD,), 364)
    upstream = np.resize(base, n)
    mean = float(upstream.mean())
    g = on_device(upstream.astype(np.float32), device).expand(2, n)
    for name, right in (("softmax", (base - mean) / n), ("log_softmax", base - mean)):
        with recording():
            x = torch.zeros((2, n), device=device, requires_grad=True)
            root(getattr(x, name)(1), g).backward()
        allowed = _LONG_ROUNDING * float(np.abs(right).max())
        for row in gradient_of(x):
            yield same(f"{name} (long rows, backward)", row, right.astype(np.float32), 0, allowed)


def losses(device: str) -> Iterator[Trial]:
    """Of a million rows, each by itself, summed and as a mean; of a million classes."""
    on_cpu = torch.device(device).type == "cpu"
    rows = MILLION if on_cpu else COUNTED
    x, target, g = distinct((KINDS, _CLASSES)), np.arange(KINDS) // 2 % _CLASSES, odd((KINDS,), 371)
    each = backward(partial(_F.cross_entropy, reduction="none"))
    yield Tiled("nn.functional.cross_entropy", each, _entropy, (x / 8, target, g), rows, _ROUNDING)
    summed = partial(_F.nll_loss, reduction="sum")
    for call, rounding in ((summed, None), (_scaled_mean, _ROUNDING)):
        yield Tiled("nn.functional.nll_loss", call, _chosen, (x % 4, target), MILLION, rounding)
    few = tuple(odd((_PERIOD,), salt) for salt in (372, 373, 374))
    for name, (loss, right) in _ELEMENTWISE_LOSSES.items():
        yield Tiled(name, backward(partial(loss, reduction="none")), right, few, rows)
        total = partial(loss, reduction="sum")
        yield Tiled(name, total, _summed(right, few[2]), few[:2], MILLION, _LONG_ROUNDING)
    binary = backward(partial(_F.binary_cross_entropy_with_logits, reduction="none"))
    few = (few[0] / 4, (few[1] + 5) / 10, few[2])
    name = "nn.functional.binary_cross_entropy_with_logits"
    yield Tiled(name, binary, _binary_entropy, few, MILLION, _ROUNDING)
    yield Sized("nn.functional.cross_entropy (many classes)", _many_classes, MILLION, 12 * 4)


def _entropy(a: Array, target: Array, g: Array) -> tuple[Array, Array]:
    y, one = _softmax(a), np.eye(a.shape[1])[target]
    return -np.log((y * one).sum(1)), g[:, None] * (y - one)


def _binary_entropy(a: Array, t: Array, g: Array) -> tuple[Array, Array]:
    y = 1 / (1 + np.exp(-a))
    return -t * np.log(y) - (1 - t) * np.log(1 - y), g * (y - t)


#: Name -> loss, and its elements and their gradients in NumPy, exact.
_ELEMENTWISE_LOSSES: Final[dict[str, tuple[Call, Call]]] = {
    "nn.functional.mse_loss": (
        _F.mse_loss,
        lambda a, t, g: ((a - t) ** 2, 2 * (a - t) * g),
    ),
    "nn.functional.smooth_l1_loss": (
        _F.smooth_l1_loss,
        lambda a, t, g: (
            np.where(np.abs(a - t) < 1, (a - t) ** 2 / 2, np.abs(a - t) - 0.5),
            g * np.clip(a - t, -1, 1),
        ),
    ),
}


def _summed(right: Call, upstream: Array) -> Call:
    return lambda a, t: Total(right(a, t, upstream)[0])


def _chosen(a: Array, target: Array) -> Total:
    return Total(-a[np.arange(len(a)), target])


def _scaled_mean(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean as the sum that it is of."""
    return _F.nll_loss(x, target) * len(x)


def _many_classes(n: int, device: str) -> Iterator[Comparison]:
    """Two equal rows whose targets are the last class and one beyond 2^20; the gradients too."""
    base = integers((_PERIOD,), -8, 8, 375, np.float64) / 4
    row = np.resize(base, n)
    total = np.exp(row).sum()
    target = np.array([n - 1, 2**20 + 1])
    with recording():
        x = on_device(row.astype(np.float32), device).repeat(2, 1).requires_grad_()
        found = _F.cross_entropy(x, on_device(target, device), reduction="none")
        root(found, torch.ones_like(found)).backward()
    name = "nn.functional.cross_entropy (many classes"
    right = np.log(total) - row[target]
    yield compare(f"{name})", found, right.astype(np.float32), _LONG_ROUNDING)
    slopes, at = gradient_of(x), (torch.arange(2, device=device), on_device(target, device))
    at_targets = (np.exp(row[target]) / total - 1).astype(np.float32)
    yield compare(f"{name}, of the targets)", slopes[at], at_targets, _LONG_ROUNDING)
    slopes[at] += 1
    elsewhere = np.exp(base) / total
    # Of the targets 1 was taken away and added: what is left is within a unit of 1.
    allowed = _LONG_ROUNDING * float(elsewhere.max()) + 2.0**-23
    for each in slopes:
        yield same(f"{name}, backward)", each, elsewhere.astype(np.float32), 0, allowed)
