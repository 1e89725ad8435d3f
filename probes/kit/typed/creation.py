"""Factories: values, shape and type."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from probes.kit.case import Array, Case, plain
from probes.kit.typed.values import ALL, FLOATS, REAL, Tables, Values

_SHAPE: Final = (3, 5)


def _made(v: Values, name: str, operands: tuple[Any, ...], expected: Array) -> Case:
    return replace(plain(name, operands, v.cast(expected), dtype=v.dtype), factory=True)


def _filled(v: Values) -> Iterator[Case]:
    x, zeros, ones = v(_SHAPE, 40), np.zeros(_SHAPE), np.ones(_SHAPE)
    three = v.cast(3 * ones)  # of truth values: true
    yield _made(v, "zeros", (_SHAPE,), zeros)
    yield _made(v, "ones", (_SHAPE,), ones)
    yield _made(v, "full", (_SHAPE, 3), three)
    yield _made(v, "eye", (3, 5), np.eye(3, 5))
    yield _made(v, "scalar_tensor", (3,), three[0, 0])
    yield plain("zeros_like", (x,), v.cast(zeros))
    yield plain("ones_like", (x,), v.cast(ones))
    yield plain("full_like", (x, 3), three)
    yield plain("Tensor.new_zeros", (x, (4, 7)), v.cast(np.zeros((4, 7))))
    yield plain("Tensor.new_ones", (x, (4, 7)), v.cast(np.ones((4, 7))))
    yield plain("Tensor.new_full", (x, (4, 7), 3), v.cast(np.full((4, 7), 3)))


def _ranges(v: Values) -> Iterator[Case]:
    yield _made(v, "arange", (77,), np.arange(77))
    yield _made(v, "arange", (5, 33), np.arange(5, 33))
    yield _made(v, "arange", (60, 1, -7), np.arange(60, 1, -7))


def _steps(v: Values) -> Iterator[Case]:
    yield _made(v, "arange", (-1.0, 1.0, 0.125), np.arange(-1, 1, 0.125))
    yield _made(v, "linspace", (-1, 1, 9), np.linspace(-1, 1, 9))


#: By shape, from a tensor, and ranges.
CREATION: Final[Tables] = ((_filled, ALL), (_ranges, REAL), (_steps, FLOATS))
