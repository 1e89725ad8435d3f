"""NaN and infinities in products of real sizes, and float32 products that keep 24 bits."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end, floats
from probes.kit.case import Array, on_device
from probes.kit.operands import integers
from probes.kit.precision import full_precision, tf32_allowed
from probes.kit.trial import Custom, Trial
from probes.matmul.factors import F64, SPANS, Factors, factors, into, same, text

#: On CPUs with AMX oneDNN reads on into the next row where a row is no whole number of its tiles,
#: and a NaN there is one here: https://github.com/uxlfoundation/oneDNN/issues/5717
_SIZE: Final = (131, 256, 140)
_SIZE_ON_GPUS: Final = (131, 257, 140)


def poisoned_factors(span: Any, size: tuple[int, int, int], *, infinite: bool = True) -> Factors:
    """Factors with a NaN in both, and infinities in both, and what IEEE 754 makes of them.

    0 times an infinity is NaN, so that a NaN fills its row or column.
    """
    m, k, n = size
    finite = factors(m, k, n, span, 40)
    a, b = finite.a.copy(), finite.b.copy()
    of_a = [(5, 7, np.nan), (m - 1, k - 1, np.inf if infinite else np.nan)]
    of_b = [(3, n - 1, np.nan), (k // 2, 11, -np.inf if infinite else np.nan)]
    for matrix, places in ((a, of_a), (b, of_b)):
        for row, column, _ in places:
            matrix[row, column] = 0
    product = a @ b
    for row, term, value in of_a:
        product[row] += value * b[term]
        a[row, term] = value
    for term, column, value in of_b:
        product[:, column] += a[:, term] * value
        b[term, column] = value
    return Factors(a, b, product)


def not_finite(device: str) -> Iterator[Trial]:
    """NaN and infinities in each floating type."""
    for dtype in floats(device):
        yield Custom("mm", partial(_not_finite, dtype), dtype)


def _not_finite(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    with np.errstate(all="ignore"):
        size = _SIZE_ON_GPUS if back_end(device) in {"cuda", "hip"} else _SIZE
        each = poisoned_factors(SPANS[dtype], size)
    a, b = each.on(device, dtype)
    kind = text(dtype)
    found = into(torch.mm, a, b, like=each.product, dtype=dtype)
    yield same(f"mm ({kind})", found, each.product, dtype)
    found = torch.mm(a.t().contiguous().t(), b.t().contiguous().t())
    yield same(f"mm ({kind}, by columns)", found, each.product, dtype)
    found = torch.bmm(a.expand(2, -1, -1), b.expand(2, -1, -1))
    yield same(f"bmm ({kind})", found[1], each.product, dtype)
    found = torch.nn.functional.linear(a, b.t(), torch.zeros_like(b[0]))
    yield same(f"nn.functional.linear ({kind})", found, each.product, dtype)
    found = torch.mv(a, b[:, 11])
    yield same(f"mv ({kind})", found, each.product[:, 11], dtype)


def _chosen(m: int, k: int, n: int, salt: int) -> tuple[Array, Array, Array]:
    """A matrix of 24 bits, one that chooses, turns and doubles its columns, and the product."""
    a = 2 * integers((m, k), -(2**23), 2**23 - 1, salt, F64) + 1
    rows, columns = (np.arange(n) * 7) % k, np.arange(n)
    b = np.zeros((k, n))
    b[rows, columns] = np.where(columns % 2, -1.0, 1.0) * 2.0 ** (columns % 5 - 2)
    return a, b, a @ b


#: As `mm`, or as a vector; sizes for which libraries have different kernels.
_SHORT: Final = ((131, 257, 140), (1, 1031, 1037), (1031, 64, 127), (16, 16, 16), (257, 136, 1))


def float32(_device: str) -> Iterator[Trial]:
    """A product keeps all bits of one factor; TF32 and bfloat16 would keep 11 or 8."""
    yield Custom("mm", _full, torch.float32)


def _full(device: str) -> Iterator[Comparison]:
    dtype = torch.float32
    with full_precision():
        for m, k, n in _SHORT:
            a, b, right = _chosen(m, k, n, 44)
            x, y = on_device(a, device, dtype), on_device(b, device, dtype)
            label = f"({m}x{k}x{n})"
            found = into(torch.mm, x, y, like=right, dtype=dtype)
            yield same(f"mm {label}", found, right, dtype)
            found = (y.t() @ x.t()).t()
            yield same(f"mm ({m}x{k}x{n}, second factor)", found, right, dtype)
            found = torch.bmm(x.expand(3, -1, -1), y.expand(3, -1, -1))[2]
            yield same(f"bmm {label}", found, right, dtype)
            bias = torch.zeros(n, device=device)
            found = torch.nn.functional.linear(x, y.t().contiguous(), bias)
            yield same(f"nn.functional.linear {label}", found, right, dtype)


def tf32_shortens(device: str) -> bool | None:
    """Whether a product loses bits where TF32 is allowed; None where there is no TF32."""
    if back_end(device) not in {"cuda", "hip"}:
        return None
    a, b, right = _chosen(256, 256, 256, 45)
    with tf32_allowed():
        x, y = (on_device(each, device, torch.float32) for each in (a, b))
        return bool((torch.mm(x, y).double().cpu().numpy() != right).any())
