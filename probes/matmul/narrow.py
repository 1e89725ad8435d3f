"""Products of int8 and float8, and of half types with a result in float32.

`torch._int_mm` and `torch._scaled_mm` are what libraries for quantized models call.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end, capability, has_dtype, has_kernel
from probes.kit.case import Array, on_device
from probes.kit.operands import integers
from probes.kit.trial import Custom, LeftOut, Trial
from probes.matmul.factors import F64, Span, factors, into, same, text
from probes.matmul.special import poisoned_factors

_CUBLAS_LACKS: Final = "CUBLAS_STATUS_NOT_SUPPORTED"
#: Tensor cores for int8, and for float8: from these compute capabilities on.
_INT8_SINCE: Final = (7, 5)
_FLOAT8_SINCE: Final = (8, 9)
_HOPPER: Final = (9, 0)
#: Before this version `_scaled_mm` wanted Hopper.
_FLOAT8_ON_ADA: Final = (2, 3)

#: More rows than 16; terms and columns in whole units of 16: as cuBLASLt wants it.
_INT8_SIZES: Final = ((33, 64, 48), (129, 1040, 272), (17, 4096, 16))
_FLOAT8_SIZES: Final = ((33, 64, 48), (17, 256, 32))
#: The CPU emulates float8.
_FLOAT8_ELSEWHERE: Final = (*_FLOAT8_SIZES, (129, 1040, 272), (1024, 256, 1024))

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
    _need("_int_mm", device)
    compute = capability(device)
    if compute is not None and compute < _INT8_SINCE:
        raise LeftOut(f"int8 products need compute capability 7.5, this is {_dotted(compute)}")
    try:
        for m, k, n in _INT8_SIZES:
            yield from _int8_products(m, k, n, device)
    except RuntimeError as error:
        if back_end(device) in {"cuda", "hip"} and _CUBLAS_LACKS in str(error):
            raise LeftOut(f"int8 products: {_first(error)}") from error
        raise


def _int8_products(m: int, k: int, n: int, device: str) -> Iterator[Comparison]:
    a, b = integers((m, k), -128, 127, 50, np.int8), integers((k, n), -128, 127, 51, np.int8)
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
    _need("_scaled_mm", device)
    _need_float8(device)
    try:
        # Of two e5m2 cuBLASLt has no product.
        for kinds in ((_E4M3, _E4M3), (_E4M3, _E5M2), (_E5M2, _E4M3)):
            yield from _float8_products(*kinds, device)
        yield from _float8_not_finite(device)
    except RuntimeError as error:
        # AMD has them on some architectures, in types of its own on others.
        if back_end(device) == "hip":
            raise LeftOut(f"float8 products: {_first(error)}") from error
        raise


def _need_float8(device: str) -> None:
    kind, compute = back_end(device), capability(device)
    if not all(has_dtype(device, dtype) for dtype in (_E4M3, _E5M2)):
        raise LeftOut(f"the {kind} back-end has no float8")
    if compute is None:
        return
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    since = _FLOAT8_SINCE if version >= _FLOAT8_ON_ADA else _HOPPER
    if compute < since:
        raise LeftOut(
            f"float8 products need compute capability {_dotted(since)}, this is {_dotted(compute)}"
        )


def scaled(
    a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype, scales: tuple[float, float], **more: Any
) -> torch.Tensor:
    """`a @ b` times both scales in the type; the second factor by columns, as cuBLASLt wants it.

    Before torch 2.5 it returned the largest magnitude beside it.
    """
    scale_a, scale_b = (torch.tensor(scale, device=a.device) for scale in scales)
    by_columns = b.t().contiguous().t()
    call: Any = torch._scaled_mm
    found = call(a, by_columns, scale_a=scale_a, scale_b=scale_b, out_dtype=dtype, **more)
    return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]


def _float8_products(kind_a: torch.dtype, kind_b: torch.dtype, device: str) -> Iterator[Comparison]:
    sizes = _FLOAT8_SIZES if back_end(device) == "cpu" else _FLOAT8_ELSEWHERE
    name = f"_scaled_mm ({text(kind_a)} @ {text(kind_b)}"
    for m, k, n in sizes:
        each = factors(m, k, n, _FLOAT8_SPAN, 54)
        a, b = _on(each.a, device, kind_a), _on(each.b, device, kind_b)
        for fast in (False, True):
            how = f"{m}x{k}x{n}{', fast' if fast else ''}"
            found = scaled(a, b, torch.float32, (1.0, 1.0), use_fast_accum=fast)
            yield same(f"{name}, {how})", found, each.product, torch.float32)
        found = scaled(a, b, torch.float32, (0.5, 8.0))
        yield same(f"{name}, {m}x{k}x{n}, scaled)", found, 4 * each.product, torch.float32)
        # A half type holds an eighth of that.
        few = factors(m, k, n, Span(2, 2**8).part(2), 56)
        a, b = _on(few.a, device, kind_a), _on(few.b, device, kind_b)
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
        a, b = _on(each.a, device, kind), _on(each.b, device, _E4M3)
        found = scaled(a, b, torch.float32, (1.0, 1.0))
        yield same(f"_scaled_mm ({text(kind)}, NaN)", found, each.product, torch.float32)


def _on(array: Array, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Copied as float8: the host converts, so that the device needs no conversion."""
    return on_device(array, "cpu", dtype).to(device)


def out_dtype(_device: str) -> Iterator[Trial]:
    """Products of half types in float32."""
    for dtype in (torch.float16, torch.bfloat16):
        yield Custom("mm", partial(_out_dtype, dtype), dtype)


def _out_dtype(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    if not hasattr(torch.ops.aten.mm, "dtype"):
        raise LeftOut("torch takes out_dtype from version 2.8 on")
    if back_end(device) != "cuda" and not has_kernel("mm.dtype", device):
        raise LeftOut("torch documents out_dtype for CUDA alone")
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


def _need(operator: str, device: str) -> None:
    """Leave the trial out where torch has no kernel of a function that it does not document."""
    if back_end(device) == "cpu" and not has_kernel(operator, device):
        raise LeftOut(f"this torch has no {operator} on the CPU")


def _dotted(compute: tuple[int, int]) -> str:
    return f"{compute[0]}.{compute[1]}"


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:160]
