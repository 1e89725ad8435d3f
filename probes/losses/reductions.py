"""Reductions of a loss: none, the mean, the sum, and the sum over the batch's size."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.kit.gradients import tensor
from probes.kit.layer import SINGLES, Backward, Layer, Reference
from probes.kit.rounding import Array, Rounded

#: Roundings to a half type: of a difference, which counts twice in a square, and of the results of
#: three more operations.
STORED: Final = 5

REDUCTIONS: Final = ("none", "mean", "sum")


def reduced(reference: Reference, reduction: str) -> Reference:
    """The reference of a loss for each element, reduced; `batchmean` divides by the first axis."""

    def whole(*operands: Rounded) -> tuple[Rounded, Backward]:
        elements, back = reference(*operands)
        if reduction == "none":
            return elements, back
        counts = {"mean": elements.value.size, "sum": 1, "batchmean": operands[0].value.shape[0]}
        factor = 1 / counts[reduction]
        axes = tuple(range(elements.value.ndim))

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            shape = elements.value.shape
            given = (g * factor).stored(2)
            return back(given.moved(lambda array: np.broadcast_to(array, shape)))

        return elements.stored().total(axes, keepdims=False) * factor, backward

    return whole


def losses(
    name: str,
    operands: tuple[Array, ...],
    reference: Reference,
    *fixed: Any,
    reductions: tuple[str, ...] = REDUCTIONS,
    dtypes: tuple[torch.dtype, ...] = SINGLES,
    **options: Any,
) -> list[Layer]:
    """A loss of torch.nn.functional in each reduction; the mean is torch's default.

    Operands get gradients; `fixed` are the arrays after them, which do not. Arrays among the
    options go to the device too.
    """
    shown = [
        key if isinstance(value, np.ndarray) else f"{key}={value}" for key, value in options.items()
    ]
    return [
        Layer(
            name,
            _call(name, fixed, options | chosen(reduction)),
            operands,
            reduced(reference, reduction),
            ", ".join([*shown, reduction]),
            dtypes,
            stored=STORED,
        )
        for reduction in reductions
    ]


def chosen(reduction: str) -> dict[str, str]:
    """The option that asks for a reduction; none for the mean."""
    return {} if reduction == "mean" else {"reduction": reduction}


def _call(
    name: str, fixed: tuple[Any, ...], options: dict[str, Any]
) -> Callable[..., torch.Tensor]:
    def call(*operands: torch.Tensor) -> torch.Tensor:
        given = [_on(each, operands[0]) for each in fixed]
        named = {key: _on(value, operands[0]) for key, value in options.items()}
        out: torch.Tensor = getattr(functional, name)(*operands, *given, **named)
        return out

    return call


def _on(value: Any, like: torch.Tensor) -> Any:
    """An array as a tensor beside another: in its type, or as indices."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == np.int64:
        return torch.from_numpy(value.copy()).to(like.device)
    return tensor(value, str(like.device), like.dtype)
