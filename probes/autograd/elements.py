"""Cases of element-wise operations and reductions, with exact gradients for integers."""

from typing import Final

import numpy as np
import torch
from torch.nn import functional

from probes.autograd.exact import FUNCTION_STEPS, Case
from probes.kit.gradients import Array, integers

_X, _Y = integers((4, 3), 41), integers((4, 3), 42)
_DISTINCT = (np.arange(12.0) * 5 % 13 - 5.5).reshape(4, 3)  # no two equal, none 0
_EVEN = 2 * _Y  # never equal to an odd integer
_POWERS: Final[Array] = np.exp2(np.arange(12) % 4 - 1.0).reshape(4, 3)  # 1/2, 1, 2, 4
_MASK = (np.arange(12) % 3 == 1).reshape(4, 3)
_COLUMN, _ROW = integers((4, 1), 43), integers((3,), 44)

ARITHMETIC: Final[tuple[Case, ...]] = (
    Case("add", (_X, _Y), lambda x, y: torch.add(x, y, alpha=3), lambda g, _x, _y: (g, 3 * g)),
    Case("sub", (_X, _Y), torch.sub, lambda g, _x, _y: (g, -g)),
    Case("mul", (_X, _Y), torch.mul, lambda g, x, y: (g * y, g * x)),
    Case("mul by itself", (_X,), lambda x: x * x, lambda g, x: (2 * g * x,)),
    Case("div", (_X, _POWERS), torch.div, lambda g, x, y: (g / y, -g * x / y**2)),
    Case("reciprocal", (_POWERS,), torch.reciprocal, lambda g, x: (-g / x**2,)),
    Case("neg", (_X,), torch.neg, lambda g, _x: (-g,)),
    Case("square", (_X,), torch.square, lambda g, x: (2 * g * x,)),
    # pow is not promised to be exact, even where its result is an integer.
    Case("pow 3", (_X,), lambda x: x**3, lambda g, x: (3 * g * x**2,), roundings=FUNCTION_STEPS),
    Case(
        "addcmul",
        (_X, _Y, _EVEN),
        lambda x, y, z: torch.addcmul(x, y, z, value=2),
        lambda g, _x, y, z: (g, 2 * g * z, 2 * g * y),
    ),
    Case(
        "lerp",
        (_X, _Y),
        lambda x, y: torch.lerp(x, y, 0.25),
        lambda g, _x, _y: (0.75 * g, 0.25 * g),
    ),
    Case(
        "mul broadcast",
        (_COLUMN, _ROW),
        torch.mul,
        lambda g, x, y: ((g * y).sum(1, keepdims=True), (g * x).sum(0)),
    ),
    Case(
        "add broadcast",
        (_X, _ROW),
        torch.add,
        lambda g, _x, _y: (g, g.sum(0)),
    ),
    Case(
        "mse_loss",
        (_X, _EVEN),
        lambda x, y: functional.mse_loss(x, y, reduction="sum"),
        lambda g, x, y: (2 * g * (x - y), -2 * g * (x - y)),
    ),
)

SELECTIONS: Final[tuple[Case, ...]] = (
    Case("abs", (_X,), torch.abs, lambda g, x: (g * np.sign(x),)),
    Case("relu", (_X,), torch.relu, lambda g, x: (g * (x > 0),)),
    Case(
        "leaky_relu",
        (_X,),
        lambda x: functional.leaky_relu(x, 0.25),
        lambda g, x: (np.where(x > 0, g, 0.25 * g),),
    ),
    Case("clamp", (_X,), lambda x: x.clamp(-2, 4), lambda g, x: (g * ((x >= -2) & (x <= 4)),)),
    Case(
        "hardtanh", (_X,), lambda x: functional.hardtanh(x, -2, 2), lambda g, x: (g * (abs(x) < 2),)
    ),
    Case("maximum", (_X, _EVEN), torch.maximum, lambda g, x, y: (g * (x > y), g * (x < y))),
    Case("minimum", (_X, _EVEN), torch.minimum, lambda g, x, y: (g * (x < y), g * (x > y))),
    Case(
        "where",
        (_X, _Y),
        lambda x, y: torch.where(torch.from_numpy(_MASK).to(x.device), x, y),
        lambda g, _x, _y: (g * _MASK, g * ~_MASK),
    ),
    Case(
        "masked_fill",
        (_X,),
        lambda x: x.masked_fill(torch.from_numpy(_MASK).to(x.device), 7.0),
        lambda g, _x: (g * ~_MASK,),
    ),
    Case(
        "l1_loss",
        (_X, _EVEN),
        lambda x, y: functional.l1_loss(x, y, reduction="sum"),
        lambda g, x, y: (g * np.sign(x - y), -g * np.sign(x - y)),
    ),
    Case(
        "smooth_l1_loss",
        (_X, 4 * _EVEN),
        lambda x, y: functional.smooth_l1_loss(x, y, reduction="sum"),
        lambda g, x, y: (g * np.sign(x - y), -g * np.sign(x - y)),
    ),
    Case("max", (_DISTINCT,), torch.max, lambda g, x: (g * (x == x.max()),)),
    Case("amin", (_DISTINCT,), lambda x: x.amin(0), lambda g, x: (g * (x == x.min(0)),)),
)

REDUCTIONS: Final[tuple[Case, ...]] = (
    Case("sum", (_X,), torch.sum, lambda g, x: (g + 0 * x,)),
    Case("sum of rows", (_X,), lambda x: x.sum(1, keepdim=True), lambda g, x: (g + 0 * x,)),
    Case("mean of columns", (_X,), lambda x: x.mean(0), lambda g, x: (g / 4 + 0 * x,)),
    Case("cumsum", (_X,), lambda x: x.cumsum(0), lambda g, _x: (g[::-1].cumsum(0)[::-1],)),
    Case(
        "prod",
        (_X,),
        lambda x: x.prod(1),
        lambda g, x: (g[:, None] * x.prod(1, keepdims=True) / x,),
    ),
    Case("trace", (_X[:3].copy(),), torch.trace, lambda g, _x: (g * np.eye(3),)),
    Case(
        "avg_pool2d",
        (integers((2, 3, 4, 6), 45),),
        lambda x: functional.avg_pool2d(x, 2),
        lambda g, _x: (g.repeat(2, axis=2).repeat(2, axis=3) / 4,),
    ),
    Case(
        "logical steps",
        (_X,),
        lambda x: (x * (x > 0)).sum(0) - x[0],
        lambda g, x: (g * (x > 0) - g * np.eye(4)[:, :1],),
    ),
)
