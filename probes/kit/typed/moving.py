"""Views, joins, gathers and writes: nothing is computed, so that every bit is kept."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.case import Array, Case, case, on_device, plain, strided
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.kit.typed.values import ALL, REAL, Tables, Values

_SHAPE: Final = (5, 6, 7)
_ROWS: Final = np.array([4, 0, 2])


def _x(v: Values, salt: int = 30) -> Array:
    return v(_SHAPE, salt, -99, 99)


def _mask() -> Any:
    return integers(_SHAPE, 0, 1, 31, np.bool_)


def _views(v: Values) -> Iterator[Case]:
    x = _x(v)
    yield plain("Tensor.expand", (x[:, :1].copy(), _SHAPE), np.broadcast_to(x[:, :1], _SHAPE))
    yield plain("Tensor.expand", (x[0, 0].copy(), _SHAPE), np.broadcast_to(x[0, 0], _SHAPE))
    yield plain("unsqueeze", (x, 1), x[:, None])
    yield plain("squeeze", (x[:, :1].copy(),), x[:, 0])
    yield plain("squeeze", (x[:, :1].copy(), 1), x[:, 0])
    yield plain("Tensor.__getitem__", (x, ...), x)
    yield plain("Tensor.__getitem__", (x, (slice(1, 4), 2)), x[1:4, 2])
    yield plain("Tensor.__getitem__", (x, slice(None, None, 2)), x[::2])
    yield plain("select", (x, 1, -2), x[:, -2])
    yield plain("narrow", (x, 2, 1, 4), x[:, :, 1:5])
    yield plain("permute", (x, (2, 0, 1)), x.transpose(2, 0, 1))
    yield plain("transpose", (x, 0, 2), x.swapaxes(0, 2))
    yield plain("t", (x[0].copy(),), x[0].T)
    yield plain("reshape", (x, (6, 35)), x.reshape(6, 35))
    yield plain("diagonal", (x, 1, 0, 2), np.diagonal(x, 1, 0, 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, 2)[:, :, ::2]
    yield plain("Tensor.unfold", (x, 2, 3, 2), windows)
    yield plain("clone", (x,), x)
    yield plain("Tensor.contiguous", (x,), x)


def _repeated(v: Values) -> Iterator[Case]:
    x, counts = _x(v), np.array([2, 0, 1, 3, 1])
    yield plain("Tensor.repeat", (x, (2, 1, 3)), np.tile(x, (2, 1, 3)))
    yield plain("repeat_interleave", (x, 2, 1), np.repeat(x, 2, 1))
    yield plain("repeat_interleave", (x, counts, 0), np.repeat(x, counts, 0))
    yield plain("roll", (x, (3, -5), (1, 2)), np.roll(x, (3, -5), (1, 2)))
    yield plain("roll", (x, 4), np.roll(x, 4))
    yield plain("flip", (x, (0, 2)), x[::-1, :, ::-1])


def _joined(v: Values) -> Iterator[Case]:
    x, y = _x(v), _x(v, 32)
    yield case("cat", ([x, y[:, :2].copy()], 1), np.concatenate([x, y[:, :2]], 1))
    yield case("stack", ([x, y], 2), np.stack([x, y], 2))


def _padded(v: Values) -> Iterator[Case]:
    x = _x(v)
    padded = np.pad(x, ((0, 0), (2, 0), (1, 3)), constant_values=3)
    yield plain("nn.functional.pad", (x, (1, 3, 2, 0), "constant", 3), padded)


def _split(v: Values) -> Iterator[Case]:
    x = _x(v)
    threes = tuple(x[:, :, at : at + 3] for at in (0, 3, 6))
    yield plain("split", (x, 3, 2), threes)
    yield plain("unsafe_split", (x, 3, 2), threes)
    yield plain("split", (x, [1, 2, 3], 1), (x[:, :1], x[:, 1:3], x[:, 3:]))
    yield plain("chunk", (x, 2, 1), (x[:, :3], x[:, 3:]))
    yield plain("unbind", (x, 0), tuple(x))


def _reads(v: Values) -> Iterator[Case]:
    x, mask = _x(v), _mask()
    index = integers((5, 3, 7), 0, 5, 34, np.int64)
    yield plain("Tensor.__getitem__", (x, _ROWS), x[_ROWS])
    yield plain("Tensor.__getitem__", (x, mask), x[mask])
    yield case("index_select", (x, 1, _ROWS), x[:, _ROWS])
    yield case("gather", (x, 1, index), np.take_along_axis(x, index, 1))
    yield case("masked_select", (x, mask), x[mask])
    yield case("take", (x, index), x.ravel()[index])


def _writes(v: Values) -> Iterator[Case]:
    x, y, mask = _x(v), _x(v, 33), _mask()
    order = np.argsort(integers(_SHAPE, 0, 9999, 35, np.int64), 1, "stable")[:, :4]
    after, one = x.copy(), v.cast(np.array(1))
    np.put_along_axis(after, order, y[:, :4], 1)
    source = y[:, :4].copy()
    yield case("scatter", (x, 1, order, source), after)
    yield plain("Tensor.scatter_", (x, 1, order, source), after)
    ones = x.copy()
    np.put_along_axis(ones, order, one, 1)
    yield case("scatter", (x, 1, order, 1), ones)
    yield plain("Tensor.scatter_", (x, 1, order, 1), ones)
    yield plain("masked_fill", (x, mask, 1), np.where(mask, one, x))
    filled = x.copy()
    filled[mask] = y.ravel()[: mask.sum()]
    yield plain("masked_scatter", (x, mask, y), filled)
    rows = x.copy()
    rows[_ROWS] = y[:3]
    yield plain("index_copy", (x, 0, _ROWS, y[:3].copy()), rows)


def _parts(v: Values) -> Iterator[Case]:
    x = v((9, 11), 36, -99, 99)
    yield case("tril", (x, 1), np.tril(x, 1))
    yield case("triu", (x, -1), np.triu(x, -1))
    yield plain("Tensor.tril_", (x,), np.tril(x))
    yield plain("Tensor.triu_", (x,), np.triu(x))


#: Views, joins, reads and writes.
MOVING: Final[Tables] = (
    *((table, ALL) for table in (_views, _repeated, _joined, _split, _reads, _writes, _parts)),
    (_padded, REAL),
)


def assigned(device: str, dtypes: tuple[torch.dtype, ...] = ALL) -> Iterator[Trial]:
    """Writes through rows, masks and slices."""
    for dtype in dtypes:
        if has_dtype(device, dtype):
            yield Custom("Tensor.__setitem__", partial(_assigned, Values(dtype)), dtype)


def _assigned(v: Values, device: str) -> Iterator[Comparison]:
    kind = str(v.dtype).removeprefix("torch.")
    x, y, mask = _x(v), _x(v, 37), _mask()
    for place in (on_device, strided):
        for how, at, value in (
            ("rows", _ROWS, y[:3].copy()),
            ("mask", mask, y.ravel()[: mask.sum()].copy()),
            ("one value", mask, v.cast(np.array(1))),
            ("slice", np.s_[1:4, ::2], y[1:4, ::2].copy()),
        ):
            written, right = place(x, device, v.dtype), x.copy()
            index = on_device(at, device) if isinstance(at, np.ndarray) else at
            written[index] = place(value, device, v.dtype)
            right[at] = value
            yield compare(f"Tensor.__setitem__ ({kind}, {how})", written, right)
