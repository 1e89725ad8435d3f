"""Operands of nn.MultiheadAttention, and the ways of calling it.

Each row of a projection has one large weight, so that its sum does not cancel.
"""

from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np

from probes.attention.bounds import Array
from probes.attention.problems import rounded
from probes.kit.operands import fractions

BATCH: Final = 2
LENGTH: Final = 40
HEADS: Final = 4  # fused only with an even number
SIZE: Final = 16
WIDTH: Final = HEADS * SIZE


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

    heads = HEADS

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        keys = setting.keys or LENGTH
        self.query = _inputs(LENGTH, 41)
        self.key = _inputs(keys, 43) if setting.keys else self.query
        self.upstream = rounded(0.5 + 0.4 * _drawn((BATCH, LENGTH, WIDTH), 45))
        projection = np.concatenate([_weights(47), 0.75 * _weights(47), _weights(49)])
        self.parameters = {
            "in_proj_weight": rounded(projection),
            "in_proj_bias": rounded(0.25 * _drawn((3 * WIDTH,), 51)),
            "out_proj.weight": rounded(_weights(53)),
            "out_proj.bias": rounded(0.5 * _drawn((WIDTH,), 55)),
        }
        drawn = fractions((LENGTH, keys), 57)
        self.mask: Array = drawn < 0.6
        self.mask[:, 0] = True  # a row that sees nothing is not documented
        if setting.mask == "float":
            self.mask = np.round(16 * drawn - 8) / 8
        elif setting.mask == "causal":
            self.mask = np.tri(LENGTH, keys, dtype=bool)
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


def _drawn(shape: tuple[int, ...], salt: int) -> Array:
    return 2 * fractions(shape, salt) - 1


def _inputs(length: int, salt: int) -> Array:
    """A hidden number of each token along one direction, and noise."""
    hidden = 1.2 * _drawn((BATCH, length, 1), salt)
    direction = np.where(_drawn((WIDTH,), 59) < 0, -1, 1)
    return rounded(hidden * direction + 0.25 * _drawn((BATCH, length, WIDTH), salt + 30))


def _weights(salt: int) -> Array:
    """A matrix with one large weight in each row and column, and a small one in each."""
    order = np.argsort(fractions((WIDTH,), salt))
    matrix = np.zeros((WIDTH, WIDTH))
    rows = np.arange(WIDTH)
    matrix[rows, order] = 0.9 + 0.2 * _drawn((WIDTH,), salt + 1)
    matrix[rows, np.roll(order, 1)] = 0.1 * _drawn((WIDTH,), salt + 2)
    return matrix


layer = lru_cache(2)(Layer)
