"""NaN and infinities: they reach every result that they take part in, and no other.

A NaN that is swallowed hides what went wrong; one that leaks spoils what was right.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.case import Array, in_dtype, on_device, once
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.tensor_ops.not_finite_rows import row_cases

_INF: Final = np.inf
_NAN: Final = np.nan
_F: Final = "nn.functional"

#: Activations whose formula gives NaN for NaN, and for no other number.
_ACTIVATIONS: Final = (
    *("relu", "relu6", "leaky_relu", "hardtanh", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("softplus", "logsigmoid", "softsign", "tanhshrink"),
)


def not_finite(device: str) -> Iterator[Trial]:
    """NaN and infinities in products, selections, activations, and in rows of reductions."""
    for dtype in floats(device):
        yield from (in_dtype(each, dtype) for each in _product_cases())
    yield Custom(f"{_F}.conv2d", _convolved)
    yield from _selection_cases()
    for name in _ACTIVATIONS:
        yield Custom(f"{_F}.{name}", partial(_activated, name))
    image = integers((2, 3, 8, 6), -9, 9, 200).copy()
    image[0, 1, 3, 2], image[1, 2, 7, 5], image[1, 0, 0, 0] = _NAN, _NAN, -_INF
    blocks = image.reshape(2, 3, 4, 2, 3, 2)
    yield once(f"{_F}.max_pool2d", (image, 2), blocks.max((3, 5)))
    yield once(f"{_F}.avg_pool2d", (image, 2), blocks.mean((3, 5)))
    yield from row_cases()


def _product_cases() -> Iterator[Any]:
    """Products by their definition: 0 times NaN and 0 times infinity are NaN (IEEE 754).

    The sign of a zero is not compared: it depends on the order of summation.
    """
    a, b = integers((7, 16), -2, 2, 201).copy(), integers((16, 9), -2, 2, 202).copy()
    finite_a, finite_b = a.copy(), b.copy()
    b[3, 4] = b[5, 2] = 0
    a[1, 3], a[2, 5], a[4, 0], a[4, 8] = _NAN, _INF, -_INF, _INF
    b[2, 1], b[7, 6] = _NAN, -_INF
    product = np.einsum("ik,kj->ij", a, b)
    ignored, added = np.full((7, 9), _NAN, F32), integers((7, 9), -2, 2, 203).copy()
    ignored[::2] = _INF
    added[6, 8], added[0, 0] = _NAN, _INF
    plain_product = np.einsum("ik,kj->ij", finite_a, finite_b)
    yield once("mm", (a, b), product, 0.0)
    yield once("bmm", (np.stack([finite_a, a]), np.stack([b, b])), _batched(finite_a, a, b), 0.0)
    yield once("mv", (a, b[:, 1].copy()), product[:, 1], 0.0)
    yield once("dot", (a[2], b[:, 2].copy()), product[2, 2], 0.0)
    yield once(f"{_F}.linear", (a, b.T.copy(), added[6].copy()), product + added[6], 0.0)
    yield once("addmm", (added, finite_a, finite_b), added + plain_product, 0.0)
    # "If beta is 0, then input will be ignored, and nan and inf in it will not be propagated."
    yield once("addmm", (ignored, finite_a, finite_b), plain_product, 0.0, beta=0)
    column = finite_b[:, 0].copy()
    yield once("addmv", (ignored[:, 0].copy(), finite_a, column), plain_product[:, 0], 0.0, beta=0)
    pair = (finite_a[None].copy(), finite_b[None].copy())
    yield once("baddbmm", (ignored[None].copy(), *pair), plain_product[None], 0.0, beta=0)
    yield once("addbmm", (ignored, *pair), plain_product, 0.0, beta=0)
    outer = np.outer(finite_a[:, 0], finite_b[0])
    yield once("addr", (ignored, finite_a[:, 0].copy(), finite_b[0].copy()), outer, 0.0, beta=0)


def _batched(first: Array, second: Array, b: Array) -> Array:
    return np.stack([np.einsum("ik,kj->ij", each, b) for each in (first, second)])


def _convolved(device: str) -> Iterator[Comparison]:
    """A NaN reaches all outputs whose window has it, through weights of 0 too.

    It may reach others: Winograd's and FFT's algorithms share a transformed tile.
    """
    image, weight = integers((1, 3, 9, 9), -3, 3, 204).copy(), integers((4, 3, 3, 3), -1, 1, 205)
    image[0, 1, 4, 5] = _NAN
    call = torch.nn.functional.conv2d
    found = call(on_device(image, device), on_device(weight, device)).cpu().numpy()
    reached = found[:, :, 2:5, 3:6]
    yield compare(f"{_F}.conv2d (NaN in the window)", reached, np.full_like(reached, _NAN))


def _selection_cases() -> Iterator[Trial]:
    """What is selected arrives, what is not leaves no trace."""
    x, mask = integers((9, 37), -9, 9, 206).copy(), integers((9, 37), 0, 1, 207) > 0
    nothing = np.full((9, 37), _NAN, F32)
    nothing[:, ::3] = _INF
    yield once("where", (mask, x, nothing), np.where(mask, x, nothing))
    yield once("where", (mask, nothing, x), np.where(mask, nothing, x))
    yield once("where", (mask, x, _NAN), np.where(mask, x, F32(_NAN)))
    yield once("where", (mask, -_INF, x), np.where(mask, F32(-_INF), x))
    yield once("masked_fill", (x, mask, _NAN), np.where(mask, F32(_NAN), x))
    yield once("masked_fill", (nothing, mask, 5.0), np.where(mask, F32(5), nothing))
    yield once("masked_select", (nothing, mask), nothing[mask])
    yield once("nan_to_num", (nothing, 4.0, 5.0), np.where(np.isnan(nothing), F32(4), F32(5)))
    x[2, 3], x[5, 5], x[8, 36] = _NAN, _INF, -_INF
    low, high = np.full_like(x, -3), np.full_like(x, 4)
    yield once("clamp", (x, low, high), np.clip(x, -3, 4), 0.0)
    yield once("clamp", (x, -3.0, 4.0), np.clip(x, -3, 4), 0.0)
    yield once("mul", (x, 0.0), x * F32(0), 0.0)
    yield once("sub", (x, x), x - x)


def _activated(name: str, device: str) -> Iterator[Comparison]:
    x = integers((67,), -9, 9, 208).copy()
    x[[0, 33, 66]] = _NAN
    found = getattr(torch.nn.functional, name)(on_device(x, device)).isnan()
    yield compare(f"{_F}.{name} (NaN)", found, np.isnan(x))
