"""Losses with inputs, targets and weights of every layout: expanded ones above all."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.kit.trial import Trial
from probes.strided_operands.memory import Operand
from probes.strided_operands.operations import FLOATS, SINGLE, Operation, read

_UNIT: Final = 2.0**-23
_F: Final = "nn.functional"
_ROWS: Final = Operand((8, 5), -4, 4)
_MAPS: Final = Operand((2, 5, 4, 3), -4, 4)
_CLASSES: Final = Operand((8,), 0, 4, torch.int64)
_CLASS_MAPS: Final = Operand((2, 4, 3), 0, 4, torch.int64)
_WEIGHT: Final = Operand((5,), 1, 3)
_PAIR: Final = (Operand((4, 5, 33), -4, 4),) * 2
_BITS: Final = Operand((4, 5, 33), 0, 1)


def _loss(
    name: str,
    operands: tuple[Operand, ...],
    answer: Callable[..., Any],
    error: float = 0.0,
    **fields: Any,
) -> Operation:
    """A loss; without an error only the sign of a zero is free."""
    given = {"dtypes": SINGLE, "out": False, "allowed": lambda *_: error}
    return Operation(f"{_F}.{name}", operands, answer, **{**given, **fields})


def _taken(x: Any, target: Any) -> Any:
    """X at each target, whose axis is the second one of x."""
    return np.take_along_axis(x, target[:, None], 1)[:, 0]


def _negative_log(x: Any, target: Any, weight: Any) -> Any:
    return -_taken(x, target) * weight[target]


def _logarithms(x: Any) -> Any:
    top = x.max(1, keepdims=True)
    return x - top - np.log(np.exp(x - top).sum(1, keepdims=True))


def _reduced(loss: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A loss, each or summed."""
    if name == "none":
        return loss
    return lambda *arrays: np.sum(loss(*arrays))


def _call(name: str, reduction: str, **options: Any) -> Callable[..., Any]:
    def call(x: torch.Tensor, target: torch.Tensor, *weight: torch.Tensor) -> Any:
        given = {"weight": weight[0]} if weight else {}
        function = getattr(torch.nn.functional, name)
        return function(x, target, reduction=reduction, **given, **options)

    return call


def _of_classes() -> Iterator[Operation]:
    for x, target in ((_ROWS, _CLASSES), (_MAPS, _CLASS_MAPS)):
        for reduction in ("none", "sum"):
            count = 24 if reduction == "sum" else 1
            yield _loss(
                "nll_loss",
                (x, target, _WEIGHT),
                _reduced(_negative_log, reduction),
                call=_call("nll_loss", reduction),
            )
            yield _loss(
                "cross_entropy",
                (x, target, _WEIGHT),
                _reduced(lambda x, t, w: _negative_log(_logarithms(x), t, w), reduction),
                # A logarithm of a sum of 5 exponentials, of numbers up to 16, and the sum.
                (5 + 8 + count) * _UNIT * 16 * 3 * count,
                call=_call("cross_entropy", reduction),
            )
    yield _loss(
        "cross_entropy",
        (_ROWS, _CLASSES, _WEIGHT),
        lambda x, t, w: _negative_log(_logarithms(x), t, w).sum() / w[t].sum(),
        (5 + 8 + 8) * _UNIT * 16 * 3,
        call=_call("cross_entropy", "mean"),
    )


def _cross(x: Any, target: Any, weight: Any) -> Any:
    """Binary cross entropy of the logistic function of x."""
    return weight * (np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x))))


def _of_elements() -> Iterator[Operation]:
    for name, answer in (
        ("mse_loss", lambda x, y: (x - y) ** 2),
        ("l1_loss", lambda x, y: np.abs(x - y)),
        ("smooth_l1_loss", lambda x, y: np.maximum(np.abs(x - y) - 0.5, 0)),
        ("huber_loss", lambda x, y: np.maximum(np.abs(x - y) - 0.5, 0)),
    ):
        yield _loss(name, _PAIR, answer, call=_call(name, "none"), dtypes=FLOATS[:2])
        yield _loss(name, _PAIR, lambda x, y, f=answer: f(x, y).sum(), call=_call(name, "sum"))
    error = 8 * 3 * 4 * _UNIT  # an exponential and a logarithm, of numbers up to 12
    weights = Operand((33,), 1, 3)
    yield _loss(
        "binary_cross_entropy_with_logits",
        (_PAIR[0], _BITS, weights),
        _cross,
        error,
        call=_call("binary_cross_entropy_with_logits", "none"),
    )
    # Of a probability of 0, whose logarithm is taken as -100. A weight would import sympy.
    yield _loss(
        "binary_cross_entropy",
        (_BITS, _BITS),
        lambda x, y: np.where(x == y, 0.0, 100.0),
        call=_call("binary_cross_entropy", "none"),
    )
    yield _loss(
        "kl_div",
        (_PAIR[0], _BITS),
        lambda x, y: -x * y,
        call=_call("kl_div", "none"),
    )


LOSSES: Final = (*_of_classes(), *_of_elements())


def losses(device: str) -> Iterator[Trial]:
    """Losses of classes and of elements, each and summed."""
    return read(LOSSES, device)
