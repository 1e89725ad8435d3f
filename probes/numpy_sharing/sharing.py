"""Which calls share memory and which copy, by addresses and by writes on either side."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import dlpack

from probes.contract import Comparison
from probes.kit.references import compare
from probes.numpy_sharing.evidence import (
    Buffer,
    address,
    combined,
    dtype_name,
    fact,
    from_dlpack,
    values,
)

#: Primes, so that no vector width divides them. Above 32768 elements torch starts threads, which on
#: a busy host take ten times as long as the rest of this probe.
_FEW: Final = 37
_MANY: Final = 30011
_CASES: Final = (("float32", _FEW), ("int64", _FEW), ("float32", _MANY))


def _array(dtype: str, elements: int) -> npt.NDArray[Any]:
    return np.arange(1, elements + 1, dtype=dtype)


def _tensor(dtype: str, elements: int) -> torch.Tensor:
    host = torch.device("cpu")
    return torch.arange(1, elements + 1, dtype=getattr(torch, dtype), device=host)


def import_calls() -> dict[str, dict[str, Callable[[npt.NDArray[Any]], torch.Tensor]]]:
    """Check -> name -> call that makes a tensor over an array's memory."""
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


def export_calls() -> dict[str, dict[str, Callable[[torch.Tensor], npt.NDArray[Any]]]]:
    """Check -> name -> call that makes an array over a tensor's memory."""
    return {
        "to_numpy": {
            "t.numpy()": lambda t: t.numpy(),
            "t.numpy(force=True)": lambda t: t.numpy(force=True),
            "t.detach().numpy()": lambda t: t.detach().numpy(),
        },
        "asarray": {"np.asarray(t)": np.asarray},
        "dlpack_export": {"np.from_dlpack(t)": np.from_dlpack},
    }


def may_be_read_only(call: Callable[[Any], Any]) -> bool:
    """Whether the call may give a read-only array, as NumPy up to 1.26 does by DLPack."""
    return call is np.from_dlpack


def _copies_of_arrays() -> dict[str, tuple[Callable[[npt.NDArray[Any]], torch.Tensor], str]]:
    """Name -> call that copies an array, and the dtype of the copy."""
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


def _one_memory(call: Callable[[Any], Any], source: Buffer) -> Iterator[Comparison]:
    """Verify that both are one memory: by address, then by writes on either side."""
    dtype, elements = dtype_name(source), len(source)
    result = call(source)
    yield fact("address, bytes off", address(result) - address(source), 0)
    yield fact("dtype", dtype_name(result), dtype)
    yield compare("values", values(result), _array(dtype, elements))
    source[5:] = 99
    written = _array(dtype, elements)
    written[5:] = 99
    yield compare("a write to the source seen in the result", values(result), written)
    if may_be_read_only(call) and not result.flags.writeable:
        return
    result[:7] = 55
    result += 1
    written[:7] = 55
    yield compare("a write to the result seen in the source", values(source), written + 1)


def shares(check: str) -> tuple[Comparison, ...]:
    """Compare every call of a check that must share memory."""
    imports, exports = import_calls().get(check, {}), export_calls().get(check, {})
    return (
        *(
            combined(f"{name} {dtype} [{n}]", _one_memory(call, _array(dtype, n)))
            for name, call in imports.items()
            for dtype, n in _CASES
        ),
        *(
            combined(f"{name} {dtype} [{n}]", _one_memory(export, _tensor(dtype, n)))
            for name, export in exports.items()
            for dtype, n in _CASES
        ),
    )


def _two_memories(call: Callable[[Any], Any], source: Buffer, dtype: str) -> Iterator[Comparison]:
    """Verify that both have their own memory: no common byte, no write seen in the other."""
    result = call(source)
    elements = len(source)
    expected = _array(dtype, elements)
    begin, end = address(source), address(source) + source.itemsize * elements
    copy_begin, copy_end = address(result), address(result) + result.itemsize * elements
    yield fact("bytes in common", max(0, min(end, copy_end) - max(begin, copy_begin)), 0)
    yield compare("values", values(result), expected)
    source[:] = -7
    yield compare("the copy after a write to the source", values(result), expected)
    result[:] = 3
    unchanged = np.full(elements, -7, dtype=np.float32)
    yield compare("the source after a write to the copy", values(source), unchanged)


def copies() -> tuple[Comparison, ...]:
    """Compare every call that must copy."""
    return (
        *(
            combined(f"{name} [{n}]", _two_memories(call, _array("float32", n), dtype))
            for n in (_FEW, _MANY)
            for name, (call, dtype) in _copies_of_arrays().items()
        ),
        *(
            combined(f"{name} [{n}]", _two_memories(export, _tensor("float32", n), dtype))
            for n in (_FEW, _MANY)
            for name, (export, dtype) in _copies_of_tensors().items()
        ),
    )
