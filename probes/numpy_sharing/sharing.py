"""Which calls share memory and which copy, seen by addresses and by writes from either side."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import dlpack

from probes.contract import Comparison
from probes.numpy_sharing.evidence import Buffer, address, dtype_name, fact, together, values
from probes.references import compare

_ELEMENTS: Final = 37  # odd and prime: no vector width divides it

def _array(start: int, dtype: str) -> npt.NDArray[Any]:
    return np.arange(start, start + _ELEMENTS, dtype=dtype)


def _tensor(start: int, dtype: str) -> torch.Tensor:
    return torch.arange(
        start, start + _ELEMENTS, dtype=getattr(torch, dtype), device=torch.device("cpu")
    )


#: Check -> call -> a tensor over the array's memory.
TO_TORCH: Final[dict[str, dict[str, Callable[[npt.NDArray[Any]], torch.Tensor]]]] = {
    "from_numpy": {"torch.from_numpy(a)": lambda a: torch.from_numpy(a)},
    "as_tensor": {
        "torch.as_tensor(a)": lambda a: torch.as_tensor(a),
        "torch.asarray(a)": lambda a: torch.asarray(a),
    },
    "frombuffer": {
        "torch.frombuffer(a)": lambda a: torch.frombuffer(a, dtype=getattr(torch, dtype_name(a)))
    },
    "dlpack_import": {
        "torch.from_dlpack(a)": lambda a: torch.from_dlpack(a),
        "from_dlpack(a.__dlpack__())": lambda a: dlpack.from_dlpack(a.__dlpack__()),
    },
}

#: Check -> call -> an array over the tensor's memory.
TO_NUMPY: Final[dict[str, dict[str, Callable[[torch.Tensor], npt.NDArray[Any]]]]] = {
    "to_numpy": {
        "t.numpy()": lambda t: t.numpy(),
        "t.numpy(force=True)": lambda t: t.numpy(force=True),
        "t.detach().numpy()": lambda t: t.detach().numpy(),
    },
    "asarray": {
        "np.asarray(t)": lambda t: np.asarray(t),
        "t.__array__()": lambda t: t.__array__(),
    },
    "dlpack_export": {"np.from_dlpack(t)": lambda t: np.from_dlpack(t)},
}

#: Call -> what it does with a float32 array of 1..37, and the copy that is right.
_COPIES_OF_ARRAYS: Final[dict[str, tuple[Callable[[npt.NDArray[Any]], Any], npt.NDArray[Any]]]] = {
    "torch.tensor(a)": (lambda a: torch.tensor(a), _array(1, "float32")),
    "torch.asarray(a, copy=True)": (lambda a: torch.asarray(a, copy=True), _array(1, "float32")),
    "torch.as_tensor(a, dtype)": (
        lambda a: torch.as_tensor(a, dtype=torch.float64),
        _array(1, "float64"),
    ),
    "torch.from_numpy(a).clone()": (lambda a: torch.from_numpy(a).clone(), _array(1, "float32")),
}

#: The same of a tensor.
_COPIES_OF_TENSORS: Final[dict[str, tuple[Callable[[torch.Tensor], Any], npt.NDArray[Any]]]] = {
    "np.array(t)": (lambda t: np.array(t), _array(1, "float32")),
    "np.asarray(t, dtype)": (lambda t: np.asarray(t, dtype=np.float64), _array(1, "float64")),
    "t.double().numpy()": (lambda t: t.double().numpy(), _array(1, "float64")),
    "negative view.numpy(force=True)": (
        lambda t: torch._neg_view(t).numpy(force=True),
        -_array(1, "float32"),
    ),
}


def _linked(source: Buffer, result: Buffer, dtype: str) -> Iterator[Comparison]:
    """One buffer under two names: address, then writes of either side seen by the other."""
    yield fact("address, bytes off", address(result) - address(source), 0)
    yield fact("dtype", dtype_name(result), dtype)
    yield compare("values", values(result), _array(1, dtype))
    source[5:] = 99
    written = _array(1, dtype)
    written[5:] = 99
    yield compare("a write to the source seen in the result", values(result), written)
    result[:7] = 55
    result += 1
    written[:7] = 55
    yield compare("a write to the result seen in the source", values(source), written + 1)


def shared() -> dict[str, tuple[Comparison, ...]]:
    """Every call that must share memory, by check."""
    found: dict[str, list[Comparison]] = {}
    for dtype in ("float32", "int64"):
        for check, to_torch in TO_TORCH.items():
            for name, call in to_torch.items():
                array = _array(1, dtype)
                parts = _after(call, array, lambda a, t, d=dtype: _linked(a, t, d))
                found.setdefault(check, []).append(together(f"{name} {dtype}", parts))
        for check, to_numpy in TO_NUMPY.items():
            for name, export in to_numpy.items():
                tensor = _tensor(1, dtype)
                parts = _after(export, tensor, lambda t, a, d=dtype: _linked(t, a, d))
                found.setdefault(check, []).append(together(f"{name} {dtype}", parts))
    return {check: tuple(comparisons) for check, comparisons in found.items()}


def _after(
    call: Callable[[Any], Any],
    source: Buffer,
    look: Callable[[Any, Any], Iterator[Comparison]],
) -> Iterator[Comparison]:
    """Call inside the generator, so that what it raises is taken with the rest."""
    yield from look(source, call(source))


def _apart(source: Buffer, result: Buffer, expected: npt.NDArray[Any]) -> Iterator[Comparison]:
    """Two buffers: no byte in common, and a write to one leaves the other."""
    begin, size = address(source), source.itemsize * _ELEMENTS
    other, other_size = address(result), result.itemsize * _ELEMENTS
    overlap = max(0, min(begin + size, other + other_size) - max(begin, other))
    yield fact("bytes in common", overlap, 0)
    yield compare("values", values(result), expected)
    source[:] = -7
    yield compare("the copy after a write to the source", values(result), expected)
    result[:] = 3
    kept = np.full_like(values(source), -7)
    yield compare("the source after a write to the copy", values(source), kept)


def copied() -> tuple[Comparison, ...]:
    """Every call that must copy."""
    found = []
    for name, (call, expected) in _COPIES_OF_ARRAYS.items():
        parts = _after(call, _array(1, "float32"), lambda a, t, e=expected: _apart(a, t, e))
        found.append(together(name, parts))
    for name, (export, expected) in _COPIES_OF_TENSORS.items():
        parts = _after(export, _tensor(1, "float32"), lambda t, a, e=expected: _apart(t, a, e))
        found.append(together(name, parts))
    return tuple(found)
