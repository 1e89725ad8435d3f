"""Functions of large tensors, and their gradients."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from probes.kit.case import Array
from probes.kit.gradients import integers as odd
from probes.kit.operands import integers
from probes.kit.trial import Trial
from probes.large_tensors.sizes import COUNTED, INDEXED, MILLION
from probes.large_tensors.tiled import Call, Tiled, backward

_F: Final = torch.nn.functional
_PERIOD: Final = 4093  # a prime

#: Name -> call, and its value and derivative in NumPy: exact for odd multiples of 1/16 below 4.
_EXACT: Final[dict[str, tuple[Call, Call, Call]]] = {
    "relu": (torch.relu, lambda a: np.maximum(a, 0), lambda a: a > 0),
    "nn.functional.leaky_relu": (
        lambda x: _F.leaky_relu(x, 0.5),
        lambda a: np.where(a > 0, a, a / 2),
        lambda a: np.where(a > 0, 1, 0.5),
    ),
    "nn.functional.hardtanh": (
        _F.hardtanh,
        lambda a: np.clip(a, -1, 1),
        lambda a: np.abs(a) < 1,
    ),
    "abs": (torch.abs, np.abs, np.sign),
    "square": (torch.square, np.square, lambda a: 2 * a),
    "mul": (lambda x: x * 4, lambda a: a * 4, lambda a: 4 + 0 * a),
    "div": (lambda x: x / 8, lambda a: a / 8, lambda a: 1 / 8 + 0 * a),
}


def _erf(a: Array) -> Array:
    return np.asarray([math.erf(each) for each in a.tolist()])


def _sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def _gauss(a: Array) -> Array:
    return np.asarray(np.exp(-a * a / 2) / math.sqrt(2 * math.pi))


#: The same within rounding.
_ROUNDED: Final[dict[str, tuple[Call, Call, Call]]] = {
    "nn.functional.gelu": (
        _F.gelu,
        lambda a: a * (1 + _erf(a / math.sqrt(2))) / 2,
        lambda a: (1 + _erf(a / math.sqrt(2))) / 2 + a * _gauss(a),
    ),
    "nn.functional.silu": (
        _F.silu,
        lambda a: a * _sigmoid(a),
        lambda a: _sigmoid(a) * (1 + a * (1 - _sigmoid(a))),
    ),
    "sigmoid": (torch.sigmoid, _sigmoid, lambda a: _sigmoid(a) * (1 - _sigmoid(a))),
    "tanh": (torch.tanh, np.tanh, lambda a: 1 - np.tanh(a) ** 2),
    "nn.functional.softplus": (_F.softplus, lambda a: np.log1p(np.exp(a)), _sigmoid),
    "exp": (torch.exp, np.exp, np.exp),
    "log": (lambda x: x.abs().log(), lambda a: np.log(np.abs(a)), lambda a: 1 / a),
    "sqrt": (
        lambda x: x.abs().sqrt(),
        lambda a: np.sqrt(np.abs(a)),
        lambda a: np.sign(a) / 2 / np.sqrt(np.abs(a)),
    ),
    "pow": (lambda x: x**3, lambda a: a**3, lambda a: 3 * a * a),
    "sin": (torch.sin, np.sin, np.cos),
    "erf": (
        torch.erf,
        _erf,
        lambda a: 2 / math.sqrt(math.pi) * np.exp(-a * a),
    ),
    "reciprocal": (torch.reciprocal, lambda a: 1 / a, lambda a: -1 / a**2),
}

#: The CPU's polynomials and tables of GPUs are within 2^-20 of the largest value.
_ROUNDING: Final = 2.0**-18
#: Of a result that is rounded to bfloat16, and of the steps before it.
_BFLOAT16: Final = 2.0**-7


def activations(device: str) -> Iterator[Trial]:
    """Forward and backward in float32; in bfloat16 forward, on a GPU beyond 2^31 elements too."""
    on_cpu = torch.device(device).type == "cpu"
    rows = MILLION if on_cpu else COUNTED
    x = (2 * integers((_PERIOD,), -32, 31, 350, np.float64) + 1) / 16
    few, half = (x, odd((_PERIOD,), 351)), torch.bfloat16
    for name, (call, value, slope) in _EXACT.items():
        yield Tiled(name, backward(call), _both(value, slope), few, rows)
    for name, (call, value, slope) in _ROUNDED.items():
        yield Tiled(name, backward(call), _both(value, slope), few, rows, _ROUNDING)
    call, value, _ = _EXACT["relu"]
    for size in (COUNTED,) if on_cpu else (COUNTED, INDEXED):
        yield Tiled("relu", call, value, few[:1], size, None, half)
    call, value, _ = _ROUNDED["nn.functional.gelu"]
    yield Tiled("nn.functional.gelu", call, value, few[:1], COUNTED, _BFLOAT16, half)


def _both(value: Call, slope: Call) -> Call:
    """The value and the gradient in NumPy."""
    return lambda a, g: (value(a), g * slope(a))
