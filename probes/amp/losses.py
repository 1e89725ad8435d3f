"""Losses that autocast runs in float32.

Their operands are integers of 7 bits: sums of their differences and squares are exact in float32,
and are not in the lower types. Counts are powers of two, so that means are exact too.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.amp.functions import SEVERAL, large
from probes.amp.regions import Array
from probes.amp.rows import Row
from probes.kit.gradients import integers

_ALL: Final = ("cpu", "cuda", "xpu")
_MOST: Final = ("cpu", "cuda")
_GPU: Final = ("cuda", "xpu")
_CPU: Final = ("cpu",)

_CLASSES: Final = 4

#: Units of float32 in four roundings of bfloat16.
_HALF_UNITS: Final = 2.0**17


def rows() -> Iterator[Row]:
    """Of differences, of margins, of classes and of distances."""
    yield from _differences()
    yield from _margins()
    yield from _classes()
    yield from _distances()


def _loss(name: str, *options: Any, **named: Any) -> Any:
    """The loss as a function of its tensors."""
    call = getattr(torch.nn.functional, name)
    return lambda *tensors: call(*tensors, *options, **named)


def _differences() -> Iterator[Row]:
    x, y = large((16, 32), 3), large((16, 32), 4)
    difference = x - y
    both = (x, y)
    yield Row("l1_loss", _loss("l1_loss"), both, np.abs(difference).mean(), _ALL)
    right = (difference[:4] ** 2).sum()
    few = (x[:4].copy(), y[:4].copy())
    yield Row("mse_loss", _loss("mse_loss", reduction="sum"), few, right, _MOST)
    huber = np.where(np.abs(difference) < 1, difference**2 / 2, np.abs(difference) - 0.5)
    yield Row("smooth_l1_loss", _loss("smooth_l1_loss"), both, huber.mean(), _MOST)
    yield Row("huber_loss", _loss("huber_loss"), both, huber.mean(), _CPU)


def _margins() -> Iterator[Row]:
    x, y = large((16, 32), 5), large((16, 32), 6)
    side = np.sign(integers((16, 32), 7))
    right = np.maximum(0, -side * (x - y) + 2).mean()
    yield Row(
        "margin_ranking_loss", _loss("margin_ranking_loss", margin=2.0), (x, y, side), right, _ALL
    )
    right = np.where(side > 0, x, np.maximum(0, 2 - x)).mean()
    yield Row(
        "hinge_embedding_loss", _loss("hinge_embedding_loss", margin=2.0), (x, side), right, _ALL
    )
    near = x / 64
    losses = np.log1p(np.exp(-side * near))
    yield Row(
        "soft_margin_loss", _loss("soft_margin_loss"), (near, side), losses.mean(), _ALL, SEVERAL
    )
    target = np.where(side > 0, 1.0, 0.0)
    losses = np.maximum(near, 0) - near * target + np.log1p(np.exp(-np.abs(near)))
    name = "binary_cross_entropy_with_logits"
    yield Row(name, _loss(name), (near, target), losses.mean(), _ALL, SEVERAL)
    counts = np.abs(y)
    positive = np.abs(near) + 1 / 64
    losses = positive - counts * np.log(positive + 1e-8)
    scale = (positive + counts * np.abs(np.log(positive))).mean()
    yield Row(
        "poisson_nll_loss",
        _loss("poisson_nll_loss", log_input=False),
        (positive, counts),
        losses.mean(),
        _ALL,
        SEVERAL,
        scale,
    )


def _classes() -> Iterator[Row]:
    x = large((16, _CLASSES), 8)
    labels = np.arange(16) % _CLASSES
    own = x[np.arange(16), labels][:, None]
    yield Row("nll_loss", _loss("nll_loss"), (x, labels), -own.mean(), _ALL)
    others = np.arange(_CLASSES)[None] != labels[:, None]
    losses = (np.maximum(0, 1 - own + x) * others).sum(1) / _CLASSES
    yield Row("multi_margin_loss", _loss("multi_margin_loss"), (x, labels), losses.mean(), _MOST)
    # One label for each row, so that both losses are the same.
    listed = np.full((16, _CLASSES), -1)
    listed[:, 0] = labels
    name = "multilabel_margin_loss"
    yield Row(name, _loss(name), (x, listed), losses.mean(), _MOST)
    near = x / 64
    exponents = np.log(np.exp(near).sum(1, keepdims=True))
    right = (exponents - near[np.arange(16), labels][:, None]).mean()
    scale = (np.abs(exponents) + np.abs(near).max(1, keepdims=True)).mean()
    # On CUDA it is made of log_softmax, which is asked for the operand's own type, and of nll_loss:
    # of half types the result has the type of the table and the precision of theirs.
    call = _loss("cross_entropy")
    yield Row("cross_entropy", call, (near, labels), right, _CPU, SEVERAL, scale)
    yield Row("cross_entropy", call, (near, labels), right, _GPU, _HALF_UNITS, scale)
    target = np.roll(near, 1, 1)
    terms = np.exp(target) * (target - near)
    scale = (np.exp(target) * (np.abs(target) + np.abs(near))).sum()
    call = _loss("kl_div", reduction="sum", log_target=True)
    yield Row("kl_div", call, (near, target), terms.sum(), _ALL, SEVERAL, scale)


def _distances() -> Iterator[Row]:
    x, y, z = (large((16, 32), salt) / 8 for salt in (9, 10, 11))
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    scale = np.ones(16)
    yield Row(
        "cosine_similarity", _loss("cosine_similarity"), (x, y), cosines, _GPU, SEVERAL, scale
    )
    side = np.where(np.arange(16) % 2, 1.0, -1.0)
    right = np.where(side > 0, 1 - cosines, np.maximum(0, cosines)).mean()
    name = "cosine_embedding_loss"
    yield Row(name, _loss(name), (x, y, side), right, _ALL, SEVERAL, np.asarray(2.0))
    near, far = (np.linalg.norm(x - each + 1e-6, axis=1) for each in (y, z))
    right = np.maximum(0, near - far + 5).mean()
    scale = (near + far + 5).mean()
    name = "triplet_margin_loss"
    yield Row(name, _loss(name, margin=5.0), (x, y, z), right, _ALL, SEVERAL, scale)
    whole = large((5, 12), 12), large((7, 12), 13)
    pairs: Array = np.abs(whole[0][:, None] - whole[1][None]).sum(-1)
    yield Row("cdist", lambda a, b: torch.cdist(a, b, 1.0), whole, pairs, _MOST)
