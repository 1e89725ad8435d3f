"""Views, which share the memory of their base, and copies, which do not."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import on_device
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact, refused

_Call = Callable[[Any], Any]

#: View of a (4, 6) tensor -> how to make it in torch and in NumPy.
_VIEWS: dict[str, tuple[_Call, _Call]] = {
    "view": (lambda x: x.view(3, 8), lambda a: a.reshape(3, 8)),
    "view_as": (lambda x: x.view_as(torch.empty(2, 12)), lambda a: a.reshape(2, 12)),
    "view (dtype)": (lambda x: x.view(torch.int32), lambda a: a.view(np.int32)),
    "reshape": (lambda x: x.reshape(-1, 2), lambda a: a.reshape(-1, 2)),
    "flatten": (lambda x: x.flatten(), lambda a: a.reshape(-1)),
    "ravel": (lambda x: x.ravel(), lambda a: a.reshape(-1)),
    "unflatten": (lambda x: x.unflatten(1, (2, 3)), lambda a: a.reshape(4, 2, 3)),
    "transpose": (lambda x: x.transpose(0, 1), lambda a: a.T),
    "t": (lambda x: x.t(), lambda a: a.T),
    "T": (lambda x: x.T, lambda a: a.T),
    "permute": (lambda x: x.permute(1, 0), lambda a: a.transpose(1, 0)),
    "movedim": (lambda x: x.movedim(0, 1), lambda a: np.moveaxis(a, 0, 1)),
    "narrow": (lambda x: x.narrow(1, 2, 3), lambda a: a[:, 2:5]),
    "select": (lambda x: x.select(0, 2), lambda a: a[2]),
    "__getitem__ (slice)": (lambda x: x[1:, ::2], lambda a: a[1:, ::2]),
    "__getitem__ (integer)": (lambda x: x[3], lambda a: a[3]),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda a: a[:, None]),
    "squeeze": (lambda x: x[:, :1].squeeze(1), lambda a: a[:, 0]),
    "unfold": (lambda x: x.unfold(1, 2, 2), lambda a: a.reshape(4, 3, 2)),
    "as_strided": (
        lambda x: x.as_strided((3, 2), (7, 3), 2),
        lambda a: np.lib.stride_tricks.as_strided(a.reshape(-1)[2:], (3, 2), (28, 12)),
    ),
    "diagonal": (lambda x: x.diagonal(1), lambda a: a.reshape(-1)[1 : 4 * 7 : 7][:4]),
    "unbind": (lambda x: x.unbind(1)[4], lambda a: a[:, 4]),
    "split": (lambda x: x.split(2)[1], lambda a: a[2:]),
    "chunk": (lambda x: x.chunk(3, 1)[2], lambda a: a[:, 4:]),
    "tensor_split": (lambda x: x.tensor_split(2)[0], lambda a: a[:2]),
    "hsplit": (lambda x: x.hsplit(2)[1], lambda a: a[:, 3:]),
    "detach": (lambda x: x.detach(), lambda a: a),
    "expand": (lambda x: x[1:2].expand(3, 6), lambda a: np.broadcast_to(a[1:2], (3, 6))),
}

#: Copies: later writes to the base do not change them.
_COPIES: dict[str, _Call] = {
    "clone": lambda x: x.clone(),
    "contiguous": lambda x: x.t().contiguous(),
    "reshape (of a transpose)": lambda x: x.t().reshape(4, 6),
    "flatten (of a transpose)": lambda x: x.t().flatten(),
    "__getitem__ (list)": lambda x: x[[0, 1]],
    "__getitem__ (mask)": lambda x: x[x > -1000],
    "to (dtype)": lambda x: x.to(torch.int32),
    "to (copy)": lambda x: x.to(x.dtype, copy=True),
    "repeat": lambda x: x.repeat(1, 1),
    "cat": lambda x: torch.cat([x]),
}


def views(_device: str) -> Iterator[Trial]:
    """Views share their base's memory, in both directions; copies do not; wrong views raise."""
    for name, (torch_view, numpy_view) in _VIEWS.items():
        yield Custom(name, partial(_view_comparisons, name, torch_view, numpy_view))
    for name, make in _COPIES.items():
        yield Custom(name, partial(_copy_comparisons, name, make))
    yield Custom("view_as_real", _complex_parts)
    yield Custom("view", _refusals)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _view_comparisons(
    name: str, torch_view: _Call, numpy_view: _Call, device: str
) -> Iterator[Comparison]:
    array = integers((4, 6), 1, 99, 50).copy()
    base = on_device(array, device)
    view, expected = torch_view(base), numpy_view(array)
    yield fact(f"{name} (memory of its base)", _storage(view) == _storage(base), True)
    yield compare(f"{name} (values)", view, expected)
    base.add_(100)
    array += 100
    yield compare(f"{name} (write to the base)", view, expected)
    if expected.flags.writeable:
        view.neg_()
        np.negative(expected, out=expected)
        yield compare(f"{name} (write to the view)", base, array)


def _copy_comparisons(name: str, make: _Call, device: str) -> Iterator[Comparison]:
    base = on_device(integers((4, 6), 1, 99, 51), device)
    copy = make(base)
    yield fact(f"{name} (memory of its own)", _storage(copy) != _storage(base), True)
    before = copy.cpu().numpy().copy()
    base.zero_()
    yield compare(f"{name} (write to the base)", copy, before)


def _complex_parts(device: str) -> Iterator[Comparison]:
    array = (integers((5,), -9, 9, 52) + 1j * integers((5,), -9, 9, 53)).astype(np.complex64)
    z = on_device(array, device)
    yield compare("view_as_real", torch.view_as_real(z), array.view(F32).reshape(5, 2))
    z.imag.zero_()
    yield compare("view_as_real (write to imag)", z.real, array.real.copy())
    yield compare("view_as_real (write to imag)", torch.view_as_real(z)[:, 1], np.zeros(5, F32))


def _refusals(device: str) -> Iterator[Comparison]:
    x = on_device(integers((4, 6), 1, 99, 54), device)
    yield refused("view (of a transpose)", lambda: x.t().view(24))
    yield refused("view (wrong size)", lambda: x.view(5, 5))
