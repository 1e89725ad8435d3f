"""Each dtype means the same on both sides, and NumPy's scalars are numbers to torch."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.references import compare
from probes.numpy_sharing.evidence import address, combined, dtype_name, fact, from_dlpack, values

#: torch has the wider unsigned integers from 2.3 on.
_WIDE_UNSIGNED: Final = tuple(
    name for name in ("uint16", "uint32", "uint64") if hasattr(torch, name)
)
_INTEGERS: Final = ("uint8", "int8", "int16", "int32", "int64", *_WIDE_UNSIGNED)
_FLOATS: Final = ("float16", "float32", "float64")
_COMPLEX: Final = ("complex64", "complex128")

#: What both libraries pass by DLPack in every supported version (NumPy took bool in 1.25).
_BY_DLPACK: Final = ("uint8", "int8", "int16", "int32", "int64", *_FLOATS, *_COMPLEX)


def _samples(name: str) -> list[Any]:
    """Python numbers for a dtype, with its extremes and special values."""
    if name == "bool":
        return [True, False, False, True]
    if name in _INTEGERS:
        limits = np.iinfo(name)
        return [int(limits.min), 0, 1, 0x5A, int(limits.max)]
    if name in _FLOATS:
        largest = float(np.finfo(name).max)
        return [1.5, -0.0, largest, -largest, float("inf"), float("-inf"), float("nan")]
    return [complex(1.5, -2.25), complex(-0.0, float("inf")), complex(float("nan"), -0.5)]


def _tensor(name: str) -> torch.Tensor:
    """The samples as a tensor, made from Python numbers without NumPy."""
    dtype: torch.dtype = getattr(torch, name)
    if name in _WIDE_UNSIGNED:  # from signed integers of the same bits
        signed = name.removeprefix("u")
        modulus = 1 << np.dtype(name).itemsize * 8
        signed_values = [n - modulus if n >= modulus // 2 else n for n in _samples(name)]
        tensor = torch.tensor(
            signed_values, dtype=getattr(torch, signed), device=torch.device("cpu")
        )
        return tensor.view(dtype)
    return torch.tensor(_samples(name), dtype=dtype, device=torch.device("cpu"))


def _to_torch(name: str, array_dtype: str, *, by_dlpack: bool) -> Iterator[Comparison]:
    array = np.array(_samples(name), dtype=array_dtype)
    tensor = from_dlpack(array) if by_dlpack else torch.from_numpy(array)
    yield fact("dtype", tensor.dtype, getattr(torch, name))
    yield fact("bytes an element", tensor.element_size(), array.itemsize)
    yield fact("address, bytes off", address(tensor) - address(array), 0)
    yield compare("values", values(tensor), np.array(_samples(name), dtype=name))


def _to_numpy(name: str, *, by_dlpack: bool) -> Iterator[Comparison]:
    tensor = _tensor(name)
    array = np.from_dlpack(tensor) if by_dlpack else tensor.numpy()
    yield fact("dtype", array.dtype.str, np.dtype(name).str)  # with its byte order
    yield fact("address, bytes off", address(array) - address(tensor), 0)
    yield compare("values", values(array), np.array(_samples(name), dtype=name))


def to_torch() -> tuple[Comparison, ...]:
    """Compare every dtype of an array, and the platform's other names of integers."""
    dtypes = {name: name for name in ("bool", *_INTEGERS, *_FLOATS, *_COMPLEX)}
    aliases = {"longlong": "int64", "intc": "int32", "short": "int16"}
    return (
        *(combined(n, _to_torch(m, n, by_dlpack=False)) for n, m in {**dtypes, **aliases}.items()),
        *(combined(f"{n} by DLPack", _to_torch(n, n, by_dlpack=True)) for n in _BY_DLPACK),
    )


def to_numpy() -> tuple[Comparison, ...]:
    """Compare every dtype of a tensor that NumPy has."""
    names = ("bool", *_INTEGERS, *_FLOATS, *_COMPLEX)
    return (
        *(combined(name, _to_numpy(name, by_dlpack=False)) for name in names),
        *(combined(f"{name} by DLPack", _to_numpy(name, by_dlpack=True)) for name in _BY_DLPACK),
    )


def _halves() -> torch.Tensor:
    return torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=torch.float32, device=torch.device("cpu"))


#: Name -> call that makes a tensor from NumPy scalars, its dtype ("" for any) and its values.
_SCALARS: Final[dict[str, tuple[Callable[[], torch.Tensor], str, Any]]] = {
    "tensor(float32)": (lambda: torch.tensor(np.float32(1.5)), "float32", 1.5),
    "tensor(float64)": (lambda: torch.tensor(np.float64(-2.25)), "float64", -2.25),
    "tensor(int16)": (lambda: torch.tensor(np.int16(-7)), "int16", -7),
    "tensor(bool_)": (lambda: torch.tensor(np.bool_(True)), "bool", True),
    "tensor([float64, float64])": (
        lambda: torch.tensor([np.float64(0.5), np.float64(2)]),
        "",  # a subclass of Python's float, so the dtype is not promised
        [0.5, 2.0],
    ),
    "as_tensor(uint8)": (lambda: torch.as_tensor(np.uint8(200)), "uint8", 200),
    "zeros(int64)": (lambda: torch.zeros(np.int64(2), dtype=torch.float32), "float32", [0.0, 0.0]),
    "add(float32)": (lambda: _halves() + np.float32(2), "float32", [2.5, 3.5, 4.5, 5.5]),
    "add_(int64)": (lambda: _halves().add_(np.int64(1)), "float32", [1.5, 2.5, 3.5, 4.5]),
    "t[int64]": (lambda: _halves()[np.int64(2)], "float32", 2.5),
    "t[int64:int64]": (lambda: _halves()[np.int64(1) : np.int64(3)], "float32", [1.5, 2.5]),
    "t[array of indices]": (lambda: _halves()[np.array([3, 0])], "float32", [3.5, 0.5]),
    "t[array of bool]": (
        lambda: _halves()[np.array([False, True, True, False])],
        "float32",
        [1.5, 2.5],
    ),
}


def scalars() -> tuple[Comparison, ...]:
    """Compare calls that take NumPy's scalars or index arrays for a number or an index."""
    return tuple(
        combined(name, _scalar(call, dtype, expected))
        for name, (call, dtype, expected) in _SCALARS.items()
    )


def _scalar(call: Callable[[], torch.Tensor], dtype: str, expected: Any) -> Iterator[Comparison]:
    tensor = call()
    if dtype:
        yield fact("dtype", dtype_name(tensor), dtype)
    yield compare("values", values(tensor), np.array(expected, dtype=dtype or dtype_name(tensor)))
