"""Products of matrices of many shapes and layouts, and with long sums."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end, floats
from probes.kit.memory import free_bytes
from probes.kit.precision import tf32_allowed
from probes.kit.tensors import POISON_BYTE, poisoned
from probes.kit.trial import Custom, Trial, fact
from probes.matmul.factors import SPANS, Factors, factors, into, same, text
from probes.matmul.libraries import others, preferred, suffix
from probes.matmul.reductions import reduced_sums
from probes.matmul.spec import ROOM_BYTES

#: (M, K, N): beside the sizes of tiles, prime, of one row, column or term, and of a thousand.
_SHAPES: Final = (
    *((1, 7, 17), (7, 1, 33), (33, 17, 1), (17, 33, 7), (129, 127, 127), (127, 129, 33)),
    *((1, 1031, 129), (129, 1031, 1), (1, 513, 1), (1031, 33, 517), (128, 1024, 129)),
    (257, 64, 48),
)
#: What a GPU has other kernels for.
_LARGE: Final = ((1153, 517, 1025), (4099, 72, 263))

#: Of products of every layout. On CPUs with AMX oneDNN reads on where a row is no whole number of
#: its tiles, and NaN beside the row is in the result: the probe `strided_operands` tells.
_TERMS: Final = 64
_TERMS_ON_GPUS: Final = 72

_MANY: Final = 4096
_FEW: Final = 8192
_MANY_WITH_ROOM: Final = 65536
#: In float64 two operands of 64 rows take 32 MiB.
_MANY_DOUBLE: Final = 32768


def _has_room(device: str) -> bool:
    """Whether a device other than the CPU has the memory for what takes more of it."""
    free = None if torch.device(device).type == "cpu" else free_bytes(device)
    return free is not None and free >= 2 * ROOM_BYTES


def shapes(device: str) -> Iterator[Trial]:
    """Each shape in each type, by each library; in float32 with TF32 allowed too."""
    on_gpu = back_end(device) in {"cuda", "hip"}
    large = _LARGE if _has_room(device) else ()
    for dtype, library in product(floats(device), ("", *others(device))):
        body = partial(_shapes, (*_SHAPES, *large), dtype, library)
        yield Custom(f"mm{suffix(library)}", body, dtype)
        yield Custom(f"mv{suffix(library)}", partial(_vectors, dtype, library), dtype)
    if on_gpu:
        body = partial(_shapes, (*_SHAPES, *large), torch.float32, "", tf32=True)
        yield Custom("mm with TF32", body, torch.float32)


def _shapes(
    sizes: tuple[tuple[int, int, int], ...],
    dtype: torch.dtype,
    library: str,
    device: str,
    *,
    tf32: bool = False,
) -> Iterator[Comparison]:
    name = "mm with TF32" if tf32 else f"mm{suffix(library)}"
    with preferred(library), tf32_allowed() if tf32 else nullcontext():
        for m, k, n in sizes:
            each = factors(m, k, n, SPANS[dtype])
            found = into(torch.mm, *each.on(device, dtype), like=each.product, dtype=dtype)
            yield same(f"{name} ({text(dtype)}, {m}x{k}x{n})", found, each.product, dtype)


def _vectors(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    """A matrix by rows and by columns times a vector, and a vector times a vector."""
    each = factors(517, 259, 1, SPANS[dtype], 2)
    name, column = suffix(library), each.product[:, 0]
    with preferred(library):
        matrix, vector = each.on(device, dtype)
        for how, left in (("rows", matrix), ("columns", matrix.t().contiguous().t())):
            found = into(torch.mv, left, vector[:, 0], like=column, dtype=dtype)
            yield same(f"mv{name} ({text(dtype)}, by {how})", found, column, dtype)
        found = torch.dot(matrix[3], vector[:, 0])
        yield same(f"dot{name} ({text(dtype)})", found, np.asarray(column[3]), dtype)


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x


def _columns(x: torch.Tensor) -> torch.Tensor:
    return x.t().contiguous().t()


def _wide_rows(x: torch.Tensor) -> torch.Tensor:
    """Rows that are 3 elements apart, from the second element on: no address is aligned."""
    wide = torch.full((x.shape[0], x.shape[1] + 3), float("nan"), dtype=x.dtype, device=x.device)
    wide[:, 1:-2] = x
    return wide[:, 1:-2]


def _wide_columns(x: torch.Tensor) -> torch.Tensor:
    return _wide_rows(x.t()).t()


def _every_second(x: torch.Tensor) -> torch.Tensor:
    wide = torch.full((x.shape[0], 2 * x.shape[1]), float("nan"), dtype=x.dtype, device=x.device)
    wide[:, ::2] = x
    return wide[:, ::2]


#: Layout -> a matrix on the device, stored so; what lies between its elements is NaN.
_LAYOUTS: Final = {
    "rows": _rows,
    "columns": _columns,
    "wide rows": _wide_rows,
    "wide columns": _wide_columns,
    "every second": _every_second,
}


def layouts(device: str) -> Iterator[Trial]:
    """Each layout of both operands, and of the result, in each type and library."""
    for dtype, library in product(floats(device), ("", *others(device))):
        yield Custom(f"mm{suffix(library)}", partial(_layouts, dtype, library), dtype)


def _layouts(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    terms = _TERMS_ON_GPUS if back_end(device) in {"cuda", "hip"} else _TERMS
    each = factors(127, terms, 136, SPANS[dtype], 4)
    a, b = each.on(device, dtype)
    name = f"mm{suffix(library)} ({text(dtype)}"
    with preferred(library):
        sign = 1  # so that no result is that of the call before
        for (left, place_a), (right, place_b) in product(_LAYOUTS.items(), repeat=2):
            found = torch.mm(place_a(sign * a), place_b(b))
            yield same(f"{name}, {left} @ {right})", found, sign * each.product, dtype)
            sign = -sign
        yield from _results(name, a, b, each, dtype, device)


def _results(
    name: str,
    a: torch.Tensor,
    b: torch.Tensor,
    each: Factors,
    dtype: torch.dtype,
    device: str,
) -> Iterator[Comparison]:
    """Results by columns, and amid other memory, which nothing may touch."""
    m, n = each.product.shape
    out = poisoned((n, m), dtype, device).t()
    torch.mm(a, b, out=out)
    yield same(f"{name}, to columns)", out, each.product, dtype)
    frame = poisoned((m + 2, n + 3), dtype, device)
    torch.mm(a, b, out=frame[1:-1, 1:-2])
    yield same(f"{name}, to a frame)", frame[1:-1, 1:-2], each.product, dtype)
    raw = frame.cpu().view(torch.uint8).reshape(m + 2, n + 3, -1).numpy()
    edge = (raw == POISON_BYTE).all(-1)
    edge[1:-1, 1:-2] = True
    yield fact(f"{name}, around a frame)", int((~edge).sum()), 0)


def many_terms(device: str) -> Iterator[Trial]:
    """Sums so long that a library splits them, in half types with either kind of partial sums."""
    for dtype, library in product(floats(device), ("", *others(device))):
        yield Custom(f"mm{suffix(library)}", partial(_many_terms, dtype, library), dtype)


def _many_terms(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    terms = _MANY_WITH_ROOM if _has_room(device) else _MANY
    terms = min(terms, _MANY_DOUBLE) if dtype == torch.float64 else terms
    with preferred(library):
        few = min(terms, _FEW)
        for m, k, n in ((64, terms, 64), (17, few + 1, 33), (1, few, 40), (40, few, 1)):
            each = factors(m, k, n, SPANS[dtype], 6)
            a, b = each.on(device, dtype)
            for how, setting in reduced_sums(dtype, device):
                label = f"mm{suffix(library)} ({text(dtype)}, {m}x{k}x{n}{how})"
                with setting:
                    found: Any = into(torch.mm, a, b, like=each.product, dtype=dtype)
                yield same(label, found, each.product, dtype)
            yield same(f"{label[:-1]}, by columns)", (b.t() @ a.t()).t(), each.product, dtype)
