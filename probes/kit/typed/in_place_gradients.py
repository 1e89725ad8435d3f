"""Gradients through operations in place, of a result that the backward has to take into account."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from probes.kit.layer import Layer
from probes.kit.typed.linear_maps import MASK, POWERS, ROWS, Call, beside, moved, unmasked


def in_place() -> Iterator[Layer]:
    """Each changes a result that the backward has to take into account."""

    def changed(change: Callable[[torch.Tensor, torch.Tensor], Any]) -> Call:
        def call(x: torch.Tensor) -> torch.Tensor:
            found = 2 * x
            change(found, x)
            return found

        return call

    def filled_row(y: torch.Tensor, x: torch.Tensor) -> None:
        y[beside(ROWS[:2], x)] = x[:2]

    def zeroed_row(y: torch.Tensor, _x: torch.Tensor) -> None:
        y[1].zero_()

    def with_row(batch: Any) -> Any:
        found = 2 * batch
        found[:, ROWS[:2]] = batch[:, :2]
        return found

    def without_row(batch: Any) -> Any:
        return 2 * batch * (np.arange(4) != 1)[:, None]

    def added(batch: Any) -> Any:
        found = 2 * batch
        for place, row in enumerate(ROWS):
            found[:, row] += batch[:, place]
        return found

    for name, change, right in (
        ("Tensor.mul_", lambda y, _: y.mul_(4), lambda b: 8 * b),
        ("Tensor.div_", lambda y, _: y.div_(4), lambda b: b / 2),
        ("Tensor.div_", lambda y, x: y.div_(beside(POWERS, x)), lambda b: 2 * b / POWERS),
        ("Tensor.add_", lambda y, x: y.add_(x), lambda b: 3 * b),
        ("Tensor.sub_", lambda y, x: y.sub_(x, alpha=4), lambda b: -2 * b),
        ("Tensor.copy_", lambda y, x: y.copy_(4 * x), lambda b: 4 * b),
        ("Tensor.zero_", zeroed_row, without_row),
        ("Tensor.masked_fill_", lambda y, x: y.masked_fill_(beside(MASK, x), 0), _twice_unmasked),
        ("Tensor.index_add_", lambda y, x: y.index_add_(0, beside(ROWS, x), x[:3]), added),
        ("Tensor.__setitem__", filled_row, with_row),
    ):
        yield moved(name, changed(change), right)


def _twice_unmasked(batch: Any) -> Any:
    return 2 * unmasked(batch)
