"""The formula of nn.MultiheadAttention in float64, its operands, and the error that is allowed.

Each row of a projection has one large weight, so that its sum does not cancel.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from probes.attention import reference
from probes.attention.bounds import Array, Bounded, Units, exact, product
from probes.attention.problems import rounded
from probes.kit.operands import fractions

_BATCH, _LENGTH, _HEADS, _SIZE = 2, 40, 4, 16  # fused only with an even number of heads
_WIDTH = _HEADS * _SIZE


class Setting(NamedTuple):
    """One way of calling the module."""

    name: str
    mask: Literal["", "bool", "float", "causal"] = ""
    padding: bool = False
    keys: int = 0  # of cross-attention; 0: the key is the query
    weights: Literal["", "heads", "mean"] = ""
    batch_first: bool = True


class Layer:
    """The operands of a setting; masks of bool are True for what is seen."""

    heads = _HEADS

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        keys = setting.keys or _LENGTH
        self.query = _inputs(_LENGTH, 41)
        self.key = _inputs(keys, 43) if setting.keys else self.query
        self.upstream = rounded(0.5 + 0.4 * _drawn((_BATCH, _LENGTH, _WIDTH), 45))
        projection = np.concatenate([_weights(47), 0.75 * _weights(47), _weights(49)])
        self.parameters = {
            "in_proj_weight": rounded(projection),
            "in_proj_bias": rounded(0.25 * _drawn((3 * _WIDTH,), 51)),
            "out_proj.weight": rounded(_weights(53)),
            "out_proj.bias": rounded(0.5 * _drawn((_WIDTH,), 55)),
        }
        drawn = fractions((_LENGTH, keys), 57)
        self.mask: Array = drawn < 0.6
        self.mask[:, 0] = True  # a row that sees nothing is not documented
        if setting.mask == "float":
            self.mask = np.round(16 * drawn - 8) / 8
        elif setting.mask == "causal":
            self.mask = np.tri(_LENGTH, keys, dtype=bool)
        self.padding = np.arange(keys) < np.array([[keys], [keys // 2]])  # (B, S)

    def bias(self) -> Array:
        """What is added to the scores."""
        bias = np.zeros((1, 1, 1, 1))
        if self.setting.mask == "float":
            bias = bias + self.mask
        elif self.setting.mask:
            bias = bias + np.where(self.mask, 0, -np.inf)
        if self.setting.padding:
            bias = bias + np.where(self.padding, 0, -np.inf)[:, None, None]
        return bias


class Expected(NamedTuple):
    """The outputs, and what backward takes up."""

    output: Bounded  # (B, L, E)
    weights: Bounded | None  # (B, H, L, S), or (B, L, S) in the mean
    heads: tuple[Bounded, Bounded, Bounded]  # query, key, value: (B, H, L or S, E / H)
    attention: reference.Forward
    joined: Bounded  # (B, L, E): the heads' outputs before the last projection


def _drawn(shape: tuple[int, ...], salt: int) -> Array:
    return 2 * fractions(shape, salt) - 1


def _inputs(length: int, salt: int) -> Array:
    """A hidden number of each token along one direction, and noise."""
    hidden = 1.2 * _drawn((_BATCH, length, 1), salt)
    direction = np.where(_drawn((_WIDTH,), 59) < 0, -1, 1)
    return rounded(hidden * direction + 0.25 * _drawn((_BATCH, length, _WIDTH), salt + 30))


def _weights(salt: int) -> Array:
    """A matrix with one large weight in each row and column, and a small one in each."""
    order = np.argsort(fractions((_WIDTH,), salt))
    matrix = np.zeros((_WIDTH, _WIDTH))
    rows = np.arange(_WIDTH)
    matrix[rows, order] = 0.9 + 0.2 * _drawn((_WIDTH,), salt + 1)
    matrix[rows, np.roll(order, 1)] = 0.1 * _drawn((_WIDTH,), salt + 2)
    return matrix


def _apart(values: Bounded) -> Bounded:
    """(B, L, E) as heads: (B, H, L, E / H)."""
    return values.moved(
        lambda array: array.reshape(_BATCH, -1, _HEADS, _SIZE).transpose(0, 2, 1, 3)
    )


def _together(heads: Bounded) -> Bounded:
    """The inverse of `_apart`."""
    return heads.moved(lambda array: array.transpose(0, 2, 1, 3).reshape(_BATCH, -1, _WIDTH))


layer = lru_cache(2)(Layer)


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
    found = reference.forward(query, key, value, _SIZE**-0.5, each.bias(), by)
    joined = _together(found.output)
    output = product(joined, exact(each.parameters["out_proj.weight"].T), by)
    output = output.plus(exact(each.parameters["out_proj.bias"]), by.stored)
    shares: Bounded | None = None
    if setting.weights == "heads":
        shares = found.probabilities
    elif setting.weights == "mean":
        total = found.probabilities.summed((1,), by.stored).times(1 / _HEADS)
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
        product(_rows(part).swapped(), exact(given.reshape(-1, _WIDTH)), by)
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
    return values.moved(lambda array: array.reshape(-1, _WIDTH))


def _total(values: Bounded, by: Units) -> Bounded:
    """The sum over all tokens, (E, 1)."""
    rows = _rows(values)
    return rows.summed((0,), rows.value.shape[0] * by.inner + by.stored).swapped()


def _joined(parts: list[Bounded]) -> Bounded:
    return Bounded(
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.error for part in parts]),
    )
