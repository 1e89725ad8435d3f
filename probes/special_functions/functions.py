"""Greatest common divisors, and functions with rounded results."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from probes.kit.case import case
from probes.kit.functions import Ulp, Unary, allowed_ulp, points, ulp_case, unary_cases
from probes.kit.operands import F32
from probes.kit.trial import Trial

_INF: Final = math.inf
_NAN: Final = math.nan

_UNARY: Final[dict[str, Unary]] = {
    "exp2": Unary(lambda x: 2.0**x, (-126, 127), Ulp(2, 3), Ulp(3, 3)),
    "erfc": Unary(math.erfc, (-4, 9), Ulp(7, 10), Ulp(16, 16)),
}

_LGAMMA: Final = Unary(math.lgamma, (0.5, 3e4), Ulp(7, 9))

#: Function -> operands and expected output by C99 annex F.
_LIMITS: Final[dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "exp2": ((-_INF, _INF, 0, -0.0, _NAN, 200, -200), (0, _INF, 1, 1, _NAN, _INF, 0)),
    "erfc": ((-_INF, _NAN, _INF), (2, _NAN, 0)),
    "lgamma": ((0, -1, _NAN, -2, _INF, -_INF), (_INF, _INF, _NAN, _INF, _INF, _INF)),
}


def divisors(_device: str) -> Iterator[Trial]:
    """Divisors and multiples of all pairs of small integers, negative ones and zero too."""
    for kind in (np.int64, np.int32, np.int16, np.int8):
        a = np.repeat(np.arange(-13, 14), 7).astype(kind)
        b = np.tile(np.array([-7, -3, -1, 0, 1, 2, 5]), 27).astype(kind)
        yield case("gcd", (a, b), np.gcd(a, b))
        yield case("lcm", (a, b), np.lcm(a, b))


def functions(device: str) -> Iterator[Trial]:
    """The functions at thousands of points each."""
    yield from unary_cases(_UNARY, device)
    # Near 1 and 2, where the logarithm is zero, only its absolute error is bounded.
    ulp = allowed_ulp(_LGAMMA.ulp, _LGAMMA.on_hip, device)
    for kind, allowed, unit in (
        (np.float32, ulp.single, 2.0**-23),
        (np.float64, ulp.double, 2.0**-52),
    ):
        x = points(kind, *_LGAMMA.between)
        answers = [_LGAMMA.function(v) for v in x.tolist()]
        yield ulp_case("lgamma", (x,), answers, allowed, kind, 8 * unit)


def limits(_device: str) -> Iterator[Trial]:
    """Repeated, so that both the vectorised loop and the loop for the remainder get them."""
    for name, columns in _LIMITS.items():
        x, expected = (np.tile(np.array(column, F32), 37) for column in columns)
        yield case(name, (x,), expected, 0.0)
