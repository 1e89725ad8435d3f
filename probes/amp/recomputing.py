"""Backward passes outside of the region, and the forward that a checkpoint repeats in them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch.utils.checkpoint import checkpoint

from probes.amp.lower import signs
from probes.amp.regions import autocast, compare_typed, lower_types, name_of, plain
from probes.contract import Comparison
from probes.kit.gradients import leaf, root, tensor
from probes.kit.trial import Custom, Trial, fact

_SINGLE: Final = torch.float32


#: How the forward is run -> by what, and how often it then runs.
_WAYS: Final[dict[str, tuple[Callable[..., Any], int]]] = {
    "backward": (lambda run, x: run(x), 1),
    "checkpoint": (partial(checkpoint, use_reentrant=False, preserve_rng_state=False), 2),
    "reentrant checkpoint": (partial(checkpoint, use_reentrant=True, preserve_rng_state=False), 2),
}


def recomputation(device: str) -> Iterator[Trial]:
    """A plain backward, and both kinds of checkpoint."""
    for lower in lower_types(device):
        for way in _WAYS:
            name = f"{way} {name_of(lower)}"
            yield Custom(name, partial(_compared, name, way, lower), lower)


def _compared(label: str, way: str, lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Two products, the second in a region that is switched off."""
    call, times = _WAYS[way]
    a, b, c = signs((4, 8), 130), signs((8, 4), 131), signs((4, 4), 132)
    x, first, second = (leaf(each, device) for each in (a, b, c))
    upstream = signs((4, 4), 133)
    seen: list[str] = []
    behind: list[str] = []

    def run(v: Any) -> torch.Tensor:
        hidden = torch.mm(v, first)
        with plain(device):
            # Noted before the last product: a checkpoint repeats no more than it needs.
            own = torch.mm(hidden.detach().float(), second.detach())
            seen.append(f"{name_of(hidden.dtype)}, {name_of(own.dtype)}")
            out = torch.mm(hidden.float(), second)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: behind.append(name_of(gradient.dtype)))
        return out

    with autocast(device, lower):
        out = call(run, x)
    yield compare_typed(f"{label} (output)", out, _SINGLE, a @ b @ c)
    root(out, tensor(upstream, device)).backward()
    low = name_of(lower)
    yield fact(f"{label} (types forward)", seen, [f"{low}, float32"] * times)
    yield fact(f"{label} (type backward)", behind, [low])
    back = upstream @ c.T
    yield compare_typed(f"{label} (gradient of input)", x.grad, _SINGLE, back @ b.T)
    yield compare_typed(f"{label} (gradient of first)", first.grad, _SINGLE, a.T @ back)
    right = (a @ b).T @ upstream
    yield compare_typed(f"{label} (gradient of second)", second.grad, _SINGLE, right)
