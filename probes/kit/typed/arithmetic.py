"""Arithmetic of small integers, which is exact in every type; the same in place."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from probes.kit.case import Array, Case, case, plain
from probes.kit.operands import F32
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.rounding import FUNCTION_UNITS
from probes.kit.typed.values import COMPLEX, FLOATS, HALVES, REAL, WHOLE, Tables, Values

_SHAPE: Final = (5, 13)

#: Values, not bits: the sign of a zero is not promised.
_ANY_ZERO: Final = 0.0


def _real(v: Values) -> Iterator[Case]:
    a, b, n = v(_SHAPE, 11), v(_SHAPE, 12), v(_SHAPE, 13, 1, 5)
    yield case("add", (a, b), a + b)
    yield case("add", (a, 3), v.cast(a + 3))
    yield case("add", (a, n), v.cast(a + 2 * n), alpha=2)
    yield case("sub", (a, b), a - b)  # uint8 wraps
    yield case("sub", (a, n), v.cast(a - 2 * n), alpha=2)
    yield case("sub", (a, 3), v.cast(a - v.cast(np.array(3))))
    yield plain("rsub", (a, b), b - a)
    yield plain("rsub", (a, 3), v.cast(v.cast(np.array(3)) - a))
    yield case("mul", (a, b), a * b)
    yield case("mul", (a, 3), v.cast(a * 3))
    yield case("neg", (a,), v.cast(0 - a), _ANY_ZERO)
    yield case("abs", (a,), np.abs(a))
    yield case("square", (a,), a * a)
    yield case("pow", (a, 2), a * a)
    exponents = v.cast(np.full(_SHAPE, 2))
    yield case("pow", (n, exponents), n * n, _power_allowed(v, n * n))
    for name, right in (
        ("remainder", np.remainder),
        ("fmod", np.fmod),
        ("floor_divide", np.floor_divide),
    ):
        yield case(name, (a, n), right(a, n), _ANY_ZERO)
        yield case(name, (a, 4), v.cast(right(a, v.cast(np.array(4)))), _ANY_ZERO)
    yield case("div", (a, n), np.floor_divide(a, n), _ANY_ZERO, rounding_mode="floor")
    quotient = np.floor_divide(np.abs(a), n) * np.sign(a)
    yield case("div", (a, n), quotient, _ANY_ZERO, rounding_mode="trunc")
    yield case("addcmul", (a, b, n), v.cast(a + 2 * b * n), value=2)


def _power_allowed(v: Values, power: Array) -> Array | None:
    """A power of numbers is not promised to be exact: CUDA documents 4 units of float32.

    Half types are computed in float32, and rounded once or twice.
    """
    if not v.floating:
        return None
    units = 4 if v.dtype in HALVES else FUNCTION_UNITS
    return np.asarray(units * UNIT_ROUNDOFF[v.dtype] * power.astype(np.float64))


def _floating(v: Values) -> Iterator[Case]:
    a, b, power = v(_SHAPE, 14), v(_SHAPE, 15), v.cast(2.0 ** v(_SHAPE, 16, -2, 3))
    yield case("div", (a, power), a / power)
    yield case("div", (a, 4), a / 4)
    yield case("reciprocal", (power,), v.cast(1 / power))
    yield case("addcdiv", (a, b, power), v.cast(a + 2 * b / power), value=2)
    yield case("lerp", (a, b, 0.25), v.cast(a + (b - a) * 0.25))
    yield case("sqrt", (a * a,), np.abs(a))


def _true_quotients(v: Values) -> Iterator[Case]:
    a = v(_SHAPE, 17)
    yield case("div", (a, np.array(4, v.kind)), (a / 4).astype(F32))
    yield case("div", (a, 4), (a / 4).astype(F32))


def _complex(v: Values) -> Iterator[Case]:
    a, b = v(_SHAPE, 18), v(_SHAPE, 20)
    yield case("add", (a, b), a + b, _ANY_ZERO)
    yield case("sub", (a, b), a - b, _ANY_ZERO)
    yield case("mul", (a, b), a * b, _ANY_ZERO)
    yield case("mul", (a, 0.5), a / 2, _ANY_ZERO)
    yield case("div", (a, 4.0), a / 4, _ANY_ZERO)
    yield plain("Tensor.mul_", (a, 0.5), a / 2, _ANY_ZERO)
    yield plain("Tensor.add_", (a, b), a + b, _ANY_ZERO)


def _changed(v: Values) -> Iterator[Case]:
    a, b, n = v(_SHAPE, 21), v(_SHAPE, 22), v(_SHAPE, 23, 1, 5)
    three = v.cast(np.array(3))
    yield plain("Tensor.add_", (a, b), a + b)
    yield plain("Tensor.add_", (a, 3), v.cast(a + 3))
    yield plain("Tensor.sub_", (a, b), a - b)
    yield plain("Tensor.mul_", (a, b), a * b)
    yield plain("Tensor.mul_", (a, 3), v.cast(a * 3))
    yield plain("Tensor.pow_", (a, 2), a * a)
    yield plain("Tensor.neg_", (a,), v.cast(0 - a), _ANY_ZERO)
    yield plain("Tensor.abs_", (a,), np.abs(a))
    yield plain("Tensor.remainder_", (a, 4), v.cast(np.remainder(a, v.cast(np.array(4)))), 0.0)
    yield plain("Tensor.floor_divide_", (a, n), np.floor_divide(a, n), _ANY_ZERO)
    yield plain("Tensor.addcmul_", (a, b, n), v.cast(a + b * n))
    yield plain("Tensor.clamp_", (a, 2, 7), np.clip(a, 2, 7))
    yield plain("Tensor.clamp_min_", (a, 2), np.maximum(a, 2))
    yield plain("Tensor.clamp_min_", (a, n), np.maximum(a, n))
    yield plain("Tensor.relu_", (a,), np.maximum(a, 0))
    yield plain("Tensor.copy_", (a, b), b)
    yield plain("Tensor.fill_", (a, 3), np.full(_SHAPE, 3, v.kind))
    yield plain("Tensor.fill_", (a, three), np.full(_SHAPE, 3, v.kind))
    yield plain("Tensor.zero_", (a,), np.zeros(_SHAPE, v.kind))
    chosen = np.asarray(n).astype(np.int64) > 2
    yield plain("Tensor.masked_fill_", (a, chosen, 3), v.cast(np.where(chosen, 3, a)))
    yield plain("Tensor.t_", (a,), a.T)


def _changed_floats(v: Values) -> Iterator[Case]:
    a, b, power = v(_SHAPE, 24), v(_SHAPE, 25), v.cast(2.0 ** v(_SHAPE, 26, -2, 3))
    yield plain("Tensor.div_", (a, power), a / power)
    yield plain("Tensor.div_", (a, 4), a / 4)
    yield plain("Tensor.addcdiv_", (a, b, power), v.cast(a + 2 * b / power), value=2)
    yield plain("Tensor.lerp_", (a, b, 0.25), v.cast(a + (b - a) * 0.25))
    yield plain("Tensor.sqrt_", (a * a,), np.abs(a))


#: Sums, products, quotients, remainders and powers, of tensors and with a number.
ARITHMETIC: Final[Tables] = (
    (_real, REAL),
    (_floating, FLOATS),
    (_true_quotients, WHOLE),
    (_complex, COMPLEX),
)

#: The first operand is changed, and returned.
IN_PLACE: Final[Tables] = ((_changed, REAL), (_changed_floats, FLOATS))
