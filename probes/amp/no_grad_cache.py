"""A weight that is first cast where autograd records nothing, and used with gradients then."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch.utils.checkpoint import checkpoint

from probes.amp.layers import Body, Layer, trials
from probes.amp.regions import compare_typed
from probes.contract import Comparison
from probes.kit.trial import Trial, fact

_SINGLE: Final = torch.float32


def no_grad_cache(device: str) -> Iterator[Trial]:
    """In modes without gradients, in a function of the user's, in a checkpoint."""
    yield from trials(device, _BODIES)


def _first_without(layer: Layer, label: str, mode: Callable[[], Any]) -> Iterator[Comparison]:
    """A first forward in a mode without gradients, as for a teacher or a target."""
    with layer.region():
        with mode():
            first = layer.output()
        out = layer.output()
        with mode():
            third = layer.output()
    yield compare_typed(f"{label} (without)", first.clone(), layer.lower, layer.right)
    yield compare_typed(f"{label} (with)", out, layer.lower, layer.right)
    yield fact(f"{label} (requires_grad)", (out.requires_grad, third.requires_grad), (True, False))
    if out.requires_grad:
        layer.backward(out)
    yield compare_typed(f"{label} (weight)", layer.weight.grad, _SINGLE, layer.gradient)


class _Product(torch.autograd.Function):
    """A product, during whose forward autograd records nothing."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.mm(x, weight)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[None, torch.Tensor]:
        (x,) = ctx.saved_tensors
        return None, x.t() @ upstream[0].to(x.dtype)


def _after_a_function(layer: Layer, label: str) -> Iterator[Comparison]:
    """The weight of a function of the user's, shared with an operation of torch's."""
    with layer.region():
        first = _Product.apply(layer.x, layer.weight)  # type: ignore[no-untyped-call]
        out = layer.output()
    yield from _both(layer, label, first, out)


def _after_a_checkpoint(layer: Layer, label: str) -> Iterator[Comparison]:
    """Its first forward records nothing either; the weight is shared with a layer outside."""
    x = layer.x.detach().requires_grad_()
    with layer.region():
        first = checkpoint(
            lambda v: torch.mm(v, layer.weight), x, use_reentrant=True, preserve_rng_state=False
        )
        out = layer.output()
    yield from _both(layer, label, first, out)


def _both(layer: Layer, label: str, first: torch.Tensor, out: torch.Tensor) -> Iterator[Comparison]:
    yield compare_typed(f"{label} (first)", first, layer.lower, layer.right)
    yield compare_typed(f"{label} (with)", out, layer.lower, layer.right)
    for each in (first, out):
        if each.requires_grad:
            layer.backward(each)
    yield compare_typed(f"{label} (weight)", layer.weight.grad, _SINGLE, 2 * layer.gradient)


_BODIES: Final[dict[str, Body]] = {
    "no_grad": partial(_first_without, mode=torch.no_grad),
    "inference_mode": partial(_first_without, mode=torch.inference_mode),
    "autograd.Function": _after_a_function,
    "reentrant checkpoint": _after_a_checkpoint,
}
