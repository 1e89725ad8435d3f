"""Products of int8 and float8, and of half types with a result in float32."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end, has_kernel
from probes.kit.case import Array, on_device
from probes.kit.narrow_products import float8_products, int8_products, scaled
from probes.kit.operands import integers
from probes.kit.precision import read
from probes.kit.trial import Custom, LeftOut, Trial
from probes.matmul.factors import F64, Span, factors, into, same, text
from probes.matmul.special import poisoned_factors

#: More rows than 16; terms and columns in whole units of 16: as cuBLASLt wants it.
_INT8_SIZES: Final = ((33, 64, 48), (129, 1040, 272), (17, 4096, 16))
_FLOAT8_SIZES: Final = ((33, 64, 48), (17, 256, 32))
#: On CPUs without VNNI oneDNN adds pairs of products in 16 bits, of operands of which one has 128
#: added, and these saturate: 7 bits do not.
#: https://uxlfoundation.github.io/oneDNN/dev_guide_int8_computations.html
_INT8_ON_CPU: Final = (-64, 63)
_INT8: Final = (-128, 127)
#: Others emulate float8.
_FLOAT8_ON_GPUS: Final = (*_FLOAT8_SIZES, (129, 1040, 272), (1024, 256, 1024))

#: Operands of float8 have few bits, and so may the accumulator: Hopper keeps 14.
#: https://arxiv.org/abs/2412.19437 (section 3.3.2)
_FLOAT8_SPAN: Final = Span(4, 2**12)
_E4M3: Final = torch.float8_e4m3fn
_E5M2: Final = torch.float8_e5m2

#: Sums that no half type holds; operands that both hold.
_WIDE: Final = Span(127, 2**24)


def int8(_device: str) -> Iterator[Trial]:
    """Products of int8 in int32."""
    yield Custom("_int_mm", _int8)


def _int8(device: str) -> Iterator[Comparison]:
    with int8_products(device):
        for m, k, n in _INT8_SIZES:
            yield from _int8_products(m, k, n, device)


def _int8_products(m: int, k: int, n: int, device: str) -> Iterator[Comparison]:
    span = _INT8_ON_CPU if back_end(device) == "cpu" else _INT8
    a, b = integers((m, k), *span, 50, np.int8), integers((k, n), *span, 51, np.int8)
    right = a.astype(np.int64) @ b.astype(np.int64)
    x, y = on_device(a, device), on_device(b, device)
    for how, second in (("rows", y), ("columns", y.t().contiguous().t())):
        found = into(torch._int_mm, x, second, like=right, dtype=torch.int32)
        label = f"_int_mm ({m}x{k}x{n}, by {how})"
        yield same(label, found, right.astype(np.int32), torch.int32)


def float8(_device: str) -> Iterator[Trial]:
    """Products of both types of float8 that training uses."""
    yield Custom("_scaled_mm", _float8)


def _float8(device: str) -> Iterator[Comparison]:
    with float8_products(device):
        # Of two e5m2 cuBLASLt has no product.
        for kinds in ((_E4M3, _E4M3), (_E4M3, _E5M2), (_E5M2, _E4M3)):
            yield from _float8_products(*kinds, device)
        yield from _float8_not_finite(device)


def _float8_products(kind_a: torch.dtype, kind_b: torch.dtype, device: str) -> Iterator[Comparison]:
    sizes = _FLOAT8_ON_GPUS if back_end(device) in {"cuda", "hip"} else _FLOAT8_SIZES
    name = f"_scaled_mm ({text(kind_a)} @ {text(kind_b)}"
    for m, k, n in sizes:
        each = factors(m, k, n, _FLOAT8_SPAN, 54)
        a, b = _on(each.a, device, kind_a), _by_columns(each.b, device, kind_b)
        for fast in (False, True):
            how = f"{m}x{k}x{n}{', fast' if fast else ''}"
            found = scaled(a, b, torch.float32, (1.0, 1.0), use_fast_accum=fast)
            yield same(f"{name}, {how})", found, each.product, torch.float32)
        found = scaled(a, b, torch.float32, (0.5, 8.0))
        yield same(f"{name}, {m}x{k}x{n}, scaled)", found, 4 * each.product, torch.float32)
        # A half type holds an eighth of that.
        few = factors(m, k, n, Span(2, 2**8).part(2), 56)
        a, b = _on(few.a, device, kind_a), _by_columns(few.b, device, kind_b)
        row = integers((n,), -64, 64, 58, F64)
        bias = on_device(row, device, torch.bfloat16)
        found = scaled(a, b, torch.bfloat16, (1.0, 1.0), bias=bias)
        yield same(f"{name}, {m}x{k}x{n}, bias)", found, few.product + row, torch.bfloat16)
        found = scaled(a, b, torch.float16, (2.0, 0.25))
        yield same(f"{name}, {m}x{k}x{n}, half)", found, few.product / 2, torch.float16)


def _float8_not_finite(device: str) -> Iterator[Comparison]:
    """e4m3 has NaN alone, e5m2 infinities too."""
    size = (33, 64, 48)
    for kind in (_E4M3, _E5M2):
        with np.errstate(all="ignore"):
            each = poisoned_factors(_FLOAT8_SPAN, size, infinite=False)
        a, b = _on(each.a, device, kind), _by_columns(each.b, device, _E4M3)
        found = scaled(a, b, torch.float32, (1.0, 1.0))
        yield same(f"_scaled_mm ({text(kind)}, NaN)", found, each.product, torch.float32)


def _on(array: Array, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Copied as float8: the host converts, so that the device needs no conversion."""
    return on_device(array, "cpu", dtype).to(device)


def _by_columns(array: Array, device: str, dtype: torch.dtype) -> torch.Tensor:
    """The same, stored by columns, as cuBLASLt wants the second factor."""
    return _on(np.ascontiguousarray(array.T), device, dtype).t()


def out_dtype(_device: str) -> Iterator[Trial]:
    """Products of half types in float32."""
    for dtype in (torch.float16, torch.bfloat16):
        yield Custom("mm", partial(_out_dtype, dtype), dtype)


def _out_dtype(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    if not hasattr(torch.ops.aten.mm, "dtype"):
        raise LeftOut("torch takes out_dtype from version 2.8 on")
    if back_end(device) != "cuda" and not has_kernel("mm.dtype", device):
        raise LeftOut("torch documents out_dtype for CUDA alone")
    if dtype == torch.float16 and read(device).half_sums_may_shorten:
        raise LeftOut("sums in float16 are allowed, which have no result in float32")
    kind, wide = text(dtype), torch.float32
    for m, k, n in ((129, 264, 136), (17, 1031, 33)):
        each = factors(m, k, n, _WIDE.part(8), 60)
        a, b = each.on(device, dtype)
        name = f"({kind}, {m}x{k}x{n}, float32)"
        call: Any = torch.mm
        yield same(f"mm {name}", call(a, b, out_dtype=wide), each.product, wide)
        call = torch.bmm
        found = call(a.expand(2, -1, -1), b.expand(2, -1, -1), out_dtype=wide)
        yield same(f"bmm {name}", found[1], each.product, wide)
        call = torch.addmm
        c = integers((m, n), -(2**20), 2**20, 62, F64)
        found = call(on_device(c, device, wide), a, b, out_dtype=wide)
        yield same(f"addmm {name}", found, c + each.product, wide)
