"""Gradients of writes by index and mask, of repetitions, parts and extremes: linear, exact."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.kit.layer import Layer, linear
from probes.kit.typed.linear_maps import MASK, ROWS, beside, moved
from probes.kit.typed.moved_gradients import ORDER, taken

#: Three distinct columns of each row.
_COLUMNS: Final = np.argsort(ORDER, 1, kind="stable")[:, :3]
_TWO_ROWS: Final = ROWS[:2]


def writes() -> Iterator[Layer]:
    """A write takes the gradient from what it replaces, and gives it to what it writes."""

    def scattered(batch: Any, written: Any) -> Any:
        found = 2 * batch
        np.put_along_axis(
            found, np.broadcast_to(_COLUMNS, (len(batch), *_COLUMNS.shape)), written, 2
        )
        return found

    def masked(batch: Any) -> Any:
        found = 2 * batch
        found[:, MASK] = batch.reshape(len(batch), -1)[:, : MASK.sum()]
        return found

    def with_rows(batch: Any) -> Any:
        found = 2 * batch
        found[:, _TWO_ROWS] = batch[:, :2]
        return found

    def without_rows(batch: Any) -> Any:
        found = batch.copy()
        found[:, _TWO_ROWS] = 0
        return found

    yield moved(
        "scatter",
        lambda x: (2 * x).scatter(1, beside(_COLUMNS, x), x[:, :3]),
        lambda b: scattered(b, b[:, :, :3]),
    )
    yield moved(
        "scatter",
        lambda x: (2 * x).scatter(1, beside(_COLUMNS, x), 0),
        lambda b: scattered(b, 0),
        "one value",
    )
    yield moved("masked_scatter", lambda x: (2 * x).masked_scatter(beside(MASK, x), x), masked)
    yield moved(
        "index_copy", lambda x: (2 * x).index_copy(0, beside(_TWO_ROWS, x), x[:2]), with_rows
    )
    yield moved("index_fill", lambda x: x.index_fill(0, beside(_TWO_ROWS, x), 0), without_rows)


def parts() -> Iterator[Layer]:
    """Parts, repetitions and extremes: each element's gradient is that of its places."""
    yield moved("masked_select", lambda x: x.masked_select(beside(MASK, x)), lambda b: b[:, MASK])
    yield moved(
        "take",
        lambda x: x.take(beside(ORDER[:2] % 9, x)),
        lambda b: b.reshape(len(b), -1)[:, ORDER[:2] % 9],
    )
    yield moved("repeat_interleave", lambda x: x.repeat_interleave(3, 0), lambda b: b.repeat(3, 1))
    yield moved("triu", lambda x: x.triu(1), lambda b: np.triu(b, 1))
    yield moved(
        "Tensor.unfold",
        lambda x: x.unfold(1, 3, 2),
        lambda b: np.lib.stride_tricks.sliding_window_view(b, 3, 2)[:, :, ::2],
    )
    distinct = ORDER.astype(np.float64)
    largest, smallest = distinct.argmax(1)[:, None], distinct.argmin(1)[:, None]
    extremes: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor], Any], ...] = (
        ("amax", lambda x: x.amax(1, keepdim=True), largest),
        ("amin", lambda x: x.amin(1, keepdim=True), smallest),
        ("min", lambda x: x.min(1, keepdim=True)[0], smallest),
    )
    for name, call, at in extremes:
        yield Layer(name, call, (distinct,), linear(partial(taken, at), 2))
