"""Replaces calls that share memory between torch and NumPy with wrong ones."""

import ctypes
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch.utils import dlpack

from probes.faults.inject.operations import intercept
from probes.faults.inject.replaced import except_when, raising, replace, with_result

_clone = torch.Tensor.clone
_from_numpy = torch.from_numpy
_to_numpy: Any = torch.Tensor.numpy


def _one_bit(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype == torch.float32 and tensor.dim() == 1 and tensor.numel() > 1:
        tensor.view(torch.int32)[-1] ^= 1
    return tensor


def _not_keeping_the_array(original: Any) -> Any:
    """`from_numpy` whose tensor does not keep the array alive."""

    def call(array: Any) -> torch.Tensor:
        if not array.flags.c_contiguous or array.dtype != np.float32:
            return original(array)  # type: ignore[no-any-return]
        memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
        return torch.frombuffer(memory, dtype=torch.float32).reshape(array.shape)

    return call


def _not_keeping_the_tensor(original: Any) -> Any:
    """`numpy()` whose array does not keep the tensor alive."""

    def call(tensor: torch.Tensor, **named: Any) -> Any:
        if tensor.dtype != torch.float32 or tensor.dim() != 1 or tensor.numel() != 1021:
            return original(tensor, **named)
        memory = (ctypes.c_char * (4 * tensor.numel())).from_address(tensor.data_ptr())
        return np.frombuffer(memoryview(memory), np.float32)

    return call


def _leaking(original: Any) -> Any:
    """A call that keeps every argument alive."""
    passed: list[object] = []

    def call(value: Any, **named: Any) -> Any:
        passed.append(value)
        return original(value, **named)

    return call


def _swapped_parts(original: Any, array: Any) -> torch.Tensor:
    return torch.view_as_complex(torch.view_as_real(original(array)).flip(-1))


def _cut_to_32_bits(original: Any, array: Any) -> torch.Tensor:
    array &= 0x7FFFFFFF
    return original(array)  # type: ignore[no-any-return]


def _has_holes(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.flags.c_contiguous


def _goes_backwards(value: Any) -> bool:
    return isinstance(value, np.ndarray) and any(stride < 0 for stride in value.strides)


def _is_foreign(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.dtype.isnative


def _is_read_only(value: Any) -> bool:
    return hasattr(value, "flags") and not value.flags.writeable


def _positive_zeros(array: Any) -> Any:
    if array.dtype.kind == "f" and array.flags.writeable:
        array += 0.0
    return array


def _takes_anything(original: Any) -> Any:
    def call(tensor: torch.Tensor, **named: Any) -> Any:
        if tensor.dtype == torch.bfloat16:
            return original(tensor.detach().float())
        return original(tensor.detach(), **named)

    return call


def _resizes_by_moving(_: Any) -> Any:
    return lambda tensor, *sizes: tensor.set_(torch.zeros(*sizes).untyped_storage(), 0, sizes, (1,))


def _array_that_copies(original: Any) -> Any:
    """An `__array__` that accepts NumPy 2's `copy` and ignores it."""
    return lambda tensor, dtype=None, *, copy=None: original(tensor, dtype).copy()  # noqa: ARG005


def _without_tail(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.numel() > 16384:
        tensor[-3:] = -1
    return tensor


def _foreign_bytes(array: Any) -> Any:
    return array.view(array.dtype.newbyteorder()) if array.dtype == np.int16 else array


def _warning_first(original: Any) -> Any:

    def call(*given: Any, **named: Any) -> Any:
        warnings.warn("Failed to initialize NumPy: _ARRAY_API not found", stacklevel=2)
        return original(*given, **named)

    return call


def _bits_of_doubles(array: Any) -> Any:
    changed = array.copy()
    if array.dtype == np.float64 and array.size > 1:
        changed.view(np.uint64)[1] ^= np.uint64(1)
    return changed


_TENSOR: Final = torch.Tensor
_NO_NUMPY: Final = "Numpy is not available"

#: Name -> (owner, function, factory of its replacement).
SHARING: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "from_numpy_copies": (torch, "from_numpy", with_result(_clone)),
    "from_numpy_one_bit": (torch, "from_numpy", with_result(_one_bit)),
    "from_numpy_zeros": (torch, "from_numpy", with_result(lambda t: t.zero_())),
    "from_numpy_one_short": (
        torch,
        "from_numpy",
        with_result(lambda t: t[1:] if t.dim() == 1 else t),
    ),
    "from_numpy_signed_bytes": (
        torch,
        "from_numpy",
        with_result(lambda t: t.view(torch.int8) if t.dtype == torch.uint8 else t),
    ),
    "from_numpy_swaps_complex_parts": (
        torch,
        "from_numpy",
        except_when(lambda a: getattr(a, "dtype", None) == np.complex64, _swapped_parts),
    ),
    "from_numpy_packs_views": (
        torch,
        "from_numpy",
        except_when(_has_holes, lambda original, a: original(np.ascontiguousarray(a))),
    ),
    "from_numpy_0d_as_1d": (
        torch,
        "from_numpy",
        with_result(lambda t: t.reshape(1) if t.dim() == 0 else t),
    ),
    "from_numpy_takes_negative_strides": (
        torch,
        "from_numpy",
        except_when(_goes_backwards, lambda original, a: original(a.copy())),
    ),
    "from_numpy_takes_foreign_bytes": (
        torch,
        "from_numpy",
        except_when(_is_foreign, lambda original, a: original(a.view(a.dtype.newbyteorder()))),
    ),
    "from_numpy_leaks": (torch, "from_numpy", _leaking),
    "from_numpy_dangles": (torch, "from_numpy", _not_keeping_the_array),
    "from_numpy_read_only_in_silence": (
        torch,
        "from_numpy",
        except_when(_is_read_only, lambda _, a: dlpack.from_dlpack(a.view())),
    ),
    "from_numpy_cuts_to_32_bits": (
        torch,
        "from_numpy",
        except_when(lambda a: getattr(a, "dtype", None) == np.int64, _cut_to_32_bits),
    ),
    "from_numpy_unavailable": (torch, "from_numpy", lambda _: raising(_NO_NUMPY)),
    "from_numpy_warns": (torch, "from_numpy", _warning_first),
    "from_numpy_bits_of_doubles": (
        torch,
        "from_numpy",
        lambda original: lambda a: original(_bits_of_doubles(a)),
    ),
    "as_tensor_copies": (torch, "as_tensor", with_result(_clone)),
    "asarray_copies": (torch, "asarray", with_result(_clone)),
    "as_tensor_ignores_dtype": (
        torch,
        "as_tensor",
        lambda original: lambda value, **_: original(value),
    ),
    "tensor_shares": (
        torch,
        "tensor",
        except_when(lambda v: isinstance(v, np.ndarray), lambda _, v: _from_numpy(v)),
    ),
    "tensor_takes_no_scalar": (
        torch,
        "tensor",
        except_when(
            lambda v: isinstance(v[0] if isinstance(v, list) and v else v, np.generic),
            lambda _, v: raising("Could not infer dtype of numpy.float32")(v),
        ),
    ),
    "tensor_widens_a_scalar": (
        torch,
        "tensor",
        except_when(lambda v: isinstance(v, np.int16), lambda original, v: original(int(v))),
    ),
    "tensor_drops_the_tail": (torch, "tensor", with_result(_without_tail)),
    "clone_shares": (_TENSOR, "clone", lambda _: lambda tensor, **_o: tensor),
    "frombuffer_copies": (torch, "frombuffer", with_result(_clone)),
    "from_dlpack_copies": (torch, "from_dlpack", with_result(_clone)),
    "from_dlpack_drops_read_only": (
        torch,
        "from_dlpack",
        except_when(_is_read_only, lambda _, a: torch.zeros(a.shape, dtype=torch.float32)),
    ),
    "numpy_copies": (_TENSOR, "numpy", with_result(lambda a: a.copy())),
    "numpy_packs_views": (
        _TENSOR,
        "numpy",
        with_result(lambda a: np.ascontiguousarray(a).reshape(a.shape)),
    ),
    "numpy_loses_the_sign_of_zero": (_TENSOR, "numpy", with_result(_positive_zeros)),
    "numpy_in_foreign_bytes": (_TENSOR, "numpy", with_result(_foreign_bytes)),
    "numpy_takes_anything": (_TENSOR, "numpy", _takes_anything),
    "numpy_unavailable": (_TENSOR, "numpy", lambda _: raising(_NO_NUMPY)),
    "numpy_swaps_bytes": (_TENSOR, "numpy", with_result(lambda a: a.byteswap())),
    "numpy_dangles": (_TENSOR, "numpy", _not_keeping_the_tensor),
    "array_copies": (_TENSOR, "__array__", _array_that_copies),
    "dlpack_copies": (
        _TENSOR,
        "__dlpack__",
        lambda original: lambda tensor, *given, **named: original(_clone(tensor), *given, **named),
    ),
    "resize_moves_away": (_TENSOR, "resize_", _resizes_by_moving),
}


def shares_wrongly(name: str) -> None:
    """Replace the function that `SHARING` has under that name."""
    owner, function, make = SHARING[name]
    replace(owner, function, make)


def writes_are_lost(operator: str) -> None:
    """Make an in-place operation change nothing."""

    def handler(_func: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        return args[0]

    intercept((operator,), handler)


def writes_beside() -> None:
    """Make `add_` treat a strided view as if it were contiguous."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor, other = args
        if tensor.is_contiguous():
            return func(*args, **kwargs)
        packed = tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
        packed.copy_(packed + other)
        return tensor

    intercept(("add_",), handler)
