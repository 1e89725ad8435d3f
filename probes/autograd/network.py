"""A small network's gradients against hand-written NumPy float64, each within a derived bound.

torch may sum in another order, or use another formula with as many roundings: so twice the bound
is allowed.
"""

from typing import Final

import numpy as np
import torch
from torch.nn import functional

from probes.autograd.bounded import Bounded, Rounding, rounding
from probes.autograd.trial import merged
from probes.contract import Comparison
from probes.kit.gradients import host, integers, leaf
from probes.kit.references import attempted, compare

_EPSILON: Final = 1e-5  # of the layer norm
_SLACK: Final = 2.0  # see the module's docstring

# Multiples of 1/16, exact in every floating type: batch 6, 8 inputs, 16 hidden, 5 classes.
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


def _layer_norm(h: Bounded) -> tuple[Bounded, Bounded]:
    """(h - mean) / sqrt(var + eps) by rows, and the factor 1 / sqrt(var + eps)."""
    width = h.value.shape[-1]
    centred = h - h.total(1).scaled(1 / width)
    variance = (centred * centred).total(1).scaled(1 / width)
    inverse = 1 / np.sqrt(variance.value + _EPSILON)
    factor = variance.mapped(inverse, 0.5 * inverse**3)
    return centred * factor, factor


def reference(unit: Rounding) -> dict[str, Bounded]:
    """The loss and its gradient for every input, by the chain rule: name -> value with bound."""
    given = {name: Bounded(value, np.zeros_like(value), unit) for name, value in _INPUTS.items()}
    x, w1, gamma, w2 = given["x"], given["w1"], given["gamma"], given["w2"]
    h = x @ w1.T + given["b1"]  # (6, 16)
    normal, factor = _layer_norm(h)
    a = normal * gamma + given["beta"]
    t_value = np.tanh(a.value)
    t = a.mapped(t_value, 1 - t_value**2)
    z = t @ w2.T + given["b2"]  # (6, 5)

    shifted = z.value - z.value.max(1, keepdims=True)
    grown = (z - Bounded(z.value - shifted, np.zeros_like(shifted), unit)).mapped(
        np.exp(shifted), np.exp(shifted)
    )
    total = grown.total(1)
    share = total.mapped(1 / total.value, 1 / total.value**2)
    softmax = grown * share
    one_hot = np.eye(5)[_LABELS]
    target = Bounded(one_hot, np.zeros_like(one_hot), unit)
    logs = total.mapped(np.log(total.value), 1 / total.value)
    picked = (target * (z - Bounded(z.value - shifted, z.error, unit))).total(1)
    loss = (logs - picked).total(0).scaled(1 / 6)

    dz = (softmax - target).scaled(1 / 6)  # (6, 5)
    dt = dz @ w2
    one = Bounded(np.ones_like(t_value), np.zeros_like(t_value), unit)
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
    """The loss and seven gradients of: linear, layer norm, tanh, linear, cross entropy."""
    name = f"two-layer network {str(dtype).removeprefix('torch.')}"

    def comparison() -> Comparison:
        given = {key: leaf(value, device, dtype) for key, value in _INPUTS.items()}
        hidden = functional.linear(given["x"], given["w1"], given["b1"])
        normal = functional.layer_norm(hidden, (16,), given["gamma"], given["beta"], _EPSILON)
        scores = functional.linear(torch.tanh(normal), given["w2"], given["b2"])
        labels = torch.from_numpy(_LABELS).to(device)
        loss = functional.cross_entropy(scores, labels)
        loss.backward()
        expected = reference(rounding(dtype, device))
        observation = {"loss": loss, **{key: value.grad for key, value in given.items()}}
        return merged(
            name,
            [
                _output_comparison(name, key, output, expected[key])
                for key, output in observation.items()
            ],
        )

    return attempted(name, comparison, device, dtype)


def _output_comparison(
    name: str, key: str, output: torch.Tensor | None, expected: Bounded
) -> Comparison:
    if output is None:
        return Comparison(operation=name, problem=f"backward() left no gradient of {key}")
    shape = _INPUTS[key].shape if key in _INPUTS else ()
    bound = _SLACK * expected.error.reshape(shape)
    return compare(f"{name}, of {key}", host(output), expected.value.reshape(shape), bound)
