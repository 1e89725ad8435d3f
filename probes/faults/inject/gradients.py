"""Replaces parts of autograd with wrong ones: modes, hooks, graphs, accumulation."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import nn

from probes.faults.inject.replaced import replace

_backward: Any = torch.Tensor.backward
_grad: Any = torch.autograd.grad


class _NoMode(contextlib.ContextDecorator):
    """A mode that does nothing, as a block and as a decorator."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what the real one takes."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


class _Handle:
    """The handle of a hook that was not registered."""

    def remove(self) -> None:
        """Remove nothing."""


class _Context:
    """A context that keeps nothing."""

    def save_for_backward(self, *_: object) -> None:
        """Keep nothing."""

    def mark_non_differentiable(self, *_: object) -> None:
        """Mark nothing."""


def _ignoring_hooks(_: Any) -> Any:
    """Take a hook and never call it."""
    return lambda _self, _hook, **_options: _Handle()


def _leaf_nodes(tensor: torch.Tensor) -> Iterator[Any]:
    """The nodes of a graph that add to a leaf's gradient; each has its leaf as `variable`."""
    pending, visited = [tensor.grad_fn], set()
    while pending:
        node: Any = pending.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable") and node.next_functions == ():
            yield node
        pending.extend(parent for parent, _ in node.next_functions)


def replace_the_gradient(tensor: torch.Tensor, *args: Any, **named: Any) -> None:
    """`backward` that replaces the gradient of a leaf instead of adding to it."""
    for node in _leaf_nodes(tensor):
        node.variable.grad = None
    _backward(tensor, *args, **named)


def lose_in_threads(tensor: torch.Tensor, *args: Any, **named: Any) -> None:
    """`backward` that loses the update of a matrix's last row, in every thread but the main one."""
    nodes = list(_leaf_nodes(tensor))
    _backward(tensor, *args, **named)
    if threading.current_thread() is threading.main_thread():
        return
    for gradient in (node.variable.grad for node in nodes):
        if gradient is not None and gradient.dim() > 1:
            gradient[-1] = gradient[-2]


def _sums_a_vector(tensor: torch.Tensor, gradient: Any = None, **named: Any) -> None:
    _backward(tensor.sum() if gradient is None else tensor, gradient, **named)


def _hangs_in_threads(tensor: torch.Tensor, *args: Any, **named: Any) -> None:
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait(_HANG_S)
        return
    _backward(tensor, *args, **named)


_HANG_S: Final = 3600.0


def _forgets_create_graph(*args: Any, **named: Any) -> Any:
    return _grad(*args, **{**named, "create_graph": False, "retain_graph": True})


def _accumulates_too(outputs: Any, inputs: Any, *args: Any, **named: Any) -> Any:
    gradients = _grad(outputs, inputs, *args, **named)
    if isinstance(inputs, torch.Tensor) and inputs.is_leaf and gradients[0] is not None:
        inputs.grad = gradients[0].detach()
    return gradients


def _batched_sums(outputs: Any, inputs: Any, given: Any = None, **named: Any) -> Any:
    if named.pop("is_grads_batched", False):
        return tuple(g.expand(len(given), -1) for g in _grad(outputs, inputs, given.sum(0)))
    return _grad(outputs, inputs, given, **named)


def _inheriting_grad_mode(start: Any) -> Any:
    """Make a thread inherit the gradient mode of the thread that starts it."""

    def sharing(thread: threading.Thread) -> None:
        recording, run = torch.is_grad_enabled(), thread.run

        def inheriting() -> None:
            with torch.set_grad_enabled(recording):
                run()

        thread.run = inheriting  # type: ignore[method-assign]
        start(thread)

    return sharing


def _detached_sum(add: Any) -> Any:
    def call(left: torch.Tensor, right: Any) -> torch.Tensor:
        scalar = isinstance(right, torch.Tensor) and right.dim() == 0
        return add(left, right.detach() if scalar else right)  # type: ignore[no-any-return]

    return call


def _still_attached(detach: Any) -> Any:
    return lambda tensor: tensor * 1 if tensor.requires_grad else detach(tensor)


def _without_hook_result(register: Any) -> Any:
    """Call hooks but ignore what they return."""
    return lambda tensor, hook: register(tensor, lambda gradient: hook(gradient) and None)


def _without_backward(_: Any) -> Any:
    return classmethod(lambda cls, *given: cls.forward(_Context(), *given))


class _NodeWithoutHooks:
    """A node of a graph whose hooks are never called; otherwise it acts as the original node."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def register_hook(self, _: Any) -> _Handle:
        """Take a hook."""
        return _Handle()

    def register_prehook(self, _: Any) -> _Handle:
        """Take a hook."""
        return _Handle()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


def _nodes_without_hooks(original: Any) -> Any:
    def read(tensor: torch.Tensor) -> Any:
        node = original.__get__(tensor)
        return None if node is None else _NodeWithoutHooks(node)

    return property(read)


#: Name -> (owner, function, factory of its replacement).
ENGINE: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "grad_looks_off": (torch, "is_grad_enabled", lambda _: lambda: False),
    "detach_copies": (torch.Tensor, "detach", lambda original: lambda x: original(x).clone()),
    "detach_keeps_the_graph": (torch.Tensor, "detach", _still_attached),
    "no_grad_does_nothing": (torch, "no_grad", lambda _: _NoMode),
    "no_grad_never_ends": (torch.no_grad, "__exit__", lambda _: lambda *_given: None),
    "inference_mode_does_nothing": (torch, "inference_mode", lambda _: _NoMode),
    "inference_mode_is_no_grad": (
        torch,
        "inference_mode",
        lambda _: lambda mode=True: torch.set_grad_enabled(not mode),
    ),
    "enable_grad_does_nothing": (torch, "enable_grad", lambda _: _NoMode),
    "set_grad_always_enables": (
        torch,
        "set_grad_enabled",
        lambda original: lambda _mode: original(True),
    ),
    "zero_grad_does_nothing": (
        nn.Module,
        "zero_grad",
        lambda _: lambda _module, set_to_none=True: None,  # noqa: ARG005
    ),
    "zero_grad_forgets_its_argument": (
        nn.Module,
        "zero_grad",
        lambda original: lambda module, set_to_none=True: original(module),  # noqa: ARG005
    ),
    "backward_does_nothing": (torch.Tensor, "backward", lambda _: lambda *_g, **_n: None),
    "backward_replaces": (torch.Tensor, "backward", lambda _: replace_the_gradient),
    "backward_always_retains": (
        torch.Tensor,
        "backward",
        lambda original: lambda x, gradient=None, **_n: original(x, gradient, retain_graph=True),
    ),
    "backward_sums_a_vector": (torch.Tensor, "backward", lambda _: _sums_a_vector),
    "backward_ignores_its_gradient": (
        torch.Tensor,
        "backward",
        lambda original: (
            lambda x, _gradient=None, **named: original(
                x.sum(), **{k: v for k, v in named.items() if k != "gradient"}
            )
        ),
    ),
    "backward_loses_in_threads": (torch.Tensor, "backward", lambda _: lose_in_threads),
    "grad_mode_shared_by_threads": (threading.Thread, "start", _inheriting_grad_mode),
    "grad_forgets_create_graph": (torch.autograd, "grad", lambda _: _forgets_create_graph),
    "grad_accumulates_too": (torch.autograd, "grad", lambda _: _accumulates_too),
    "grad_allows_unused": (
        torch.autograd,
        "grad",
        lambda original: (
            lambda *given, **named: original(*given, **{**named, "allow_unused": True})
        ),
    ),
    "batched_grad_sums": (torch.autograd, "grad", lambda _: _batched_sums),
    "retain_grad_does_nothing": (torch.Tensor, "retain_grad", lambda _: lambda _x: None),
    "add_hides_from_the_graph": (
        torch.Tensor,
        "add_",
        lambda original: lambda x, other: original(x.data, other),
    ),
    "mul_copies": (torch.Tensor, "mul_", lambda _: lambda x, other: x * other),
    "functions_ignore_their_backward": (torch.autograd.Function, "apply", _without_backward),
    "saved_tensors_not_packed": (
        torch.autograd.graph.saved_tensors_hooks,
        "__enter__",
        lambda _: lambda _self: None,
    ),
    "tensor_hooks_ignored": (torch.Tensor, "register_hook", _ignoring_hooks),
    "tensor_hooks_cannot_change": (torch.Tensor, "register_hook", _without_hook_result),
    "hooks_cannot_be_removed": (
        torch.utils.hooks.RemovableHandle,
        "remove",
        lambda _: lambda _self: None,
    ),
    "module_hooks_ignored": (nn.Module, "register_full_backward_hook", _ignoring_hooks),
    "accumulation_hooks_ignored": (
        torch.Tensor,
        "register_post_accumulate_grad_hook",
        _ignoring_hooks,
    ),
    "node_hooks_ignored": (torch.Tensor, "grad_fn", _nodes_without_hooks),
    "requires_grad_makes_a_result": (
        torch.Tensor,
        "requires_grad_",
        lambda original: lambda x: original(x).view_as(x),
    ),
    "tangents_lost": (
        torch._VF,
        "_make_dual",
        lambda _: lambda primal, _tangent, level: primal,  # noqa: ARG005
    ),
    "graph_of_the_first_iteration": (torch.Tensor, "__add__", _detached_sum),
}


def does_something_else(name: str) -> None:
    """Replace the function that `ENGINE` has under that name."""
    owner, function, make = ENGINE[name]
    replace(owner, function, make)
    if name == "saved_tensors_not_packed":
        replace(owner, "__exit__", lambda _: lambda *_given: None)


def threads_hang() -> None:
    """Make `backward` hang in every thread but the main one."""
    replace(torch.Tensor, "backward", lambda _: _hangs_in_threads)
