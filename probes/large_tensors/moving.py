"""Elements computed one by one, copied, converted, joined and filled."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import Array
from probes.kit.references import compare
from probes.kit.trial import Trial
from probes.large_tensors.pattern import PERIOD, pattern, same
from probes.large_tensors.sizes import COUNTED, MILLION, Sized, sized

#: Name -> call of two tensors in torch and in NumPy, and the bytes of each element with results.
_ELEMENTWISE: Final[dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any], int]]] = {
    "bitwise_xor": (torch.bitwise_xor, np.bitwise_xor, 3),
    "Tensor.add_": (lambda x, y: x.add_(y), np.add, 2),
    "maximum": (torch.maximum, np.maximum, 3),
    "where": (lambda x, y: torch.where(x > y, x, y), np.maximum, 4),
    "clamp": (lambda x, _: x.clamp(50, 99), lambda a, _: np.clip(a, 50, 99), 2),
    "Tensor.masked_fill_": (
        lambda x, _: x.masked_fill_(x > 200, 7),
        lambda a, _: np.where(a > 200, np.uint8(7), a),
        2,
    ),
}


#: Rows of a turned matrix that are compared at once.
_ROWS: Final = 2048


def elementwise(device: str) -> Iterator[Trial]:
    """Bytes, whose sums and products wrap around as NumPy's do."""
    for name, (call, right, each_bytes) in _ELEMENTWISE.items():
        yield from sized(name, partial(_computed, name, call, right), device, each_bytes)
    yield Sized("add", _computed_in_single, COUNTED, 1 + 2 * 4, torch.float32)
    yield Sized("lt", _compared, COUNTED, 3)


def _computed(
    name: str,
    call: Callable[[Any, Any], Any],
    right: Callable[[Any, Any], Any],
    n: int,
    device: str,
) -> Iterator[Comparison]:
    p, q = pattern(), pattern(1)
    two = name not in {"clamp", "Tensor.masked_fill_"}
    x = p.on(device, n)
    found = call(x, q.on(device, n) if two else x)
    yield same(name, found, np.asarray(right(p.base, q.base)))


#: Calls of two tensors of bytes, and NumPy's.
_PAIRS: Final[dict[str, Callable[..., Any]]] = {
    "lt": np.less,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "sub": np.subtract,
    "mul": np.multiply,
    "minimum": np.minimum,
    "logical_or": np.logical_or,
}


def _compared(n: int, device: str) -> Iterator[Comparison]:
    """Comparisons and arithmetic of the same two tensors."""
    p, q = pattern(), pattern(1)
    x, y = p.on(device, n), q.on(device, n)
    for name, right in _PAIRS.items():
        yield same(name, getattr(torch, name)(x, y), np.asarray(right(p.base, q.base)))


def _computed_in_single(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    x = p.on(device, n).float()
    yield same("Tensor.float", x, p.base.astype(np.float32))
    yield same("add (float32)", x.add_(x), 2 * p.base.astype(np.float32))


def copies(device: str) -> Iterator[Trial]:
    """Contiguous, strided, turned and converted copies; fills."""
    for name, body, each_bytes in (
        ("clone", _cloned, 2),
        ("Tensor.contiguous", _strided, 1.5),
        ("t", _turned, 2),
        ("flip", _flipped, 2),
        ("roll", _rolled, 2),
        ("Tensor.to", _converted, 3),
        ("Tensor.fill_", _filled, 1),
    ):
        yield from sized(name, body, device, each_bytes)
    if has_dtype(device, torch.float16):
        halved = partial(_to_half_and_back, torch.float16)
        yield Sized("Tensor.to (float16)", halved, COUNTED, 4)
    if has_dtype(device, torch.bfloat16):
        halved = partial(_to_half_and_back, torch.bfloat16)
        yield from sized("Tensor.to (bfloat16)", halved, device, 4)


def _cloned(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    x = p.on(device, n)
    yield same("the pattern", x, p.base)
    yield same("clone", x.clone(), p.base)


def _strided(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    every_second: Array = p.base[2 * np.arange(PERIOD) % PERIOD]
    yield same("Tensor.contiguous (stride 2)", p.on(device, n)[::2].contiguous(), every_second)


def _turned(n: int, device: str) -> Iterator[Comparison]:
    """The turned matrix has one value in each row."""
    p, rows = pattern(), n // PERIOD
    turned = p.on(device, rows * PERIOD).view(rows, PERIOD).t().contiguous()
    label = f"t ({turned.numel()} elements)"
    for begin in range(0, PERIOD, _ROWS):
        part = turned[begin : begin + _ROWS]
        right = np.broadcast_to(p.base[begin : begin + _ROWS, None], tuple(part.shape))
        if part.device.type == "cpu":
            equal = np.array_equal(part.numpy(), right)
        else:
            column = torch.from_numpy(p.base[begin : begin + _ROWS, None].copy()).to(device)
            equal = torch.equal(part, column.expand(part.shape))
        if not equal:
            yield compare(f"{label}, rows from {begin}", part, np.ascontiguousarray(right))
            return
    yield Comparison(operation=label, elements=turned.numel())


def _flipped(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    backwards: Array = p.base[(n - 1 - np.arange(PERIOD)) % PERIOD]
    yield same("flip", p.on(device, n).flip(0), backwards)


def _rolled(n: int, device: str) -> Iterator[Comparison]:
    p, by = pattern(), 12_345
    found = p.on(device, n).roll(by)
    yield same("roll (the start)", found[:by], p.base, n - by)
    yield same("roll", found[by:], p.base)


def _converted(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    yield same("Tensor.to (int16)", p.on(device, n).to(torch.int16), p.base.astype(np.int16))


def _to_half_and_back(dtype: torch.dtype, n: int, device: str) -> Iterator[Comparison]:
    """Bytes, which each half type has; the end by way of float32 too."""
    p, label = pattern(), f"Tensor.to ({dtype}"
    half = p.on(device, n).to(dtype)
    yield same(f"{label} to uint8)", half.to(torch.uint8), p.base)
    begin, right = max(0, n - MILLION), p.base.astype(np.float32)
    single = half[begin:].float()
    yield same(f"{label} to float32)", single, right, begin)
    yield same(f"{label} from float32)", single.to(dtype).to(torch.uint8), p.base, begin)


def _filled(n: int, device: str) -> Iterator[Comparison]:
    x = pattern().on(device, n)
    yield same("Tensor.fill_", x.fill_(77), np.full(PERIOD, 77, np.uint8))
    yield same("Tensor.zero_", x.zero_(), np.zeros(PERIOD, np.uint8))


def joins(device: str) -> Iterator[Trial]:
    """Two parts, many parts, repeated and stacked parts; parts of a whole."""
    yield from sized("cat", _joined, device, 2)
    yield from sized("Tensor.repeat", _repeated, device, 1)
    yield from sized("stack", _stacked, device, 2)


def _joined(n: int, device: str) -> Iterator[Comparison]:
    p = pattern()
    x = p.on(device, n)
    yield same("cat (2 parts)", torch.cat([x[: n // 2], x[n // 2 :]]), p.base)
    parts = x.split(n // 130)
    yield same(f"cat ({len(parts)} parts)", torch.cat(parts), p.base)


def _repeated(n: int, device: str) -> Iterator[Comparison]:
    p, times = pattern(), n // PERIOD
    one = p.on(device, PERIOD)
    yield same("Tensor.repeat", one.repeat(times), p.base)
    yield same("Tensor.expand", one.expand(times, PERIOD).contiguous(), p.base)


def _stacked(n: int, device: str) -> Iterator[Comparison]:
    p, half = pattern(), n // 2 + 1
    x = p.on(device, half)
    found = torch.stack([x, x])
    yield same("stack (the first)", found[0], p.base)
    yield same("stack (the second)", found[1], p.base)
