"""Gradients of moves, selections and sums: linear maps, exact in each type."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.kit.layer import Layer, linear
from probes.kit.operands import integers
from probes.kit.typed.linear_maps import MASK, POWERS, ROWS, SHAPE, beside, moved, unmasked

#: The numbers from 0 to 23 in no order.
ORDER: Final = np.argsort(integers((24,), 0, 9999, 74, np.int64), kind="stable").reshape(SHAPE)


def moves() -> Iterator[Layer]:
    """Views, joins, reads and repetitions."""
    yield moved("roll", lambda x: x.roll(2, 1), lambda b: np.roll(b, 2, 2))
    yield moved("flip", lambda x: x.flip(0), lambda b: b[:, ::-1])
    yield moved("expand", lambda x: x[:, :1].expand(4, 5), lambda b: b[:, :, :1].repeat(5, 2))
    yield moved("Tensor.repeat", lambda x: x.repeat(2, 1), lambda b: np.tile(b, (1, 2, 1)))
    yield moved("Tensor.__getitem__", lambda x: x[...] * 2, lambda b: b * 2, "all of it")
    yield moved("Tensor.__getitem__", lambda x: x[1:3, ::2], lambda b: b[:, 1:3, ::2], "steps")
    yield moved("Tensor.__getitem__", lambda x: x[2], lambda b: b[:, 2], "row")
    yield moved("Tensor.__getitem__", lambda x: x[beside(ROWS, x)], lambda b: b[:, ROWS], "index")
    yield moved("Tensor.__getitem__", lambda x: x[beside(MASK, x)], lambda b: b[:, MASK], "mask")
    yield moved(
        "index_select", lambda x: x.index_select(1, beside(ROWS, x)), lambda b: b[..., ROWS]
    )
    yield moved(
        "gather",
        lambda x: x.gather(1, beside(ORDER % 6, x)),
        lambda b: np.take_along_axis(b, np.broadcast_to(ORDER % 6, b.shape), 2),
    )
    yield moved("as_strided", lambda x: x.as_strided((3, 4), (2, 5)), _strided)
    yield moved("diagonal", lambda x: x.diagonal(1), lambda b: np.diagonal(b, 1, 1, 2))
    yield moved("tril", lambda x: x.tril(), np.tril)
    yield moved("transpose", lambda x: x.transpose(0, 1), lambda b: b.swapaxes(1, 2))
    yield moved("permute", lambda x: x.permute(1, 0), lambda b: b.swapaxes(1, 2))
    yield moved("t", lambda x: x.t(), lambda b: b.swapaxes(1, 2))
    yield moved("split", lambda x: x.split(4, 1)[1], lambda b: b[:, :, 4:])
    yield moved("split", lambda x: x.split([1, 3, 2], 1)[1], lambda b: b[:, :, 1:4], "sizes")
    yield moved("unsafe_split", lambda x: x.unsafe_split(4, 1)[0], lambda b: b[:, :, :4])
    yield moved("unbind", lambda x: x.unbind(1)[2], lambda b: b[:, :, 2])
    yield moved("stack", lambda x: torch.stack((x, 2 * x), 1), lambda b: np.stack((b, 2 * b), 2))
    yield moved("cat", lambda x: torch.cat((x, 2 * x), 1), lambda b: np.concatenate((b, 2 * b), 2))
    yield moved(
        "nn.functional.pad",
        lambda x: torch.nn.functional.pad(x, (1, 2)),
        lambda b: np.pad(b, ((0, 0), (0, 0), (1, 2))),
    )
    yield moved("squeeze", lambda x: x[:, :1].squeeze(1), lambda b: b[:, :, 0])
    yield moved("unsqueeze", lambda x: x.unsqueeze(1), lambda b: b[:, :, None])
    yield moved("masked_fill", lambda x: x.masked_fill(beside(MASK, x), 0), unmasked)
    yield moved("where", lambda x: torch.where(beside(MASK, x), x, 2 * x), lambda b: b * (2 - MASK))


def sums() -> Iterator[Layer]:
    """Sums, means, and a matrix times or plus what is constant."""
    yield moved("sum", lambda x: x.sum()[None], lambda b: b.sum((1, 2))[:, None], "all")
    yield moved("sum", lambda x: x.sum(1), lambda b: b.sum(2))
    yield moved("mean", lambda x: x.mean()[None], lambda b: b.mean((1, 2))[:, None], "all")
    yield moved("mean", lambda x: x.mean(0), lambda b: b.mean(1))
    yield moved("cumsum", lambda x: x.cumsum(1), lambda b: b.cumsum(2))
    yield moved("add", lambda x: x + 2 * x, lambda b: 3 * b)
    yield moved("sub", lambda x: x - 2 * x, lambda b: -b)
    yield moved("div", lambda x: x / beside(POWERS, x), lambda b: b / POWERS)
    yield moved("neg", lambda x: -x, lambda b: -b)
    yield moved("rsub", lambda x: 3 - x, lambda b: 3 - b)
    yield moved("clone", lambda x: x.clone(), lambda b: b)
    yield moved("add", lambda x: beside(MASK, x) + x, lambda b: b + MASK, "bool first")
    yield moved("mul", lambda x: beside(MASK, x) * x, lambda b: b * MASK, "bool first")
    yield moved("Tensor.to", _converted, lambda b: 2 * b)
    yield moved("Tensor.view", lambda x: x.view(3, 8), lambda b: b.reshape(len(b), 3, 8))


def orders() -> Iterator[Layer]:
    """The places of the largest do not depend on small changes of distinct numbers."""
    distinct = ORDER.astype(np.float64)
    largest = np.argsort(-distinct, 1, "stable")[:, :2]
    for name, call, at in (
        ("topk", lambda x: x.topk(2, 1)[0], largest),
        ("sort", lambda x: x.sort(1)[0], np.argsort(distinct, 1, "stable")),
        ("max", lambda x: x.max(1, keepdim=True)[0], largest[:, :1]),
    ):
        yield Layer(name, call, (distinct,), linear(partial(taken, at), 2))


def taken(at: Any, batch: Any) -> Any:
    """The elements of each row that are at these places."""
    return np.take_along_axis(batch, np.broadcast_to(at, (len(batch), *at.shape)), 2)


def _converted(x: torch.Tensor) -> torch.Tensor:
    other = torch.float16 if x.dtype == torch.float32 else torch.float32
    return (2 * x.to(other)).to(x.dtype)


def _strided(batch: Any) -> Any:
    places = 2 * np.arange(3)[:, None] + 5 * np.arange(4)
    return batch.reshape(len(batch), -1)[:, places]
