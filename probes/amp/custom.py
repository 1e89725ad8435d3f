"""Functions of the user's under autocast: custom_fwd and custom_bwd."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.amp.lower import signs
from probes.amp.regions import TORCH, autocast, compare_typed, kind, lower_types, name_of
from probes.contract import Comparison
from probes.kit.gradients import leaf, root, tensor
from probes.kit.trial import Custom, Trial, fact

_SINGLE: Final = torch.float32

Decorators = tuple[Callable[..., Any], Callable[..., Any]]


def no_decorators(device: str) -> str:
    """Why there are no decorators for that type of device; empty where there are."""
    if hasattr(torch.amp, "custom_fwd") or kind(device) == "cuda":
        return ""
    return f"torch 2.4 and later have custom_fwd for {kind(device)}; this is {TORCH}"


def _decorators(device: str) -> Decorators:
    """custom_fwd and custom_bwd for the device."""
    if hasattr(torch.amp, "custom_fwd"):
        chosen: Any = {"device_type": kind(device)}
        return partial(torch.amp.custom_fwd, **chosen), partial(torch.amp.custom_bwd, **chosen)
    return torch.cuda.amp.custom_fwd, torch.cuda.amp.custom_bwd


def custom_functions(device: str) -> Iterator[Trial]:
    """With and without cast_inputs, in a region and outside."""
    for lower in lower_types(device):
        for name, body in (
            ("custom_fwd", _as_it_is),
            ("cast_inputs=float32", _cast_up),
            ("cast_inputs", _cast_down),
            ("outside", _outside),
        ):
            yield Custom(f"{name} {name_of(lower)}", partial(body, lower), lower)


def _function(device: str, seen: list[str], **options: Any) -> Any:
    """A product (4, 8) @ (8, 3) that notes the types it meets, forward and backward."""
    forward_decorator, backward_decorator = _decorators(device)

    class Product(torch.autograd.Function):
        @staticmethod
        @forward_decorator(**options)  # type: ignore[untyped-decorator]
        def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, count: Any) -> torch.Tensor:
            ctx.save_for_backward(x, weight)
            out = torch.mm(x, weight)
            seen.append(f"forward {name_of(x.dtype)}, {name_of(out.dtype)}, {count.dtype}")
            return out

        @staticmethod
        @backward_decorator
        def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
            x, weight = ctx.saved_tensors
            own = torch.mm(x.float(), x.float().t())
            seen.append(f"backward {name_of(own.dtype)}")
            given = upstream[0].to(x.dtype)
            return torch.mm(given, weight.t()), torch.mm(x.t(), given), None

    return Product


class _Operands:
    """Operands of a product, its answer and its gradients."""

    def __init__(self, device: str, dtype: torch.dtype = _SINGLE) -> None:
        self.device = device
        a, b, self.upstream = signs((4, 8), 120), signs((8, 3), 121), signs((4, 3), 122)
        self.x, self.weight = leaf(a, device, dtype), leaf(b, device, dtype)
        self.count = torch.ones(1, dtype=torch.int64, device=device)
        self.right, self.gradients = a @ b, (self.upstream @ b.T, a.T @ self.upstream)

    def compared(
        self, label: str, found: torch.Tensor, dtype: torch.dtype, own: torch.dtype = _SINGLE
    ) -> Iterator[Comparison]:
        """Compare the output, and the gradients in the leaves' own type."""
        yield compare_typed(f"{label} (output)", found, dtype, self.right)
        upstream = tensor(self.upstream, self.device, found.dtype)
        root(found, upstream).backward()
        for name, each, right in zip(
            ("input", "weight"), (self.x, self.weight), self.gradients, strict=True
        ):
            yield compare_typed(f"{label} (gradient of {name})", each.grad, own, right)


def _as_it_is(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """The forward in the region's type; the backward outside of the region in the same."""
    seen: list[str] = []
    operands, low = _Operands(device), name_of(lower)
    with autocast(device, lower):
        out = _function(device, seen).apply(operands.x, operands.weight, operands.count)
    yield from operands.compared(f"custom_fwd {low}", out, lower)
    right = [f"forward float32, {low}, torch.int64", f"backward {low}"]
    yield fact(f"custom_fwd {low} (types)", seen, right)


def _cast_up(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Cast to float32, with autocast switched off forward and backward."""
    label, own = f"cast_inputs=float32 {name_of(lower)}", lower
    seen: list[str] = []
    operands = _Operands(device, own)
    function = _function(device, seen, cast_inputs=_SINGLE)
    with autocast(device, lower):
        out = function.apply(operands.x, operands.weight, operands.count)
        behind = name_of(torch.mm(operands.x.float(), operands.weight.float()).dtype)
    yield from operands.compared(label, out, _SINGLE, own)
    right = ["forward float32, float32, torch.int64", "backward float32"]
    yield fact(f"{label} (types)", seen, right)
    yield fact(f"{label} (behind)", behind, name_of(lower))


def _cast_down(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Cast to the lower type: what it cannot hold is rounded, what is no tensor is not."""
    label, low = f"cast_inputs {name_of(lower)}", name_of(lower)
    seen: list[str] = []
    function = _function(device, seen, cast_inputs=lower)
    x = tensor(np.array([[1 + 2.0**-12, 1.0]]), device)
    weight = tensor(np.array([[1.0], [-1.0]]), device)
    with autocast(device, lower):
        out = function.apply(x, weight, np.ones(1))
    yield compare_typed(f"{label} (rounded)", out, lower, np.zeros((1, 1)))
    yield fact(f"{label} (types)", seen, [f"forward {low}, {low}, float64"])


def _outside(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Without a region cast_inputs has no effect."""
    label = f"outside {name_of(lower)}"
    seen: list[str] = []
    operands = _Operands(device)
    function = _function(device, seen, cast_inputs=lower)
    out = function.apply(operands.x, operands.weight, operands.count)
    yield from operands.compared(label, out, _SINGLE)
    right = ["forward float32, float32, torch.int64", "backward float32"]
    yield fact(f"{label} (types)", seen, right)
