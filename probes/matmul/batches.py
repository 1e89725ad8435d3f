"""Products of batches: contiguous, by other strides, of one matrix for all, and broadcast."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.case import Array, on_device
from probes.kit.trial import Custom, Trial
from probes.matmul.factors import SPANS, factors, into, same, text
from probes.matmul.libraries import others, preferred, suffix

_COUNT: Final = 5
_SHAPE: Final = (33, 129, 66)


def batches(device: str) -> Iterator[Trial]:
    """Batches of each layout in each type and library."""
    for dtype, library in product(floats(device), ("", *others(device))):
        yield Custom(f"bmm{suffix(library)}", partial(_strided, dtype, library), dtype)
        yield Custom(f"matmul{suffix(library)}", partial(_broadcast, dtype, library), dtype)


def _operands(dtype: torch.dtype) -> tuple[Array, Array, Array]:
    """Shapes (5, 33, 129), (5, 129, 66), (5, 33, 66)."""
    each = [factors(*_SHAPE, SPANS[dtype], 10 + place) for place in range(_COUNT)]
    a, b, right = (np.stack(arrays) for arrays in zip(*each, strict=True))
    return a, b, right


def _layouts(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The batch as it is, with matrices by columns, and with rows apart by a whole batch."""
    return {
        "contiguous": x,
        "by columns": x.mT.contiguous().mT,
        "batch inside": x.transpose(0, 1).contiguous().transpose(0, 1),
    }


def _strided(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    a, b, right = _operands(dtype)
    left, other = _layouts(on_device(a, device, dtype)), _layouts(on_device(b, device, dtype))
    name = f"bmm{suffix(library)} ({text(dtype)}"
    with preferred(library):
        sign = 1  # so that no result is that of the call before
        for (how_a, x), (how_b, y) in product(left.items(), other.items()):
            found = into(torch.bmm, sign * x, y, like=right, dtype=dtype)
            yield same(f"{name}, {how_a} @ {how_b})", found, sign * right, dtype)
            sign = -sign
        x, y = left["contiguous"], other["contiguous"]
        every = torch.bmm(x[:1].expand(_COUNT, -1, -1), y)
        yield same(f"{name}, one for all)", every[0], right[0], dtype)
        once = torch.bmm(x, y[1:2].expand(_COUNT, -1, -1))
        yield same(f"{name}, all by one)", once[1], right[1], dtype)
        yield same(f"{name}, every second)", torch.bmm(x[::2], y[::2]), right[::2], dtype)
        yield same(f"{name}, a single one)", torch.bmm(x[4:], y[4:]), right[4:], dtype)


def _broadcast(dtype: torch.dtype, library: str, device: str) -> Iterator[Comparison]:
    """(5, 33, 129) @ (129, 66), (5, 1, 33, 129) @ (1, 129, 66), (33, 129) @ (1, 1, 129, 66)."""
    each = factors(_COUNT * _SHAPE[0], *_SHAPE[1:], SPANS[dtype], 20)
    a, b = each.on(device, dtype)
    stacked = a.view(_COUNT, *_SHAPE[:2])
    right = each.product.reshape(_COUNT, _SHAPE[0], _SHAPE[2])
    name = f"matmul{suffix(library)} ({text(dtype)}"
    with preferred(library):
        yield same(f"{name}, 3 by 2 axes)", torch.matmul(stacked, b), right, dtype)
        found = torch.matmul(stacked[:, None], b[None])
        yield same(f"{name}, 4 by 3 axes)", found, right[:, None], dtype)
        found = torch.matmul(stacked[2], b[None, None])
        yield same(f"{name}, 2 by 4 axes)", found, right[None, None, 2], dtype)
        found = torch.matmul(stacked, b[:, 7])
        yield same(f"{name}, 3 by 1 axes)", found, right[..., 7], dtype)
