"""Functions of neural networks, by their formulas."""

import math
from collections.abc import Iterator

import numpy as np

from probes.kit.case import case, plain
from probes.kit.operands import F32, fractions, integers
from probes.kit.trial import Trial
from probes.tensor_ops.attending import attending


def neural(_device: str) -> Iterator[Trial]:
    """Activations, normalisation, pooling, embedding and losses by their formulas."""
    f = "nn.functional"
    x = (fractions((33, 65), 86) * 12 - 6).astype(F32)  # thousands: the functions' first call
    wide = x.astype(np.float64)
    unit = 2.0**-23
    erf = np.array([[math.erf(v / math.sqrt(2)) for v in row] for row in wide.tolist()])
    # The functions inside have errors of 2 to 4 ulp, scaled by the size of the factors.
    size = 8 * unit * np.maximum(np.abs(wide), 1)
    yield plain(f"{f}.gelu", (x,), (wide * (1 + erf) / 2).astype(F32), size)
    yield plain(f"{f}.silu", (x,), (wide / (1 + np.exp(-wide))).astype(F32), size)
    yield plain(f"{f}.softplus", (x,), np.log1p(np.exp(wide)).astype(F32), size)
    yield plain(f"{f}.elu", (x,), np.where(wide > 0, wide, np.expm1(wide)).astype(F32), size)
    whole_x = integers((9, 65), -9, 9, 87)
    yield plain(f"{f}.relu", (whole_x,), np.maximum(whole_x, 0), 0.0)
    yield plain(
        f"{f}.leaky_relu",
        (whole_x, 0.5),
        np.where(whole_x > 0, whole_x, whole_x / 2).astype(F32),
        0.0,
    )
    yield plain(f"{f}.hardtanh", (whole_x,), np.clip(whole_x, -1, 1))
    shifted = np.exp(wide - wide.max(1, keepdims=True))
    soft = shifted / shifted.sum(1, keepdims=True)
    # exp and division, and 65 additions: each at most a unit.
    yield case("softmax", (x, 1), soft.astype(F32), (65 + 8) * unit * soft)
    yield case("log_softmax", (x, 1), np.log(soft).astype(F32), (65 + 8) * unit * 16)
    total = np.log(shifted.sum(1)) + wide.max(1)
    yield case("logsumexp", (x, 1), total.astype(F32), (65 + 8) * unit * 8)
    scan = np.logaddexp.accumulate(wide, 1)
    yield case("logcumsumexp", (x, 1), scan.astype(F32), (65 + 8) * unit * 8)
    target = integers((33,), 0, 64, 88, np.int64)
    loss = -np.log(soft[np.arange(33), target]).mean()
    yield plain(f"{f}.cross_entropy", (x, target), np.asarray(loss, F32), (65 + 8) * unit * 16)
    centred = wide - wide.mean(1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    yield plain(f"{f}.layer_norm", (x, (65,)), normal.astype(F32), (65 + 8) * unit * 4)
    image = integers((2, 3, 8, 6), -9, 9, 89)
    blocks = image.reshape(2, 3, 4, 2, 3, 2)
    yield plain(f"{f}.max_pool2d", (image, 2), blocks.max((3, 5)))
    yield plain(f"{f}.avg_pool2d", (image, 2), blocks.mean((3, 5)))
    yield plain(f"{f}.interpolate", (image,), image.repeat(2, 2).repeat(2, 3), scale_factor=2)
    shuffled = integers((1, 8, 3, 4), -9, 9, 90)
    yield plain(
        f"{f}.pixel_shuffle",
        (shuffled, 2),
        shuffled.reshape(1, 2, 2, 2, 3, 4).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 6, 8),
    )
    table, tokens = integers((11, 5), -9, 9, 91), integers((4, 7), 0, 10, 92, np.int64)
    yield plain(f"{f}.embedding", (tokens, table), table[tokens])
    yield plain(f"{f}.one_hot", (tokens, 11), np.eye(11, dtype=np.int64)[tokens])
    yield plain(
        f"{f}.mse_loss",
        (whole_x[:8, :64], whole_x[1:, 1:]),
        np.asarray(((whole_x[:8, :64] - whole_x[1:, 1:]) ** 2).mean(), F32),
    )
    yield from attending()
