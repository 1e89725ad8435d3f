"""Operations on elements: operands of every layout, and of shapes that are broadcast."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.kit.trial import Trial
from probes.strided_operands.memory import Operand
from probes.strided_operands.operations import FLOATS, SINGLE, WHOLE, Operation, read
from probes.strided_operands.places import Shape

#: Rows longer than a vector register of any type, and no multiple of one.
_SHAPE: Final = (4, 5, 33)
_X: Final = Operand(_SHAPE)
_POWER: Final = Operand(_SHAPE, 1, 2)  # quotients are exact
_MASK: Final = Operand(_SHAPE, 0, 1, torch.bool)
_ALL: Final = (*FLOATS, *WHOLE)


def _one(name: str, answer: Callable[..., Any], *after: Any, **fields: Any) -> Operation:
    return Operation(name, (_X,), answer, after, **fields)


def _two(name: str, answer: Callable[..., Any], second: Operand = _X, **fields: Any) -> Operation:
    return Operation(name, (_X, second), answer, **fields)


def _rounded(x: Any, *_: Any) -> Any:
    """Four units of the result, or of 1: what the table of elementwise functions allows."""
    return 8 * 2.0**-23 * np.maximum(np.abs(x), 1)


_HARD: Final = "nn.functional"

ELEMENTWISE: Final[tuple[Operation, ...]] = (
    _one("neg", np.negative, dtypes=_ALL),
    _one("abs", np.abs, dtypes=_ALL),
    _one("square", np.square),
    _one("sign", np.sign),
    _one("logical_not", np.logical_not, dtypes=_ALL),
    _one("clamp", lambda x: np.clip(x, -3, 5), -3, 5, dtypes=_ALL),
    _one("pow", lambda x: x * x, 2),
    _one("sigmoid", lambda x: 1 / (1 + np.exp(-x)), dtypes=SINGLE, allowed=_rounded),
    _one("tanh", np.tanh, dtypes=SINGLE, allowed=_rounded),
    _one(
        f"{_HARD}.silu", lambda x: x / (1 + np.exp(-x)), dtypes=SINGLE, allowed=_rounded, out=False
    ),
    _one(f"{_HARD}.relu", lambda x: np.maximum(x, 0), out=False),
    _one(f"{_HARD}.leaky_relu", lambda x: np.where(x > 0, x, x / 2), 0.5, out=False),
    _one(f"{_HARD}.hardtanh", lambda x: np.clip(x, -1, 1), out=False),
    _one("bitwise_not", np.invert, dtypes=WHOLE),
    _two("add", lambda x, y: x + 3 * y, options={"alpha": 3}, dtypes=_ALL),
    _two("sub", np.subtract, dtypes=_ALL),
    _two("mul", np.multiply, dtypes=_ALL),
    _two("div", np.divide, _POWER),
    _two("maximum", np.maximum, dtypes=_ALL),
    _two("minimum", np.minimum),
    _two("remainder", lambda x, y: x % y, _POWER, dtypes=WHOLE),
    _two("eq", np.equal, dtypes=_ALL),
    _two("lt", np.less, dtypes=_ALL),
    _two("logical_and", lambda x, y: (x != 0) & (y != 0), dtypes=(torch.float32, *WHOLE)),
    _two("bitwise_xor", np.bitwise_xor, dtypes=WHOLE),
    # Promoted: the integers take the other's type.
    _two("add", np.add, Operand(_SHAPE, dtype=torch.int64), dtypes=(torch.float32, torch.float16)),
    _two(
        "masked_fill",
        lambda x, m: np.where(m, 7, x).astype(x.dtype),
        _MASK,
        after=(7,),
        dtypes=_ALL,
        out=False,
    ),
    Operation("where", (_MASK, _X, _X), np.where, dtypes=_ALL),
    Operation("addcmul", (_X, _X, _X), lambda x, y, z: x + 2 * y * z, options={"value": 2}),
    Operation("addcdiv", (_X, _X, _POWER), lambda x, y, z: x + 2 * y / z, options={"value": 2}),
    Operation("lerp", (_X, _X), lambda x, y: x + (y - x) / 2, (0.5,)),
    Operation("clamp", (_X, _X, _X), lambda x, y, z: np.minimum(np.maximum(x, y), z)),
)

#: Shapes of two operands: axes of one element, missing axes, numbers, and nothing at all.
_PAIRS: Final[tuple[tuple[Shape, Shape], ...]] = (
    ((4, 1, 33), (5, 1)),
    ((33,), (3, 4, 33)),
    ((1, 1025), (3, 1)),
    ((2, 1, 3, 1), (4, 1, 5)),
    ((), (4, 33)),
    ((1,), ()),
    ((), ()),
    ((1, 1), (1, 1, 1)),
    ((0, 3), (1, 3)),
    ((3, 1), (0,)),
    ((2, 0, 3), ()),
)


def _broadcast() -> Iterator[Operation]:
    for left, right in _PAIRS:
        x, y = Operand(left), Operand(right)
        mask = Operand(left, 0, 1, torch.bool)
        yield Operation("add", (x, y), np.add, dtypes=(torch.float32, *WHOLE))
        yield Operation("sub", (y, x), np.subtract, dtypes=(torch.bfloat16,))
        yield Operation("le", (y, x), np.less_equal, dtypes=SINGLE)
        yield Operation("where", (mask, x, y), np.where, dtypes=SINGLE)


BROADCAST: Final = tuple(_broadcast())


def elementwise(device: str) -> Iterator[Trial]:
    """Functions, arithmetic, comparisons and selections of operands of one shape."""
    return read(ELEMENTWISE, device)


def broadcasting(device: str) -> Iterator[Trial]:
    """Operands of different shapes, whatever the strides of their axes of one element."""
    return read(BROADCAST, device)
