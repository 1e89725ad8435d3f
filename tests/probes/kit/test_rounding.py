"""Arithmetic with bounds: they hold what float32 computes, and are not far above it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probes.kit import rounding
from probes.kit.rounding import Rounded, exact

UNIT = 2.0**-24
HALF = 2.0**-8
X = np.random.default_rng(3).uniform(0.5, 2, (4, 9))
Y = np.random.default_rng(4).uniform(0.5, 2, (4, 9))

#: Name -> the same computation of bounded numbers and of arrays.
FORMULAS: dict[str, tuple[Callable[..., Rounded], Callable[..., Any]]] = {
    "sum": (lambda x, y: x + y, lambda x, y: x + y),
    "difference": (lambda x, y: x - y, lambda x, y: x - y),
    "difference from a number": (lambda x, _: 1 - x, lambda x, _: 1 - x),
    "product": (lambda x, y: x * y, lambda x, y: x * y),
    "quotient": (lambda x, y: x / y, lambda x, y: x / y),
    "reciprocal": (lambda x, _: 1 / x, lambda x, _: 1 / x),
    "matmul": (lambda x, y: x @ y.T, lambda x, y: x @ y.T),
    "total": (lambda x, _: x.total(1), lambda x, _: x.sum(1, keepdims=True)),
    "mean": (lambda x, _: x.mean(0), lambda x, _: x.mean(0, keepdims=True)),
    "root": (lambda x, _: rounding.square_root(x), lambda x, _: np.sqrt(x)),
    "exponential": (lambda x, _: rounding.exponential(x), lambda x, _: np.exp(x)),
    "logarithm": (lambda x, _: rounding.logarithm(x), lambda x, _: np.log(x)),
    "tanh": (lambda x, _: rounding.hyperbolic_tangent(x), lambda x, _: np.tanh(x)),
    "logistic": (lambda x, _: rounding.logistic(x), lambda x, _: 1 / (1 + np.exp(-x))),
    "larger": (rounding.larger, np.maximum),
    "selected": (
        lambda x, y: rounding.selected(X > 1, x, y),
        lambda x, y: np.where(X > 1, x, y),
    ),
    "joined": (lambda x, y: rounding.joined([x, y]), lambda x, y: np.concatenate([x, y])),
    "an array on the left": (lambda x, _: Y * x, lambda x, _: Y.astype(x.dtype) * x),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_bound_holds_float32(name: str) -> None:
    """Of operands that are wrong themselves, and within a thousand units of the largest term."""
    bounded, plain = FORMULAS[name]
    x, y = (Rounded(array, UNIT * array, UNIT) for array in (X, Y))
    found = bounded(x, y)
    single = plain(X.astype(np.float32), Y.astype(np.float32))

    assert found.value == pytest.approx(plain(X, Y))
    assert (np.abs(single.astype(np.float64) - found.value) <= found.error).all()
    assert found.error.max() < 1000 * UNIT * 40


@pytest.mark.parametrize("name", FORMULAS)
def test_an_error_of_an_operand_is_inherited(name: str) -> None:
    """What the operands may be off by, the result may be off by as well."""
    bounded, plain = FORMULAS[name]
    off = 1e-3
    found = bounded(Rounded(X, np.full_like(X, off), UNIT), exact(Y, UNIT))
    for moved in (X + off, X - off):
        assert (np.abs(plain(moved, Y) - found.value) <= found.error * 1.001 + 1e-12).all()


def test_a_large_error_of_a_bounded_function_stays_bounded() -> None:
    """Tanh is never 2 off."""
    found = rounding.hyperbolic_tangent(Rounded(X, np.full_like(X, 1e6), UNIT))

    assert found.error.max() < 2.001


def test_storage_in_a_half_type_is_counted_where_it_happens() -> None:
    """Each time once; without a half type nothing happens."""
    whole, half = exact(X, UNIT), exact(X, UNIT, HALF)

    assert not whole.stored(3).error.any()
    np.testing.assert_allclose(half.stored(2).error, 2 * HALF * X)
    assert ((half * 2).stored().error > HALF * X).all()


def test_float16_has_a_step_below_its_normal_numbers() -> None:
    """Half of it is lost, however small the number is."""
    assert exact(np.array(2.0**-26), UNIT, 2.0**-11).stored().error > 2.0**-25


def test_exact_moves_have_no_error() -> None:
    """Negation, selection, transposition."""
    x = exact(X, UNIT)

    assert not any(part.error.any() for part in (-x, x[1], x.T, rounding.magnitude(-x)))
    assert ((-x).value == -X).all()
