"""Operations that change their tensor in place, and `.item()`, which reads a value."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, on_device
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact, refused

_A, _B = integers((5, 6), -9, 9, 55), integers((5, 6), 1, 8, 56)

_MASK = _A > 0

#: In-place operation -> its further operands, and a function for the expected values.
_IN_PLACE: dict[str, tuple[tuple[Any, ...], Callable[[Array], Array]]] = {
    "add_": ((_B,), lambda a: a + _B),
    "sub_": ((_B,), lambda a: a - _B),
    "mul_": ((_B,), lambda a: a * _B),
    "div_": ((4.0,), lambda a: a / 4),
    "pow_": ((2,), lambda a: a * a),
    "neg_": ((), lambda a: -a),
    "abs_": ((), np.abs),
    "square_": ((), np.square),
    "copy_": ((_B,), lambda _: _B),
    "fill_": ((3.5,), lambda a: np.full_like(a, 3.5)),
    "zero_": ((), np.zeros_like),
    "t_": ((), lambda a: a.T),
    "transpose_": ((0, 1), lambda a: a.T),
    "swapaxes_": ((0, 1), lambda a: a.T),
    "unsqueeze_": ((1,), lambda a: a[:, None]),
    "clamp_": ((-2, 3), lambda a: np.clip(a, -2, 3)),
    "relu_": ((), lambda a: np.maximum(a, 0)),
    "floor_divide_": ((_B,), lambda a: np.floor_divide(a, _B)),
    "remainder_": ((_B,), lambda a: np.remainder(a, _B)),
    "addcmul_": ((_A, _B), lambda a: a + _A * _B),
    "addcdiv_": ((_A, np.full((5, 6), 2, F32)), lambda a: a + _A / 2),
    "lerp_": ((_B, 0.5), lambda a: a + (_B - a) / 2),
    "masked_fill_": ((_MASK, -7), lambda a: np.where(_MASK, F32(-7), a)),
    "tril_": ((), np.tril),
    "triu_": ((1,), lambda a: np.triu(a, 1)),
    "fill_diagonal_": ((9,), lambda a: np.where(np.eye(5, 6, dtype=bool), F32(9), a)),
    "eq_": ((_B,), lambda a: (a == _B).astype(F32)),
    "lt_": ((_B,), lambda a: (a < _B).astype(F32)),
    "ge_": ((0,), lambda a: (a >= 0).astype(F32)),
    "logical_not_": ((), lambda a: (a == 0).astype(F32)),
    "round_": ((), np.round),
    "floor_": ((), np.floor),
    "trunc_": ((), np.trunc),
    "__iadd__": ((_B,), lambda a: a + _B),
    "__imul__": ((2,), lambda a: a * 2),
}


def in_place(_device: str) -> Iterator[Trial]:
    """Operations ending in `_` change the tensor itself, return it, and change nothing else."""
    for name, (operands, answer) in _IN_PLACE.items():
        yield Custom(f"Tensor.{name}", partial(_in_place_comparisons, name, operands, answer))
    yield Custom("Tensor.copy_", _copy_converts)


def _in_place_comparisons(
    name: str, operands: tuple[Any, ...], answer: Callable[[Array], Array], device: str
) -> Iterator[Comparison]:
    array = integers((5, 6), -9, 9, 57) / F32(2)
    wide = np.full((6, 14), 77, F32)
    wide[1:, 1:13:2] = array
    contiguous, surrounding = on_device(array, device), on_device(wide, device)
    for how, x in (("contiguous", contiguous), ("strided", surrounding[1:, 1:13:2])):
        label = f"Tensor.{name} ({how})"
        arguments = [on_device(o, device) if isinstance(o, np.ndarray) else o for o in operands]
        address = x.data_ptr()
        returned = getattr(x, name)(*arguments)
        yield fact(f"{label} returns the variable", returned is x, True)
        yield fact(f"{label} keeps its memory", x.data_ptr() == address, True)
        yield compare(label, x, np.asarray(answer(array), F32), 0.0)
    # Operations on the shape do not move elements.
    keeps_elements = name in {"t_", "transpose_", "swapaxes_", "unsqueeze_"}
    wide[1:, 1:13:2] = array if keeps_elements else answer(array)
    yield compare(f"Tensor.{name} (what is around the variable)", surrounding, wide, 0.0)


def _copy_converts(device: str) -> Iterator[Comparison]:
    x = torch.zeros(3, 4, dtype=torch.int32, device=device)
    x.copy_(on_device(np.array([1.9, -2.9, 0, 3], F32), device))
    expected = np.broadcast_to(np.array([1, -2, 0, 3], np.int32), (3, 4))
    yield compare("Tensor.copy_ (broadcast and converted)", x, np.ascontiguousarray(expected))


def item(_device: str) -> Iterator[Trial]:
    """`.item()` and similar return the right Python value and type; several elements raise."""
    yield Custom("Tensor.item", _items)
    yield Custom("Tensor.tolist", _lists)
    yield Custom("Tensor.__bool__", _scalars)


def _items(device: str) -> Iterator[Comparison]:
    name = "Tensor.item"
    for value, kind in (
        (-3, np.int64),
        (2**62 + 1, np.int64),
        (200, np.uint8),
        (-7, np.int8),
        (True, np.bool_),
        (0.1, np.float32),
        (-2.5, np.float16),
        (np.inf, np.float32),
        (1 - 2j, np.complex64),
    ):
        right = np.array(value, kind)
        observation = on_device(right, device).item()
        yield fact(name, (type(observation), observation), (type(right.item()), right.item()))
    x = on_device(np.array([[1, -0.0], [np.nan, 4]], F32), device)
    yield fact(
        name, (x[1, 1].item(), repr(x[0, 1].item()), repr(x[1, 0].item())), (4, "-0.0", "nan")
    )
    yield fact(name, on_device(np.full((1, 1, 1), 5, F32), device).item(), 5.0)
    yield fact(name, x[0, 0].add_(41).item(), 42.0)
    yield fact(name, torch.full((), 1.5, dtype=torch.bfloat16, device=device).item(), 1.5)
    yield refused(name, x.item)
    yield refused(name, x[:0].item)


def _lists(device: str) -> Iterator[Comparison]:
    array = integers((3, 4, 5), -99, 99, 58, np.int64)
    yield fact("Tensor.tolist", on_device(array, device).tolist(), array.tolist())
    turned = on_device(array, device).transpose(0, 2).tolist()
    yield fact("Tensor.tolist", turned, array.transpose(2, 1, 0).tolist())


def _scalars(device: str) -> Iterator[Comparison]:
    one, zero = torch.full((1,), -2.5, device=device), torch.zeros((), device=device)
    yield fact("Tensor.__bool__", (bool(one), bool(zero)), (True, False))
    yield fact("Tensor.__int__", (int(one), int(zero)), (-2, 0))
    yield fact("Tensor.__float__", (float(one), float(zero)), (-2.5, 0.0))
    yield fact("Tensor.__len__", len(torch.zeros((3, 0), device=device)), 3)
    index = [10, 20, 30][torch.full((), 1, dtype=torch.int64, device=device)]
    yield fact("Tensor.__index__", index, 20)
    two = torch.zeros(2, device=device)
    yield refused("Tensor.__bool__", lambda: bool(two))
