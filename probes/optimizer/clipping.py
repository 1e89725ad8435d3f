"""Gradients clipped by their norm and by value."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import utils

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import ROUNDINGS, Array
from probes.kit.trial import Custom, Trial, fact, refused
from probes.optimizer.parameters import (
    MANY,
    WITH_GAPS,
    Layout,
    flat,
    gradients,
    set_gradients,
    start,
)
from probes.optimizer.stepping import WIDE

#: Many tensors in one type: the launches are the same in both. The gradients are integers, whose
#: squares add up to less than 2^24.
_LAYOUTS: Final = {
    torch.float32: (WITH_GAPS, MANY),
    torch.float64: (WITH_GAPS,),
    torch.float16: (WITH_GAPS,),
    torch.bfloat16: (WITH_GAPS,),
}

#: The constant that torch adds to the norm before it divides by it.
_EPS: Final = 1e-6

_NORMS: Final = (1.0, 2.0, float("inf"))


def clipping(device: str) -> Iterator[Trial]:
    """Several norms, few and many tensors, with and without lists of tensors."""
    for dtype, layouts in _LAYOUTS.items():
        if not has_dtype(device, dtype):
            continue
        for foreach in _ways(device):
            for layout in layouts:
                for norm in _NORMS if dtype in WIDE else (2.0,):  # sums of more than 8 bits
                    body = partial(_by_norm, layout, norm, foreach, dtype)
                    yield Custom("clip_grad_norm_", body, dtype)
                body = partial(_by_value, layout, foreach, dtype)
                yield Custom("clip_grad_value_", body, dtype)
    yield Custom("clip_grad_norm_", _edges, torch.float32)
    if hasattr(utils, "get_total_norm"):  # from torch 2.6 on
        yield Custom("get_total_norm", _in_two_steps, torch.float32)


def _ways(device: str) -> tuple[dict[str, bool], ...]:
    """By default, one by one, and as a list, which torch documents for the CPU and CUDA."""
    listed = torch.device(device).type in {"cpu", "cuda"}
    return ({}, {"foreach": False}, *(({"foreach": True},) if listed else ()))


def _gradients(
    layout: Layout, dtype: torch.dtype, device: str
) -> tuple[list[torch.Tensor], list[torch.Tensor], Array]:
    """Parameters of which the first has no gradient, the gradients of the others, and all values.

    `Layout.places` begins with a parameter of one element.
    """
    values = gradients(layout.size, (1.0,))[0].copy()
    leaves = layout.parameters(start(layout.size), device, dtype)
    set_gradients(leaves, layout, values)
    leaves[0].grad = None
    return leaves, [each.grad for each in leaves if each.grad is not None], values[1:]


def _by_norm(
    layout: Layout, norm: float, foreach: dict[str, bool], dtype: torch.dtype, device: str
) -> Iterator[Comparison]:
    if norm == float("inf"):  # an empty tensor has no largest element
        layout = Layout(tuple(place for place in layout.places if 0 not in place[0]))
    leaves, given, values = _gradients(layout, dtype, device)
    right = float(np.linalg.norm(values, norm))
    # The sum of each tensor is exact; then a root of each, its square, and their sum.
    relative = (len(given) + 2 * ROUNDINGS) * UNIT_ROUNDOFF[dtype]
    # Sums and maxima of integers are exact in every order.
    allowed = None if norm != 2.0 else right * relative
    label = f"clip_grad_norm_ ({str(dtype)[6:]}, {len(given)} tensors, norm_type={norm}, {foreach}"
    kept = utils.clip_grad_norm_(leaves, 2 * right, norm, **foreach)
    yield compare(f"{label}, large limit)", flat(given), _as(values, dtype))
    yield compare(f"{label}, norm)", flat([kept]), _as(np.array([right]), dtype), allowed)
    limit = right / 4
    clipped = utils.clip_grad_norm_(iter(leaves), limit, norm, **foreach)
    factor = limit / (right + _EPS)
    error = np.abs(values) * factor * (relative + ROUNDINGS * UNIT_ROUNDOFF[dtype])
    yield compare(f"{label}, norm before)", flat([clipped]), _as(np.array([right]), dtype), allowed)
    yield compare(f"{label}, small limit)", flat(given), values * factor, error)


def _by_value(
    layout: Layout, foreach: dict[str, bool], dtype: torch.dtype, device: str
) -> Iterator[Comparison]:
    leaves, given, values = _gradients(layout, dtype, device)
    utils.clip_grad_value_(iter(leaves), 2.0, **foreach)
    label = f"clip_grad_value_ ({str(dtype)[6:]}, {len(given)} tensors, {foreach})"
    yield compare(label, flat(given), _as(np.clip(values, -2.0, 2.0), dtype))


def _as(values: Array, dtype: torch.dtype) -> Any:
    """The values in the type in which `flat` returns them."""
    kinds = {torch.float64: np.float64, torch.float16: np.float16}
    return values.astype(kinds.get(dtype, np.float32))


def _edges(device: str) -> Iterator[Comparison]:
    """No parameters, no gradients, one tensor, zeros, and a norm that is not finite."""
    name = "clip_grad_norm_"
    yield fact(f"{name} (no parameters)", float(utils.clip_grad_norm_([], 1.0)), 0.0)
    leaf = torch.zeros(3, dtype=torch.float32, device=device, requires_grad=True)
    yield fact(f"{name} (no gradients)", float(utils.clip_grad_norm_([leaf], 1.0)), 0.0)
    leaf.grad = torch.zeros_like(leaf)
    yield fact(f"{name} (zeros)", float(utils.clip_grad_norm_(leaf, 1.0)), 0.0)
    yield compare(f"{name} (zeros)", leaf.grad, np.zeros(3, np.float32))
    other = torch.zeros(2, dtype=torch.float32, device=device, requires_grad=True)
    for value in (float("nan"), float("inf")):
        leaf.grad, other.grad = torch.ones_like(leaf), torch.ones_like(other)
        leaf.grad[1] = value
        norm = float(utils.clip_grad_norm_([leaf, other], 1.0))
        yield fact(f"{name} (norm of {value})", math.isfinite(norm), False)
    leaf.grad = torch.full_like(leaf, float("nan"))
    yield refused(
        f"{name} (NaN)",
        lambda: utils.clip_grad_norm_([leaf], 1.0, error_if_nonfinite=True),
        "RuntimeError",
    )


def _in_two_steps(device: str) -> Iterator[Comparison]:
    """The norm of a list, as where it is added up over processes, and clipping by what is given."""
    leaves, given, values = _gradients(WITH_GAPS, torch.float32, device)
    right = np.linalg.norm(values)
    unit = (len(given) + 2 * ROUNDINGS) * UNIT_ROUNDOFF[torch.float32]
    found = utils.get_total_norm(given)
    yield compare(
        "get_total_norm", flat([found]), right.reshape(1).astype(np.float32), right * unit
    )
    known = torch.tensor(8.0, dtype=torch.float32, device=device)
    utils.clip_grads_with_norm_(leaves, 2.0, known)
    factor = 2 / (8 + _EPS)
    allowed = ROUNDINGS * UNIT_ROUNDOFF[torch.float32] * np.abs(values) * factor
    yield compare("clip_grads_with_norm_", flat(given), values * factor, allowed)
