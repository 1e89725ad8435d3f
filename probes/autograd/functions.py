"""Facts about custom Functions, recomputation, and the tensors that a graph saves."""

from typing import Any

import torch
from pydantic import JsonValue
from torch.autograd.graph import saved_tensors_hooks

from probes.autograd.engine import grad_fn_name
from probes.kit.facts import Steps, refused
from probes.kit.gradients import host, integers, leaf, new_leaf, numbers, root, tensor


class _Scaled(torch.autograd.Function):
    """x * y * factor, whose backward returns ten times the true gradient of x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        ctx.factor = factor
        return x * y * factor

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y = ctx.saved_tensors
        wants_x, wants_y, wants_factor = ctx.needs_input_grad
        return (
            10 * upstream[0] * y * ctx.factor if wants_x else None,
            upstream[0] * x * ctx.factor if wants_y else None,
            upstream[0] if wants_factor else None,
        )


def _apply(function: Any, *arguments: object) -> Any:
    return function.apply(*arguments)


class _WrongShape(torch.autograd.Function):
    """The identity, whose backward returns too few elements."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
        return upstream[0][:2]


class _Split(torch.autograd.Function):
    """The positive part of x, and a mask of it that is not differentiable."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positive = (x > 0).to(x.dtype)
        ctx.mark_non_differentiable(positive)
        ctx.save_for_backward(positive)
        return x * positive, positive

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
        (positive,) = ctx.saved_tensors
        gradient: torch.Tensor = upstream[0] * positive
        return gradient


def custom_function(device: str) -> Steps:
    """A custom Function's backward is used, with the tensors that its forward saved."""
    x, y = new_leaf(device), tensor([4.0, 5.0, 6.0], device)
    z = _apply(_Scaled, x, y, 2.0)
    yield "value", numbers(z)
    yield "made_by", grad_fn_name(z)
    z.sum().backward()
    yield "gradient", [numbers(x.grad), numbers(y.grad)]
    a, b = new_leaf(device), leaf([4.0, 5.0, 6.0], device)
    root(_apply(_Scaled, a, b, 2.0), tensor([1.0, 10.0, 100.0], device)).backward()
    yield "both", [numbers(a.grad), numbers(b.grad)]
    c, d = new_leaf(device), leaf([4.0, 5.0, 6.0], device)
    (slope,) = torch.autograd.grad(_apply(_Scaled, c, d, 2.0).sum(), c, create_graph=True)
    yield "twice", numbers(torch.autograd.grad(slope.sum(), d)[0])
    yield (
        "wrong_shape_refused",
        refused(lambda: _apply(_WrongShape, new_leaf(device)).sum().backward()),
    )
    part = leaf([-1.0, 2.0, -3.0], device)
    kept, where = _apply(_Split, part)
    yield "not_differentiable", [kept.requires_grad, where.requires_grad]
    (kept * where).sum().backward()
    yield "split_gradient", numbers(part.grad)
    with torch.no_grad():
        silent = _apply(_Scaled, x, y, 2.0)
    yield "in_no_grad", grad_fn_name(silent)


class _Recomputed(torch.autograd.Function):
    """A layer that saves only its inputs, and runs its forward again in its backward."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, w: torch.Tensor, events: list[JsonValue]
    ) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        ctx.events = events
        return _layer(x, w, events)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, w = (each.detach().requires_grad_() for each in ctx.saved_tensors)
        with torch.enable_grad():
            scalar = root(_layer(x, w, ctx.events), upstream[0])
        # A backward within a backward, as activation checkpointing does it.
        return (*torch.autograd.grad(scalar, (x, w)), None)


def _layer(x: torch.Tensor, w: torch.Tensor, events: list[JsonValue]) -> torch.Tensor:
    events.append(torch.is_grad_enabled())
    return torch.relu(x @ w) - 2 * (x @ w)


def recomputation(device: str) -> Steps:
    """Activations computed again in the backward give a gradient with the same bits."""
    x_values, weight = integers((4, 5), 61), integers((5, 3), 62)
    x, w = leaf(x_values, device), leaf(weight, device)
    events: list[JsonValue] = []
    _apply(_Recomputed, x, w, events).sum().backward()
    yield "recorded", events
    slope = (x_values @ weight > 0) - 2.0  # derivative of each output: of relu, and of -2 z
    yield "x", x.grad is not None and bool((host(x.grad) == slope @ weight.T).all())
    yield "w", w.grad is not None and bool((host(w.grad) == x_values.T @ slope).all())


def saved_tensors(device: str) -> Steps:
    """Saved tensors can be packed, kept elsewhere, and unpacked for the backward."""
    events: list[str] = []

    def pack(value: torch.Tensor) -> torch.Tensor:
        events.append("pack")
        return value.detach().cpu().clone()

    def unpack(value: torch.Tensor) -> torch.Tensor:
        events.append("unpack")
        return value.to(device)

    x = new_leaf(device)
    with saved_tensors_hooks(pack, unpack):
        y = (x.exp() * 0 + x * x).sum()
    z = (x * x).sum()  # after the block: not packed
    packed = list(events)
    y.backward()
    yield "packed", len(packed) > 0 and set(packed) == {"pack"}
    yield "unpacked", "unpack" in events[len(packed) :]
    yield "gradient", numbers(x.grad)
    count = len(events)
    z.backward()
    yield "quiet_after", len(events) - count
