"""Rows with NaN and infinities, reduced, cumulated, normalised and sorted."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from probes.kit.case import Array, once
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial

_INF: Final = np.inf
_NAN: Final = np.nan
_F: Final = "nn.functional"
_UNIT: Final = 2.0**-23


def row_cases() -> Iterator[Trial]:
    """One row has NaN, one infinity, one both infinities, the others are finite."""
    x = integers((5, 33), 1, 9, 210).copy()
    x[1, 17], x[2, 4], x[3, 2], x[3, 30] = _NAN, _INF, _INF, -_INF
    yield from _reductions(x)
    yield from _positions(x)
    yield from _softmax(x)
    centred = np.where(np.isnan(x), F32(_NAN), x)[[0, 1, 4]]
    wide = centred.astype(np.float64)
    wide -= wide.mean(1, keepdims=True)
    normal = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-5)
    yield once(f"{_F}.layer_norm", (centred, (33,)), normal.astype(F32), (33 + 8) * _UNIT * 4)
    error = np.zeros((5, 33), F32)
    error[1, 17] = _NAN
    yield once(f"{_F}.mse_loss", (error, np.zeros_like(error)), np.array(_NAN, F32))
    yield once(f"{_F}.mse_loss", (error, np.ones_like(error)), (error - 1) ** 2, reduction="none")


def _reductions(x: Array) -> Iterator[Trial]:
    """Values; the sums of integers are exact."""
    for name in ("sum", "amax", "amin"):
        yield once(name, (x, 1), getattr(np, name)(x, 1))
    yield once("mean", (x[:, :32].copy(), 1), x[:, :32].mean(1))
    yield once("sum", (x,), np.array(_NAN, F32))
    yield once("max", (x,), np.array(_NAN, F32))
    yield once("min", (x,), np.array(_NAN, F32))
    yield once("aminmax", (x,), (x.min(1), x.max(1)), dim=1)
    yield once("cumsum", (x, 1), x.cumsum(1))
    few = np.where(np.isfinite(x), F32(1), x)
    few[3, 5] = 0  # times infinity
    yield once("prod", (few, 1), few.prod(1))
    yield once("cumprod", (few, 1), few.cumprod(1))
    variance = x[[0, 1]].astype(np.float64).var(1, ddof=1)
    yield once("var", (x[[0, 1]].copy(), 1), variance.astype(F32), 4 * 33 * _UNIT * 20)
    length = np.sqrt((x.astype(np.float64) ** 2).sum(1))
    yield once("linalg.vector_norm", (x,), length.astype(F32), 33 * _UNIT * 60, dim=1)
    yield once("nansum", (x, 1), np.nansum(x, 1))
    holed = np.where(x > 7, F32(_NAN), x)
    yield once("nanmean", (holed, 1), np.nanmean(holed, 1), 33 * _UNIT * 9)
    for name in ("any", "all"):  # NaN is not zero
        yield once(name, (few[:4] * 0, 1), getattr(np, name)(few[:4] * 0, 1))
    yield once("count_nonzero", (few * 0, 1), np.count_nonzero(few * 0, 1))


def _positions(x: Array) -> Iterator[Trial]:
    """NaN is the largest in every order; extremes give its position, the median its value."""
    distinct = (integers((4, 31), 0, 9, 211) * 64 + np.arange(31)).astype(F32)
    distinct[1, 19], distinct[2, 7], distinct[3, 30] = _NAN, _INF, -_INF
    rows = np.array([0, 2, 3])
    place = np.argsort(-distinct, 1, kind="stable")  # NaN is last here
    place[1] = np.r_[place[1][-1:], place[1][:-1]]
    descending = (np.take_along_axis(distinct, place, 1), place)
    yield once("sort", (distinct,), descending, stable=True, dim=1, descending=True)
    yield once("topk", (distinct, 5), (descending[0][:, :5], place[:, :5]))
    up = np.argsort(distinct, 1, kind="stable")
    ascending = (np.take_along_axis(distinct, up, 1), up)
    yield once("topk", (distinct, 31), ascending, largest=False)
    for k in (1, 31):
        yield once("kthvalue", (distinct, k), tuple(each[:, k - 1] for each in ascending))
    yield once("max", (distinct, 1), tuple(each[:, 0] for each in descending))
    lowest = distinct.argmin(1)
    yield once("min", (distinct, 1), (distinct.min(1), lowest))
    yield once("argmin", (distinct, 1), lowest)
    yield once("argmax", (distinct, 1), distinct.argmax(1))
    middle = up[:, 15].copy()
    middle[1] = 19
    value = np.take_along_axis(distinct, middle[:, None], 1)[:, 0]
    yield once("median", (distinct, 1), (value, middle))
    yield once("nanmedian", (distinct[rows], 1), (value[rows], middle[rows]))
    yield once("nanmedian", (x[1],), np.sort(x[1])[15])  # of 32 numbers, the lower one


def _softmax(x: Array) -> Iterator[Trial]:
    """What has weight 0 by -inf is exactly 0; where all has, 0/0 is NaN."""
    logits = np.where(np.isinf(x), F32(3), x)
    logits[2, ::2] = -_INF
    logits[3] = -_INF
    wide = logits.astype(np.float64)
    shifted = np.exp(wide - wide.max(1, keepdims=True))
    soft = shifted / shifted.sum(1, keepdims=True)
    allowed = (33 + 8) * _UNIT
    yield once("softmax", (logits, 1), soft.astype(F32), allowed * np.nan_to_num(soft))
    yield once("log_softmax", (logits, 1), np.log(soft).astype(F32), allowed * 16)
    total = np.log(shifted.sum(1)) + wide.max(1)
    total[3] = -_INF  # the logarithm of a sum of zeros
    yield once("logsumexp", (logits, 1), total.astype(F32), allowed * 16)
    rows, target = np.array([0, 2, 4]), np.array([3, 5, 0])
    loss = -np.log(soft[rows, target]).mean()
    call = f"{_F}.cross_entropy"
    yield once(call, (logits[rows], target), np.asarray(loss, F32), allowed * 16)
