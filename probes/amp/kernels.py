"""The kernels below a scaler: a list of gradients is unscaled and searched, and the scale updated.

A GPU puts a list into launches of 110 tensors at most, and each tensor into chunks of 65536
elements; tensors with other strides take a slow path.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.amp.regions import compare_typed, name_of
from probes.amp.scalers import gradient_types
from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.gradients import integers, tensor
from probes.kit.trial import Custom, Trial, fact

_CHUNK: Final = 65536
_SCALE: Final = 2.0**3

Shapes = tuple[tuple[int, ...], ...]

#: A list's name -> the shapes of its tensors.
_LISTS: Final[dict[str, Shapes]] = {
    "few": ((5, 7), (), (0,), (1,), (33,)),
    "many": tuple((1 + i % 5,) for i in range(120)),
    "chunks": ((_CHUNK - 1,), (_CHUNK,), (_CHUNK + 1,), (2 * _CHUNK + 3,), (3,)),
}

#: Lengths around those of vectors and warps.
_LENGTHS: Final = (*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129)

_BAD: Final = (float("inf"), float("-inf"), float("nan"))


def scaler_kernels(device: str) -> Iterator[Trial]:
    """Lists of each type, with and without an element that is not finite; then the scale."""
    halves = (torch.float16,) if has_dtype(device, torch.float16) else ()
    for dtype in (*gradient_types(device), *halves):
        for name in _LISTS if dtype == torch.float32 else ("few", "many"):
            yield Custom("unscale", partial(_list, name, dtype), dtype)
        yield Custom("unscale", partial(_strides, dtype), dtype)
        yield Custom("find", partial(_each_place, dtype), dtype)
        yield Custom("find", partial(_finite, dtype), dtype)
    yield Custom("unscale", _empty)
    yield Custom("update", _update)


def _unscale(gradients: list[torch.Tensor], device: str, found: float = 0.0) -> float:
    """Unscale a list in place; return what was found, 1 if anything is not finite."""
    flag = tensor([found], device)
    inverse = tensor(1 / _SCALE, device)
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, flag, inverse)
    return flag.item()


def _list(name: str, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Each element is unscaled; then an Inf at the end, the start and in the middle is found."""
    values = [integers(shape, 170 + i % 7) for i, shape in enumerate(_LISTS[name])]
    label = f"unscale ({name_of(dtype)}, {name}"
    made = [tensor(_SCALE * each, device, dtype) for each in values]
    yield fact(f"{label}, found)", _unscale(made, device), 0.0)
    flat = torch.cat([each.reshape(-1) for each in made])
    right = np.concatenate([each.reshape(-1) for each in values])
    yield compare_typed(f"{label})", flat, dtype, right)
    for which, place in ((len(made) - 1, -1), (0, 0), (len(made) // 2 + 1, -1)):
        bad = _BAD[which % 3]
        made[which].reshape(-1)[place] = bad
        yield fact(f"{label}, {bad} in {which})", _unscale(made, device), 1.0)
        made[which].reshape(-1)[place] = 1.0
    yield fact(f"{label}, found before)", _unscale(made, device, found=1.0), 1.0)


def _strides(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Transposed, with gaps, and at an offset; what is between stays as it was."""
    values = [integers((6, 4), 180), integers((9,), 181), integers((7,), 182)]
    wide = tensor(np.repeat(values[1], 2), device, dtype) * _SCALE
    made = [
        tensor(_SCALE * values[0].T, device, dtype).t(),
        wide[::2],
        tensor(np.append(5.0, _SCALE * values[2]), device, dtype)[1:],
    ]
    label = f"unscale ({name_of(dtype)}, strided"
    yield fact(f"{label}, found)", _unscale(made, device), 0.0)
    for i, (each, right) in enumerate(zip(made, values, strict=True)):
        yield compare_typed(f"{label} {i})", each, dtype, right)
    yield compare_typed(f"{label} between)", wide[1::2], dtype, _SCALE * values[1])
    made[1][-1] = float("inf")
    yield fact(f"{label}, Inf at the end)", _unscale(made, device), 1.0)


def _each_place(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """One element that is not finite at the end of a tensor of each length."""
    found = []
    for length in _LENGTHS:
        values = np.ones(length)
        values[-1] = _BAD[length % 3]
        found.append(
            _unscale([tensor(np.ones(3), device, dtype), tensor(values, device, dtype)], device)
        )
    yield fact(f"find ({name_of(dtype)}, at the end)", found, [1.0] * len(_LENGTHS))


def _finite(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """The largest numbers of the type are finite; CUDA looks at float64 in float32."""
    largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    made = [tensor(np.array([largest, -largest, 0.0, 1.0]), device, dtype)]
    label = f"find ({name_of(dtype)}, largest"
    yield fact(f"{label})", _unscale(made, device), 0.0)
    right = np.array([largest, -largest, 0.0, 1.0]) / _SCALE
    yield compare_typed(f"{label}, unscaled)", made[0], dtype, right)


def _empty(device: str) -> Iterator[Comparison]:
    """No tensors, and tensors without elements."""
    yield fact("unscale (no tensors)", _unscale([], device), 0.0)
    none = [tensor(np.zeros(shape), device) for shape in ((0,), (3, 0), (0,))]
    yield fact("unscale (no elements)", _unscale(none, device), 0.0)


def _update(device: str) -> Iterator[Comparison]:
    """The scale and its counter, in place: backs off with Inf, grows after an interval without."""
    scale = tensor(2.0**4, device)
    counter = torch.zeros((), dtype=torch.int32, device=device)
    found: list[Any] = []
    for flag in (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0):
        given = tensor(flag, device)
        torch._amp_update_scale_(scale, counter, given, 4.0, 0.25, 3)
        found.append((scale.item(), counter.item()))
    right = [(16, 1), (16, 2), (4, 0), (4, 1), (4, 2), (16, 0), (4, 0), (4, 1)]
    yield fact("update (scale, counter)", found, right)
