"""Cases of mathematical functions: thousands of points each, within an error in ulp.

The bounds in the tables are the larger of CUDA's error (CUDA C++ Programming Guide, "Mathematical
Functions", full range) and of SLEEF's and MKL's on the CPU, which is 1; in float64 plus the error
of glibc (its manual).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from probes.kit.capabilities import back_end
from probes.kit.case import Array, Case, case
from probes.kit.operands import F32, fractions
from probes.kit.trial import Trial

#: Odd, so that the code for what is left of whole vectors gets ordinary numbers too.
_POINTS: Final = {np.float32: 2051, np.float64: 1027}
_FEW: Final = 5  # a call shorter than a vector

#: For back-ends without a table of their own: the largest error in OpenCL's table, in ulp.
_ULP_OF_OPENCL: Final = 16.0


class Ulp(NamedTuple):
    """An error in units in the last place."""

    single: float
    double: float


class Unary(NamedTuple):
    """A function of one operand: its reference, the range of operands, the errors allowed."""

    function: Callable[[float], float]
    between: tuple[float, float]
    ulp: Ulp
    on_hip: Ulp = Ulp(0, 0)  # that ROCm's device library documents, where larger


class Binary(NamedTuple):
    """A function of two operands: its reference, both ranges, the errors allowed."""

    function: Callable[[float, float], float]
    between: tuple[float, float]
    second: tuple[float, float]
    ulp: Ulp
    on_hip: Ulp = Ulp(0, 0)


def unary_cases(
    table: Mapping[str, Unary], device: str, absolute: Mapping[str, float] | None = None
) -> Iterator[Trial]:
    """The functions of a table in float32 and float64; `absolute` is added in float32."""
    for name, each in table.items():
        for kind, ulp in zip(_POINTS, allowed_ulp(each.ulp, each.on_hip, device), strict=True):
            x = points(kind, *each.between)
            extra = (absolute or {}).get(name, 0.0) if kind is F32 else 0.0
            whole = ulp_case(name, (x,), [each.function(v) for v in x.tolist()], ulp, kind, extra)
            yield whole
            yield _short(whole)


def binary_cases(table: Mapping[str, Binary], device: str) -> Iterator[Trial]:
    """The functions of a table in float32 and float64."""
    for name, each in table.items():
        for kind, ulp in zip(_POINTS, allowed_ulp(each.ulp, each.on_hip, device), strict=True):
            x, y = points(kind, *each.between)[::-1].copy(), points(kind, *each.second, 5)
            pairs = zip(x.tolist(), y.tolist(), strict=True)
            whole = ulp_case(name, (x, y), [each.function(v, w) for v, w in pairs], ulp, kind)
            yield whole
            yield _short(whole)


def _short(whole: Case) -> Case:
    """The same for the last few operands, called once."""
    (expected,), allowed = whole.expected, whole.allowed
    few = slice(-_FEW, None)
    return replace(
        whole,
        operands=tuple(each[few] for each in whole.operands),
        expected=(expected[few],),
        allowed=allowed[few] if isinstance(allowed, np.ndarray) else allowed,
        once=True,
        out=False,
    )


def allowed_ulp(ulp: Ulp, on_hip: Ulp, device: str) -> Ulp:
    """The allowed error on that device."""
    kind = back_end(device)
    if kind == "hip":
        return Ulp(max(ulp.single, on_hip.single), max(ulp.double, on_hip.double))
    slack = 0.0 if kind in {"cpu", "cuda"} else _ULP_OF_OPENCL
    return Ulp(ulp.single + slack, ulp.double + slack)


def points(kind: Any, low: float, high: float, salt: int = 0) -> Array:
    """Points across a range, its ends, and points of many magnitudes near zero if it has zero."""
    values = low + (high - low) * fractions((_POINTS[kind],), 81 + salt)
    values[:2] = low, high
    tiny = 2.0 ** np.linspace(-40, 0, 64) * fractions((64,), 90) * min(1.0, abs(high))
    if low < 0 < high:
        values[2:66], values[66:130] = tiny, -tiny * min(1.0, -low)
    elif low < 1e-20:
        values[2:66] = np.maximum(tiny, low)
    return values.astype(kind)


def ulp_case(
    name: str,
    operands: tuple[Array, ...],
    answers: list[float],
    ulp: float,
    kind: Any,
    absolute: float = 0.0,
) -> Case:
    """A case whose answers may be wrong by that many ulp, and by an absolute error on top."""
    rounded = np.array(answers).astype(kind)
    if ulp == 0:
        return case(name, operands, rounded)
    allowed = (ulp + (0.5 if kind is F32 else 0)) * np.spacing(np.abs(rounded)).astype(np.float64)
    return case(name, operands, rounded, allowed + absolute)
