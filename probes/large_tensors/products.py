"""Products with many rows, many terms and many matrices; normalisations of many and long rows."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, on_device
from probes.kit.gradients import integers as odd
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.pattern import PERIOD, same
from probes.large_tensors.sizes import COUNTED, INDEXED, MILLION, Sized
from probes.large_tensors.tiled import Tiled

#: More than the 65,535 blocks of a launch in y and z; no multiple of 7.
_BATCH: Final = 65_541
_KINDS: Final = 7  # different matrices or rows, repeated: a period that divides no power of two
_WIDE: Final = (65_541, 32_771)  # a product of more than 2^31 elements


def products(device: str) -> Iterator[Trial]:
    """Integers, exact in every type and order of summation; none is 0, whose sign is not told."""
    yield Sized("mm", _many_rows, MILLION, 4 * (2 + 3))
    yield Sized("mm", _many_terms, MILLION, 4 * 4)
    yield Sized("bmm", _many_matrices, 2 * _BATCH, 4 * 18)
    yield Sized("nn.functional.conv1d", _many_signals, _BATCH, 4 * 6 * 4)
    yield Tiled("addmm", _added, _added_right, (_odd64((_KINDS, 2), 340),), MILLION)
    columns = (_odd64((_KINDS, 2), 341),)
    yield Tiled("mm (many columns)", _many_columns, _columns_right, columns, MILLION)
    yield Tiled("baddbmm", torch.baddbmm, _badd, _BATCHES, 2 * _BATCH)
    yield Tiled("mv", _times_vector, _vector_right, columns, MILLION)
    yield Sized("dot", _dot, MILLION if torch.device(device).type == "cpu" else COUNTED, 4 * 4)
    points = (_odd64((_KINDS, 3), 342),)
    yield Tiled("cdist", _distances, _distances_right, points, MILLION // 2 + 1)
    if torch.device(device).type != "cpu":
        yield Sized("mm", _wide_product, INDEXED, 2.1, torch.float16)


def _odd(shape: tuple[int, ...], salt: int) -> Array:
    return np.asarray(odd(shape, salt), F32)


def _odd64(shape: tuple[int, ...], salt: int) -> Array:
    return np.asarray(odd(shape, salt))


_SECOND: Final = odd((2, 3), 343)
_POINTS: Final = odd((4, 3), 344)
_BATCHES: Final = tuple(odd((_KINDS, 2, 2), salt) for salt in (345, 346, 347))


def _added(x: torch.Tensor) -> torch.Tensor:
    """Weight and bias are integers; the bias is even, so that no result is 0."""
    weight = on_device(_SECOND.astype(F32), str(x.device))
    return torch.addmm(torch.full((3,), 101.0, device=x.device), x, weight)


def _added_right(a: Array) -> Array:
    return np.asarray(a @ _SECOND + 101)


def _many_columns(x: torch.Tensor) -> torch.Tensor:
    weight = on_device(_SECOND.T.astype(F32), str(x.device))
    return (weight @ x.t()).t()


def _columns_right(a: Array) -> Array:
    return np.asarray(a @ _SECOND)


def _badd(c: Array, a: Array, b: Array) -> Array:
    return np.asarray(c + a @ b)


def _times_vector(x: torch.Tensor) -> torch.Tensor:
    return torch.mv(x, torch.tensor([3.0, 5.0], device=x.device))


def _vector_right(a: Array) -> Array:
    return np.asarray(a @ np.array([3.0, 5.0]))


def _distances(x: torch.Tensor) -> torch.Tensor:
    """Sums of absolute differences, which are exact."""
    return torch.cdist(x, on_device(_POINTS.astype(F32), str(x.device)), p=1.0)


def _distances_right(a: Array) -> Array:
    return np.asarray(np.abs(a[:, None] - _POINTS).sum(2))


def _dot(n: int, device: str) -> Iterator[Comparison]:
    """Ones at one place in seven: fewer than 2^24."""
    base = (np.arange(_KINDS) == 3).astype(F32)
    x = on_device(base, device).repeat(-(-n // _KINDS))[:n]
    yield fact("dot", float(torch.dot(x, x)), float(n // _KINDS + (n % _KINDS > 3)))
    yield fact("dot (the sum)", float(x.sum()), float(n // _KINDS + (n % _KINDS > 3)))


def _many_rows(n: int, device: str) -> Iterator[Comparison]:
    a, b = _odd((_KINDS, 2), 330), _odd((2, 3), 331)
    rows = on_device(a, device).repeat(-(-n // _KINDS), 1)[:n]
    weight = on_device(b, device)
    yield same("mm (many rows)", rows @ weight, (a @ b).ravel())
    found = torch.nn.functional.linear(rows, weight.t())
    yield same("nn.functional.linear (many rows)", found, (a @ b).ravel())


def _many_terms(n: int, device: str) -> Iterator[Comparison]:
    """Ones and zeros: the sums stay below 2^24."""
    ones, others = (integers((PERIOD,), 0, 1, salt) for salt in (332, 333))
    a, b = np.resize(ones, (2, n)), np.resize(others, (n, 2))
    right = (a.astype(np.float64) @ b).astype(F32)
    yield compare("mm (many terms)", on_device(a, device) @ on_device(b, device), right)


def _many_matrices(n: int, device: str) -> Iterator[Comparison]:
    a, b = _odd((_KINDS, 2, 3), 334), _odd((_KINDS, 3, 2), 335)
    times = -(-n // _KINDS)
    left, right = (on_device(each, device).repeat(times, 1, 1)[:n] for each in (a, b))
    yield same("bmm (many matrices)", torch.bmm(left, right), (a @ b).ravel())


def _many_signals(n: int, device: str) -> Iterator[Comparison]:
    """Stride 2, which rules out algorithms that round."""
    x, weight = _odd((_KINDS, 1, 6), 336), _odd((4, 1, 2), 337)
    signals = on_device(x, device).repeat(-(-n // _KINDS), 1, 1)[:n]
    found = torch.nn.functional.conv1d(signals, on_device(weight, device), stride=2)
    right = np.einsum("npk,ok->nop", x.reshape(_KINDS, 3, 2), weight[:, 0]).astype(F32)
    # What MIOpen may do here is not known; an error below 0.25 still identifies the integer.
    yield same(
        "nn.functional.conv1d (many signals)", found.round() + 0.0, right.astype(F32).ravel()
    )


def _wide_product(_n: int, device: str) -> Iterator[Comparison]:
    """One-hot rows choose one of four rows: a result of more than 2^31 elements, in float16."""
    rows, columns = _WIDE
    chosen = np.eye(4, dtype=F32)
    values = _odd((4, columns), 338)
    left = on_device(chosen, device).repeat(-(-rows // 4), 1)[:rows].half()
    found = left @ on_device(values, device).half()
    yield same("mm (wide)", found, values.astype(np.float16).ravel())
