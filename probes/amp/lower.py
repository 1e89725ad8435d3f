"""Operations that autocast runs in the lower type: integers, so that every sum is exact.

Sums of up to 128 products of 1 and -1, or of 8 of odd integers up to 5, are at most 205: all
partial sums are exact in bfloat16 and float16, in every order and on every kind of unit.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.amp.regions import Array
from probes.amp.rows import Row, trials
from probes.kit.gradients import integers
from probes.kit.trial import Trial

_ALL: Final = ("cpu", "cuda", "xpu")
_GPU: Final = ("cuda", "xpu")

#: Rounds to 1 in both lower types, and does not vanish from a difference in float32.
_ALMOST_ONE: Final = 1 + 2.0**-12

#: An input of a gate whose sigmoid is 1, or vanishes beside 1, in every type.
_OPEN: Final = 32.0


def lower_type(device: str) -> Iterator[Trial]:
    """Given float32, and given the lower type first, as behind another such operation."""

    def types(lower: torch.dtype) -> Any:
        float32 = torch.float32
        return (((float32,), lower), ((lower, float32), lower))

    yield from trials(_rows(), device, types)
    yield from trials(_rounded(), device, lambda lower: (((torch.float32,), lower),))


def signs(shape: tuple[int, ...], salt: int) -> Array:
    """1 and -1 without a short period."""
    return np.sign(integers(shape, salt))


def _rows() -> Iterator[Row]:
    yield from _products()
    yield from _batched_products()
    for dimensions in (1, 2, 3):
        yield from _convolutions(dimensions)
    yield from _cells()
    yield from _others()


def _rounded() -> Iterator[Row]:
    """The operands are rounded, not the output: in float32 the answer would be 2^-12."""
    x, w = np.array([[_ALMOST_ONE, 1.0]]), np.array([[1.0, -1.0]])
    zero = np.zeros((1, 1))
    yield Row("mm", lambda a, b: torch.mm(a, b.t()), (x, w), zero, _ALL)
    yield Row("linear", torch.nn.functional.linear, (x, w), zero, _ALL)
    yield Row("conv1d", torch.nn.functional.conv1d, (x[None], w[None]), zero[None], _ALL)


def _products() -> Iterator[Row]:
    a, b, v = signs((24, 128), 1), signs((128, 40), 2), signs((128,), 3)
    c, d, bias = integers((24, 40), 4), integers((24,), 5), integers((40,), 6)
    yield Row("mm", torch.mm, (a, b), a @ b, _ALL)
    yield Row("matmul", torch.matmul, (a, b), a @ b, _ALL)
    yield Row("__matmul__", lambda x, y: x @ y, (a, b), a @ b, ("cuda",))
    yield Row("addmm", torch.addmm, (c, a, b), c + a @ b, _ALL)
    linear = torch.nn.functional.linear
    yield Row("linear", linear, (a, b.T.copy(), bias), a @ b + bias, _ALL)
    batch = signs((3, 5, 128), 7)
    yield Row("linear", linear, (batch, b.T.copy()), batch @ b, _ALL)
    yield Row("mv", torch.mv, (a, v), a @ v, _GPU)
    yield Row("addmv", torch.addmv, (d, a, v), d + a @ v, _GPU)
    row = integers((40,), 8)
    yield Row("addr", torch.addr, (c, d, row), c + np.outer(d, row), _GPU)
    chain = (signs((8, 8), 9), signs((8, 16), 10), signs((16, 4), 11))
    right = chain[0] @ chain[1] @ chain[2]
    yield Row("multi_dot", lambda *each: torch.linalg.multi_dot(each), chain, right, _GPU)


def _batched_products() -> Iterator[Row]:
    a, b, c = signs((3, 24, 128), 12), signs((3, 128, 40), 13), integers((3, 24, 40), 14)
    yield Row("bmm", torch.bmm, (a, b), a @ b, _ALL)
    yield Row("matmul", torch.matmul, (a, b), a @ b, _ALL)
    yield Row("baddbmm", torch.baddbmm, (c, a, b), c + a @ b, _ALL)
    short, other = a[..., :40], b[:, :40]
    right = c[0] + (short @ other).sum(0)
    yield Row("addbmm", torch.addbmm, (c[0].copy(), short.copy(), other.copy()), right, _ALL)
    v, w = signs((24, 128), 15), signs((24, 128), 16)
    yield Row("linalg_vecdot", torch.linalg.vecdot, (v, w), (v * w).sum(-1), ("cpu",))


def _convolutions(dimensions: int) -> Iterator[Row]:
    """Stride 2 and filters of 2: blocks that do not overlap, which no transform is used for."""
    channels = 8 // 2**dimensions
    space, window = (6, 8, 4)[:dimensions], (2,) * dimensions
    x = integers((2, channels, *space), 20 + dimensions)
    weight, bias = integers((3, channels, *window), 24), integers((3,), 25)
    call: Callable[..., Any] = getattr(torch.nn.functional, f"conv{dimensions}d")
    blocks = np.tensordot(_blocks(x), weight, (range(-dimensions - 1, 0), range(1, dimensions + 2)))
    right = np.moveaxis(blocks + bias, -1, 1)
    name = f"conv{dimensions}d"
    yield Row(name, lambda *each: call(*each, stride=2), (x, weight, bias), right, _ALL)
    back: Callable[..., Any] = getattr(torch.nn.functional, f"conv_transpose{dimensions}d")
    name = f"conv_transpose{dimensions}d"
    weight = integers((channels, 3, *window), 26)
    right = _spread(x, weight) + bias.reshape(3, *(1,) * dimensions)
    yield Row(name, lambda *each: back(*each, stride=2), (x, weight, bias), right, _ALL)


def _blocks(x: Array) -> Array:
    """(N, C, 2L, ...) -> (N, L, ..., C, 2, ...): each filter's operands."""
    space = x.shape[2:]
    count = len(space)
    halves = x.reshape(*x.shape[:2], *(part for side in space for part in (side // 2, 2)))
    axes = (0, *range(2, 2 + 2 * count, 2), 1, *range(3, 3 + 2 * count, 2))
    return np.asarray(halves.transpose(axes))


def _spread(x: Array, weight: Array) -> Array:
    """(N, C, L, ...), (C, O, 2, ...) -> (N, O, 2L, ...): each element becomes a block."""
    count = x.ndim - 2
    product = np.tensordot(x, weight, ([1], [0]))  # (N, L, ..., O, 2, ...)
    pairs = (axis for i in range(count) for axis in (1 + i, 2 + count + i))
    spread = product.transpose(0, 1 + count, *pairs)
    return np.asarray(spread.reshape(len(x), weight.shape[1], *(2 * side for side in x.shape[2:])))


def _cells() -> Iterator[Row]:
    """Gates that are open or shut, so that tanh and sigmoid are 1, -1 and 0."""
    x, h = signs((4, 8), 30), signs((4, 6), 31)
    w, u, b, c = integers((6, 8), 32), signs((6, 6), 33), integers((6,), 34), integers((6,), 35)
    right = np.maximum(x @ w.T + b + h @ u.T + c, 0)
    yield Row("RNNCell", torch.rnn_relu_cell, (x, h, w, u, b, c), right, _GPU)
    shut = np.zeros((24, 6))
    state, signed = integers((4, 6), 36), signs((6,), 37)
    # LSTM: input, forget, cell and output gates. c' = c + g, and h' = tanh(c').
    gates = np.concatenate([np.full(12, _OPEN), _OPEN * signed, np.full(6, _OPEN)])
    cell = 9 * state + signed  # odd multiples of 9, so that tanh(c') is 1 or -1
    right = np.concatenate([np.sign(cell), cell], 1)
    operands = (x, h, 9 * state, np.zeros((24, 8)), shut, gates, np.zeros(24))
    yield Row("LSTMCell", _lstm, operands, right, _GPU)
    # GRU: reset, update and new gates. An update gate that is shut gives the new one.
    gates = np.concatenate([np.full(6, _OPEN), np.full(6, -_OPEN), _OPEN * signed])
    given = (x, h, np.zeros((18, 8)), shut[:18], gates, np.zeros(18))
    yield Row("GRUCell", torch.gru_cell, given, np.tile(signed, (4, 1)), _GPU)


def _lstm(x: Any, h: Any, c: Any, *weights: Any) -> torch.Tensor:
    return torch.cat(torch.lstm_cell(x, (h, c), *weights), 1)


def _others() -> Iterator[Row]:
    x, slope = integers((4, 6, 5), 40), np.full(6, 0.5)
    right = np.where(x > 0, x, x / 2)
    yield Row("prelu", torch.nn.functional.prelu, (x, slope), right, ("cpu", "cuda"))
    x, weight, bias = integers((7, 3, 4), 41), integers((2, 4, 5), 42), integers((5,), 43)
    right = x[:-1] @ weight[0] + x[1:] @ weight[1] + bias
    yield Row("conv_tbc", torch.conv_tbc, (x, weight, bias), right, ("cpu",))
    # One key: its weight is 1.
    query, key, value = (integers((2, 3, length, 8), 44) for length in (5, 1, 1))
    attention = torch.nn.functional.scaled_dot_product_attention
    right = np.broadcast_to(value, (2, 3, 5, 8)).copy()
    yield Row("scaled_dot_product_attention", attention, (query, key, value), right, ("cpu",))
