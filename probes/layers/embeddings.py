"""Embeddings and bags of them: rows picked from a table, and the gradients of the table."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.layer import FLOATS, Backward, Layer, compared, linear, trials
from probes.kit.operands import integers, odd
from probes.kit.references import UNIT_ROUNDOFF, compare, fact
from probes.kit.rounding import Array, Rounded, exact, selected
from probes.kit.trial import Custom, Trial

_ROWS, _WIDTH = 11, 6
_TABLE: Final = odd((_ROWS, _WIDTH), 221)

#: Rows are picked never, once, twice, four times, eight times: counts that divide exactly.
_TOKENS: Final = np.array(
    [[3, 7, 7, 0, 9, 9], [9, 1, 9, 7, 3, 7], [5, 5, 5, 5, 5, 5], [5, 5, 2, 4, 10, 8]]
)
_PADDING: Final = 7
_UNIT: Final = UNIT_ROUNDOFF[torch.float32]

#: Bags of 3, 0, 5, 1 and 4 tokens.
_OFFSETS: Final = np.array([0, 3, 3, 8, 9])
_BAGGED: Final = np.array([3, 7, 7, 0, 9, 9, 1, 7, 4, 5, 2, 10, 6])


def embedding(device: str) -> Iterator[Trial]:
    """Rows by index; padding, frequency, sparse gradients, and rows that are renormalised."""
    layers = [
        Layer("embedding", partial(_embed, torch.int64, {}), (_TABLE,), linear(_rows, 2)),
        Layer("embedding", partial(_embed, torch.int32, {}), (_TABLE,), linear(_rows, 2), "int32"),
        Layer(
            "embedding",
            partial(_embed, torch.int64, {"padding_idx": _PADDING}),
            (_TABLE,),
            _padded,
            f"padding_idx={_PADDING}",
        ),
        Layer(
            "embedding",
            partial(_embed, torch.int64, {"padding_idx": _PADDING - _ROWS}),
            (_TABLE,),
            _padded,
            f"padding_idx={_PADDING - _ROWS}",
        ),
        Layer(
            "embedding",
            partial(_embed, torch.int64, {"scale_grad_by_freq": True}),
            (_TABLE,),
            _by_frequency,
            "scale_grad_by_freq",
        ),
    ]
    yield from trials(layers, device)
    yield Custom("embedding sparse", _sparse, torch.float32)
    for power in (1, 2):
        yield Custom("embedding max_norm", partial(_renormalised, power), torch.float32)


def bags(device: str) -> Iterator[Trial]:
    """Sums, means and maxima of bags, empty ones too, with weights, padding and both layouts."""
    layers = []
    weights = integers((_BAGGED.size,), 1, 4, 222).astype(np.float64) / 4
    square = _TOKENS[:, :4]
    for mode in ("sum", "mean"):
        for padding in (None, _PADDING):
            for layout in ("offsets", "last offset", "rows"):
                tokens, ends = (_BAGGED, _OFFSETS) if layout != "rows" else (square, None)
                options: dict[str, Any] = {
                    "mode": mode,
                    "padding_idx": padding,
                    "include_last_offset": layout == "last offset",
                }
                layers.append(
                    Layer(
                        f"embedding_bag {mode}",
                        partial(_bag, tokens, ends, options),
                        (_TABLE,),
                        linear(partial(_bagged, tokens, ends, mode, padding), 2),
                        f"{layout}, padding_idx={padding}",
                    )
                )
    layers.append(
        Layer("embedding_bag weighted", _weighted_bag, (_TABLE, weights), _weighted, "sum")
    )
    yield from trials(layers, device)
    for dtype in FLOATS[:2]:
        for padding in (None, _PADDING):
            yield Custom("embedding_bag max", partial(_largest, dtype, padding), dtype)
    for mode in ("sum", "mean"):
        yield Custom(f"embedding_bag {mode}", partial(_sparse_bag, mode), torch.float32)


def _index(values: Any, like: torch.Tensor, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.from_numpy(np.array(values)).to(like.device, dtype)


def _embed(dtype: torch.dtype, options: dict[str, Any], table: torch.Tensor) -> torch.Tensor:
    return functional.embedding(_index(_TOKENS, table, dtype), table, **options)


def _rows(table: Array) -> Array:
    return table[:, _TOKENS]


def _padded(table: Rounded) -> tuple[Rounded, Backward]:
    """The row of the padding gets no gradient."""
    out, plain = linear(_rows, 2)(table)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        (gradient,) = plain(g)
        return (selected(np.arange(_ROWS)[:, None] != _PADDING, gradient, 0.0),)

    return out, backward


def _by_frequency(table: Rounded) -> tuple[Rounded, Backward]:
    """A row's gradient is divided by how often it was picked, which is a power of 2."""
    out, plain = linear(_rows, 2)(table)
    counts = np.maximum(np.bincount(_TOKENS.ravel(), minlength=_ROWS), 1)[:, None]

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        (gradient,) = plain(g)
        return (gradient.moved(lambda array: array / counts),)

    return out, backward


def _sparse(device: str) -> Iterator[Comparison]:
    """The gradient holds the picked rows only, with the sums of a dense one."""
    table = leaf(_TABLE, device)
    out = functional.embedding(_index(_TOKENS, table), table, sparse=True)
    upstream = odd((*_TOKENS.shape, _WIDTH), 223)
    (gradient,) = torch.autograd.grad(root(out, tensor(upstream, device)), table)
    dense = np.zeros_like(_TABLE)
    np.add.at(dense, _TOKENS.ravel(), upstream.reshape(-1, _WIDTH))
    yield fact("embedding sparse (layout)", str(gradient.layout), "torch.sparse_coo")
    summed = gradient.coalesce()
    picked = np.array(sorted(set(_TOKENS.ravel().tolist())))
    yield compare("embedding sparse (rows)", summed.indices()[0], picked)
    yield compare(
        "embedding sparse (values)", host(summed.values()), dense[picked].astype(np.float32)
    )


def _renormalised(power: int, device: str) -> Iterator[Comparison]:
    """Picked rows above the norm are scaled to it, in the table too; others stay."""
    limit = 4.0 if power == 2 else 9.0
    table = tensor(_TABLE, device)
    out = functional.embedding(
        _index(_TOKENS, table), table, max_norm=limit, norm_type=float(power)
    )
    norms = (np.abs(_TABLE) ** power).sum(1, keepdims=True) ** (1 / power)
    picked = (np.arange(_ROWS)[:, None, None] == _TOKENS).any((1, 2))[:, None]
    right = np.where(picked & (norms > limit), _TABLE * limit / norms, _TABLE)
    # torch divides by the norm and 1e-7; a norm of 6 squares and a quotient are rounded.
    allowed = np.abs(right) * (1e-7 + 32 * 2.0**-24)
    yield compare("embedding max_norm (table)", table, right, allowed)
    yield compare("embedding max_norm (rows)", out, right[_TOKENS], allowed[_TOKENS])
    whole = np.where(picked & (norms > limit), 0, _TABLE).astype(np.float32)
    kept = (picked & (norms > limit))[:, 0]
    yield compare(
        "embedding max_norm (others)", table[_index(~kept, table, torch.bool)], whole[~kept]
    )


def _bag(tokens: Any, offsets: Any, options: dict[str, Any], table: torch.Tensor) -> torch.Tensor:
    where = None
    if offsets is not None:
        ends = [*offsets, tokens.size] if options["include_last_offset"] else offsets
        where = _index(ends, table)
    return functional.embedding_bag(_index(tokens, table), table, where, **options)


def _bag_list(tokens: Any, offsets: Any) -> list[Any]:
    """The tokens of each bag."""
    return list(tokens) if offsets is None else np.split(tokens, offsets[1:])


def _bagged(tokens: Any, offsets: Any, mode: str, padding: int | None, table: Array) -> Array:
    """Sums or means of each bag, zero for an empty one: (B, V, W) as (B, bags, W)."""
    parts = []
    for each in _bag_list(tokens, offsets):
        rows = table[:, each[each != padding] if padding is not None else each]
        total = rows.sum(1)
        parts.append(total / max(rows.shape[1], 1) if mode == "mean" else total)
    return np.stack(parts, 1)


def _weighted_bag(table: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return functional.embedding_bag(
        _index(_BAGGED, table),
        table,
        _index(_OFFSETS, table),
        mode="sum",
        per_sample_weights=weights,
    )


def _weighted(table: Rounded, weights: Rounded) -> tuple[Rounded, Backward]:
    """The weighted sum of each bag; weights get the products of gradients and rows."""
    bag = np.searchsorted(_OFFSETS, np.arange(_BAGGED.size), "right") - 1
    spread = np.eye(len(_OFFSETS))[bag] * weights.value[:, None]  # (tokens, bags)
    picks = np.eye(_ROWS)[_BAGGED]  # (tokens, rows)
    matrix = table.exactly(spread.T @ picks)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        products = (g[bag] * table[_BAGGED]).stored().total(1, keepdims=False)
        return matrix.T @ g, products

    return matrix @ table, backward


def _sparse_bag(mode: str, device: str) -> Iterator[Comparison]:
    """The sparse gradient has the sums of the dense one."""
    table = leaf(_TABLE, device)
    options = {"mode": mode, "sparse": True, "include_last_offset": False}
    out = _bag(_BAGGED, _OFFSETS, options, table)
    upstream = odd((len(_OFFSETS), _WIDTH), 225)
    (gradient,) = torch.autograd.grad(root(out, tensor(upstream, device)), table)
    yield fact(f"embedding_bag {mode} (layout)", str(gradient.layout), "torch.sparse_coo")
    _, plain = linear(partial(_bagged, _BAGGED, _OFFSETS, mode, None), 2)(exact(_TABLE, _UNIT))
    (right,) = plain(exact(upstream, _UNIT))
    dense = gradient.to_dense()
    label = f"embedding_bag {mode} (sparse, float32)"
    yield from compared(label, dense, right, torch.float32)


def _largest(dtype: torch.dtype, padding: int | None, device: str) -> Iterator[Comparison]:
    """The largest element of each column of a bag; its row gets the gradient."""
    values = (np.arange(_ROWS * _WIDTH) * 37 % (_ROWS * _WIDTH) - 30.0).reshape(_ROWS, _WIDTH)
    table = leaf(values, device, dtype)
    offsets = np.array([0, 3, 8])
    out = functional.embedding_bag(
        _index(_BAGGED[:9], table), table, _index(offsets, table), mode="max", padding_idx=padding
    )
    upstream = odd((3, _WIDTH), 224)
    (gradient,) = torch.autograd.grad(root(out, tensor(upstream, device, dtype)), table)
    right, expected = np.zeros((3, _WIDTH)), np.zeros_like(values)
    for bag, every in enumerate(_bag_list(_BAGGED[:9], offsets)):
        tokens = every if padding is None else every[every != padding]
        right[bag] = values[tokens].max(0)
        best = tokens[values[tokens].argmax(0)]
        np.add.at(expected, (best, np.arange(_WIDTH)), upstream[bag])
    found = host(out)
    yield compare("embedding_bag max (values)", found, right.astype(found.dtype))
    yield compare("embedding_bag max (gradient)", host(gradient), expected.astype(found.dtype))
