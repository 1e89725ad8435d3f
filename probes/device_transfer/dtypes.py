"""Copies of every dtype, and copies that convert from one to another."""

from functools import cache, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.device_transfer.copies import combined, move
from probes.device_transfer.pattern import RAMP_BYTES
from probes.device_transfer.places import (
    Place,
    compare_digests,
    compare_in_place,
    non_host_side,
    poison,
)
from probes.kit.capabilities import documented_absence, has_dtype
from probes.kit.references import attempted, compare, fact

_TYPED_BYTES: Final = RAMP_BYTES + 32768


_NAMES: Final = (
    *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2"),
)


#: (from, to, first value, step): 256 values, exact in the first dtype; some lie half-way between
#: two values of the second.
_CONVERSIONS: Final = (
    ("float64", "float32", 1.0, 2.0**-30),
    ("float32", "float16", 1.0, 2.0**-14),
    ("float32", "bfloat16", 1.0, 2.0**-10),
    ("float32", "int32", -32.0, 0.25),
    ("float32", "int64", -32.0, 0.25),
    ("int64", "float32", 2**24, 1),
    ("int64", "int32", -100, 1),
    ("int32", "float64", -100, 1),
    ("int32", "int8", -128, 1),
    ("uint8", "float32", 0, 1),
    ("uint8", "int16", 0, 1),
    ("int32", "bool", -128, 1),
    ("float32", "complex64", -32.0, 0.25),
    ("float16", "float32", -128.0, 1.0),
    ("bfloat16", "float32", -128.0, 1.0),
)


@cache
def _can_hold(device: str, dtype: torch.dtype) -> bool:
    """Whether a device can hold elements of that type, even if it cannot compute with them.

    The CPU, CUDA and HIP hold every type, so nothing is tried there.
    """
    if torch.device(device).type in {"cpu", "cuda"}:
        return True
    try:
        torch.zeros(1, dtype=dtype).to(device)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        return not documented_absence(error, device)
    return True


def dtypes_of(place: Place) -> list[str]:
    """Names of the dtypes that this torch has and the device can hold."""
    known = [name for name in _NAMES if hasattr(torch, name)]
    return [name for name in known if _can_hold(str(place.device), getattr(torch, name))]


def dtypes(source: Place, target: Place) -> list[Comparison]:
    """Compare copies of every dtype, into poisoned memory and into a new tensor."""

    def copy_dtype(name: str) -> Comparison:
        dtype = getattr(torch, name)
        raw, expected = source.raw[:_TYPED_BYTES], target.raw_reference[:_TYPED_BYTES]
        if dtype == torch.bool:  # its only bytes are 0 and 1
            raw, expected = raw & 1, expected & 1
        typed = raw.view(dtype)
        into = poison(_TYPED_BYTES, target.device)
        into.view(dtype).copy_(typed)
        copy = move(typed, target.device)
        return combined(
            name,
            [
                compare_in_place(name, into, expected),
                fact(f"{name}, dtype", copy.dtype, dtype),
                compare_in_place(f"{name}, new", copy.view(torch.uint8), expected),
            ],
        )

    names = [name for name in dtypes_of(source) if name in dtypes_of(target)]
    device = non_host_side(source, target)
    return [
        attempted(name, partial(copy_dtype, name), device, getattr(torch, name)) for name in names
    ]


def rounded_to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16 of finite values; ties to even (IEEE 754)."""
    word = values.view(np.uint32)
    return ((word + 0x7FFF + ((word >> 16) & 1)) >> 16).astype(np.uint16)


def _converted_bytes(to: str, exact: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """The bytes of the values in the target dtype, by NumPy; only the last step rounds."""
    if to == "bfloat16":
        return rounded_to_bfloat16(exact.astype(np.float32)).view(np.uint8)
    return exact.astype(np.dtype(to)).view(np.uint8)


def converts(source: Place, target: Place) -> list[Comparison]:
    """Compare `to(device, dtype)` and `copy_` across dtypes: rounding and truncation."""

    def convert(name: str, dtypes: tuple[str, str], start: float, step: float) -> Comparison:
        from_dtype, to_dtype = (getattr(torch, dtype) for dtype in dtypes)
        stop = start + 256 * step
        typed = torch.arange(start, stop, step, dtype=from_dtype, device=source.device)
        expected = _converted_bytes(dtypes[1], np.arange(256, dtype=np.float64) * step + start)
        converted = typed.to(target.device, to_dtype)
        into = poison(256 * converted.element_size(), target.device)
        into.view(to_dtype).copy_(typed)
        arrived = fact(
            f"{name}, place", (converted.device, converted.dtype), (target.device, to_dtype)
        )
        return combined(
            name,
            [
                arrived,
                _compare_bytes(name, converted.view(torch.uint8), expected),
                _compare_bytes(f"{name}, into", into, expected),
            ],
        )

    # Making and converting numbers is computing. Some devices cannot compute in every type that
    # they hold.
    places, device = (source, target), non_host_side(source, target)
    known = [
        name
        for name in dtypes_of(source)
        if all(has_dtype(str(place.device), getattr(torch, name)) for place in places)
    ]
    return [
        attempted(f"{a} to {b}", partial(convert, f"{a} to {b}", (a, b), start, step), device)
        for a, b, start, step in _CONVERSIONS
        if a in known and b in known
    ]


def _compare_bytes(
    operation: str, observed: torch.Tensor, expected: npt.NDArray[Any]
) -> Comparison:
    """Compare bytes with the host's: all of them on the host, by digests on a device."""
    if observed.device.type == "cpu":
        return compare(operation, observed, expected)
    return compare_digests(operation, observed, expected)
