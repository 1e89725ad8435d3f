"""Copies from one place to another: sizes and alignments, dtypes, layouts, conversions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.device_transfer.places import (
    RAMP_BYTES,
    Place,
    held,
    poison,
    summed,
)
from probes.references import attempted, compare, fact
from probes.tensors import POISON_BYTE

MIB: Final = 2**20

#: (bytes, bytes past an aligned address in the source, the same in the destination). A page is 4096
#: bytes; the widest vector store is 16.
SIZES: Final = (
    *((size, 0, 0) for size in (1, 3, 4095, 4096, 4097, MIB - 3, MIB, MIB + 3)),
    *((4097, offset, 0) for offset in (1, 2, 4, 8, 16)),
    *((4095, 0, offset) for offset in (1, 2, 4, 8, 16)),
    (65537, 3, 5),
)

#: Bytes on each side of a destination that no copy may touch; also the stride between sources.
_GUARD: Final = 64

#: A pattern long enough for every entry of SIZES, in bytes.
LEAST_BYTES: Final = (MIB + 3) + _GUARD * (len(SIZES) + 1)

_TYPED_BYTES: Final = RAMP_BYTES + 32768

_NAMES: Final = (
    *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2"),
)

#: What Apple's GPUs have not, or torch not on them.
_NOT_ON_MPS: Final = {
    *("uint16", "uint32", "uint64", "float64", "complex128", "float8_e4m3fn", "float8_e5m2"),
}

_POISON_WORD: Final = int.from_bytes(bytes([POISON_BYTE] * 4), "little", signed=True)

#: Views of the words that a tensor and an array both understand.
_VIEWS: Final[dict[str, Callable[[Any], Any]]] = {
    "contiguous": lambda x: x[:4097],
    "storage offset": lambda x: x[1237:2477],
    "every third": lambda x: x[11:3000:3],
    "transposed": lambda x: x[:1147].reshape(31, 37).swapaxes(0, 1),
    "strided matrix": lambda x: x[100:2100].reshape(40, 50)[1::2, 3::5],
    "column": lambda x: x[:4096].reshape(64, 64)[:, 5],
    "channels last": lambda x: x[:630].reshape(2, 7, 9, 5).swapaxes(1, 3).swapaxes(2, 3),
    "five axes": lambda x: x[:720].reshape(2, 3, 4, 5, 6).swapaxes(0, 3).swapaxes(1, 4),
    "scalar": lambda x: x[24999:25000].reshape(()),
    "empty": lambda x: x[:0].reshape(0, 3),
}

#: (from, to, first value, step): 256 values, exact in the first dtype, some of them ties in the
#: second.
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


def dtypes_of(place: Place) -> list[str]:
    """Names of the dtypes that this torch has and the device can hold."""
    absent = _NOT_ON_MPS if place.device.type == "mps" else frozenset[str]()
    return [name for name in _NAMES if hasattr(torch, name) and name not in absent]


def move(source: torch.Tensor, there: torch.device) -> torch.Tensor:
    """A new tensor over there, the way programs make one: cpu(), to() or, on the spot, clone()."""
    if source.device == there:
        return source.clone()
    return source.cpu() if there.type == "cpu" else source.to(there)


def together(operation: str, parts: Sequence[Comparison]) -> Comparison:
    """One comparison of several: the first that does not hold, or all their elements."""
    wrong = next((part for part in parts if not part.holds), None)
    if wrong is not None:
        return wrong
    return Comparison(operation=operation, elements=sum(part.elements for part in parts))


def first(source: Place, target: Place) -> Comparison:
    """A small copy of each kind, for the very first of a process."""
    words = slice(0, 4096)
    arrived = move(source.words[words], target.device)
    return held(f"{source.device.type} to {target.device.type}", arrived, target.reference[words])


def sizes(source: Place, target: Place) -> list[Comparison]:
    """Each size and alignment into poisoned bytes, and nothing beside them; the whole at last."""

    def one(turn: int, size: int, from_offset: int, to_offset: int) -> Comparison:
        start = _GUARD * turn + from_offset  # another source each time: a stale copy differs
        begin = _GUARD + to_offset
        name = f"{size} B +{from_offset} to +{to_offset}"
        bytes_there = poison(begin + size + _GUARD, target.device)
        bytes_there[begin : begin + size].copy_(source.raw[start : start + size])
        expected = target.raw_reference[start : start + size]
        return together(
            name,
            [
                held(name, bytes_there[begin : begin + size], expected),
                fact(f"{name}, bytes kept before it", _kept(bytes_there[:begin]), begin),
                fact(f"{name}, bytes kept after it", _kept(bytes_there[begin + size :]), _GUARD),
                held(f"{name}, new", move(source.raw[start : start + size], target.device), expected),
            ],
        )

    def whole() -> Comparison:
        name = f"whole {source.words.numel() * 4} B"
        return held(name, move(source.words, target.device), target.reference)

    made = [
        attempted(f"{case[0]} B +{case[1]} to +{case[2]}", partial(one, turn, *case))
        for turn, case in enumerate(SIZES)
    ]
    return [*made, attempted("whole", whole)]


def _kept(part: torch.Tensor) -> int:
    """How many bytes still are poison."""
    return int((part == POISON_BYTE).sum().item())


def dtypes(source: Place, target: Place) -> list[Comparison]:
    """Every bit of every dtype: both into poisoned memory and into a new tensor."""

    def one(name: str) -> Comparison:
        dtype = getattr(torch, name)
        raw, expected = source.raw[:_TYPED_BYTES], target.raw_reference[:_TYPED_BYTES]
        if dtype == torch.bool:  # its only bytes are 0 and 1
            raw, expected = raw & 1, expected & 1
        typed = raw.view(dtype)
        into = poison(_TYPED_BYTES, target.device)
        into.view(dtype).copy_(typed)
        made = move(typed, target.device)
        return together(
            name,
            [
                held(name, into, expected),
                fact(f"{name}, dtype", made.dtype, dtype),
                held(f"{name}, new", made.view(torch.uint8), expected),
            ],
        )

    names = [name for name in dtypes_of(source) if name in dtypes_of(target)]
    return [attempted(name, partial(one, name)) for name in names]


def layouts(source: Place, target: Place) -> list[Comparison]:
    """Views of every kind as a source; strided, transposed and broadcast destinations."""

    def from_view(name: str, view: Callable[[Any], Any]) -> Comparison:
        seen, expected = view(source.words), view(target.reference)
        made = move(seen, target.device)
        into = poison(4 * seen.numel(), target.device).view(torch.int32).reshape(seen.shape)
        into.copy_(seen)
        dense = name.removeprefix("from ") in {"transposed", "channels last", "five axes"}
        return together(
            name,
            [
                held(name, made, expected),
                held(f"{name}, into", into, expected),
                # A dense source keeps its strides: channels_last stays channels_last.
                fact(f"{name}, strides", made.stride(), seen.stride() if dense else made.stride()),
            ],
        )

    def into_view(name: str, view: Callable[[Any], Any]) -> Comparison:
        into = poison(4 * 4097, target.device).view(torch.int32)
        seen, expected = view(source.words), view(target.reference)
        view(into).copy_(seen)
        # Words beside the view keep their poison, which is in no word of the view's source.
        kept = int((into == _POISON_WORD).sum().item())
        return together(
            name,
            [
                held(name, view(into), expected),
                fact(f"{name}, words beside it", kept, 4097 - seen.numel()),
            ],
        )

    def expanded() -> Comparison:
        column, right = source.words[:37].reshape(37, 1), target.reference[:37].reshape(37, 1)
        made = move(column.expand(37, 11), target.device)
        into = poison(4 * 37 * 11, target.device).view(torch.int32).reshape(37, 11)
        into.copy_(column)
        pairs = [held("expanded", made[:, k : k + 1], right) for k in range(11)]
        pairs += [held("expanded, into", into[:, k : k + 1], right) for k in range(11)]
        return together("expanded", pairs)

    spread = {name: _VIEWS[name] for name in ("every third", "transposed", "strided matrix")}
    spread["channels last"] = _VIEWS["channels last"]
    return [
        *(
            attempted(f"from {name}", partial(from_view, f"from {name}", view))
            for name, view in _VIEWS.items()
        ),
        *(
            attempted(f"into {name}", partial(into_view, f"into {name}", view))
            for name, view in spread.items()
        ),
        attempted("expanded", expanded),
    ]


def rounded_to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even (IEEE 754), of finite values."""
    word = values.view(np.uint32)
    return ((word + 0x7FFF + ((word >> 16) & 1)) >> 16).astype(np.uint16)


def _converted(to: str, exact: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """The values in the target dtype by NumPy, as bytes. Every step before the last is exact."""
    if to == "bfloat16":
        return rounded_to_bfloat16(exact.astype(np.float32)).view(np.uint8)
    return exact.astype(np.dtype(to)).view(np.uint8)


def converts(source: Place, target: Place) -> list[Comparison]:
    """`to(device, dtype)` and `copy_` across dtypes: rounding to nearest even, truncation."""

    def one(name: str, dtypes: tuple[str, str], start: float, step: float) -> Comparison:
        from_dtype, to_dtype = (getattr(torch, dtype) for dtype in dtypes)
        stop = start + 256 * step
        typed = torch.arange(start, stop, step, dtype=from_dtype, device=source.device)
        expected = _converted(dtypes[1], np.arange(256) * step + start)
        made = typed.to(target.device, to_dtype)
        into = poison(256 * made.element_size(), target.device)
        into.view(to_dtype).copy_(typed)
        arrived = fact(f"{name}, place", (made.device, made.dtype), (target.device, to_dtype))
        return together(
            name,
            [
                arrived,
                _same_there(name, made.view(torch.uint8), expected),
                _same_there(f"{name}, into", into, expected),
            ],
        )

    known = [name for name in dtypes_of(source) if name in dtypes_of(target)]
    return [
        attempted(f"{a} to {b}", partial(one, f"{a} to {b}", (a, b), start, step))
        for a, b, start, step in _CONVERSIONS
        if a in known and b in known
    ]


def _same_there(operation: str, observed: torch.Tensor, expected: npt.NDArray[Any]) -> Comparison:
    """Hold bytes against the host's: whole on the host, by digests on a device."""
    if observed.device.type == "cpu":
        return compare(operation, observed, expected)
    return summed(operation, observed, expected)
