"""Products that are added: alpha and beta, biases of each shape, and `beta=0`, which drops NaN."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end, floats
from probes.kit.case import Array, on_device
from probes.kit.operands import integers
from probes.kit.precision import read
from probes.kit.trial import Custom, Trial
from probes.matmul.factors import F64, SPANS, Factors, factors, into, same, text
from probes.matmul.libraries import others, preferred, suffix

#: What an element may sum up to is shared by product and addend: an eighth each, times 3 at most.
_SHARE: Final = 8

_SIZE: Final = (65, 72, 136)
_COUNT: Final = 3

#: alpha and beta; addends are even.
_SCALES: Final = ((1, 1), (2, -3), (-1, 0.5), (3, 0), (0, 2), (0, 0))


def added(device: str) -> Iterator[Trial]:
    """Every way to add to a product, in each type and library."""
    for dtype, library in product(floats(device), ("", *others(device))):
        name = suffix(library)
        yield Custom(f"addmm{name}", partial(_scaled, dtype, library), dtype)
        yield Custom(f"nn.functional.linear{name}", partial(_biased, dtype, library), dtype)
        yield Custom(f"baddbmm{name}", partial(_batched, dtype, library), dtype)


def _factors(dtype: torch.dtype, salt: int = 30, rows: int = _SIZE[0]) -> Factors:
    return factors(rows, *_SIZE[1:], SPANS[dtype].part(_SHARE), salt)


def _even(dtype: torch.dtype, *shape: int) -> Array:
    """Even integers up to an eighth of what the type holds, as far as 2^20."""
    largest = min(SPANS[dtype].limit // _SHARE, 2**20)
    return 2 * integers(shape, -largest // 2, largest // 2, 32, F64)


def _scaled(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    each = _factors(dtype)
    m, n = each.product.shape
    a, b = each.on(device, dtype)
    ignored = np.full((m, n), np.nan)
    ignored[::3] = np.inf
    name = f"addmm{suffix(library)} ({text(dtype)}"
    addends = {"matrix": (m, n), "row": (n,), "column": (m, 1), "element": (1, 1)}
    with preferred(library):
        for (alpha, beta), (kind, shape) in product(_SCALES, addends.items()):
            c = _even(dtype, *shape)
            right = alpha * each.product + beta * c
            scales = {"alpha": alpha, "beta": beta}
            addend = on_device(c, device, dtype)
            found = into(torch.addmm, addend, a, b, like=right, dtype=dtype, **scales)
            yield same(f"{name}, {kind}, {alpha}, {beta})", found, right, dtype)
        # "If beta is 0, then the content of input will be ignored, and nan and inf in it will not
        # be propagated."
        nothing = on_device(ignored, device, dtype)
        found = torch.addmm(nothing, a, b, beta=0)
        yield same(f"{name}, NaN that is ignored)", found, each.product, dtype)
        found = torch.addmm(nothing[0], a, b, beta=0, alpha=2)
        yield same(f"{name}, row of NaN that is ignored)", found, 2 * each.product, dtype)
        holes = _even(dtype, m, n)
        holes[3, 5], holes[m - 1, n - 1] = np.nan, -np.inf
        for alpha in (0, 1):
            found = torch.addmm(on_device(holes, device, dtype), a, b, alpha=alpha)
            right = holes + alpha * each.product
            yield same(f"{name}, NaN that stays, {alpha})", found, right, dtype)
        in_place = on_device(_even(dtype, m, n), device, dtype)
        in_place.addmm_(a, b, beta=2, alpha=-1)
        right = 2 * _even(dtype, m, n) - each.product
        yield same(f"{name}, in place)", in_place, right, dtype)


def _biased(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    """A row that is added to every row, as cuBLASLt does in its epilogue; (3, 65, 72) too."""
    each = _factors(dtype, 34, _COUNT * _SIZE[0])
    x, weight = on_device(each.a, device, dtype), on_device(each.b.T.copy(), device, dtype)
    row = _even(dtype, _SIZE[2])
    bias = on_device(row, device, dtype)
    right = each.product + row
    linear: Any = torch.nn.functional.linear
    name = f"nn.functional.linear{suffix(library)} ({text(dtype)}"
    with preferred(library):
        yield same(f"{name}, bias)", linear(x, weight, bias), right, dtype)
        yield same(f"{name}, no bias)", linear(x, weight), each.product, dtype)
        found = linear(x, weight.t().contiguous().t(), bias)
        yield same(f"{name}, bias, weight by columns)", found, right, dtype)
        stacked = right.reshape(_COUNT, *_SIZE[::2])
        found = linear(x.view(_COUNT, *_SIZE[:2]), weight, bias)
        yield same(f"{name}, bias, 3 axes)", found, stacked, dtype)
        found = linear(x[5], weight, bias)
        yield same(f"{name}, bias, one row)", found, right[5], dtype)
        found = linear(x, weight[:1], bias[:1])
        yield same(f"{name}, bias, one column)", found, right[:, :1], dtype)
        spread = torch.stack([bias, torch.full_like(bias, float("nan"))], 1)[:, 0]
        yield same(f"{name}, strided bias)", linear(x, weight, spread), right, dtype)


def _drops_beta(dtype: torch.dtype, device: str) -> bool:
    """Whether torch hands a batch to oneDNN, and then does not apply beta where alpha is 0.

    So do those that fall back to the CPU.
    """
    if back_end(device) in {"cuda", "hip"} or dtype == torch.float64:
        return False
    return dtype != torch.float32 or read("cpu").matmul_may_shorten


def _batched(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    """Matrices of a batch, added to others, to one, and all up: no more than an eighth each."""
    each = [_factors(dtype, 36 + place) for place in range(_COUNT)]
    a, b, right = (np.stack(arrays) for arrays in zip(*each, strict=True))
    x, y = on_device(a, device, dtype), on_device(b, device, dtype)
    c = _even(dtype, *right.shape)
    addend = on_device(c, device, dtype)
    ignored = torch.full_like(addend, float("nan"))
    name = suffix(library)
    kind = text(dtype)
    with preferred(library):
        for alpha, beta in _SCALES:
            if not alpha and _drops_beta(dtype, device):
                continue
            label = f"baddbmm{name} ({kind}, {alpha}, {beta})"
            scales = {"alpha": alpha, "beta": beta}
            found = into(torch.baddbmm, addend, x, y, like=right, dtype=dtype, **scales)
            yield same(label, found, alpha * right + beta * c, dtype)
        found = torch.baddbmm(ignored, x, y, beta=0)
        yield same(f"baddbmm{name} ({kind}, NaN that is ignored)", found, right, dtype)
        found = torch.baddbmm(addend[0, 0], x, y)
        yield same(f"baddbmm{name} ({kind}, row)", found, right + c[0, 0], dtype)
        found = torch.addbmm(addend[0], x, y, beta=-1, alpha=2)
        yield same(f"addbmm{name} ({kind})", found, 2 * right.sum(0) - c[0], dtype)
        found = torch.addbmm(ignored[0], x, y, beta=0)
        yield same(f"addbmm{name} ({kind}, NaN that is ignored)", found, right.sum(0), dtype)
        column = c[0, :, 0]
        found = torch.addmv(addend[0, :, 0], x[0], y[0, :, 3], alpha=2, beta=-3)
        yield same(f"addmv{name} ({kind})", found, 2 * right[0, :, 3] - 3 * column, dtype)
        found = torch.addmv(ignored[0, :, 0], x[0], y[0, :, 3], beta=0)
        yield same(f"addmv{name} ({kind}, NaN that is ignored)", found, right[0, :, 3], dtype)
