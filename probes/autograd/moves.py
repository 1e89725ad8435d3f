"""Cases of operations that move, repeat, drop or add up whole elements."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from probes.autograd.exact import Case, Indices, movement
from probes.kit.gradients import Array, integers

_X, _Y = integers((4, 6), 51), integers((3, 6), 52)
_VECTOR = integers((11,), 53)
_IMAGE = integers((2, 4, 3, 5), 54)
_DISTINCT = (np.arange(24.0) * 7 % 25 - 11.5).reshape(4, 6)  # no two equal
_TWICE = np.array([3, 0, 3, 1, 0, 3])  # some indices repeat, 2 is missing
_PICKS = np.array([[0, 5, 5, 2], [1, 1, 1, 1], [3, 4, 0, 3], [5, 0, 2, 5]])
_COLUMNS = np.array([[0, 5], [4, 1], [3, 2], [5, 0]])  # no repetition in a row
_MASK = (np.arange(24) * 5 % 7 > 3).reshape(4, 6)
_TABLE = integers((5, 3), 55)
_WORDS = np.array([[1, 4, 1], [0, 1, 4]])  # rows 2 and 3 are missing, row 1 comes three times


def _index_like(like: torch.Tensor, index: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(index).to(like.device)


def _padded(indices: Indices, width: tuple[tuple[int, int], ...], mode: str) -> Indices:
    return np.pad(indices, width, mode=mode)  # type: ignore[call-overload,no-any-return]


def _scattered(indices: Indices, sources: Indices) -> Indices:
    out: Indices = indices.copy()
    np.put_along_axis(out, _COLUMNS, sources, 1)
    return out


def _add_at(total: Array, rows: Indices, upstream: Array) -> Array:
    np.add.at(total, rows, upstream)
    return total


def _under_mask(indices: Indices, others: Indices) -> Indices:
    out: Indices = indices.copy()
    out[_MASK] = others.ravel()[: int(_MASK.sum())]
    return out


def _with_row(indices: Indices, row: int, row_indices: Indices) -> Indices:
    out: Indices = indices.copy()
    out[row] = row_indices
    return out


def _pooled_indices(indices: Indices) -> Indices:
    """The index of the largest element of each 2 x 3 block of `_DISTINCT`."""
    blocks = _DISTINCT.reshape(2, 2, 2, 3).swapaxes(1, 2).reshape(2, 2, 6)
    spots = indices.reshape(2, 2, 2, 3).swapaxes(1, 2).reshape(2, 2, 6)
    return np.take_along_axis(spots, blocks.argmax(-1)[..., None], -1)[..., 0]


SHAPES: Final[tuple[Case, ...]] = (
    movement("transpose", (_X,), lambda x: x.t().contiguous(), lambda p: p.T),
    movement(
        "permute", (_IMAGE,), lambda x: x.permute(2, 0, 3, 1), lambda p: p.transpose(2, 0, 3, 1)
    ),
    movement("reshape", (_X,), lambda x: x.t().reshape(3, 8), lambda p: p.T.reshape(3, 8)),
    movement("view", (_X,), lambda x: x.view(2, 3, 4), lambda p: p.reshape(2, 3, 4)),
    movement("expand", (_VECTOR,), lambda x: x.expand(3, 11), lambda p: np.tile(p, (3, 1))),
    movement("repeat", (_X,), lambda x: x.repeat(2, 3), lambda p: np.tile(p, (2, 3))),
    movement(
        "repeat_interleave", (_X,), lambda x: x.repeat_interleave(3, 1), lambda p: p.repeat(3, 1)
    ),
    movement(
        "cat", (_X, _Y), lambda x, y: torch.cat((x, y, x)), lambda p, q: np.concatenate((p, q, p))
    ),
    movement(
        "stack", (_X, _X + 2), lambda x, y: torch.stack((x, y), 1), lambda p, q: np.stack((p, q), 1)
    ),
    movement("split", (_X,), lambda x: x.split(2, 1)[1], lambda p: p[:, 2:4]),
    movement("select", (_X,), lambda x: x.select(1, 5), lambda p: p[:, 5]),
    movement("unbind", (_X,), lambda x: torch.unbind(x, 1)[4], lambda p: p[:, 4]),
    movement("slice", (_X,), lambda x: x[1::2, :5:3], lambda p: p[1::2, :5:3]),
    movement("narrow", (_VECTOR,), lambda x: x.narrow(0, 3, 5), lambda p: p[3:8]),
    movement(
        "as_strided",
        (_VECTOR,),
        lambda x: x.as_strided((4, 3), (2, 1), 1),
        lambda p: p[1 + 2 * np.arange(4)[:, None] + np.arange(3)],
    ),
    movement(
        "unfold",
        (_VECTOR,),
        lambda x: x.unfold(0, 4, 3),
        lambda p: p[3 * np.arange(3)[:, None] + np.arange(4)],
    ),
    movement("flip", (_X,), lambda x: x.flip(0, 1), lambda p: p[::-1, ::-1]),
    movement(
        "roll", (_X,), lambda x: x.roll((1, -2), (0, 1)), lambda p: np.roll(p, (1, -2), (0, 1))
    ),
    movement("diagonal", (_X,), lambda x: x.diagonal(1), lambda p: p.diagonal(1)),
    movement("tril", (_X,), torch.tril, lambda p: np.where(np.tri(4, 6) > 0, p, -1)),
    movement(
        "pad constant",
        (_X,),
        lambda x: functional.pad(x, (1, 2, 0, 3), value=7.0),
        lambda p: np.pad(p, ((0, 3), (1, 2)), constant_values=-1),
    ),
    movement(
        "pad reflect",
        (_IMAGE,),
        lambda x: functional.pad(x, (2, 1, 1, 2), mode="reflect"),
        lambda p: _padded(p, ((0, 0), (0, 0), (1, 2), (2, 1)), "reflect"),
    ),
    movement(
        "pad replicate",
        (_IMAGE,),
        lambda x: functional.pad(x, (2, 1, 1, 2), mode="replicate"),
        lambda p: _padded(p, ((0, 0), (0, 0), (1, 2), (2, 1)), "edge"),
    ),
    movement(
        "upsample nearest",
        (_IMAGE,),
        lambda x: functional.interpolate(x, scale_factor=2),
        lambda p: p.repeat(2, 2).repeat(2, 3),
    ),
    movement(
        "pixel_shuffle",
        (_IMAGE,),
        lambda x: functional.pixel_shuffle(x, 2),
        lambda p: p.reshape(2, 1, 2, 2, 3, 5).transpose(0, 1, 4, 2, 5, 3).reshape(2, 1, 6, 10),
    ),
)

INDEXING: Final[tuple[Case, ...]] = (
    movement(
        "embedding",
        (_TABLE,),
        lambda t: functional.embedding(_index_like(t, _WORDS), t),
        lambda p: p[_WORDS],
        in_halves=True,
    ),
    movement(
        "embedding padding",
        (_TABLE,),
        lambda t: functional.embedding(_index_like(t, _WORDS), t, padding_idx=4),
        lambda p: np.where((_WORDS == 4)[..., None], -1, p[_WORDS]),
    ),
    movement(
        "index_select",
        (_X,),
        lambda x: x.index_select(0, _index_like(x, _TWICE)),
        lambda p: p[_TWICE],
        in_halves=True,
    ),
    movement(
        "gather",
        (_X,),
        lambda x: x.gather(1, _index_like(x, _PICKS)),
        lambda p: np.take_along_axis(p, _PICKS, 1),
        in_halves=True,
    ),
    movement("take", (_X,), lambda x: x.take(_index_like(x, _PICKS)), lambda p: p.ravel()[_PICKS]),
    movement(
        "integer index",
        (_X,),
        lambda x: x[_index_like(x, _TWICE), _index_like(x, _TWICE[::-1].copy())],
        lambda p: p[_TWICE, _TWICE[::-1]],
        in_halves=True,
    ),
    movement("boolean index", (_X,), lambda x: x[_index_like(x, _MASK)], lambda p: p[_MASK]),
    movement(
        "masked_select", (_X,), lambda x: x.masked_select(_index_like(x, _MASK)), lambda p: p[_MASK]
    ),
    movement(
        "masked_scatter",
        (_X, _Y),
        lambda x, y: x.masked_scatter(_index_like(x, _MASK), y),
        _under_mask,
    ),
    movement(
        "scatter",
        (_X, integers((4, 2), 56)),
        lambda x, s: x.scatter(1, _index_like(x, _COLUMNS), s),
        _scattered,
    ),
    movement(
        "index_copy",
        (_X, _Y[:2].copy()),
        lambda x, y: x.index_copy(0, _index_like(x, _TWICE[:2].copy()), y),
        lambda p, q: _with_row(_with_row(p, 3, q[0]), 0, q[1]),
    ),
    movement(
        "index_fill",
        (_X,),
        lambda x: x.index_fill(0, _index_like(x, _TWICE[3:4].copy()), 7.0),
        lambda p: _with_row(p, 1, np.full(6, -1)),
    ),
    movement(
        "select_scatter",
        (_X, _Y[0].copy()),
        lambda x, y: torch.select_scatter(x, y, 0, 2),
        lambda p, q: _with_row(p, 2, q),
    ),
)

ORDERS: Final[tuple[Case, ...]] = (
    movement(
        "sort",
        (_DISTINCT,),
        lambda x: x.sort(1, descending=True).values,
        lambda p: np.take_along_axis(p, (-_DISTINCT).argsort(1), 1),
    ),
    movement(
        "topk",
        (_DISTINCT,),
        lambda x: x.topk(3, 1).values,
        lambda p: np.take_along_axis(p, (-_DISTINCT).argsort(1)[:, :3], 1),
    ),
    movement(
        "max of rows",
        (_DISTINCT,),
        lambda x: x.max(1).values,
        lambda p: np.take_along_axis(p, _DISTINCT.argmax(1)[:, None], 1)[:, 0],
    ),
    movement(
        "median",
        (_DISTINCT[:, :5].copy(),),
        lambda x: x.median(1).values,
        lambda p: np.take_along_axis(p, _DISTINCT[:, :5].argsort(1)[:, 2:3], 1)[:, 0],
    ),
    movement(
        "max_pool2d",
        (_DISTINCT.reshape(1, 1, 4, 6),),
        lambda x: functional.max_pool2d(x, (2, 3)),
        lambda p: _pooled_indices(p[0, 0])[None, None],
    ),
)

ADDITIONS: Final[tuple[Case, ...]] = (
    Case(
        "index_add",
        (_X, integers((6, 6), 57)),
        lambda x, y: x.index_add(0, _index_like(x, _TWICE), y),
        lambda g, _x, _y: (g, g[_TWICE]),
        in_halves=True,
    ),
    Case(
        "scatter_add",
        (_X, integers((4, 4), 58)),
        lambda x, y: x.scatter_add(1, _index_like(x, _PICKS), y),
        lambda g, _x, _y: (g, np.take_along_axis(g, _PICKS, 1)),
        in_halves=True,
    ),
    Case(
        "index_put accumulate",
        (_X, integers((6, 6), 59)),
        lambda x, y: x.index_put((_index_like(x, _TWICE),), y, accumulate=True),
        lambda g, _x, _y: (g, g[_TWICE]),
    ),
    Case(
        "embedding_bag",
        (_TABLE,),
        lambda t: functional.embedding_bag(_index_like(t, _WORDS), t, mode="sum"),
        lambda g, t: (_add_at(np.zeros_like(t), _WORDS, g[:, None, :]),),
    ),
)
