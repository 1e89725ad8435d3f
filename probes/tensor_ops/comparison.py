"""Comparisons, selections and the special values NaN, infinity, -0 and subnormals."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.case import case, in_dtype, on_device, plain
from probes.kit.operands import F32, integers
from probes.kit.trial import Custom, Trial, fact

_INF, _NAN = np.inf, np.nan
#: NaN is first, so that the last pair has no NaN: there every bit is compared.
_VALUES = np.array([_NAN, _INF, -_INF, -2, -0.0, 0, -1, 1, 2], F32)
_PAIRWISE = ("eq", "ne", "lt", "le", "gt", "ge")


def comparison(device: str) -> Iterator[Trial]:
    """Comparisons of NaN, infinities and zeros; selections propagate NaN as documented."""
    a, b = (np.ascontiguousarray(each) for each in np.broadcast_arrays(_VALUES[:, None], _VALUES))
    for dtype in floats(device):
        for name, ufunc in zip(
            _PAIRWISE,
            (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
            strict=True,
        ):
            yield in_dtype(case(name, (a, b), ufunc(a, b)), dtype)
        # The sign of the zero max(-0, 0) is not specified: compare values, not bits.
        yield in_dtype(case("maximum", (a, b), np.maximum(a, b), 0.0), dtype)
        yield in_dtype(case("minimum", (a, b), np.minimum(a, b), 0.0), dtype)
    yield case("fmax", (a, b), np.fmax(a, b), 0.0)
    yield case("fmin", (a, b), np.fmin(a, b), 0.0)
    yield case("clamp", (a,), np.clip(a, F32(-1.5), F32(1.5)), 0.0, min=-1.5, max=1.5)
    yield case("clamp_min", (a, 0.5), np.maximum(a, F32(0.5)))
    yield case("clamp_max", (a, 0.5), np.minimum(a, F32(0.5)), 0.0)
    yield plain("where", (a < b, a, b), np.where(a < b, a, b))
    yield plain("isnan", (a,), np.isnan(a))
    yield plain("isinf", (a,), np.isinf(a))
    yield plain("isfinite", (a,), np.isfinite(a))
    yield case("isposinf", (a,), np.isposinf(a))
    yield case("isneginf", (a,), np.isneginf(a))
    yield case("signbit", (_VALUES[1:],), np.signbit(_VALUES[1:]))
    yield case("sign", (_VALUES[1:],), np.sign(_VALUES[1:]), 0.0)
    yield case("copysign", (a[1:], b[1:]), np.copysign(a[1:], b[1:]))
    yield case("heaviside", (a[1:], b[1:]), np.heaviside(a[1:], b[1:]))
    yield case("nextafter", (a, b), np.nextafter(a, b), 0.0)
    near = (_VALUES + F32(1e-6)).astype(F32)
    yield plain("isclose", (_VALUES, near), np.isclose(_VALUES, near))
    yield plain(
        "isclose", (_VALUES, near), np.isclose(_VALUES, near, equal_nan=True), equal_nan=True
    )
    for name in ("logical_and", "logical_or", "logical_xor"):
        yield case(name, (a, b), getattr(np, name)(a, b))
    yield case("logical_not", (a,), np.logical_not(a))
    big = np.array([2**53, 2**53 + 1, -(2**62), 2**62 - 1])
    for name in ("eq", "lt"):  # a comparison as floats would treat these as equal
        yield case(
            name, (big, big[::-1].copy()), {"eq": np.equal, "lt": np.less}[name](big, big[::-1])
        )
    i, j = integers((65,), -9, 9, 20, np.int32), integers((65,), -9, 9, 21, np.int32)
    yield case("maximum", (i, j), np.maximum(i, j))
    yield case("clamp", (i,), np.clip(i, -3, 4), min=-3, max=4)
    yield Custom("equal", _whole_tensors)
    yield Custom("allclose", _whole_tensors)


def _whole_tensors(device: str) -> Iterator[Comparison]:
    a = integers((67,), -9, 9, 22)
    x, y, z = on_device(a, device), on_device(a, device), on_device(a, device)
    z[66] += 1
    nan = torch.full((3,), _NAN, device=device)
    # Two tensors: for a tensor and itself some back-ends do not compare elements.
    unequal = torch.equal(nan, nan.clone())
    yield fact("equal", (torch.equal(x, y), torch.equal(x, z), unequal), (True, False, False))
    yield fact("equal", torch.equal(x, x[:66]), False)
    yield fact("allclose", (torch.allclose(x, y), torch.allclose(x, z)), (True, False))
    yield fact(
        "allclose",
        (torch.allclose(nan, nan.clone()), torch.allclose(nan, nan.clone(), equal_nan=True)),
        (False, True),
    )


#: Function -> operands and expected output by C99 annex F: exact on every correct build.
_SPECIAL: dict[str, tuple[tuple[float, ...], ...]] = {
    "exp": ((-_INF, _INF, 0, -0.0, _NAN, 1000, -1000), (0, _INF, 1, 1, _NAN, _INF, 0)),
    "expm1": ((-_INF, _INF, 0, _NAN), (-1, _INF, 0, _NAN)),
    "log": ((0, 1, _INF, -1, _NAN), (-_INF, 0, _INF, _NAN, _NAN)),
    "log2": ((0, 1, _INF, -1), (-_INF, 0, _INF, _NAN)),
    "log10": ((0, 1, _INF, -1), (-_INF, 0, _INF, _NAN)),
    "log1p": ((-1, 0, _INF, -2), (-_INF, 0, _INF, _NAN)),
    "sqrt": ((0, 4, _INF, -1, _NAN), (0, 2, _INF, _NAN, _NAN)),
    "rsqrt": ((0, _INF, -1), (_INF, 0, _NAN)),
    "reciprocal": ((0, -0.0, _INF, 2), (_INF, -_INF, 0, 0.5)),
    "sin": ((0, _INF, _NAN), (0, _NAN, _NAN)),
    "cos": ((0, -_INF, _NAN), (1, _NAN, _NAN)),
    "tan": ((0, _INF), (0, _NAN)),
    "asin": ((0, 2), (0, _NAN)),
    "acos": ((1, -2), (0, _NAN)),
    "atan": ((0, _NAN), (0, _NAN)),
    "sinh": ((-_INF, 0, _INF), (-_INF, 0, _INF)),
    "cosh": ((-_INF, 0, _INF), (_INF, 1, _INF)),
    "tanh": ((-_INF, 0, _INF, _NAN), (-1, 0, 1, _NAN)),
    "sigmoid": ((-_INF, 0, _INF, _NAN), (0, 0.5, 1, _NAN)),
    "erf": ((-_INF, 0, _INF, _NAN), (-1, 0, 1, _NAN)),
    "pow": (
        (0, _NAN, 1, _INF, -_INF, 2, -1, 0),
        (0, 0, _NAN, -1, 3, _INF, 0.5, -1),
        (1, 1, 1, 0, -_INF, _INF, _NAN, _INF),
    ),
    "hypot": ((_INF, -_INF, -3, 0), (_NAN, 1, 0, 0), (_INF, _INF, 3, 0)),
    "atan2": ((0, 0, _NAN), (1, _INF, 1), (0, 0, _NAN)),
    "div": ((1, -1, 0, _INF, _INF), (0, 0, 0, _INF, 2), (_INF, -_INF, _NAN, _NAN, _INF)),
    "mul": ((_INF, _INF, _NAN, 2e38), (0, -2, 1, 2e38), (_NAN, -_INF, _NAN, _INF)),
    "add": ((_INF, _INF, _NAN, 3e38), (-_INF, 1, 1, 3e38), (_NAN, _INF, _NAN, _INF)),
    "sub": ((_INF, 1), (_INF, -_INF), (_NAN, _INF)),
    "xlogy": ((0, 0, 2), (0, _INF, 1), (0, 0, 0)),
    "logaddexp": ((-_INF, _INF), (-_INF, 1), (-_INF, _INF)),
    "nan_to_num": ((_NAN, 1, -0.0), (0, 1, 0)),
    "relu": ((_NAN, -1, -_INF, _INF), (_NAN, 0, 0, _INF)),
}


def special_values(_device: str) -> Iterator[Trial]:
    """Poles, limits and invalid operands give infinities, limits and NaN, also in long tensors."""
    for name, columns in _SPECIAL.items():
        # Repeated, so that both the vectorised loop and the loop for the remainder get them.
        *operands, expected = (np.tile(np.array(column, F32), 37) for column in columns)
        make = plain if name == "relu" else case
        yield make(name, tuple(operands), expected, 0.0)
    signed = np.array([0.0, -0.0] * 19, F32)
    yield case("sqrt", (signed,), signed)
    yield case("neg", (signed,), np.array([-0.0, 0.0] * 19, F32))
    yield case("abs", (signed,), np.zeros(38, F32))
    yield case("mul", (signed, np.full(38, 3, F32)), signed)
    large = np.array([_INF, -_INF, _NAN], F32)
    finite = np.array([9, -8, 7], F32)
    yield case("nan_to_num", (large,), finite, nan=7.0, posinf=9.0, neginf=-8.0)


def subnormals(_device: str) -> Iterator[Trial]:
    """Numbers below the normal range are kept, not flushed to zero.

    Doubling a subnormal doubles its bits as an integer, so the expected bits are integers: they
    stay right even if NumPy flushes subnormals too.
    """
    for bits, fraction in ((np.uint16, 10), (np.uint32, 23), (np.uint64, 52)):
        whole_bits = np.array([1, 2, 3, 77, 2 ** (fraction - 1) - 1] * 8, bits)
        kind: Any = {10: np.float16, 23: np.float32, 52: np.float64}[fraction]
        x, double = whole_bits.view(kind), (whole_bits * bits(2)).astype(bits).view(kind)
        one, two = np.ones(40, kind), np.full(40, 2, kind)
        yield case("mul", (x, one), x)
        yield case("mul", (x, two), double)
        yield case("add", (x, x), double)
        yield case("div", (double, two), x)
        yield case("sub", (double, x), x)
        yield case("maximum", (x, np.zeros(40, kind)), x)
    yield plain(
        "Tensor.half",
        (np.array([2.0**-24, 3 * 2.0**-24], F32),),
        np.array([1, 3], np.uint16).view(np.float16),
    )
