"""Gradients through autocast: the type of the tensor they belong to, and integers to the bit."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch

from probes.amp.lower import signs
from probes.amp.regions import autocast, compare_typed, kind, lower_types, name_of
from probes.contract import Comparison
from probes.kit.gradients import integers, leaf, root, tensor
from probes.kit.trial import Custom, Trial

_SINGLE: Final = torch.float32

#: Types of device on which softmax, sums and norms run in float32.
_IN_FLOAT32: Final = ("cuda", "xpu")


def gradients(device: str) -> Iterator[Trial]:
    """Of operations in the lower type, in float32 and in the widest type, and of chains."""
    bodies = {
        "linear": _linear,
        "conv2d": _convolution,
        "matmul": _own_type,
        "mse_loss": _full,
        "cat": _widest,
        "layers": _chain,
        "backward twice": _accumulated,
    }
    if kind(device) in _IN_FLOAT32:
        bodies |= {"softmax": _softmax, "sum": _sums}
    for lower in lower_types(device):
        for name, body in bodies.items():
            yield Custom(f"{name} {name_of(lower)}", partial(body, lower), lower)


def _linear(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Float32 leaves get float32, from a backward that ran in the lower type."""
    values = signs((8, 128), 70), signs((40, 128), 71), signs((40,), 72)
    x, weight, bias = (leaf(each, device) for each in values)
    with autocast(device, lower):
        out = torch.nn.functional.linear(x, weight, bias)
    upstream = signs((8, 40), 73)
    root(out, tensor(upstream, device, lower)).backward()
    label = f"linear {name_of(lower)} (gradient of "
    yield compare_typed(f"{label}input)", x.grad, _SINGLE, upstream @ values[1])
    yield compare_typed(f"{label}weight)", weight.grad, _SINGLE, upstream.T @ values[0])
    yield compare_typed(f"{label}bias)", bias.grad, _SINGLE, upstream.sum(0))


def _convolution(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Filters of 1 and stride 2, so that each gradient is a product of matrices."""
    values = signs((4, 8, 6, 6), 74), signs((3, 8, 1, 1), 75)
    x, weight = (leaf(each, device) for each in values)
    with autocast(device, lower):
        out = torch.nn.functional.conv2d(x, weight, stride=2)
    upstream = signs((4, 3, 3, 3), 76)
    root(out, tensor(upstream, device, lower)).backward()
    seen = values[0][:, :, ::2, ::2]
    right = np.zeros_like(values[0])
    right[:, :, ::2, ::2] = np.einsum("nohw,oc->nchw", upstream, values[1][..., 0, 0])
    label = f"conv2d {name_of(lower)} (gradient of "
    yield compare_typed(f"{label}input)", x.grad, _SINGLE, right)
    right = np.einsum("nohw,nchw->oc", upstream, seen)[..., None, None]
    yield compare_typed(f"{label}weight)", weight.grad, _SINGLE, right)


def _own_type(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """A leaf in the lower type gets the lower type, one in float32 beside it float32."""
    a, b = integers((3, 8), 77), integers((8, 4), 78)
    x, y = leaf(a, device, lower), leaf(b, device)
    with autocast(device, lower):
        out = torch.matmul(x, y)
    upstream = signs((3, 4), 79)
    root(out, tensor(upstream, device, lower)).backward()
    label = f"matmul {name_of(lower)} (gradient in "
    yield compare_typed(f"{label}{name_of(lower)})", x.grad, lower, upstream @ b.T)
    yield compare_typed(f"{label}float32)", y.grad, _SINGLE, a.T @ upstream)


def _full(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """The gradient of a loss in float32 is cast back to its operand's type."""
    a, b = 7 * integers((4, 8), 80), 5 * integers((4, 8), 81)
    for dtype in (lower, _SINGLE):
        x = leaf(a, device, dtype)
        with autocast(device, lower):
            loss = torch.nn.functional.mse_loss(x, tensor(b, device), reduction="sum")
        loss.backward()
        label = f"mse_loss {name_of(lower)} (gradient in {name_of(dtype)})"
        yield compare_typed(label, x.grad, dtype, 2 * (a - b))


def _widest(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Operands of different types get gradients of their own types."""
    a, b = integers((2, 5), 82), integers((3, 5), 83)
    x, y = leaf(a, device, lower), leaf(b, device)
    with autocast(device, lower):
        out = torch.cat([x, y])
    upstream = integers((5, 5), 84)
    yield compare_typed(f"cat {name_of(lower)} (output)", out, _SINGLE, np.concatenate([a, b]))
    root(out, tensor(upstream, device)).backward()
    label = f"cat {name_of(lower)} (gradient in "
    yield compare_typed(f"{label}{name_of(lower)})", x.grad, lower, upstream[:2])
    yield compare_typed(f"{label}float32)", y.grad, _SINGLE, upstream[2:])


def _chain(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Linear, ReLU, linear, loss: through casts both ways, with the types in between.

    So few terms that no gradient is above 132.
    """
    x, first, second = signs((2, 3), 85), signs((2, 3), 86), signs((2, 2), 87)
    target = integers((2, 2), 88)
    weights = leaf(first, device), leaf(second, device)
    linear = torch.nn.functional.linear
    seen: list[torch.Tensor] = []
    with autocast(device, lower):
        hidden = linear(tensor(x, device), weights[0])
        hidden.register_hook(seen.append)
        out = linear(torch.relu(hidden), weights[1])
        loss = torch.nn.functional.mse_loss(out, tensor(target, device), reduction="sum")
    loss.backward()
    before = x @ first.T
    after = np.maximum(before, 0)
    upstream = 2 * (after @ second.T - target)
    behind = upstream @ second * (before > 0)
    label = f"layers {name_of(lower)} ("
    yield compare_typed(f"{label}loss)", loss, _SINGLE, (upstream**2).sum() / 4)
    yield compare_typed(f"{label}gradient of hidden)", seen[0], lower, behind)
    yield compare_typed(f"{label}gradient of first)", weights[0].grad, _SINGLE, behind.T @ x)
    yield compare_typed(f"{label}gradient of second)", weights[1].grad, _SINGLE, upstream.T @ after)


def _accumulated(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Two backwards add up in float32: their sum needs more bits than bfloat16 has."""
    values = 5 * signs((4, 8), 90), signs((8, 3), 91)
    weight = leaf(values[1], device)
    upstream = signs((4, 3), 92)
    for times in (1, 64):
        with autocast(device, lower):
            out = torch.mm(tensor(values[0], device), weight)
        root(out, tensor(times * upstream, device, lower)).backward()
    right = 65 * values[0].T @ upstream
    yield compare_typed(f"backward twice {name_of(lower)} (weight)", weight.grad, _SINGLE, right)


def _softmax(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Of equal numbers: each is 1/4, and the gradient is upstream / 4 where that sums to 0."""
    x = leaf(np.full((6, 4), 3.0), device, lower)
    with autocast(device, lower):
        out = torch.softmax(x, 1)
    upstream = integers((6, 2), 93).repeat(2, 1) * [1, -1, 1, -1]
    root(out, tensor(upstream, device)).backward()
    label = f"softmax {name_of(lower)} ("
    yield compare_typed(f"{label}output)", out, _SINGLE, np.full((6, 4), 0.25))
    yield compare_typed(f"{label}gradient)", x.grad, lower, upstream / 4)


def _sums(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    values = integers((6, 4), 94)
    upstream = integers((6,), 95)
    x = leaf(values, device, lower)
    with autocast(device, lower):
        total, norm = x.sum(1), torch.norm(x, 1)
    label = f"sum {name_of(lower)} ("
    yield compare_typed(f"{label}output)", total, _SINGLE, values.sum(1))
    root(total, tensor(upstream, device)).backward()
    right = np.broadcast_to(upstream[:, None], (6, 4))
    yield compare_typed(f"{label}gradient)", x.grad, lower, right)
    x.grad = None
    norm.backward()
    yield compare_typed(f"{label}gradient of norm)", x.grad, lower, np.sign(values))
