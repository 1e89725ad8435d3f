"""Reductions, scans and sorts over each dimension of operands of every layout."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.kit.trial import Trial
from probes.strided_operands.memory import Operand, dense_on_cpu
from probes.strided_operands.operations import FLOATS, SINGLE, WHOLE, Operation, read

#: Axes of 4 and 8 elements, whose means are exact, and one longer than a warp.
_SHAPE: Final = (4, 8, 33)
#: Small enough that sums of 264 elements in a half type are exact in any order.
_SMALL: Final = Operand(_SHAPE, -1, 0)
_X: Final = Operand(_SHAPE, -60, 60)
_FACTORS: Final = Operand(_SHAPE, 1, 2)
_LONG: Final = Operand((3, 1025), -60, 60)
_BOOLS: Final = Operand(_SHAPE, 0, 1, torch.bool)
_AXES: Final = (0, 1, 2)
_PAIRS: Final = ((0, 1), (1, 2), (0, 2))
_WIDE: Final = (torch.float32, torch.float64, *WHOLE)


def _over(
    name: str,
    answer: Callable[..., Any],
    operand: Operand,
    axes: tuple[Any, ...],
    dtypes: tuple[torch.dtype, ...],
    **fields: Any,
) -> Iterator[Operation]:
    """The operation over each of the axes; `answer` gets an array and `axis=`."""
    for axis in axes:

        def over(x: Any, axis: Any = axis) -> Any:
            return answer(x, axis=axis)

        yield Operation(name, (operand,), over, (axis,), dtypes=dtypes, **fields)


def _exponentials(x: Any, axis: Any) -> Any:
    top = x.max(axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis)) + top.squeeze(axis)


#: An exponential and a logarithm, and up to 33 additions, of numbers up to 9 in all.
_EXPONENTIALS: Final = (33 + 8) * 2.0**-23 * 16


def _reductions() -> Iterator[Operation]:
    yield from _over("sum", np.sum, _X, (*_AXES, *_PAIRS), _WIDE)
    yield from _over("sum", np.sum, _SMALL, (*_AXES, *_PAIRS), (torch.float16, torch.bfloat16))
    yield from _over("mean", np.mean, _X, (0, 1, (0, 1)), _WIDE[:2])
    yield from _over("amax", np.amax, _X, (*_AXES, *_PAIRS), (*FLOATS, *WHOLE))
    yield from _over("amin", np.amin, _X, _AXES, SINGLE)
    yield from _over("argmax", np.argmax, _X, _AXES, (*FLOATS, *WHOLE))
    yield from _over("argmin", np.argmin, _X, _AXES, SINGLE)
    yield from _over("prod", np.prod, _FACTORS, (0, 1), _WIDE)
    yield from _over("any", np.any, _BOOLS, _AXES, SINGLE)
    yield from _over("all", np.all, _BOOLS, _AXES, SINGLE)
    yield from _over("count_nonzero", np.count_nonzero, _X, _AXES, SINGLE, out=False)
    yield from _over(
        "logsumexp",
        _exponentials,
        Operand(_SHAPE),
        _AXES,
        SINGLE,
        allowed=lambda _: _EXPONENTIALS,
    )
    for order, answer in ((1, lambda x: np.abs(x).sum(2)), (np.inf, lambda x: np.abs(x).max(2))):
        yield Operation("linalg.vector_norm", (_X,), answer, (order, 2), dtypes=SINGLE)
    for name, answer in (("sum", np.sum), ("max", np.max), ("argmax", np.argmax)):
        yield Operation(name, (_X,), answer, dtypes=SINGLE, out=False)
    yield Operation(
        "sum", (_X,), lambda x: x.sum((0, 2), keepdims=True), ((0, 2), True), dtypes=SINGLE
    )
    for axis in (0, 1):
        yield from _over("sum", np.sum, _LONG, (axis,), (torch.float32,))
        yield from _over("amax", np.amax, _LONG, (axis,), (torch.float32,))


REDUCTIONS: Final = tuple(_reductions())


def _largest(x: Any, axis: Any) -> Any:
    """Values, and of equal ones the first."""
    return x.max(axis), x.argmax(axis)


def _sorted(x: Any, axis: int) -> Any:
    order = np.argsort(x, axis, kind="stable")
    return np.take_along_axis(x, order, axis), order


def _running_largest(x: Any, axis: int) -> Any:
    return np.maximum.accumulate(x, axis)


def _values(name: str) -> Callable[..., Any]:
    """The call, without the indices: which of equal elements is found is not promised."""

    def call(x: torch.Tensor, *after: Any) -> torch.Tensor:
        if name == "median":
            x = dense_on_cpu(x)  # what lies beyond an expanded dimension is read
        found: torch.Tensor = getattr(torch, name)(x, *after)[0]
        return found

    return call


def _orders() -> Iterator[Operation]:
    x = Operand((4, 8, 33), -100, 100)
    yield from _over("cumsum", np.cumsum, _X, _AXES, _WIDE)
    yield from _over("cumsum", np.cumsum, _SMALL, _AXES, (torch.float16, torch.bfloat16))
    yield from _over("cumprod", np.cumprod, _FACTORS, (0, 1), _WIDE[:1])
    yield from _over("cumsum", np.cumsum, _LONG, (0, 1), SINGLE)
    yield from _over("max", _largest, x, _AXES, (*SINGLE, *WHOLE))
    for axis in _AXES:
        yield Operation(
            "sort",
            (x,),
            lambda x, axis=axis: _sorted(x, axis),
            options={"stable": True, "dim": axis},
            dtypes=(*FLOATS, *WHOLE) if axis == 1 else SINGLE,
        )
        yield Operation(
            "argsort",
            (x,),
            lambda x, axis=axis: _sorted(x, axis)[1],
            options={"stable": True, "dim": axis},
            dtypes=SINGLE,
            out=False,
        )
        yield Operation(
            "topk",
            (x,),
            lambda x, axis=axis: -np.take(np.sort(-x, axis), range(3), axis),
            (3, axis),
            dtypes=(*SINGLE, torch.bfloat16),
            out=False,
            call=_values("topk"),
        )
        for name, at in (("kthvalue", 1), ("median", (_SHAPE[axis] - 1) // 2)):
            yield Operation(
                name,
                (x,),
                lambda x, axis=axis, at=at: np.take(np.sort(x, axis), at, axis),
                (2, axis) if name == "kthvalue" else (axis,),
                dtypes=SINGLE,
                out=False,
                call=_values(name),
            )
        yield Operation(
            "cummax",
            (x,),
            lambda x, axis=axis: _running_largest(x, axis),
            (axis,),
            dtypes=SINGLE,
            out=False,
            call=_values("cummax"),
        )
    yield Operation("msort", (x,), lambda x: np.sort(x, 0), dtypes=SINGLE)


ORDERS: Final = tuple(_orders())


def reductions(device: str) -> Iterator[Trial]:
    """Sums, means, products, extremes and norms."""
    return read(REDUCTIONS, device)


def ordering(device: str) -> Iterator[Trial]:
    """Scans, sorts and selections."""
    return read(ORDERS, device)
