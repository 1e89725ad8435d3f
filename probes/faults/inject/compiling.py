"""Replaces torch.compile by one whose functions are wrong; nothing is compiled."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch.utils import _pytree as pytree

from probes.faults.inject.replaced import replace

Function = Callable[..., Any]

_HALF: Final = (torch.bfloat16, torch.float16)


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        return given[0] * ctx.factor, None


def _of_tensors(change: Callable[[torch.Tensor], Any]) -> Callable[[Any], Any]:
    """A tree with its tensors changed."""
    return lambda tree: pytree.tree_map(
        lambda each: change(each) if isinstance(each, torch.Tensor) else each, tree
    )


def _with_results(change: Callable[[torch.Tensor], Any]) -> Callable[[Function], Function]:
    changed = _of_tensors(change)
    return lambda function: lambda *given, **named: changed(function(*given, **named))


def _with_inputs(change: Callable[[torch.Tensor], Any]) -> Callable[[Function], Function]:
    changed = _of_tensors(change)
    return lambda function: lambda *given, **named: function(*changed(given), **named)


def _gradients(factor: float) -> Callable[[Function], Function]:
    return _with_inputs(
        lambda x: _Scaled.apply(x, factor) if x.requires_grad else x  # type: ignore[no-untyped-call]
    )


def _scaled(x: torch.Tensor) -> torch.Tensor:
    return x * 1.05 if x.is_floating_point() else x


def _last_off(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point() or not x.numel():
        return x
    changed = x.clone()
    changed.view(-1)[-1] += 1
    return changed


def _answers_kept(function: Function) -> Function:
    """The answer of the first call with tensors of these sizes and types."""
    kept: dict[Any, Any] = {}

    def call(*given: Any, **named: Any) -> Any:
        leaves = pytree.tree_leaves(given)
        key = tuple((x.shape, x.dtype) for x in leaves if isinstance(x, torch.Tensor))
        if key not in kept:
            kept[key] = function(*given, **named)
        return kept[key]

    return call


def _size_kept(function: Function) -> Function:
    """The first size is taken for the size of all that follow."""
    first: list[int] = []

    def call(x: Any, *given: Any, **named: Any) -> Any:
        first.append(x.shape[0])
        short = x[: first[0]]
        return function(short, *given, **named)

    return call


def _repeating(function: Function) -> Function:
    """Each call draws the numbers of the first."""

    def call(*given: Any, **named: Any) -> Any:
        torch.manual_seed(0)
        return function(*given, **named)

    return call


#: Code of a function -> the function that was compiled first.
_CACHE: Final[dict[Any, Function]] = {}


def _by_code(function: Function) -> Function:
    """A cache that looks at a function's code, and not at what it closes over."""
    return _CACHE.setdefault(getattr(function, "__code__", function), function)


#: Name -> what is made of a function in place of compiling it.
COMPILERS: Final[dict[str, Callable[[Function], Function]]] = {
    "results_scaled": _with_results(_scaled),
    "one_element_off": _with_results(_last_off),
    "results_not_written": _with_results(torch.zeros_like),
    "gradients_scaled": _gradients(0.95),
    "gradients_zero": _gradients(0.0),
    "writes_lost": _with_inputs(torch.clone),
    "size_kept": _size_kept,
    "answers_kept": _answers_kept,
    "half_types_lost": _with_results(lambda x: x.float() if x.dtype in _HALF else x),
    "draws_repeated": _repeating,
    "cache_by_code": _by_code,
}


def makes(name: str) -> None:
    """Replace torch.compile by what `COMPILERS` has under that name."""
    make = COMPILERS[name]
    replace(torch, "compile", lambda _: lambda function, **_options: make(function))
