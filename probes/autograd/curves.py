"""Cases with rounded gradients: closed forms in NumPy float64, within a few unit roundoffs.

Reductions over rows of 6 need 6 more steps than `FUNCTION_STEPS` allows for a single function.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from probes.autograd.exact import FUNCTION_STEPS, Case
from probes.kit.gradients import Array, integers

_ROW_STEPS: Final = 64.0

# Exact in every floating type; no function has a kink or pole at any of them.
_REAL = integers((3, 5), 81) / 8 + (np.arange(15) % 4).reshape(3, 5) / 4 - 0.5625
_POSITIVE = np.abs(_REAL) + 0.25
_SMALL = _REAL / 2  # within -1 and 1
_ROWS, _OTHER = integers((4, 6), 82) / 4, integers((4, 6), 83) / 8
_SQRT_PI, _SQRT_2PI = math.sqrt(math.pi), math.sqrt(2 * math.pi)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _curve(
    name: str,
    call: Callable[[torch.Tensor], torch.Tensor],
    slope: Callable[[Array], Array],
    at: Array = _REAL,
) -> Case:
    return Case(name, (at,), call, lambda g, x: (g * slope(x),), roundings=FUNCTION_STEPS)


FUNCTIONS: Final[tuple[Case, ...]] = (
    _curve("exp", torch.exp, np.exp),
    _curve("expm1", torch.expm1, np.exp),
    _curve("log", torch.log, lambda x: 1 / x, _POSITIVE),
    _curve("log1p", torch.log1p, lambda x: 1 / (1 + x), _POSITIVE),
    _curve("log2", torch.log2, lambda x: 1 / (x * math.log(2)), _POSITIVE),
    _curve("sqrt", torch.sqrt, lambda x: 0.5 / np.sqrt(x), _POSITIVE),
    _curve("rsqrt", torch.rsqrt, lambda x: -0.5 * x**-1.5, _POSITIVE),
    _curve("sin", torch.sin, np.cos),
    _curve("cos", torch.cos, lambda x: -np.sin(x)),
    _curve("tan", torch.tan, lambda x: 1 + np.tan(x) ** 2),
    _curve("asin", torch.asin, lambda x: 1 / np.sqrt(1 - x**2), _SMALL),
    _curve("acos", torch.acos, lambda x: -1 / np.sqrt(1 - x**2), _SMALL),
    _curve("atan", torch.atan, lambda x: 1 / (1 + x**2)),
    _curve("sinh", torch.sinh, np.cosh),
    _curve("cosh", torch.cosh, np.sinh),
    _curve("tanh", torch.tanh, lambda x: 1 - np.tanh(x) ** 2),
    _curve("atanh", torch.atanh, lambda x: 1 / (1 - x**2), _SMALL),
    _curve("sigmoid", torch.sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    _curve("logsigmoid", functional.logsigmoid, lambda x: _sigmoid(-x)),
    _curve("softplus", functional.softplus, _sigmoid),
    _curve("silu", functional.silu, lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    _curve(
        "gelu",
        functional.gelu,
        lambda x: (1 + _erf(x / math.sqrt(2))) / 2 + x * np.exp(-(x**2) / 2) / _SQRT_2PI,
    ),
    _curve("elu", functional.elu, lambda x: np.where(x > 0, 1.0, np.exp(x))),
    _curve("softsign", functional.softsign, lambda x: 1 / (1 + np.abs(x)) ** 2),
    _curve("erf", torch.erf, lambda x: 2 / _SQRT_PI * np.exp(-(x**2))),
    _curve("pow 1.5", lambda x: x**1.5, lambda x: 1.5 * np.sqrt(x), _POSITIVE),
    Case(
        "pow",
        (_POSITIVE, _REAL),
        torch.pow,
        lambda g, x, y: (g * y * x ** (y - 1), g * x**y * np.log(x)),
        roundings=FUNCTION_STEPS,
    ),
    Case(
        "atan2",
        (_REAL, _POSITIVE),
        torch.atan2,
        lambda g, y, x: (g * x / (x**2 + y**2), -g * y / (x**2 + y**2)),
        roundings=FUNCTION_STEPS,
    ),
    Case(
        "logaddexp",
        (_REAL, _SMALL),
        torch.logaddexp,
        lambda g, x, y: (g * _sigmoid(x - y), g * _sigmoid(y - x)),
        roundings=FUNCTION_STEPS,
    ),
    Case(
        "binary_cross_entropy_with_logits",
        (_REAL,),
        lambda x: functional.binary_cross_entropy_with_logits(
            x, torch.full_like(x, 0.25), reduction="sum"
        ),
        lambda g, x: (g * (_sigmoid(x) - 0.25),),
        roundings=FUNCTION_STEPS,
    ),
)


def _normalization_gradient(g: Array, x: Array, axis: tuple[int, ...]) -> Array:
    """Gradient of (x - mean) / sqrt(var + 1e-5), with mean and var over the axes."""
    centred = x - x.mean(axis, keepdims=True)
    factor = 1 / np.sqrt((centred**2).mean(axis, keepdims=True) + 1e-5)
    normal = centred * factor
    inner = g - g.mean(axis, keepdims=True) - normal * (g * normal).mean(axis, keepdims=True)
    return np.asarray(inner * factor)


def _attention_gradients(g: Array, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Gradients of softmax(q k' / sqrt(d)) v, each of shape (batch, heads, length, d)."""
    weights = _softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]))
    of_weights = g @ v.swapaxes(-1, -2)
    of_score = weights * (of_weights - (of_weights * weights).sum(-1, keepdims=True))
    of_score /= math.sqrt(q.shape[-1])
    return of_score @ k, of_score.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


ROWS: Final[tuple[Case, ...]] = (
    Case(
        "softmax",
        (_ROWS,),
        lambda x: x.softmax(1),
        lambda g, x: (_softmax(x) * (g - (g * _softmax(x)).sum(1, keepdims=True)),),
        roundings=_ROW_STEPS,
    ),
    Case(
        "log_softmax",
        (_ROWS,),
        lambda x: x.log_softmax(1),
        lambda g, x: (g - _softmax(x) * g.sum(1, keepdims=True),),
        roundings=_ROW_STEPS,
    ),
    Case(
        "logsumexp",
        (_ROWS,),
        lambda x: x.logsumexp(1),
        lambda g, x: (g[:, None] * _softmax(x),),
        roundings=_ROW_STEPS,
    ),
    Case(
        "norm",
        (_ROWS,),
        lambda x: torch.linalg.vector_norm(x, dim=1),
        lambda g, x: (g[:, None] * x / np.linalg.norm(x, axis=1, keepdims=True),),
        roundings=_ROW_STEPS,
    ),
    Case(
        "std",
        (_ROWS,),
        lambda x: x.std(1),
        lambda g, x: (
            g[:, None] * (x - x.mean(1, keepdims=True)) / (5 * x.std(1, ddof=1, keepdims=True)),
        ),
        roundings=_ROW_STEPS,
    ),
    Case(
        "var",
        (_ROWS,),
        lambda x: x.var(1),
        lambda g, x: (g[:, None] * 2 * (x - x.mean(1, keepdims=True)) / 5,),
        roundings=_ROW_STEPS,
    ),
    Case(
        "cosine_similarity",
        (_ROWS, _OTHER),
        functional.cosine_similarity,
        lambda g, x, y: (_cosine_gradient(g, x, y), _cosine_gradient(g, y, x)),
        roundings=_ROW_STEPS,
    ),
    Case(
        "layer_norm",
        (_ROWS,),
        lambda x: functional.layer_norm(x, (6,)),
        lambda g, x: (_normalization_gradient(g, x, (1,)),),
        roundings=_ROW_STEPS,
    ),
    Case(
        "batch_norm",
        (_ROWS,),
        lambda x: functional.batch_norm(x, None, None, training=True),
        lambda g, x: (_normalization_gradient(g, x, (0,)),),
        roundings=_ROW_STEPS,
    ),
    Case(
        "group_norm",
        (_ROWS,),
        lambda x: functional.group_norm(x, 2),
        lambda g, x: (
            _normalization_gradient(g.reshape(4, 2, 3), x.reshape(4, 2, 3), (2,)).reshape(4, 6),
        ),
        roundings=_ROW_STEPS,
    ),
    Case(
        "scaled_dot_product_attention",
        (
            integers((1, 2, 5, 8), 84) / 4,
            integers((1, 2, 7, 8), 85) / 4,
            integers((1, 2, 7, 8), 86) / 4,
        ),
        functional.scaled_dot_product_attention,
        _attention_gradients,
        roundings=_ROW_STEPS,
        by_products=True,
    ),
)


def _cosine_gradient(g: Array, x: Array, y: Array) -> Array:
    """Gradient of the cosine similarity of two rows, with respect to the first."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True), np.linalg.norm(y, axis=1, keepdims=True)
    cosine = (x * y).sum(1, keepdims=True) / (lengths[0] * lengths[1])
    return np.asarray(g[:, None] * (y / lengths[1] - cosine * x / lengths[0]) / lengths[0])
