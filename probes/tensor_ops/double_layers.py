"""Functions of neural networks in float64."""

import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from probes.kit.case import Array, once
from probes.kit.operands import fractions, integers
from probes.kit.trial import Trial

_F: Final = "nn.functional"
#: Twice a unit in the last place at 1: the references are in float64 too.
_UNITS: Final = 2 * 2.0**-52


def layer_cases(wide: Callable[[tuple[int, ...], int], Array]) -> Iterator[Trial]:
    """Activations, softmax, norms, pooling, losses and convolutions; `wide` makes operands."""
    yield from _rounded()
    x = wide((9, 65), 251)
    yield once(f"{_F}.relu", (x,), np.maximum(x, 0), 0.0)
    yield once(f"{_F}.leaky_relu", (x, 0.5), np.where(x > 0, x, x / 2))
    yield once(f"{_F}.hardtanh", (x, -50.0, 50.0), np.clip(x, -50, 50))
    # 2^12 differences that are multiples of 1 + 2^-30, squared: beyond float32, exact in float64.
    near, far = integers((8, 64), -99, 99, 252, np.float64), np.full((8, 64), 2.0**12)
    yield once(f"{_F}.mse_loss", (near, far), (near - far) ** 2, reduction="none")
    image = wide((2, 3, 8, 6), 253)
    blocks = image.reshape(2, 3, 4, 2, 3, 2)
    yield once(f"{_F}.max_pool2d", (image, 2), blocks.max((3, 5)))
    yield once(f"{_F}.avg_pool2d", (image, 2), blocks.sum((3, 5)) / 4)
    yield once(f"{_F}.interpolate", (image,), image.repeat(2, 2).repeat(2, 3), scale_factor=2)
    tokens = integers((4, 7), 0, 8, 254, np.int64)
    yield once(f"{_F}.embedding", (tokens, x), x[tokens])
    yield from _convolutions(image)


def _rounded() -> Iterator[Trial]:
    x = fractions((9, 65), 250) * 12 - 6
    erf = np.array([[math.erf(v / math.sqrt(2)) for v in row] for row in x.tolist()])
    size = 8 * _UNITS * np.maximum(np.abs(x), 1)
    yield once(f"{_F}.gelu", (x,), x * (1 + erf) / 2, size)
    yield once(f"{_F}.silu", (x,), x / (1 + np.exp(-x)), size)
    yield once(f"{_F}.softplus", (x,), np.log1p(np.exp(x)), size)
    yield once(f"{_F}.elu", (x,), np.where(x > 0, x, np.expm1(x)), size)
    shifted = np.exp(x - x.max(1, keepdims=True))
    soft = shifted / shifted.sum(1, keepdims=True)
    sums = (65 + 8) * _UNITS
    yield once("softmax", (x, 1), soft, sums * soft)
    yield once("log_softmax", (x, 1), np.log(soft), sums * 16)
    target = integers((9,), 0, 64, 255, np.int64)
    loss = -np.log(soft[np.arange(9), target]).mean()
    yield once(f"{_F}.cross_entropy", (x, target), np.asarray(loss), sums * 16)
    centred = x - x.mean(1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    yield once(f"{_F}.layer_norm", (x, (65,)), normal, sums * 4)


def _convolutions(image: Array) -> Iterator[Trial]:
    """Blocks that do not overlap, so that the convolution is a product.

    Winograd's and FFT's algorithms may round sums up to 99 * 12 * 9 < 2^14: a few of its units.
    """
    weight = integers((4, 3, 2, 2), -9, 9, 256, np.float64)
    blocks = image.reshape(2, 3, 4, 2, 3, 2)
    allowed = 2.0**14 * 2.0**-48
    expected = np.einsum("bchiwj,ocij->bohw", blocks, weight)
    yield once(f"{_F}.conv2d", (image, weight, None, 2), expected, allowed)
    spread = np.einsum("bchw,cokl->bohkwl", image, weight.swapaxes(0, 1))
    turned = weight.swapaxes(0, 1).copy()
    yield once(
        f"{_F}.conv_transpose2d",
        (image, turned, None, 2),
        spread.reshape(2, 4, 16, 12),
        allowed,
    )
