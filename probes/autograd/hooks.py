"""Facts about hooks: their order, arguments and effects, and that they can be removed."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import JsonValue

from probes.autograd.engine import Weight
from probes.kit.facts import Steps
from probes.kit.gradients import new_leaf, numbers, tensor


def _first(values: Any) -> JsonValue:
    return numbers(values[0])


def _recording_hook(
    events: list[JsonValue], name: str, factor: float | None = None
) -> Callable[[torch.Tensor], torch.Tensor | None]:
    def hook(gradient: torch.Tensor) -> torch.Tensor | None:
        events.append([name, numbers(gradient)])
        return None if factor is None else gradient * factor

    return hook


def tensor_hooks(device: str) -> Steps:
    """Tensor hooks run in order, each with the result of the one before; removed ones do not."""
    events: list[JsonValue] = []
    x = new_leaf(device)
    y = x * 2
    y.register_hook(_recording_hook(events, "first"))
    y.register_hook(_recording_hook(events, "tenfold", 10.0))
    removed = y.register_hook(_recording_hook(events, "gone", 0.0))
    y.register_hook(_recording_hook(events, "last"))
    removed.remove()
    x.register_hook(_recording_hook(events, "leaf"))
    (y * y).sum().backward()
    yield "called", events
    yield "gradient", numbers(x.grad)


def node_hooks(device: str) -> Steps:
    """Hooks of a graph node run before and after it."""
    events: list[JsonValue] = []
    x = new_leaf(device)
    y = x * 2
    node = y.grad_fn
    if node is None:
        yield "called", "no grad_fn"
        return
    node.register_prehook(lambda upstream: events.append(["before", _first(upstream)]))
    node.register_hook(lambda to_inputs, _: events.append(["after", _first(to_inputs)]))
    (3 * y).sum().backward()
    yield "called", events
    yield "gradient", numbers(x.grad)


def module_hooks(device: str) -> Steps:
    """Module hooks run around forward and backward, and may replace gradients."""
    events: list[JsonValue] = []
    module = Weight(device)
    handles = [
        module.register_forward_pre_hook(
            lambda _m, given: events.append(["forward_pre", _first(given)])
        ),
        module.register_forward_hook(
            lambda _m, _given, made: events.append(["forward", numbers(made)])
        ),
        module.register_full_backward_pre_hook(
            lambda _m, upstream: events.append(["backward_pre", _first(upstream)])
        ),
    ]

    def replaced(
        _module: torch.nn.Module,
        to_inputs: tuple[torch.Tensor, ...] | torch.Tensor,
        from_outputs: tuple[torch.Tensor, ...] | torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        events.append(["backward", _first(to_inputs), _first(from_outputs)])
        return (to_inputs[0] * 100,)

    handles.append(module.register_full_backward_hook(replaced))
    x = new_leaf(device)
    (module(x) * 5).sum().backward()
    yield "called", list(events)
    yield "replaced", numbers(x.grad)
    yield "parameter", numbers(module.weight.grad)
    for handle in handles:
        handle.remove()
    module(x).sum().backward()
    yield "after_removal", len(events) - 4
    yield "gradient_after_removal", numbers(x.grad)


def accumulation_hooks(device: str) -> Steps:
    """A hook is called once a parameter's .grad is complete, as sharded training needs."""
    events: list[JsonValue] = []
    x = new_leaf(device)
    handle = x.register_post_accumulate_grad_hook(lambda leaf: events.append(numbers(leaf.grad)))
    (x * x + 3 * x).sum().backward()
    (x * x).sum().backward()
    yield "called", list(events)
    handle.remove()
    (x * x).sum().backward()
    yield "after_removal", len(events) - 2
    cleared = new_leaf(device)
    weights = tensor([1.0, 1.0, 1.0], device)

    def step(parameter: torch.Tensor) -> None:
        with torch.no_grad():
            parameter.sub_(parameter.grad if parameter.grad is not None else weights)
        parameter.grad = None

    cleared.register_post_accumulate_grad_hook(step)
    (cleared * cleared).sum().backward()
    yield "step_in_backward", [numbers(cleared), numbers(cleared.grad)]
