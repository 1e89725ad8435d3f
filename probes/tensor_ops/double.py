"""Operations in float64, on operands of which float32 would lose what decides.

Integers times 1 + 2^-30, and numbers 2^-40 apart: what is linear is exact in float64.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import Array, once
from probes.kit.operands import different, fractions, integers
from probes.kit.trial import Custom, Trial, fact
from probes.tensor_ops.double_layers import layer_cases
from probes.tensor_ops.double_moves import move_cases

F64: Final = np.float64
STEP: Final = 2.0**-40  # lost in float32 beside a number from 2^-16 on


def wide(shape: tuple[int, ...], salt: int) -> Array:
    """Odd multiples of 1 + 2^-30 up to 99: their sums are exact, and no float32 numbers."""
    odd = 2 * integers(shape, -50, 49, salt, F64) + 1
    return np.asarray(odd * (1 + 2.0**-30))


def double(device: str) -> Iterator[Trial]:
    """Elementwise, reducing, ordering, moving and multiplying operations."""
    if not has_dtype(device, torch.float64):
        yield Custom("to float64", _absent)
        return
    yield from _elementwise()
    yield from _comparing()
    yield from _reducing()
    yield from _ordering()
    yield from _products()
    yield from move_cases(wide((6, 9), 230), wide((5, 9), 231))
    yield from layer_cases(wide)


def _absent(device: str) -> Iterator[Comparison]:
    """Raises what the back-end raises for a type that it lacks."""
    created = torch.zeros(1, dtype=torch.float64).to(device).add_(1)
    yield fact("to float64", str(created.dtype), "torch.float64")


def _elementwise() -> Iterator[Trial]:
    a, b, x = wide((5, 13), 232), wide((5, 13), 233), fractions((5, 13), 234) + 0.5
    i = integers((5, 13), 1, 9, 235, F64)
    yield once("add", (a, b), a + 3 * b, alpha=3)
    yield once("sub", (a, b), a - b)
    yield once("rsub", (a, b), b - a)
    for name in ("mul", "div"):  # each is rounded once, as NumPy's are
        yield once(name, (x, a), x * a if name == "mul" else x / a)
    yield once("neg", (a,), -a)
    yield once("abs", (a,), np.abs(a))
    yield once("square", (x,), x * x)
    yield once("addcmul", (a, b, i), a + 2 * b * i, value=2)
    yield once("addcdiv", (a, b, 2.0 ** (i - 5)), a + 2 * b / 2.0 ** (i - 5), value=2)
    yield once("lerp", (a, b, 0.25), a + (b - a) / 4)
    yield once("Tensor.add_", (a, b), a + b)
    yield once("Tensor.mul_", (a, i), a * i)
    yield once("Tensor.addcmul_", (a, b, i), a + b * i)
    yield once("Tensor.lerp_", (a, b, 0.5), a + (b - a) / 2)
    near = np.concatenate([i.ravel() + STEP, i.ravel() - STEP])
    for name in ("floor", "ceil", "trunc"):
        yield once(name, (near,), getattr(np, name)(near))
    yield once("round", (near + 0.5,), np.round(near + 0.5))
    yield once("frac", (near,), near - np.trunc(near))
    three = np.full_like(near, 3)
    yield once("fmod", (near, three), np.fmod(near, three))
    yield once("remainder", (near, three), np.remainder(near, three))
    yield once("floor_divide", (near, three), np.floor_divide(near, three))
    yield once("Tensor.long", (2.0**40 + i,), 2**40 + i.astype(np.int64))
    yield once("Tensor.double", (2**40 + i.astype(np.int64),), 2.0**40 + i)


def _comparing() -> Iterator[Trial]:
    a = integers((6, 11), -9, 9, 236, F64)
    b = a + integers((6, 11), -1, 1, 237, F64) * STEP
    for name, ufunc in (
        *(("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal)),
        *(("gt", np.greater), ("ge", np.greater_equal)),
        *(("maximum", np.maximum), ("minimum", np.minimum), ("fmax", np.fmax), ("fmin", np.fmin)),
    ):
        yield once(name, (a, b), ufunc(a, b))
    yield once("clamp", (b, -STEP, 1 + STEP), np.clip(b, -STEP, 1 + STEP), 0.0)
    yield once("where", (a > 0, b, -b), np.where(a > 0, b, -b))
    # Beyond the range of float32 at both ends.
    large, small = np.array([1e300, -1e300]), np.array([1e-300, -1e-300, 0])
    yield once("isfinite", (large,), np.isfinite(large))
    yield once("sign", (small,), np.sign(small))
    yield once("logical_not", (small,), np.logical_not(small))
    yield once("count_nonzero", (small,), np.array(2))
    yield once("any", (small,), np.array(True))
    yield once("nonzero", (small,), np.array([[0], [1]]))


def _reducing() -> Iterator[Trial]:
    x = wide((7, 16), 238)
    for axis in (0, 1):
        yield once("sum", (x, axis), x.sum(axis))
    yield once("sum", (x,), np.asarray(x.sum()))
    yield once("mean", (x, 1), x.sum(1) / 16)
    yield once("nansum", (x, 1), x.sum(1))
    yield once("cumsum", (x, 1), x.cumsum(1))
    factors = integers((4, 9), 17, 33, 239, F64)  # products up to 2^46
    yield once("prod", (factors, 1), factors.prod(1))
    yield once("cumprod", (factors, 1), factors.cumprod(1))
    for name in ("amax", "amin"):
        yield once(name, (x, 1), getattr(np, name)(x, 1))
    yield once("aminmax", (x,), (np.asarray(x.min()), np.asarray(x.max())))
    yield once("diff", (x,), np.diff(x))
    yield once("trapezoid", (x,), (x[:, 1:] + x[:, :-1]).sum(1) / 2)
    unit = 2.0**-53
    variance = x.var(1, ddof=1)
    yield once("var", (x, 1), variance, 8 * 16 * unit * variance)  # twice that of the reference
    yield once("std", (x, 1), np.sqrt(variance), 8 * 16 * unit * np.sqrt(variance))
    norm = np.sqrt((x * x).sum(1))
    yield once("linalg.vector_norm", (x,), norm, 2 * 16 * unit * norm, dim=1)
    total = np.log(np.exp(x / 50).sum(1))
    yield once("logsumexp", (x / 50, 1), total, 64 * unit * 8)


def _ordering() -> Iterator[Trial]:
    """Numbers that are all the same in float32."""
    order = np.argsort(integers((4, 50), 0, 2**30, 240), 1, kind="stable")
    x = 1 + order * STEP
    down, up = np.argsort(-x, 1, kind="stable"), np.argsort(x, 1, kind="stable")
    ascending, descending = np.take_along_axis(x, up, 1), np.take_along_axis(x, down, 1)
    yield once("sort", (x,), (ascending, up), stable=True, dim=1)
    yield once("argsort", (x,), up, stable=True)
    yield once("topk", (x, 7), (descending[:, :7], down[:, :7]))
    yield once("kthvalue", (x, 5), (ascending[:, 4], up[:, 4]))
    yield once("median", (x, 1), (ascending[:, 24], up[:, 24]))
    yield once("quantile", (x[:, :49].copy(), 0.25, 1), np.sort(x[:, :49], 1)[:, 12])
    yield once("argmax", (x, 1), down[:, 0])
    yield once("argmin", (x, 1), up[:, 0])
    yield once("max", (x, 1), (descending[:, 0], down[:, 0]))
    yield once("min", (x, 1), (ascending[:, 0], up[:, 0]))
    yield once("cummax", (ascending, 1), (ascending, np.tile(np.arange(50), (4, 1))))
    yield once("cummin", (descending, 1), (descending, np.tile(np.arange(50), (4, 1))))
    edges = ascending[0, ::7].copy()
    yield once("searchsorted", (edges, x), np.searchsorted(edges, x))
    yield once("bucketize", (x, edges), np.searchsorted(edges, x))
    yield once("isin", (x, edges), np.isin(x, edges))
    yield once("unique", (x,), different(x))
    yield once("unique_consecutive", (ascending[0].copy(),), ascending[0])


def _products() -> Iterator[Trial]:
    """One factor is wide, the other has integers: every partial sum is exact."""
    a, b = wide((17, 41), 241), integers((41, 19), -9, 9, 242, F64)
    c = wide((17, 19), 243)
    product = a @ b
    batch, other = a[:12].reshape(3, 4, 41), np.stack([b, -b, b])
    base = c[:12].reshape(3, 4, 19)
    yield once("mm", (a, b), product)
    yield once("addmm", (c, a, b), product - 2 * c, beta=-2)
    yield once("bmm", (batch, other), batch @ other)
    yield once("baddbmm", (base, batch, other), base + batch @ other)
    yield once("addbmm", (base[0].copy(), batch, other), base[0] + (batch @ other).sum(0))
    yield once("mv", (a, b[:, 0].copy()), product[:, 0])
    yield once("addmv", (c[:, 0].copy(), a, b[:, 0].copy()), c[:, 0] + product[:, 0])
    yield once("dot", (a[0].copy(), b[:, 0].copy()), np.asarray(product[0, 0]))
    yield once("outer", (a[0].copy(), b[0].copy()), np.outer(a[0], b[0]))
    yield once("addr", (c, a[:, 0].copy(), b[0].copy()), c + np.outer(a[:, 0], b[0]))
    yield once("nn.functional.linear", (a, b.T.copy(), c[0].copy()), product + c[0])
    yield once("linalg.cross", (a[:, :3].copy(), b[:17, :3].copy()), np.cross(a[:, :3], b[:17, :3]))
