"""The formula of nn.MultiheadAttention in float64, with the error that is allowed."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from probes.attention import reference
from probes.attention.bounds import Array, Bounded, Units, exact, product
from probes.attention.layer import BATCH, HEADS, SIZE, WIDTH, Setting, layer


class Expected(NamedTuple):
    """The outputs, and what backward takes up."""

    output: Bounded  # (B, L, E)
    weights: Bounded | None  # (B, H, L, S), or (B, L, S) in the mean
    heads: tuple[Bounded, Bounded, Bounded]  # query, key, value: (B, H, L or S, E / H)
    attention: reference.Forward
    joined: Bounded  # (B, L, E): the heads' outputs before the last projection


def _apart(values: Bounded) -> Bounded:
    """(B, L, E) as heads: (B, H, L, E / H)."""
    return values.moved(lambda array: array.reshape(BATCH, -1, HEADS, SIZE).transpose(0, 2, 1, 3))


def _together(heads: Bounded) -> Bounded:
    """The inverse of `_apart`."""
    return heads.moved(lambda array: array.transpose(0, 2, 1, 3).reshape(BATCH, -1, WIDTH))


def _projected(values: Array, weight: Array, bias: Array, by: Units) -> Bounded:
    return product(exact(values), exact(weight.T), by).plus(exact(bias), by.stored)


@lru_cache(2)
def expected(setting: Setting, by: Units) -> Expected:
    """The outputs of the module."""
    each = layer(setting)
    weights = np.split(each.parameters["in_proj_weight"], 3)
    biases = np.split(each.parameters["in_proj_bias"], 3)
    inputs = (each.query, each.key, each.key)
    query, key, value = (
        _apart(_projected(*given, by)) for given in zip(inputs, weights, biases, strict=True)
    )
    found = reference.forward(query, key, value, SIZE**-0.5, each.bias(), by)
    joined = _together(found.output)
    output = product(joined, exact(each.parameters["out_proj.weight"].T), by)
    output = output.plus(exact(each.parameters["out_proj.bias"]), by.stored)
    shares: Bounded | None = None
    if setting.weights == "heads":
        shares = found.probabilities
    elif setting.weights == "mean":
        total = found.probabilities.summed((1,), by.stored).times(1 / HEADS)
        shares = total.moved(lambda array: array[:, 0])
    return Expected(output, shares, (query, key, value), found, joined)


@lru_cache(2)
def gradients(setting: Setting, by: Units) -> dict[str, Bounded]:
    """The gradients of the query (in self-attention as key and value too) and of parameters."""
    each, found = layer(setting), expected(setting, by)
    upstream = exact(each.upstream)
    d_joined = product(upstream, exact(each.parameters["out_proj.weight"]), by)
    heads = reference.backward(found.attention, *found.heads, _apart(d_joined), by)
    parts = [_together(part) for part in (heads.query, heads.key, heads.value)]
    inputs = (each.query, each.key, each.key)
    in_weight = [
        product(_rows(part).swapped(), exact(given.reshape(-1, WIDTH)), by)
        for part, given in zip(parts, inputs, strict=True)
    ]
    in_bias = [_total(part, by) for part in parts]
    weights = np.split(each.parameters["in_proj_weight"], 3)
    d_inputs = [product(part, exact(w), by) for part, w in zip(parts, weights, strict=True)]
    d_query = d_inputs[0]
    if not setting.keys:
        for part in d_inputs[1:]:
            d_query = d_query.plus(part, by.stored)
    return {
        "query": d_query,
        "in_proj_weight": _joined(in_weight),
        "in_proj_bias": _joined(in_bias).moved(lambda array: array[:, 0]),
        "out_proj.weight": product(_rows(upstream).swapped(), _rows(found.joined), by),
        "out_proj.bias": _total(upstream, by).moved(lambda array: array[:, 0]),
    }


def _rows(values: Bounded) -> Bounded:
    """All tokens of all batches: (B L, E)."""
    return values.moved(lambda array: array.reshape(-1, WIDTH))


def _total(values: Bounded, by: Units) -> Bounded:
    """The sum over all tokens, (E, 1)."""
    rows = _rows(values)
    return rows.summed((0,), rows.value.shape[0] * by.inner + by.stored).swapped()


def _joined(parts: list[Bounded]) -> Bounded:
    return Bounded(
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.error for part in parts]),
    )
