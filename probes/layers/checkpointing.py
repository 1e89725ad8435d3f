"""Activation checkpointing: the same values, gradients and random numbers as without it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional
from torch.utils import checkpoint

from probes.contract import Comparison
from probes.kit.generators import random_state_kept, states
from probes.kit.gradients import host, leaf, tensor
from probes.kit.operands import odd
from probes.kit.references import compare, fact
from probes.kit.trial import Custom, Trial

#: More than a warp, so that what is dropped tells a generator's state.
_SHAPE: Final = (12, 40)
_WEIGHT: Final = odd((40, 8), 252)
_X: Final = odd(_SHAPE, 251)
_SEED: Final = 1234


def checkpoints(_device: str) -> Iterator[Trial]:
    """Both implementations: plain, with dropout, nested, and in sequence."""
    for reentrant in (True, False):
        way = "reentrant" if reentrant else "not reentrant"
        for name, body in (
            ("checkpoint", _plain),
            ("checkpoint dropout", _dropout),
            ("checkpoint nested", _nested),
            ("checkpoint_sequential", _sequential),
        ):
            yield Custom(name, partial(body, reentrant, f"{name} ({way}"))


def _call(function: Callable[..., Any], *operands: Any, reentrant: bool) -> Any:
    return checkpoint.checkpoint(function, *operands, use_reentrant=reentrant)


def _plain(reentrant: bool, label: str, device: str) -> Iterator[Comparison]:  # noqa: FBT001 - torch's option
    """relu(x w) is computed again in the backward, once, with gradients on."""
    x, w = leaf(_X, device), leaf(_WEIGHT, device)
    recorded: list[bool] = []

    def layer(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        recorded.append(torch.is_grad_enabled())
        return functional.relu(x @ w)

    out = _call(layer, x, w, reentrant=reentrant)
    product = _X @ _WEIGHT
    yield compare(f"{label}, values)", host(out), np.maximum(product, 0).astype(np.float32))
    yield fact(f"{label}, runs before the backward)", len(recorded), 1)
    (out * out).sum().backward()
    slope = 2 * np.maximum(product, 0)
    yield fact(f"{label}, runs)", [len(recorded), recorded[-1]], [2, True])
    yield from _gradients(label, ((x, slope @ _WEIGHT.T), (w, _X.T @ slope)))


def _dropout(reentrant: bool, label: str, device: str) -> Iterator[Comparison]:  # noqa: FBT001 - torch's option
    """What was dropped is dropped again, and the generators go on as if it had run once."""
    x = leaf(_X, device)
    with random_state_kept(device):
        torch.manual_seed(_SEED)
        out = _call(partial(functional.dropout, p=0.5), x, reentrant=reentrant)
        torch.rand(3, device=device)  # others draw before the backward
        before = states(device)
        (out * tensor(_X, device)).sum().backward()
        after = states(device)
    kept = host(out) != 0
    share = float(kept.mean())
    yield fact(f"{label}, something is dropped)", 0.25 < share < 0.75, True)
    yield compare(f"{label}, values)", host(out), np.where(kept, 2 * _X, 0).astype(np.float32))
    yield from _gradients(label, ((x, np.where(kept, 2 * _X, 0)),))
    same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    yield fact(f"{label}, generators as before the backward)", same, True)


def _nested(reentrant: bool, label: str, device: str) -> Iterator[Comparison]:  # noqa: FBT001 - torch's option
    """A checkpoint in a checkpoint, and an operand that needs no gradient."""
    x, w = leaf(_X, device), tensor(_WEIGHT, device)

    def inner(x: torch.Tensor) -> torch.Tensor:
        return x * x

    def outer(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return _call(inner, x, reentrant=reentrant) @ w  # type: ignore[no-any-return]

    _call(outer, x, w, reentrant=reentrant).sum().backward()
    yield from _gradients(label, ((x, 2 * _X * _WEIGHT.sum(1)),))


def _sequential(reentrant: bool, label: str, device: str) -> Iterator[Comparison]:  # noqa: FBT001 - torch's option
    """Three functions in two segments: ((2 x)^2 - x 0) summed has the gradient 8 x."""
    x = leaf(_X, device)
    functions: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda v: 2 * v,
        lambda v: v * v,
        functional.relu,
    ]
    out = checkpoint.checkpoint_sequential(functions, 2, x, use_reentrant=reentrant)
    out.sum().backward()
    yield compare(f"{label}, values)", host(out), (4 * _X**2).astype(np.float32))
    yield from _gradients(label, ((x, 8 * _X),))


def _gradients(label: str, pairs: tuple[tuple[torch.Tensor, Any], ...]) -> Iterator[Comparison]:
    for place, (operand, right) in enumerate(pairs):
        name = f"{label}, gradient {place})"
        if operand.grad is None:
            yield Comparison(operation=name, problem="backward() left no gradient")
        else:
            yield compare(name, host(operand.grad), (right + 0.0).astype(np.float32))
