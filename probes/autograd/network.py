"""A small network's gradients against hand-written NumPy float64, each with a derived bound.

The bounds are a running error analysis (Higham, Accuracy and Stability of Numerical Algorithms,
section 3.3): every number is carried with a bound of its error, to first order, from the roundings
of its own operation and from the errors of its operands. torch may order the same sums otherwise,
or use another formula of as many roundings, so twice the bound is allowed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from probes.autograd.exact import product_unit
from probes.autograd.trial import Array, host, integers, leaf, merged, tensor
from probes.contract import Comparison
from probes.references import UNIT_ROUNDOFF, attempted, compare

_EPSILON: Final = 1e-5  # of the layer norm
_SLACK: Final = 2.0  # see above
#: Roundings of one exp, tanh or log: 4 ulp, the worst that device libraries document, are 8 units.
_FUNCTION: Final = 8.0

# Sixteenths, which every floating type holds: batch 6, 8 inputs, 16 hidden, 5 classes.
_INPUTS = {
    "x": integers((6, 8), 71) / 16,
    "w1": integers((16, 8), 72) / 8,  # (hidden, inputs)
    "b1": integers((16,), 73) / 16,
    "gamma": 1 + integers((16,), 74) / 16,
    "beta": integers((16,), 75) / 16,
    "w2": integers((5, 16), 76) / 16,  # (classes, hidden)
    "b2": integers((5,), 77) / 16,
}
_LABELS = np.array([3, 0, 4, 1, 3, 2])


@dataclass(frozen=True)
class Rounding:
    """Unit roundoffs: of a single operation, and of the factors of a matrix product."""

    unit: float
    product: float


@dataclass(frozen=True)
class Bounded:
    """A value with a bound of its error, in a computation of that rounding."""

    value: Array
    error: Array
    rounding: Rounding

    def _made(self, value: Array, carried: Array, roundings: float = 1.0) -> "Bounded":
        own = roundings * self.rounding.unit * (np.abs(value) + carried)
        return Bounded(value, carried + own, self.rounding)

    def __add__(self, other: "Bounded") -> "Bounded":
        return self._made(self.value + other.value, self.error + other.error)

    def __sub__(self, other: "Bounded") -> "Bounded":
        return self._made(self.value - other.value, self.error + other.error)

    def __mul__(self, other: "Bounded") -> "Bounded":
        mine, theirs = np.abs(self.value), np.abs(other.value)
        carried = mine * other.error + theirs * self.error + self.error * other.error
        return self._made(self.value * other.value, carried)

    def __matmul__(self, other: "Bounded") -> "Bounded":
        mine, theirs = np.abs(self.value) + self.error, np.abs(other.value) + other.error
        carried = mine @ other.error + self.error @ theirs
        # Both factors may first be rounded to a shorter type, then K terms are summed.
        units = 2 * self.rounding.product + self.value.shape[-1] * self.rounding.unit
        return Bounded(self.value @ other.value, carried + units * (mine @ theirs), self.rounding)

    def scaled(self, factor: float) -> "Bounded":
        """Times a constant."""
        return self._made(self.value * factor, self.error * abs(factor), 2)

    def total(self, axis: int) -> "Bounded":
        """The sum over an axis, which stays with length 1."""
        length = self.value.shape[axis]
        magnitude = (np.abs(self.value) + self.error).sum(axis, keepdims=True)
        carried = self.error.sum(axis, keepdims=True)
        own = length * self.rounding.unit * magnitude
        return Bounded(self.value.sum(axis, keepdims=True), carried + own, self.rounding)

    def mapped(self, value: Array, slope: Array, roundings: float = _FUNCTION) -> "Bounded":
        """A function's value, with its derivative at this one."""
        return self._made(value, np.abs(slope) * self.error, roundings)

    @property
    def T(self) -> "Bounded":  # noqa: N802 - as NumPy spells it
        """Transposed."""
        return Bounded(self.value.T, self.error.T, self.rounding)


def _layer_norm(h: Bounded) -> tuple[Bounded, Bounded]:
    """(h - mean) / sqrt(var + eps) by rows, and the factor 1 / sqrt(var + eps)."""
    width = h.value.shape[-1]
    centred = h - h.total(1).scaled(1 / width)
    variance = (centred * centred).total(1).scaled(1 / width)
    inverse = 1 / np.sqrt(variance.value + _EPSILON)
    factor = variance.mapped(inverse, 0.5 * inverse**3)
    return centred * factor, factor


def reference(rounding: Rounding) -> dict[str, Bounded]:
    """The loss, and its gradient for every input, by the chain rule written out."""
    given = {
        name: Bounded(value, np.zeros_like(value), rounding) for name, value in _INPUTS.items()
    }
    x, w1, gamma, w2 = given["x"], given["w1"], given["gamma"], given["w2"]
    h = x @ w1.T + given["b1"]  # (6, 16)
    normal, factor = _layer_norm(h)
    a = normal * gamma + given["beta"]
    t_value = np.tanh(a.value)
    t = a.mapped(t_value, 1 - t_value**2)
    z = t @ w2.T + given["b2"]  # (6, 5)

    shifted = z.value - z.value.max(1, keepdims=True)
    grown = (z - Bounded(z.value - shifted, np.zeros_like(shifted), rounding)).mapped(
        np.exp(shifted), np.exp(shifted)
    )
    total = grown.total(1)
    share = total.mapped(1 / total.value, 1 / total.value**2)
    softmax = grown * share
    one_hot = np.eye(5)[_LABELS]
    wanted = Bounded(one_hot, np.zeros_like(one_hot), rounding)
    logs = total.mapped(np.log(total.value), 1 / total.value)
    picked = (wanted * (z - Bounded(z.value - shifted, z.error, rounding))).total(1)
    loss = (logs - picked).total(0).scaled(1 / 6)

    dz = (softmax - wanted).scaled(1 / 6)  # (6, 5)
    dt = dz @ w2
    one = Bounded(np.ones_like(t_value), np.zeros_like(t_value), rounding)
    da = dt * (one - t * t)
    dn = da * gamma
    inner = dn - dn.total(1).scaled(1 / 16) - normal * (dn * normal).total(1).scaled(1 / 16)
    dh = inner * factor
    return {
        "loss": loss,
        "x": dh @ w1,
        "w1": dh.T @ x,
        "b1": dh.total(0),
        "gamma": (da * normal).total(0),
        "beta": da.total(0),
        "w2": dz.T @ t,
        "b2": dz.total(0),
    }


def network(dtype: torch.dtype, device: str) -> Comparison:
    """Linear, layer norm, tanh, linear, cross entropy: the loss and seven gradients."""
    name = f"two-layer network {str(dtype).removeprefix('torch.')}"

    def held() -> Comparison:
        given = {key: leaf(value, device, dtype) for key, value in _INPUTS.items()}
        hidden = functional.linear(given["x"], given["w1"], given["b1"])
        normal = functional.layer_norm(hidden, (16,), given["gamma"], given["beta"], _EPSILON)
        scores = functional.linear(torch.tanh(normal), given["w2"], given["b2"])
        labels = torch.from_numpy(_LABELS).to(device)
        loss = functional.cross_entropy(scores, labels)
        loss.backward()
        expected = reference(Rounding(UNIT_ROUNDOFF[dtype], product_unit(dtype, device)))
        seen = {"loss": loss, **{key: value.grad for key, value in given.items()}}
        return merged(
            name,
            [_held(name, key, output, expected[key]) for key, output in seen.items()],
        )

    return attempted(name, held)


def _held(name: str, key: str, output: torch.Tensor | None, expected: Bounded) -> Comparison:
    if output is None:
        return Comparison(operation=name, problem=f"backward() left no gradient of {key}")
    shape = _INPUTS[key].shape if key in _INPUTS else ()
    bound = _SLACK * expected.error.reshape(shape)
    return compare(key, host(output), expected.value.reshape(shape), bound)
