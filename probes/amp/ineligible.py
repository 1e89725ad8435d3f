"""What autocast leaves as it is: other types, in-place, out= and dtype=, unlisted operations."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.amp.regions import autocast, compare_typed, kind, lower_types, name_of
from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.gradients import integers, tensor
from probes.kit.precision import read
from probes.kit.trial import Custom, Trial, refused

#: More bits than float32 has.
_FINE: Final = 1 + 2.0**-40

#: Too large for float16, and with one bit more than bfloat16 has. TF32 has both.
_HUGE, _ODD = 2.0**17, 257.0

#: Types of device on which torch documents that binary_cross_entropy raises.
_REFUSES: Final = ("cuda",)


def not_cast(device: str) -> Iterator[Trial]:
    """Each in a region of each lower type."""
    bodies = {
        "float64": _float64,
        "integers": _integers,
        "in-place": _in_place,
        "out=": _out,
        "dtype=": _explicit,
        "unlisted": _unlisted,
        "batch_norm": _batch_norm,
        "embedding": _embedding,
    }
    if kind(device) in _REFUSES:
        bodies["binary_cross_entropy"] = _refused
    if kind(device) != "cpu":
        bodies["on the CPU"] = _on_the_host
    for lower in lower_types(device):
        for name, body in bodies.items():
            yield Custom(f"{name} {name_of(lower)}", partial(body, lower), lower)


def _float64(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Of listed operations, none of which is cast."""
    if not has_dtype(device, torch.float64):
        return
    double = torch.float64
    values = _FINE * integers((4, 8), 60)
    eye, row = np.eye(8), np.full(8, _FINE)
    x, w, v = (tensor(each, device, double) for each in (values, eye, row))
    label = f"float64 {name_of(lower)} ("
    with autocast(device, lower):
        product, layer = torch.mm(x, w), torch.nn.functional.linear(x, w)
        least, both = torch.prod(v[:1]), torch.cat([x, x])
        total = torch.nn.functional.l1_loss(x, x * 0, reduction="sum")
    yield compare_typed(f"{label}mm)", product, double, values)
    yield compare_typed(f"{label}linear)", layer, double, values)
    yield compare_typed(f"{label}prod)", least, double, _FINE)
    yield compare_typed(f"{label}cat)", both, double, np.concatenate([values, values]))
    yield compare_typed(f"{label}l1_loss)", total, double, np.abs(values).sum())


def _integers(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    values = np.arange(12).reshape(3, 4) + 2**24
    x = torch.from_numpy(values.copy()).to(device, torch.int32)
    with autocast(device, lower):
        total, product, both = x.sum(), x[0, :1].prod(), torch.cat([x, x])
    label = f"integers {name_of(lower)} ("
    yield compare_typed(f"{label}sum)", total, torch.int64, values.sum())
    yield compare_typed(f"{label}prod)", product, torch.int64, 2.0**24)
    yield compare_typed(f"{label}cat)", both, torch.int32, np.concatenate([values, values]))


def _factors(device: str) -> tuple[Any, Any, Any]:
    """Factors and their product. The lower types cannot hold them.

    Where float32 products are shortened whatever torch is told, bfloat16 can.
    """
    odd = 3.0 if read(device).forced_by else _ODD
    a, b = np.array([[_HUGE, 1.0], [1.0, odd]]), np.array([[1.0, 1.0], [0.0, 1.0]])
    return a, b, a @ b


def _in_place(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    a, b, right = _factors(device)
    x, y = tensor(a, device), tensor(b, device)
    total, kept = torch.zeros_like(x), tensor(np.full(3, _HUGE), device)
    half = tensor(b, device, lower)
    with autocast(device, lower):
        total.addmm_(x, y)
        kept.cumsum_(0)
        half.add_(y)
    label = f"in-place {name_of(lower)} ("
    yield compare_typed(f"{label}addmm_)", total, torch.float32, right)
    sums = np.full(3, _HUGE).cumsum()
    yield compare_typed(f"{label}cumsum_)", kept, torch.float32, sums)
    yield compare_typed(f"{label}add_)", half, lower, 2 * b)


def _out(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    a, b, right = _factors(device)
    x, y = tensor(a, device), tensor(b, device)
    into, added = torch.empty_like(x), torch.empty_like(x)
    with autocast(device, lower):
        torch.mm(x, y, out=into)
        torch.addmm(x, x, y, out=added)
    label = f"out= {name_of(lower)} ("
    yield compare_typed(f"{label}mm)", into, torch.float32, right)
    yield compare_typed(f"{label}addmm)", added, torch.float32, a + right)


def _explicit(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """The output has the type that was asked for: the lower one, and a wide one."""
    wide = torch.float64 if has_dtype(device, torch.float64) else torch.float32
    values = integers((2, 4), 61)
    x, zeros = tensor(values, device), tensor(np.zeros((2, 2)), device)
    for dtype in (lower, wide):
        with autocast(device, lower):
            total, product = torch.sum(x, dtype=dtype), torch.prod(x[0], dtype=dtype)
            running = torch.cumsum(x, 1, dtype=dtype)
            equal = torch.softmax(zeros, 1, dtype=dtype)
        label = f"dtype= {name_of(lower)} ({name_of(dtype)}, "
        yield compare_typed(f"{label}sum)", total, dtype, values.sum())
        yield compare_typed(f"{label}prod)", product, dtype, values[0].prod())
        yield compare_typed(f"{label}cumsum)", running, dtype, values.cumsum(1))
        yield compare_typed(f"{label}softmax)", equal, dtype, np.full((2, 2), 0.5))


def _unlisted(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """They run in the type of their operands; a mixture gives float32."""
    values = integers((3, 4), 62)
    half, single = tensor(values, device, lower), tensor(values, device)
    with autocast(device, lower):
        kept, full, mixed = torch.relu(half), torch.relu(single), half + single
        product, large = half * single, torch.maximum(single, single * _HUGE)
    label = f"unlisted {name_of(lower)} ("
    positive = np.maximum(values, 0)
    yield compare_typed(f"{label}relu)", kept, lower, positive)
    yield compare_typed(f"{label}relu of float32)", full, torch.float32, positive)
    yield compare_typed(f"{label}add)", mixed, torch.float32, 2 * values)
    yield compare_typed(f"{label}mul)", product, torch.float32, values**2)
    right = np.maximum(values, values * _HUGE)
    yield compare_typed(f"{label}maximum)", large, torch.float32, right)


def _batch_norm(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Of a lower type with parameters and statistics in float32: mean 0 and variance 1."""
    values = np.tile([-1.0, 1.0], (8, 2, 3))
    x = tensor(values, device, lower)
    mean, variance = tensor([4.0, 0.0], device), tensor([1.0, 5.0], device)
    weight, bias = tensor([2.0, 4.0], device), tensor([1.0, -1.0], device)
    call: Any = torch.nn.functional.batch_norm
    label = f"batch_norm {name_of(lower)} ("
    unit = 2.0**-10 if lower == torch.float16 else 2.0**-7  # of the largest, 3
    with autocast(device, lower):
        out = call(x, mean, variance, weight, bias, training=True, momentum=0.5, eps=3.0)
    right = values / 2 * np.array([[[2.0], [4.0]]]) + np.array([[[1.0], [-1.0]]])
    yield compare_typed(f"{label}output)", out, lower, right, np.full(right.shape, 3 * unit))
    yield compare_typed(f"{label}mean)", mean, torch.float32, [2.0, 0.0], np.full(2, 1e-5))
    count = values.size / 2
    moved = (np.array([1.0, 5.0]) + count / (count - 1)) / 2
    yield compare_typed(f"{label}variance)", variance, torch.float32, moved, np.full(2, 1e-4))


def _embedding(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Rows of a float32 table stay as they are."""
    table = integers((5, 4), 64) + 2.0**-20
    places = torch.tensor([4, 0, 4], device=device)
    with autocast(device, lower):
        found = torch.nn.functional.embedding(places, tensor(table, device))
    right = table[[4, 0, 4]].astype(np.float32).astype(np.float64)
    yield compare_typed(f"embedding {name_of(lower)} (rows)", found, torch.float32, right)


def _refused(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    chance = tensor([[0.25, 0.5]], device)
    label = f"binary_cross_entropy {name_of(lower)} ("
    with autocast(device, lower):
        for name, call in (
            ("function", torch.nn.functional.binary_cross_entropy),
            ("module", torch.nn.BCELoss()),
        ):
            for given in (chance, chance.to(lower)):
                yield refused(
                    f"{label}{name}, {name_of(given.dtype)})",
                    partial(call, given, chance),
                    "RuntimeError",
                )


def _on_the_host(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """The region of one type of device is none for the CPU."""
    values = integers((3, 3), 63)
    with autocast(device, lower):
        product = torch.mm(tensor(values, "cpu"), tensor(np.eye(3), "cpu"))
    label = f"on the CPU {name_of(lower)} (mm)"
    yield compare_typed(label, product, torch.float32, values)
