"""Arithmetic of integer values in every type, operators, promotion, and rounding."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.case import case, in_dtype, on_device, plain
from probes.kit.operands import F32, fractions, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact
from probes.tensor_ops.integers import INTEGERS


def arithmetic(device: str) -> Iterator[Trial]:
    """Sums, differences, products and powers of integer values, broadcast and promoted."""
    table = list(_float_cases())
    for dtype in floats(device):
        yield from (in_dtype(each, dtype) for each in table)
    for _, kind in (*INTEGERS, (torch.uint8, np.uint8)):
        a, b = integers((5, 13), 0, 11, 1, kind), integers((5, 13), 0, 11, 2, kind)
        yield case("add", (a, b), a + b)
        yield case("sub", (a, b), a - b)  # uint8 wraps
        yield case("mul", (a, b), a * b)
        yield case("square", (a,), a * a)
        yield case("neg", (a,), (0 - a).astype(kind))
        yield case("div", (a, np.array(4, kind)), (a / 4).astype(F32))
    # Each of these is rounded once, so IEEE 754 leaves one right answer whatever the operands.
    for kind in (np.float32, np.float64):
        a, b = (fractions((257,), salt).astype(kind) for salt in (3, 4))
        yield case("add", (a, b), a + b)
        yield case("sub", (a, b), a - b)
        yield case("mul", (a, b), a * b)
    yield Custom("result_type", _promotions)
    yield Custom("Tensor operators", _operators)


def _float_cases() -> Iterator[Any]:
    a, b = integers((5, 13), -9, 9, 1), integers((5, 13), -9, 9, 2)
    power = (2.0 ** integers((5, 13), -2, 3, 3)).astype(F32)  # quotients stay exact
    row, column = integers((13,), -9, 9, 4), integers((5, 1), -9, 9, 5)
    yield case("add", (a, b), a + b)
    yield case("add", (row, column), row + column)
    yield case("add", (a, b), a + 3 * b, alpha=3)
    yield case("sub", (a, b), a - b)
    yield case("sub", (a, column), a - column)
    yield case("mul", (a, b), a * b)
    yield case("mul", (a, 0.5), a / 2)
    yield case("div", (a, power), a / power)
    yield case("div", (a, 4.0), a / 4)
    yield plain("rsub", (a, b), b - a)
    yield case("neg", (a,), -a)
    yield case("abs", (a,), np.abs(a))
    yield plain("positive", (a,), a)
    yield case("square", (a,), a * a)
    yield case("sqrt", (a * a,), np.abs(a))
    yield case("reciprocal", (power,), 1 / power)
    yield case("pow", (a, 2), a * a)
    yield case("pow", (power, -1), 1 / power)
    yield case("addcmul", (a, b, power), a + 2 * b * power, value=2)
    yield case("addcdiv", (a, b, power), a + 2 * b / power, value=2)
    yield case("lerp", (a, b, 0.25), a + (b - a) / 4)
    yield case("lerp", (a, b, 0.75), a + (b - a) * F32(0.75))


def _promotions(device: str) -> Iterator[Comparison]:
    def sample(kind: Any) -> torch.Tensor:
        return on_device(np.array([3, 5, 7], kind), device)

    for left, right, expected in (
        (np.int64, np.float32, torch.float32),
        (np.uint8, np.int8, torch.int16),
        (np.bool_, np.int32, torch.int32),
        (np.float16, np.float32, torch.float32),
        (np.int64, np.float16, torch.float16),
        (np.float32, np.complex64, torch.complex64),
    ):
        yield fact("result_type", str((sample(left) + sample(right)).dtype), str(expected))
        yield fact(
            "result_type", str(torch.result_type(sample(left), sample(right))), str(expected)
        )
    yield fact("result_type", str((sample(np.int32) + 1.5).dtype), "torch.float32")
    yield fact("result_type", str((sample(np.float16) + 1.5).dtype), "torch.float16")


def _operators(device: str) -> Iterator[Comparison]:
    a, b = integers((33,), -9, 9, 6), integers((33,), 1, 9, 7)
    x, y = on_device(a, device), on_device(b, device)
    i, j = a.astype(np.int64), b.astype(np.int64)
    u, v = on_device(i, device), on_device(j, device)
    name = "Tensor operators"
    for observed, expected in (
        (x + y, a + b),
        (3 - x, 3 - a),
        (x * y, a * b),
        (x / 4, a / 4),
        (2 * x + 1, 2 * a + 1),
        (x**2, a**2),
        (-x, -a),
        (abs(x), abs(a)),
        (u // v, i // j),
        (u % v, i % j),
        (u & v, i & j),
        (u | v, i | j),
        (u ^ v, i ^ j),
        (~u, ~i),
        (v << 3, j << 3),
        (u >> 1, i >> 1),
        (x < y, a < b),
        (x >= y, a >= b),
        (x == y, a == b),
        (x == 3, a == 3),
        (x != y, a != b),
        ((x < y) & ~(x == 0), (a < b) & ~(a == 0)),
    ):
        yield compare(name, observed, np.asarray(expected))


def rounding(device: str) -> Iterator[Trial]:
    """Halves go to the even neighbour, zeros keep their sign, large values stay."""
    halves = np.arange(-8, 8.5, 0.5).astype(F32)
    edges = np.array([-0.0, -0.25, 0.75, np.inf, -np.inf, np.nan, 1024.0, -0.9375], F32)
    values = np.concatenate([halves, edges])
    for dtype in floats(device):
        yield in_dtype(case("floor", (values,), np.floor(values)), dtype)
        yield in_dtype(case("ceil", (values,), np.ceil(values)), dtype)
        yield in_dtype(case("trunc", (values,), np.trunc(values)), dtype)
        yield in_dtype(case("round", (values,), np.round(values)), dtype)
        part = values[np.isfinite(values)]
        yield in_dtype(case("frac", (part,), part - np.trunc(part), 0.0), dtype)
    large = np.array([2.0**23 + 1, 2.0**22 + 0.5, 0.5 - 2.0**-25, -(2.0**31) - 512, 1e30], F32)
    for name in ("floor", "ceil", "trunc", "round"):
        yield case(name, (large,), getattr(np, name)(large))
