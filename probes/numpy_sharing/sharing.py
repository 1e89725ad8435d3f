"""Which calls share memory and which copy, seen by addresses and by writes from either side."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import dlpack

from probes.contract import Comparison
from probes.numpy_sharing.evidence import (
    Buffer,
    address,
    dtype_name,
    fact,
    from_dlpack,
    together,
    values,
)
from probes.references import compare

_ELEMENTS: Final = 37  # odd and prime: no vector width divides it


def _array(dtype: str) -> npt.NDArray[Any]:
    return np.arange(1, _ELEMENTS + 1, dtype=dtype)


def _tensor(dtype: str) -> torch.Tensor:
    host = torch.device("cpu")
    return torch.arange(1, _ELEMENTS + 1, dtype=getattr(torch, dtype), device=host)


def to_torch() -> dict[str, dict[str, Callable[[npt.NDArray[Any]], torch.Tensor]]]:
    """Check -> call -> a tensor over the array's memory."""
    return {
        "from_numpy": {"torch.from_numpy(a)": torch.from_numpy},
        "as_tensor": {"torch.as_tensor(a)": torch.as_tensor, "torch.asarray(a)": torch.asarray},
        "frombuffer": {
            "torch.frombuffer(a)": lambda a: torch.frombuffer(
                a, dtype=getattr(torch, dtype_name(a))
            )
        },
        "dlpack_import": {
            "torch.from_dlpack(a)": from_dlpack,
            "from_dlpack(a.__dlpack__())": lambda a: dlpack.from_dlpack(a.__dlpack__()),
        },
    }


def to_numpy() -> dict[str, dict[str, Callable[[torch.Tensor], npt.NDArray[Any]]]]:
    """Check -> call -> an array over the tensor's memory."""
    return {
        "to_numpy": {
            "t.numpy()": lambda t: t.numpy(),
            "t.numpy(force=True)": lambda t: t.numpy(force=True),
            "t.detach().numpy()": lambda t: t.detach().numpy(),
        },
        "asarray": {"np.asarray(t)": np.asarray},
        "dlpack_export": {"np.from_dlpack(t)": np.from_dlpack},
    }


def _copies_of_arrays() -> dict[str, tuple[Callable[[npt.NDArray[Any]], torch.Tensor], str]]:
    """Call -> the copy it makes of an array of 1..37, and the dtype that is right."""
    return {
        "torch.tensor(a)": (torch.tensor, "float32"),
        "torch.asarray(a, copy=True)": (lambda a: torch.asarray(a, copy=True), "float32"),
        "torch.as_tensor(a, dtype)": (lambda a: torch.as_tensor(a, dtype=torch.float64), "float64"),
        "torch.from_numpy(a).clone()": (lambda a: torch.from_numpy(a).clone(), "float32"),
    }


def _copies_of_tensors() -> dict[str, tuple[Callable[[torch.Tensor], npt.NDArray[Any]], str]]:
    return {
        "np.array(t)": (np.array, "float32"),
        "np.asarray(t, dtype)": (lambda t: np.asarray(t, dtype=np.float64), "float64"),
        "t.double().numpy()": (lambda t: t.double().numpy(), "float64"),
        "negative view of -t, numpy(force=True)": (
            lambda t: torch._neg_view(t.neg_()).numpy(force=True),
            "float32",
        ),
    }


def _linked(call: Callable[[Any], Any], source: Buffer, dtype: str) -> Iterator[Comparison]:
    """One buffer under two names: address, then writes of either side seen by the other."""
    result = call(source)
    yield fact("address, bytes off", address(result) - address(source), 0)
    yield fact("dtype", dtype_name(result), dtype)
    yield compare("values", values(result), _array(dtype))
    source[5:] = 99
    written = _array(dtype)
    written[5:] = 99
    yield compare("a write to the source seen in the result", values(result), written)
    result[:7] = 55
    result += 1
    written[:7] = 55
    yield compare("a write to the result seen in the source", values(source), written + 1)


def shared() -> dict[str, tuple[Comparison, ...]]:
    """Every call that must share memory, by check."""
    return {
        **{
            check: tuple(
                together(f"{name} {dtype}", _linked(call, _array(dtype), dtype))
                for name, call in calls.items()
                for dtype in ("float32", "int64")
            )
            for check, calls in to_torch().items()
        },
        **{
            check: tuple(
                together(f"{name} {dtype}", _linked(export, _tensor(dtype), dtype))
                for name, export in exports.items()
                for dtype in ("float32", "int64")
            )
            for check, exports in to_numpy().items()
        },
    }


def _apart(call: Callable[[Any], Any], source: Buffer, dtype: str) -> Iterator[Comparison]:
    """Two buffers: no byte in common, and a write to one leaves the other."""
    result = call(source)
    expected = _array(dtype)
    begin, end = address(source), address(source) + source.itemsize * _ELEMENTS
    other, other_end = address(result), address(result) + result.itemsize * _ELEMENTS
    yield fact("bytes in common", max(0, min(end, other_end) - max(begin, other)), 0)
    yield compare("values", values(result), expected)
    source[:] = -7
    yield compare("the copy after a write to the source", values(result), expected)
    result[:] = 3
    kept = np.full_like(_array("float32"), -7)
    yield compare("the source after a write to the copy", values(source), kept)


def copied() -> tuple[Comparison, ...]:
    """Every call that must copy."""
    return (
        *(
            together(name, _apart(call, _array("float32"), dtype))
            for name, (call, dtype) in _copies_of_arrays().items()
        ),
        *(
            together(name, _apart(export, _tensor("float32"), dtype))
            for name, (export, dtype) in _copies_of_tensors().items()
        ),
    )
